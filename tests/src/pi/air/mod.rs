//! The simulated air: a virtual Pi whose card's system has a radio and no cable.
//!
//! In the Pi runs mac80211_hwsim with three radios. The first is the Pi's `wlan0`. The others are access points in a network
//! namespace that the Pi's system doesn't see, bridged to the emulated network card, whose other end is the [`super::Lan`]:
//! every frame between this side and the Pi goes through the air. [`super::rig`] reaches the Pi without it.
//!
//! - [`access_point`] describes an access point, [`Air`] switches it on and off and does to it what happens to one;
//! - [`mod@baseline`] measures the way online that has nothing of ours in it;
//! - [`smoke`] shows that all of it works.

pub mod access_point;
pub mod baseline;
pub mod smoke;

pub use access_point::{AccessPoint, Channel, Security};
pub use baseline::{Baseline, baseline};

use std::time::Duration;

use anyhow::{Context, Result};

use super::login::quoted;
use super::machine::Pi;
use super::rig::{COMMAND, Place};

/// The programs of the rig, in `/usr/lib/cygnet-rig`. The system that is installed has them, too (`tests/nix/radio.nix`).
pub const PROGRAMS: &[(&str, &str)] =
    &[("rigd", include_str!("rigd.sh")), ("air", include_str!("air.sh")), ("ap", include_str!("ap.sh"))];

/// The files of the rig in the card's system: path, mode, content.
const FILES: &[(&str, u32, &str)] = &[(
    "etc/systemd/system/cygnet-rig.service",
    0o644,
    "[Unit]\nDescription=Test rig: commands over a virtio-serial port\nDefaultDependencies=no\n\n[Service]\n\
         ExecStart=/usr/lib/cygnet-rig/rigd\nKillMode=process\nRestart=on-failure\n\
         StandardOutput=journal+console\nStandardError=journal+console\n",
)];

/// The units that the rig's own target needs at every boot.
const WANTED: &[&str] = &["cygnet-rig.service", "cygnet-rig-air.service"];

/// Puts the rig into the card's system.
pub(super) fn install(pi: &mut Pi) {
    for (name, text) in PROGRAMS {
        pi.set_file(&format!("usr/lib/cygnet-rig/{name}"), 0o755, *text);
    }
    for (path, mode, text) in FILES {
        pi.set_file(path, *mode, *text);
    }
    let port = pi.port();
    let unit = format!(
        "[Unit]\nDescription=Test rig: simulated air in the place of the cable\nDefaultDependencies=no\n\
         Wants=network-pre.target\nBefore=network-pre.target systemd-networkd.service cygnetd.service\n\n[Service]\n\
         Type=oneshot\nRemainAfterExit=yes\nKillMode=process\nExecStart=/usr/lib/cygnet-rig/air {} {}\n\
         StandardOutput=journal+console\nStandardError=journal+console\n",
        port.mac, port.station_mac
    );
    pi.set_file("etc/systemd/system/cygnet-rig-air.service", 0o644, unit);
    for unit in WANTED {
        pi.set_link(&format!("etc/systemd/system/sysinit.target.wants/{unit}"), &format!("../{unit}"));
    }
}

/// Names a keyboard's LED as the Pi's own, before the agent looks for one.
pub(super) fn install_led(pi: &mut Pi) {
    let unit = "[Unit]\nDescription=Test rig: an LED\nDefaultDependencies=no\nBefore=sysinit.target cygnetd.service\n\n\
                [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/lib/cygnet-rig/led\n\
                StandardOutput=journal+console\nStandardError=journal+console\n";
    pi.set_file("usr/lib/cygnet-rig/led", 0o755, include_str!("led.sh"));
    pi.set_file("etc/systemd/system/cygnet-rig-led.service", 0o644, unit);
    pi.set_link("etc/systemd/system/sysinit.target.wants/cygnet-rig-led.service", "../cygnet-rig-led.service");
}

/// A radio that can be an access point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Radio {
    /// The one that scenarios with one network use.
    First,
    /// For a second network at the same time.
    Second,
}

