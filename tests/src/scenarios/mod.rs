//! What is expected of the real programs in the virtual Pi.
//!
//! Scenarios run one after the other. Those that leave the Pi as they found it share one: [`refusals`] never writes,
//! [`failures`], [`steps`], [`modes`], [`stale`], [`interruptions`] and [`secrets`] install tiny systems, [`keep`] one beside
//! another. [`layouts`] compares what is made of disko's layouts with what disko makes, on a Pi with many disks. [`push`] is
//! about how a closure gets there, [`mod@card`] about settings on the FAT partition, [`nix_copy`] about who else may bring it, and who is trusted. [`whole`] installs the real
//! system and boots it. [`wifi`] has a Pi of its own, with a radio and no cable.

mod card;
mod failures;
mod interruptions;
mod keep;
mod layouts;
mod modes;
mod nix_copy;
mod push;
mod refusals;
mod secrets;
mod stale;
mod steps;
mod whole;
mod wifi;

use crate::closure::{self, Closure, Variant};
use crate::pi::{Parts, Pi, Settings};
use crate::site::Site;
use crate::workshop::Programs;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

/// An emulated boot takes half a minute on two quiet cores; this is for busy ones.
pub const BOOT: Duration = Duration::from_secs(300);
/// The disk that things are installed on.
pub const SSD: &str = "CYGSSD0";
/// A disk too small for anything.
pub const SMALL: &str = "CYGSMALL";

/// One expectation.
pub struct Scenario {
    /// To name it on the command line.
    pub name: &'static str,
    /// What is expected, in a few words.
    pub what: &'static str,
    check: fn(&mut World) -> Result<()>,
}

/// Scenarios that run one after the other, beside those of the other lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What installs on one disk, whatever was on it.
    Installations,
    /// What waits most of the time, and what is about layouts, secrets and what is written on cards.
    AirAndLayouts,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Installations, Self::AirAndLayouts];
}

impl Scenario {
    /// Where it runs. Together the two take little longer than the longer one: an emulated Pi keeps one core busy.
    #[must_use]
    pub fn lane(&self) -> Lane {
        let in_the_second = ["wifi-", "layout-", "secret-", "card-"].iter().any(|group| self.name.starts_with(group));
        if in_the_second { Lane::AirAndLayouts } else { Lane::Installations }
    }

    /// Whether it measures time, and so waits for the other lane to pause.
    #[must_use]
    pub fn measures(&self) -> bool {
        self.name == "wifi-bench"
    }
}

/// What came of it.
pub enum Outcome {
    /// It is so.
    Passed,
    /// It is not.
    Failed(anyhow::Error),
}

/// All scenarios, in the order in which they run.
pub fn all() -> Vec<Scenario> {
    [
        refusals::SCENARIOS,
        failures::SCENARIOS,
        stale::SCENARIOS,
        steps::SCENARIOS,
        modes::SCENARIOS,
        interruptions::SCENARIOS,
        secrets::SCENARIOS,
        keep::SCENARIOS,
        card::SCENARIOS,
        push::SCENARIOS,
        nix_copy::SCENARIOS,
        layouts::SCENARIOS,
        whole::SCENARIOS,
    ]
    .into_iter()
    .flatten()
    .chain(wifi::scenarios())
    .map(|(name, what, check)| Scenario { name, what, check: *check })
    .collect()
}

/// A scenario's name, what it expects, and how it is seen.
type Entry = (&'static str, &'static str, fn(&mut World) -> Result<()>);

/// What scenarios have: programs, a Pi, closures.
pub struct World {
    /// Runs `cygnet`.
    pub site: Site,
    programs: Programs,
    settings: Settings,
    parts: Parts,
    pi: Option<Pi>,
    /// Whether the present Pi has a radio and no cable.
    in_the_air: bool,
    /// Closures that were built before: to ask apt and Nix again takes seconds.
    built: Vec<(closure::Settings, Closure)>,
    scratch: Option<tempfile::TempDir>,
}

impl World {
    /// A world without a Pi yet.
    pub fn new(programs: Programs, settings: Settings, parts: Parts) -> Self {
        Self {
            site: Site::new(&programs.cygnet),
            programs,
            settings,
            parts,
            pi: None,
            in_the_air: false,
            built: Vec::new(),
            scratch: None,
        }
    }

    /// Runs one scenario. After a failure the Pi is replaced, so that the next one does not inherit the trouble.
    pub fn run(&mut self, scenario: &Scenario) -> Outcome {
        match (scenario.check)(self) {
            Ok(()) => Outcome::Passed,
            Err(error) => {
                self.keep_journal();
                let log = self.pi.take().map(|pi| pi.dir().display().to_string());
                Outcome::Failed(
                    error.context(format!("the serial console's log is in {}", log.unwrap_or("(no Pi)".into()))),
                )
            }
        }
    }

