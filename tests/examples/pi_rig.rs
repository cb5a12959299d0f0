//! Boots a virtual Pi with a radio and an access point, and runs each line of stdin in it, over the test rig's line; needs
//! root. `ap: LINE` runs it where the access points are.

use anyhow::Result;
use cygnet_tests::pi::air::AccessPoint;
use cygnet_tests::pi::rig::{COMMAND, Place};
use cygnet_tests::pi::{Settings, prepare};

fn main() -> Result<()> {
    let parts = prepare(&Settings::default_here()?)?;
    let mut pi = parts.pi().access_point(&AccessPoint::wpa2("home", "correct horse")).second_cable().build()?;
    pi.power_on()?;
    pi.air().wait()?;
    eprintln!("the Pi is on; its console is in {}", pi.dir().display());
    for line in std::io::stdin().lines() {
        let line = line?;
        let (place, command) = match line.strip_prefix("ap:") {
            Some(command) => (Place::AccessPoints, command),
            None => (Place::Pi, line.as_str()),
        };
        let answer = pi.rig_answer(place, command, b"", COMMAND)?;
        print!("{}", String::from_utf8_lossy(&answer.stdout));
        eprint!("{}", String::from_utf8_lossy(&answer.stderr));
        println!("[{}]", answer.code);
    }
    Ok(())
}