impl Radio {
    /// Its interface's name.
    pub fn interface(self) -> &'static str {
        match self {
            Radio::First => "wlan1",
            Radio::Second => "wlan2",
        }
    }
}

/// What a scenario does to the air. Each call returns when it is done; the Pi must be on, and may still be booting.
#[derive(Debug, Clone, Copy)]
pub struct Air<'a> {
    pi: &'a Pi,
    radio: Radio,
}

impl<'a> Air<'a> {
    pub(super) fn new(pi: &'a Pi) -> Air<'a> {
        Air { pi, radio: Radio::First }
    }

    /// The same, for the second access point.
    #[must_use]
    pub fn second(self) -> Air<'a> {
        Air { radio: Radio::Second, ..self }
    }

    /// Waits until the air is made. Every other call does it too, where it matters.
    ///
    /// # Errors
    /// If it can't be made; the error has the journal of the unit that makes it.
    pub fn wait(&self) -> Result<()> {
        self.pi
            .rig(
                "systemctl start cygnet-rig-air.service || \
                 { journalctl -b --no-pager -o cat -u cygnet-rig-air.service >&2; exit 1; }",
            )
            .context("making the simulated air")
            .map(drop)
    }

    /// Makes the access point what `access_point` says, and switches it on; whoever was on it before is thrown out.
    ///
    /// # Errors
    /// If hostapd doesn't like it; the error has hostapd's log.
    pub fn set(&self, access_point: &AccessPoint) -> Result<()> {
        self.wait()?;
        let radio = self.radio.interface();
        let mark = if access_point.multicast { "rm -f" } else { "touch" };
        let line = format!(
            "umask 077; cat >/run/cygnet-rig/{radio}.conf && cp /run/cygnet-rig/deny {} && \
             {mark} /run/cygnet-rig/{radio}.filtered && /usr/lib/cygnet-rig/ap {radio} start && \
             {{ [ -e /run/cygnet-rig/{radio}.filtered ] || /usr/lib/cygnet-rig/ap {radio} pass; }}",
            access_point::deny_list(radio)
        );
        let answer = self.pi.rig_answer(Place::Pi, &line, access_point.configuration(radio).as_bytes(), COMMAND)?;
        if answer.code != 0 {
            anyhow::bail!("switching on the access point on {radio}:\n{}", String::from_utf8_lossy(&answer.stderr));
        }
        Ok(())
    }

    /// The access point is gone from one moment to the next, without a word to its stations.
    ///
    /// # Errors
    /// If the Pi doesn't answer.
    pub fn off(&self) -> Result<()> {
        self.act("vanish")
    }

    /// The access point is shut down: it tells its stations.
    ///
    /// # Errors
    /// If the Pi doesn't answer.
    pub fn shut_down(&self) -> Result<()> {
        self.act("stop")
    }

    /// Switches it on again as it was.
    ///
    /// # Errors
    /// If it never was on.
    pub fn on(&self) -> Result<()> {
        self.act("start")
    }

    /// Throws the Pi out with a reason code (IEEE 802.11, 9.4.1.7); it may come back at once.
    ///
    /// # Errors
    /// If the access point is off.
    pub fn deauthenticate(&self, reason: u16) -> Result<()> {
        let station = &self.pi.port().station_mac;
        self.cli(&format!("deauthenticate {station} reason={reason}")).map(drop)
    }

    /// Ends the Pi's association; it stays authenticated.
    ///
    /// # Errors
    /// If the access point is off.
    pub fn disassociate(&self) -> Result<()> {
        let station = &self.pi.port().station_mac;
        self.cli(&format!("disassociate {station}")).map(drop)
    }

    /// Puts the Pi on the list of those that the access point doesn't want, which throws it out, or takes it off.
    ///
    /// # Errors
    /// If the access point is off.
    pub fn deny(&self, denied: bool) -> Result<()> {
        let station = &self.pi.port().station_mac;
        let action = if denied { "ADD_MAC" } else { "DEL_MAC" };
        self.cli(&format!("deny_acl {action} {station}"))?;
        if denied { self.deauthenticate(1) } else { Ok(()) }
    }

