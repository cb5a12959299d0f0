//! The way online with nothing of ours in it, measured by the Pi's own clock: what the agent's own way is compared with.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::AccessPoint;
use crate::pi::machine::Pi;
use crate::pi::rig::Place;

const SCRIPT: &str = include_str!("baseline.sh");

/// An emulated 4-way handshake and a lease take seconds.
const PATIENCE: Duration = crate::patience::HEALED;

/// When things happened, in seconds since the Pi booted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Baseline {
    /// The radio was there.
    pub present: f64,
    /// wpa_supplicant said that it is connected.
    pub associated: f64,
    /// systemd-networkd had set the address.
    pub addressed: f64,
}

impl Baseline {
    /// From the radio's appearance to the association.
    pub fn to_association(&self) -> f64 {
        self.associated - self.present
    }

    /// From the radio's appearance to the address.
    pub fn to_address(&self) -> f64 {
        self.addressed - self.present
    }
}

/// Takes the Pi's radio away, gives it back, and lets wpa_supplicant (with a configuration file) and systemd-networkd bring
/// it online at `access_point`, which must be on already. An agent that runs is stopped for that time. In the end the radio
/// is down and has no address, as it was found.
///
/// # Errors
/// If no address comes; the error has wpa_supplicant's journal.
pub fn baseline(pi: &Pi, access_point: &AccessPoint) -> Result<Baseline> {
    pi.air().wait()?;
    let configuration = access_point.supplicant_configuration();
    let answer = pi
        .rig_answer(Place::Pi, SCRIPT, configuration.as_bytes(), PATIENCE)
        .context("measuring wpa_supplicant and systemd-networkd alone")?;
    ensure!(
        answer.code == 0,
        "wpa_supplicant and systemd-networkd alone don't get online:\n{}",
        String::from_utf8_lossy(&answer.stderr)
    );
    parse(&String::from_utf8_lossy(&answer.stdout))
}

fn parse(text: &str) -> Result<Baseline> {
    let times: Vec<f64> = text
        .split_whitespace()
        .map(|word| word.parse().with_context(|| format!("reading {word:?} as seconds")))
        .collect::<Result<_>>()?;
    match times.as_slice() {
        [present, associated, addressed] => {
            Ok(Baseline { present: *present, associated: *associated, addressed: *addressed })
        }
        _ => anyhow::bail!("expected three times, found {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_differences() {
        let baseline = parse("10.5 12.25 14.5\n").unwrap();
        assert_eq!((baseline.to_association(), baseline.to_address()), (1.75, 4.0));
        assert!(parse("10.5").is_err());
        assert!(parse("a b c").is_err());
    }
}
