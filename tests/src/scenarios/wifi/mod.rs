//! A Pi that can only be reached through the air: each fault that the simulated radio can show is named on the serial
//! console, and when it is healed the Pi comes online without a reboot.
//!
//! [`ways`] are the ways online that must simply work, [`faults`] what goes wrong, [`blind`] what is seen without a
//! network, [`push`] an installation over it.

mod blind;
mod faults;
mod push;
mod ways;

use super::{BOOT, SMALL, SSD, Scenario, State, World};
use crate::patience::{self, HEALED, NAMED};
use crate::pi::Dhcp;
use crate::pi::air::AccessPoint;
use crate::pi::builder::Builder;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

/// All that are about the air.
pub const GROUPS: [&[Scenario]; 4] = [ways::SCENARIOS, faults::SCENARIOS, blind::SCENARIOS, push::SCENARIOS];

const PASSPHRASE: &str = "correct horse battery";
const HOME: &str = "cygnet-home";
const KEY_ONLY: &str = "cygnet-key";
const HIDDEN: &str = "cygnet-hidden";
const SWAN: &str = "Käfer \u{1f9a2}";
const LATIN1: &[u8] = b"caf\xe9";
const BETTER: &str = "cygnet-better";

/// What the Pi was given: every network that a scenario makes.
fn settings(country: Option<&str>) -> Vec<u8> {
    let pmk = "8c1f6f4a0a5b0a9ec9ac1fd6d2cf76ff5ab2b8a5c4d2a4b6e1c5f4a6d7e8f901";
    let networks = json!([
        {"ssid": HOME, "passphrase": PASSPHRASE},
        {"ssid": KEY_ONLY, "pmk": pmk},
        {"ssid": HIDDEN, "passphrase": PASSPHRASE, "hidden": true},
        {"ssid": SWAN, "passphrase": PASSPHRASE},
        {"ssid-hex": "636166e9", "passphrase": PASSPHRASE},
        {"ssid": BETTER, "passphrase": PASSPHRASE, "priority": 10},
    ]);
    let mut settings = json!({"networks": networks});
    if let Some(country) = country {
        settings["country"] = country.into();
    }
    settings.to_string().into_bytes()
}

/// The pre-shared key as the access point of [`KEY_ONLY`] is told it: hostapd takes 64 hex digits for a key.
const PMK: &str = "8c1f6f4a0a5b0a9ec9ac1fd6d2cf76ff5ab2b8a5c4d2a4b6e1c5f4a6d7e8f901";

fn home() -> AccessPoint {
    AccessPoint::wpa2(HOME, PASSPHRASE)
}

/// A Pi with a radio and no cable but one that is not plugged in, and its access point.
pub(super) fn pi(pi: Builder<'_>) -> Builder<'_> {
    pi.cores(2).ssd(SSD, 4 << 30).ssd(SMALL, 700 << 20).access_point(&home()).second_cable().act_led().file(
        "etc/cygnet/settings.json",
        0o600,
        settings(Some("DE")),
    )
}

impl World {
    /// Everything is healthy before anything is done to it.
    fn healthy(&mut self) -> Result<()> {
        self.online("the Pi is not online before anything is done to it")
    }

    /// A fault that was made must be named on the serial console.
    fn named(&mut self, code: &str) -> Result<()> {
        let pi = self.pi()?;
        pi.wait_serial(code, NAMED).with_context(|| format!("waiting for {code} on the console")).map(drop)
    }

    /// A new connection through the air finds an agent that has been up all the time.
    fn online(&mut self, what: &str) -> Result<()> {
        let host = self.host()?;
        let time = patience::option(HEALED);
        let arguments = ["wait", &host, "--for", "online", "--timeout", &time];
        self.expect(&arguments, 0, &[]).with_context(|| what.to_owned())?;
        ensure!(self.pi()?.is_on(), "the Pi has rebooted");
        Ok(())
    }

    /// Gives the access point of the scenarios another form.
    fn access_point(&mut self, access_point: &AccessPoint) -> Result<()> {
        self.pi()?.air().set(access_point)
    }

    /// Makes a fault at the access point, sees it named, heals it, and sees the Pi online.
    fn fault_at_access_point(&mut self, ill: &AccessPoint, code: &str, healed: &AccessPoint) -> Result<()> {
        self.healthy()?;
        self.access_point(ill)?;
        self.named(code)?;
        self.access_point(healed)?;
        self.online("it was healed, but the Pi does not come online")
    }

    /// Gives the network's DHCP server another form, and the Pi a reason to ask it.
    fn dhcp(&mut self, dhcp: &Dhcp) -> Result<()> {
        let pi = self.pi()?;
        pi.lan().set_dhcp(dhcp)?;
        pi.air().remove_station()?;
        pi.air().return_station().map(drop)
    }

    /// The way online as the agent tells it.
    fn network(&mut self) -> Result<Value> {
        Ok(self.status()?["network"].clone())
    }

    /// Waits until the agent says that it is online through something with `text` in its name.
    fn through(&mut self, text: &str) -> Result<()> {
        let mut last = String::new();
        for _ in 0..40 {
            self.online("the Pi is not online")?;
            // While it changes from one way to the other, neither may answer.
            match self.network() {
                Ok(network) if network["via"].as_str().is_some_and(|via| via.contains(text)) => return Ok(()),
                Ok(network) => last = network.to_string(),
                Err(error) => last = format!("{error:#}"),
            }
            std::thread::sleep(Duration::from_secs(2));
        }
        anyhow::bail!("it is not online through {text}: {last}")
    }
}