    /// Passes multicasts on, or no longer, while everything else goes on.
    ///
    /// # Errors
    /// If the access point is off.
    pub fn set_multicast(&self, passes: bool) -> Result<()> {
        let radio = self.radio.interface();
        if passes {
            self.act("pass")?;
            self.pi.rig(&format!("rm -f /run/cygnet-rig/{radio}.filtered")).map(drop)
        } else {
            self.pi.rig(&format!("touch /run/cygnet-rig/{radio}.filtered"))?;
            self.act("filter")
        }
    }

    /// Asks hostapd_cli(1), and returns what it says.
    ///
    /// # Errors
    /// If the access point is off or hostapd refuses.
    pub fn cli(&self, command: &str) -> Result<String> {
        let said = self.act_with("cli", command)?;
        anyhow::ensure!(!said.contains("FAIL"), "hostapd refused `{command}`: {said}");
        Ok(said)
    }

    /// hostapd's log since it was switched on last.
    ///
    /// # Errors
    /// If the Pi doesn't answer, or this access point never was on.
    pub fn log(&self) -> Result<String> {
        self.pi.rig(&format!("cat /run/cygnet-rig/{}.log", self.radio.interface()))
    }

    /// Takes the Pi's radio away, as if it had none: `wlan0` and its phy are gone.
    ///
    /// # Errors
    /// If it is gone already.
    pub fn remove_station(&self) -> Result<()> {
        self.wait()?;
        self.pi.rig("iw phy phy0 set netns name away").context("taking the Pi's radio away").map(drop)
    }

    /// Gives the Pi its radio: `wlan0` appears. Returns when that was on the Pi's own clock, in seconds since it booted.
    ///
    /// # Errors
    /// If it has it already.
    pub fn return_station(&self) -> Result<f64> {
        let line = "cut -d ' ' -f 1 /proc/uptime; exec iw phy phy0 set netns 1";
        let answer = self.pi.rig_answer(Place::Away, line, b"", COMMAND)?;
        anyhow::ensure!(
            answer.code == 0,
            "giving the Pi its radio back: {}",
            String::from_utf8_lossy(&answer.stderr).trim()
        );
        seconds(&answer.stdout)
    }

    /// Blocks the Pi's radio with the software switch, or unblocks it. The access points' radios stay as they are.
    ///
    /// # Errors
    /// If the Pi has no radio now.
    pub fn rfkill(&self, blocked: bool) -> Result<()> {
        self.wait()?;
        let line = format!(
            "for switch in /sys/class/rfkill/rfkill*; do if [ \"$(cat $switch/name)\" = phy0 ]; then \
             echo {} >$switch/soft; exit; fi; done; echo 'phy0 has no switch' >&2; exit 1",
            u8::from(blocked)
        );
        self.pi.rig(&line).map(drop)
    }

    /// The Pi's clock that nothing sets: seconds since it booted.
    ///
    /// # Errors
    /// If the Pi doesn't answer.
    pub fn uptime(&self) -> Result<f64> {
        seconds(self.pi.rig("cut -d ' ' -f 1 /proc/uptime")?.as_bytes())
    }

    fn act(&self, action: &str) -> Result<()> {
        self.act_with(action, "").map(drop)
    }

    fn act_with(&self, action: &str, more: &str) -> Result<String> {
        let radio = self.radio.interface();
        self.pi.rig(&format!("/usr/lib/cygnet-rig/ap {radio} {action} {more}"))
    }
}

/// A wait in the Pi for something that a shell condition sees; for conditions that have no event of their own.
///
/// # Errors
/// If it isn't so in time.
pub fn wait_until(pi: &Pi, condition: &str, patience: Duration) -> Result<()> {
    let line = format!("until {condition}; do sleep 0.1; done");
    let line = quoted(&["bash", "-c", &line]);
    let answer = pi.rig_answer(Place::Pi, &line, b"", patience)?;
    anyhow::ensure!(answer.code == 0, "`{condition}` isn't so after {} s", patience.as_secs());
    Ok(())
}

fn seconds(text: &[u8]) -> Result<f64> {
    let text = String::from_utf8_lossy(text);
    text.trim().parse().with_context(|| format!("reading {text:?} as seconds"))
}