    /// What the Pi's own journal has, beside the console's log: the way to it is there even if the Pi is not online.
    fn keep_journal(&self) {
        let Some(pi) = self.pi.as_ref().filter(|_| self.in_the_air) else { return };
        let command = "journalctl -b --no-pager -o short-monotonic -u cygnetd -u cygnet-supplicant -u systemd-networkd \
                       | tail -n 1500; ip address; iw dev wlan0 scan dump; \
                       for task in /proc/$(pidof cygnetd)/task/*; do cat $task/comm $task/wchan $task/syscall; echo; done; cat /run/cygnet-rig/*.log";
        if let Ok(journal) = pi.rig(command) {
            let _ = fs::write(pi.dir().join("journal.txt"), journal);
        }
    }

    /// The Pi, booted from its card, with its agent waiting; made if there is none.
    pub fn pi(&mut self) -> Result<&mut Pi> {
        if self.pi.is_none() {
            let mut pi = self.parts.pi().ssd(SSD, 4 << 30).ssd(SMALL, 700 << 20).agent(&self.programs.agent).build()?;
            pi.boot_from_card()?;
            pi.wait_ssh(BOOT)?;
            self.pi = Some(pi);
            self.in_the_air = false;
            self.wait_for_agent()?;
        }
        self.pi.as_mut().context("there is no Pi")
    }

    /// Puts the Pi away; the next scenario gets a fresh one.
    pub fn forget_pi(&mut self) {
        self.pi = None;
    }

    /// sshd may be up before the agent is.
    pub fn wait_for_agent(&mut self) -> Result<()> {
        let pi = self.pi.as_ref().context("there is no Pi")?;
        pi.sh("systemctl start cygnetd.service").context("waiting for the agent's service").map(drop)
    }

    /// `root@ADDRESS`.
    pub fn host(&mut self) -> Result<String> {
        Ok(format!("root@{}", self.pi()?.address()))
    }

    /// Builds a closure for the present Pi.
    pub fn closure(&mut self, variant: Variant) -> Result<Closure> {
        let key = self.pi()?.keys().user_public()?;
        let settings = closure::Settings::new(key, variant);
        self.built(match variant {
            Variant::Full => settings.with_agent(&self.programs.agent),
            _ => settings,
        })
    }

    /// The tiny closure of a machine of this name, so that others do not see what happens to its store paths.
    pub fn own_closure(&mut self, host_name: &str) -> Result<Closure> {
        self.closure_of(Variant::Tiny, host_name)
    }

    /// A closure of a machine that is called so.
    pub fn closure_of(&mut self, variant: Variant, host_name: &str) -> Result<Closure> {
        let key = self.pi()?.keys().user_public()?;
        let settings = closure::Settings::new(key, variant);
        self.built(closure::Settings { host_name: host_name.to_owned(), ..settings })
    }

    fn built(&mut self, settings: closure::Settings) -> Result<Closure> {
        if let Some((_, built)) = self.built.iter().find(|(of, _)| *of == settings) {
            return Ok(built.clone());
        }
        let built = closure::build(&self.settings.cache, &settings)?;
        self.built.push((settings, built.clone()));
        Ok(built)
    }

    /// A flake with the same system and layout, as `--flake` takes it.
    pub fn flake(&mut self, variant: Variant) -> Result<String> {
        let key = self.pi()?.keys().user_public()?;
        let directory = closure::flake(&self.settings.cache, &closure::Settings::new(key, variant))?;
        Ok(format!("path:{}#pi", directory.display()))
    }

    /// Runs `cygnet` to its end.
    pub fn cygnet(&mut self, arguments: &[&str]) -> Result<Output> {
        self.pi()?;
        let pi = self.pi.as_ref().context("there is no Pi")?;
        self.site.output(self.site.cygnet(pi, arguments))
    }

    /// Runs `cygnet` without the Pi's keys.
    pub fn bare(&mut self, arguments: &[&str]) -> Result<Output> {
        self.pi()?;
        let pi = self.pi.as_ref().context("there is no Pi")?;
        self.site.output(self.site.bare(pi, arguments))
    }

    /// `cygnet`, not started yet.
    pub fn command(&mut self, arguments: &[&str]) -> Result<std::process::Command> {
        self.pi()?;
        let pi = self.pi.as_ref().context("there is no Pi")?;
        Ok(self.site.cygnet(pi, arguments))
    }

