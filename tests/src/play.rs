//! `cargo pi`: a virtual Pi to play with, until Ctrl-C.

use crate::patience::BOOT;
use crate::pi::disk::{Disk, Format};
use crate::pi::{Pi, quoted};
use crate::scenarios::{State, World};
use crate::workshop;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For `--help`.
pub const HELP: &str = "\
Usage: cargo pi [STATE] [OPTION…]

Gives a virtual Pi, says how to reach it, and keeps it until Ctrl-C. Nothing that is done to it is kept.

STATE is how it begins, “waiting” if nothing is said:
  waiting            booted from its card, the agent waits; a blank SSD
  air                the same with a radio and no cable
  pi3                a Raspberry Pi 3 Model B with its SSD at USB
  many-disks         28 small disks more
  middle-of-push, after-power-cut, failed-activation, installed, first-boot, runs-installed
                     where scenarios begin

Options:
  --console          its serial console here, both ways
  --card IMAGE       boots a copy of this card image
  --ssd SIZE|IMAGE   an SSD of so many GiB (such as 16G), or this raw image, which is written to
  --power-cut        cuts the power of the one that runs, and switches it on again

Examples:
  cargo pi
  cargo pi air --console
  cargo pi --ssd 32G
";

/// How often it is looked whether something was asked for.
const TICK: Duration = Duration::from_millis(200);
const GIB: u64 = 1 << 30;

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    state: Option<String>,
    console: bool,
    power_cut: bool,
    card: Option<PathBuf>,
    ssd: Option<Ssd>,
}

#[derive(Debug, PartialEq, Eq)]
enum Ssd {
    Blank(u64),
    Image(PathBuf),
}

impl Request {
    /// Reads the words behind `pi`.
    ///
    /// # Errors
    /// What is wrong with the first word that is.
    pub fn parse(words: &[&str]) -> Result<Request, String> {
        let mut request = Request::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} wants a value"));
            match *word {
                "--console" => request.console = true,
                "--power-cut" => request.power_cut = true,
                "--card" => request.card = Some(PathBuf::from(value()?)),
                "--ssd" => request.ssd = Some(ssd(value()?)),
                word if word.starts_with('-') => return Err(format!("cargo pi does not know {word}")),
                word if request.state.is_some() => return Err(format!("two states: {word} is one too many")),
                word => request.state = Some(word.to_owned()),
            }
        }
        Ok(request)
    }

    fn state(&self) -> Result<State> {
        let wanted = self.state.as_deref().unwrap_or(State::Waiting.name());
        let all = || State::ALL.into_iter().chain([State::Pi3]);
        let names = || all().map(State::name).collect::<Vec<_>>().join(", ");
        let state = all().find(|state| state.name() == wanted);
        state.with_context(|| format!("there is no state {wanted}; there are {}", names()))
    }
}

fn ssd(word: &str) -> Ssd {
    match word.strip_suffix('G').and_then(|number| number.parse::<u64>().ok()) {
        Some(gib) => Ssd::Blank(gib * GIB),
        None => Ssd::Image(PathBuf::from(word)),
    }
}

/// Runs it until it is interrupted, or the Pi switches itself off.
///
/// # Errors
/// If the Pi can't be made.
pub fn run(request: &Request) -> Result<()> {
    let programs = workshop::programs(None)?;
    let (settings, parts) = workshop::parts()?;
    let asked = settings.work.join("power-cut");
    if request.power_cut {
        File::create(&asked).with_context(|| format!("creating {}", asked.display()))?;
        println!("asked for; the terminal of the Pi that runs says the rest");
        return Ok(());
    }
    let state = request.state()?;
    let cygnet = programs.cygnet.clone();
    let world = World::new(programs, settings, parts);
    let mut pi = if request.card.is_some() || request.ssd.is_some() {
        boot(&world, state, request)?
    } else {
        world.another(state).give()?
    };
    tell(&pi, &cygnet);
    if request.console {
        connect(&pi)?;
    }
    let _ = fs::remove_file(&asked);
    loop {
        std::thread::sleep(TICK);
        if fs::remove_file(&asked).is_ok() {
            println!("the power is cut, and back");
            pi.power_cut();
            pi.power_on()?;
            if request.console {
                connect(&pi)?;
            }
        }
        if !pi.is_on() {
            println!("the Pi wants to be off or to reboot; it is switched on again");
            pi.power_on()?;
            if request.console {
                connect(&pi)?;
            }
        }
    }
}

