//! What a person sees who has no network to the Pi: the serial line through `cygnet console`, the ACT LED, and the file
//! on the card.

use super::{HEALED, HOME, NAMED, PASSPHRASE, PMK, Scenario, State, World, home};
use crate::patience;
use crate::pi::air::AccessPoint;
use crate::pi::{Dhcp, Dns};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "wifi-serial",
        "cygnet console follows a Pi that has no network, by its serial line alone",
        State::InTheAir,
        serial,
    )
    .waits(),
    Scenario::new("wifi-led", "the ACT LED says which group of links fails", State::InTheAir, led).waits(),
    Scenario::new("wifi-report", "REPORT.TXT on the card says why, and no secret", State::InTheAir, report).waits(),
    Scenario::new(
        "wifi-isolated",
        "W13-ISOLATED: an access point that keeps its stations apart",
        State::InTheAir,
        isolated,
    )
    .waits(),
];

/// How long the Pi listens for others before it believes that there are none, and some time to say so.
const LISTENS: Duration = patience::HEALED;

/// `cygnet console`, reading.
struct Console {
    child: Child,
    lines: Receiver<Value>,
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Console {
    fn open(world: &mut World) -> Result<Self> {
        let device = world.pi()?.console_pty()?.display().to_string();
        let mut command = world.command(&["console", &device, "--json"])?;
        let mut child = command.stdout(Stdio::piped()).spawn().context("starting cygnet console")?;
        let output = child.stdout.take().context("taking cygnet's output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Waits for a line that `is` so.
    fn wait(&mut self, what: &str, patience: Duration, is: impl Fn(&Value) -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut last = Value::Null;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if is(&line) => return Ok(()),
                Ok(line) => last = line,
                Err(RecvTimeoutError::Timeout) => bail!("cygnet console does not show {what}; its last line is {last}"),
                Err(RecvTimeoutError::Disconnected) => bail!("cygnet console ended; its last line is {last}"),
            }
        }
    }
}

fn serial(world: &mut World) -> Result<()> {
    world.healthy()?;
    let mut console = Console::open(world)?;
    world.pi()?.air().off()?;
    console.wait("that the access point is gone", NAMED, |line| {
        line["code"] == "W09-AP-VANISHED" && line["online"] == false && line["remedy"].is_string()
    })?;
    world.pi()?.air().on()?;
    console.wait("that it is online again", HEALED, |line| {
        line["online"] == true && line["via"].as_str().is_some_and(|via| via.contains(HOME))
    })?;
    drop(console);
    world.online("after it was followed by its serial line")
}

fn led(world: &mut World) -> Result<()> {
    world.healthy()?;
    world.pi()?.air().off()?;
    world.named("W09-AP-VANISHED")?;
    // Two patterns and a half, looked at about twenty times a second.
    let look = "for i in $(seq 300); do echo $(cut -d ' ' -f 1 /proc/uptime) $(cat /sys/class/leds/ACT/brightness); \
                sleep 0.03; done";
    let seen = world.pi()?.rig(look)?;
    world.pi()?.air().on()?;
    world.online("after its LED was watched")?;
    let flashes = flashes(&seen).with_context(|| format!("reading the LED's samples:\n{seen}"))?;
    // One long flash, and three short ones: a network or an access point.
    let long_and_short: Vec<bool> = flashes.iter().map(|length| *length > 0.7).collect();
    ensure!(
        long_and_short.windows(5).any(|five| five == [true, false, false, false, true]),
        "the LED does not flash long, short, short, short, long …: {flashes:?} seconds"
    );
    Ok(())
}

/// How long each flash took, seconds, from lines of a time and a brightness; one that is cut off at an end is none.
fn flashes(samples: &str) -> Result<Vec<f64>> {
    let mut flashes = Vec::new();
    let (mut was_on, mut since) = (true, None);
    for line in samples.lines() {
        let (time, brightness) = line.split_once(' ').context("splitting a sample")?;
        let (time, on): (f64, bool) = (time.parse().context("reading a time")?, brightness != "0");
        match (was_on, on) {
            (false, true) => since = Some(time),
            (true, false) => flashes.extend(since.take().map(|since| time - since)),
            (true, true) | (false, false) => {}
        }
        was_on = on;
    }
    Ok(flashes)
}

fn report(world: &mut World) -> Result<()> {
    world.healthy()?;
    world.pi()?.air().off()?;
    world.named("W09-AP-VANISHED")?;
    let pi = world.pi()?;
    pi.wait_serial("wrote REPORT.TXT", NAMED).context("waiting for the report to be written")?;
    pi.air().on()?;
    world.online("after a report was written")?;
    // The partition may be mounted, or not.
    let look = "part=$(lsblk -rno PATH,FSTYPE | grep -m 1 ' vfat$' | cut -d ' ' -f 1); mkdir -p /run/look; \
                mount \"$part\" /run/look; cat /run/look/REPORT.TXT; code=$?; umount /run/look; exit $code";
    let text = world.pi()?.rig(look)?;
    ensure!(text.contains("W09-"), "the report names no failure of the bring-ups before:\n{text}");
    let (ends, whole) = (text.matches('\n').count(), text.matches("\r\n").count());
    ensure!(ends > 10 && ends == whole, "not all lines end with CR LF:\n{text}");
    ensure!(!text.contains(PASSPHRASE) && !text.contains(PMK), "a secret is in the report:\n{text}");
    Ok(())
}

fn isolated(world: &mut World) -> Result<()> {
    world.healthy()?;
    // Of two warnings the first link's is told: there must be no other.
    world.dhcp(&Dhcp { dns: Dns::Us, ..Dhcp::default() })?;
    world.access_point(&AccessPoint { multicast: false, ..home() })?;
    world.online("without multicast: it is a warning, not a fault")?;
    // Who has heard others once at this address is not isolated; a Pi that was just switched on has not.
    let pi = world.pi()?;
    pi.rig("systemctl restart cygnetd.service")?;
    pi.wait_serial("W13-ISOLATED", LISTENS).context("waiting for W13-ISOLATED on the console")?;
    world.access_point(&home())?;
    world.dhcp(&Dhcp::default())?;
    world.through(HOME)?;
    let out = world.expect(&["discover", "--first", "--timeout", &patience::option(NAMED), "--json"], 0, &[])?;
    ensure!(out.contains("cygnet-"), "it is not found again: {out}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::flashes;

    #[test]
    fn flashes_are_timed_from_end_to_end() {
        let samples = "1.00 255\n1.10 0\n1.50 0\n2.00 255\n2.40 255\n3.25 0\n3.50 255\n3.75 0\n4.00 255";
        assert_eq!(flashes(samples).unwrap(), [1.25, 0.25]);
        assert!(flashes("1.0").is_err());
    }
}