    /// Runs `cygnet`, expects this exit code, and each of these texts in what it says on stderr.
    pub fn expect(&mut self, arguments: &[&str], code: i32, texts: &[&str]) -> Result<String> {
        let output = self.cygnet(arguments)?;
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
        ensure!(
            output.status.code() == Some(code),
            "cygnet {} ended with {} instead of {code}:\n{out}{err}",
            arguments.join(" "),
            output.status
        );
        for text in texts {
            ensure!(err.contains(text), "cygnet {} does not say {text:?}:\n{err}", arguments.join(" "));
        }
        if code != 0 {
            for part in ["cause:", "remedy:"] {
                ensure!(err.contains(part), "cygnet {} names no {part}\n{err}", arguments.join(" "));
            }
        }
        Ok(out)
    }

    /// What `cygnet status --json` says.
    pub fn status(&mut self) -> Result<Value> {
        let host = self.host()?;
        let out = self.expect(&["status", &host, "--json"], 0, &[])?;
        serde_json::from_str(&out).context("parsing the status")
    }

    /// Expects the agent to be in this state.
    pub fn expect_state(&mut self, state: &str) -> Result<Value> {
        let status = self.status()?;
        ensure!(status["state"]["state"] == state, "the agent is not {state}: {status}");
        Ok(status)
    }

    /// The layout with some changes, as a file of its own.
    pub fn layout(&mut self, change: impl FnOnce(&mut Value)) -> Result<String> {
        let mut layout: Value = serde_json::from_str(&fs::read_to_string(closure::layout())?)?;
        change(&mut layout);
        self.file("devices.json", &serde_json::to_string_pretty(&layout)?)
    }

    /// A file of this scenario's; a later one of the same name replaces it.
    pub fn file(&mut self, name: &str, content: &str) -> Result<String> {
        if self.scratch.is_none() {
            self.scratch = Some(tempfile::tempdir().context("making a directory for files")?);
        }
        let path: PathBuf = self.scratch.as_ref().context("there is no directory")?.path().join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path.display().to_string())
    }

    /// The digest of the plan for this layout.
    pub fn digest(&mut self, disko: &str) -> Result<String> {
        self.digest_of(disko, "destroy,format,mount")
    }

    /// The digest of the plan for this layout in this mode.
    pub fn digest_of(&mut self, disko: &str, mode: &str) -> Result<String> {
        let host = self.host()?;
        let out = self.expect(&["plan", &host, "--disko", disko, "--mode", mode, "--json"], 0, &[])?;
        let plan: Value = serde_json::from_str(&out).context("parsing the plan")?;
        plan["digest"].as_str().map(str::to_owned).context("finding the plan's digest")
    }

    /// A hash of both ends of a disk, where tables and labels are: the same as long as nobody writes there.
    pub fn ends_of(&mut self, serial: &str) -> Result<String> {
        let disk = format!("/dev/disk/by-id/virtio-{serial}");
        let line = format!(
            "set -e; size=$(blockdev --getsize64 {disk}); blockdev --flushbufs {disk}; \
             {{ head -c 16777216 {disk}; tail -c +$((size - 4194304 + 1)) {disk}; }} | sha256sum"
        );
        self.pi()?.sh(&line).with_context(|| format!("reading both ends of {serial}"))
    }

    /// Fails unless the SSD is as blank as it was delivered.
    pub fn expect_blank(&mut self, serial: &str) -> Result<()> {
        let disk = format!("/dev/disk/by-id/virtio-{serial}");
        // Both ends, where tables and labels are.
        let check = format!(
            "size=$(blockdev --getsize64 {disk}); test -z \"$(wipefs --noheadings {disk})\" && \
             head -c 16777216 {disk} | cmp -s -n 16777216 - /dev/zero && \
             tail -c +$((size - 4194304 + 1)) {disk} | cmp -s -n 4194304 - /dev/zero"
        );
        self.pi()?.sh(&check).with_context(|| format!("{serial} was written to"))?;
        Ok(())
    }
}

/// The words of an installation from the beginning that ends without a reboot.
fn installing<'a>(host: &'a str, toplevel: &'a str, disko: &'a str, digest: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let words = ["install", host, "--closure", toplevel, "--disko", disko, "--yes", digest, "--fresh", "--no-reboot"];
    [&words[..], more].concat()
}

/// Points every device of the layout's one disk at another disk.
fn retarget(layout: &mut Value, device: &str) {
    layout["disk"]["ssd"]["device"] = device.into();
    layout["disk"]["ssd"]["content"]["device"] = device.into();
}