/// A Pi of its own parts, booted from its card.
fn boot(world: &World, state: State, request: &Request) -> Result<Pi> {
    let mut builder = world.describe(state);
    if let Some(card) = &request.card {
        builder = builder.card(card);
    }
    let mut pi = builder.build()?;
    if let Some(wanted) = &request.ssd {
        let serial = crate::scenarios::SSD;
        let image = pi.dir().join("given.img");
        let disk = match wanted {
            Ssd::Blank(size) => Disk::blank(serial, image, *size)?,
            Ssd::Image(image) => {
                let image = fs::canonicalize(image).with_context(|| format!("finding {}", image.display()))?;
                Disk { serial: serial.to_owned(), image: linked(&image, pi.dir())?, format: Format::Raw }
            }
        };
        *pi.ssd(serial)? = disk;
    }
    pi.power_on()?;
    pi.wait_ssh(BOOT)?;
    Ok(pi)
}

/// A name of its own for a person's image, so that only the name goes with the Pi.
fn linked(image: &Path, dir: &Path) -> Result<PathBuf> {
    if !image.is_file() {
        bail!("{} is no image in a file", image.display());
    }
    let name = dir.join("given.img");
    std::os::unix::fs::symlink(image, &name).with_context(|| format!("linking {}", name.display()))?;
    Ok(name)
}

fn tell(pi: &Pi, cygnet: &Path) {
    let inside = ["sudo", "ip", "netns", "exec", pi.lan().name()];
    let options = pi.keys().options();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let host = format!("root@{}", pi.address());
    let (cygnet, identity) = (cygnet.display().to_string(), pi.keys().identity().display().to_string());
    let known = pi.keys().known_hosts().display().to_string();
    let ours = [&cygnet, "status", &host, "-i", &identity, "--known-hosts", &known];
    println!("\nIts network is the namespace {}; nothing leads out of it. A shell on it:", pi.lan().name());
    println!("  {}", quoted(&[&inside[..], &["ssh"], &options[..], &[&host]].concat()));
    println!("cygnet:\n  {}", quoted(&[&inside[..], &ours[..]].concat()));
    println!("Its consoles' logs and disks are in {}. Ctrl-C ends it.\n", pi.dir().display());
}

/// The serial console here, both ways.
fn connect(pi: &Pi) -> Result<()> {
    let serial = pi.serial()?;
    print!("{}", serial.text());
    let here = rustix::io::dup(std::io::stdout()).context("duplicating stdout")?;
    serial.copy_to(File::from(here));
    let mut keyboard = pi.keyboard()?;
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok(length @ 1..) = std::io::stdin().read(&mut buffer) {
            // What the Pi doesn't take is lost, as on a real line.
            let _ = keyboard.write_all(&buffer[..length]);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        let request = Request::parse(&["air", "--console", "--ssd", "32G"]).unwrap();
        assert_eq!((request.state().unwrap(), request.console), (State::InTheAir, true));
        assert_eq!(request.ssd, Some(Ssd::Blank(32 << 30)));
        assert_eq!(Request::parse(&["--ssd", "/x/y.img"]).unwrap().ssd, Some(Ssd::Image("/x/y.img".into())));
        assert_eq!(Request::parse(&[]).unwrap().state().unwrap(), State::Waiting);
        for wrong in [&["--ssd"][..], &["--fast"], &["a", "b"]] {
            assert!(Request::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(Request::parse(&["nowhere"]).unwrap().state().is_err());
    }
}
