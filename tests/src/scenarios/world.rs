//! What a scenario has: the programs, one Pi in the state that it begins with, closures, and files of its own.

use super::states;
use super::{Scenario, State};
use crate::closure::{self, Closure, Variant};
use crate::pi::builder::Builder;
use crate::pi::{Parts, Pi, Settings};
use crate::site::Site;
use crate::workshop::Programs;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::sync::{Arc, Mutex, PoisonError};

/// Closures that were built before: to ask apt and Nix again takes seconds.
type Built = Arc<Mutex<Vec<(closure::Settings, Closure)>>>;

/// What came of a scenario.
pub enum Outcome {
    /// It is so.
    Passed,
    /// It is not.
    Failed(anyhow::Error),
}

/// What scenarios have.
pub struct World {
    /// Runs `cygnet`.
    pub site: Site,
    pub(super) programs: Programs,
    pub(super) settings: Settings,
    pub(super) parts: Parts,
    /// How the Pi is when it is first asked for.
    from: State,
    pi: Option<Pi>,
    built: Built,
    /// The names of states by their content, as it was when they were first asked for: somebody may edit meanwhile.
    pub(super) keys: Arc<Mutex<BTreeMap<State, String>>>,
    scratch: Option<tempfile::TempDir>,
}

impl World {
    /// A world whose scenarios begin without a Pi.
    pub fn new(programs: Programs, settings: Settings, parts: Parts) -> Self {
        Self {
            site: Site::new(&programs.cygnet),
            programs,
            settings,
            parts,
            from: State::None,
            pi: None,
            built: Built::default(),
            keys: Arc::default(),
            scratch: None,
        }
    }

    /// A world for one scenario that begins so. Only closures are common to all.
    pub fn another(&self, from: State) -> World {
        let new = World::new(self.programs.clone(), self.settings.clone(), self.parts.clone());
        World { from, built: Arc::clone(&self.built), keys: Arc::clone(&self.keys), ..new }
    }

    /// Describes the Pi that a state is of.
    pub fn describe(&self, state: State) -> Builder<'_> {
        state.pi(&self.parts, &self.programs.agent)
    }

    /// Runs one scenario from its beginning.
    pub fn run(&self, scenario: &Scenario) -> Outcome {
        let mut world = self.another(scenario.from);
        let done = (scenario.check)(&mut world).and_then(|()| match scenario.makes {
            Some(state) => states::keep(state, &mut world),
            None => Ok(()),
        });
        match done {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(world.explain(error, scenario.name)),
        }
    }

    /// Adds to an error how the Pi is now, and where its logs are kept.
    pub(super) fn explain(&mut self, error: anyhow::Error, name: &str) -> anyhow::Error {
        let Some(mut pi) = self.pi.take() else { return error.context("there is no Pi") };
        let state = pi.condition();
        let kept = self.settings.work.join("failed").join(name);
        let kept = match pi.keep_logs(&kept) {
            Ok(()) => format!("its logs are kept in {}", kept.display()),
            Err(why) => format!("its logs could not be kept: {why:#}"),
        };
        error.context(format!("{state}\n{kept}"))
    }

    /// The Pi, in the state that the scenario begins with; restored when it is first asked for.
    pub fn pi(&mut self) -> Result<&mut Pi> {
        if self.pi.is_none() {
            ensure!(self.from != State::None, "this scenario begins without a Pi, and has made none");
            self.pi = Some(states::restore(self.from, self)?);
        }
        self.present()
    }

    /// The Pi that a scenario has made.
    pub(super) fn present(&mut self) -> Result<&mut Pi> {
        self.pi.as_mut().context("there is no Pi")
    }

    /// This is the Pi from now on.
    pub(super) fn take(&mut self, pi: Pi) {
        self.pi = Some(pi);
    }

    /// Gives the Pi away.
    ///
    /// # Errors
    /// If it can't be restored.
    pub fn give(&mut self) -> Result<Pi> {
        self.pi()?;
        self.pi.take().context("there is no Pi")
    }

    /// sshd may be up before the agent is.
    pub fn wait_for_agent(&mut self) -> Result<()> {
        self.pi()?.sh("systemctl start cygnetd.service").context("waiting for the agent's service").map(drop)
    }

    /// Fails if anything was written to this disk since the scenario began.
    pub fn expect_untouched(&mut self, serial: &str) -> Result<()> {
        let writes = self.pi()?.writes(serial)?;
        ensure!(writes == 0, "{serial} was written to {writes} times");
        Ok(())
    }

    /// `root@ADDRESS`.
    pub fn host(&mut self) -> Result<String> {
        Ok(format!("root@{}", self.pi()?.address()))
    }

    /// Builds a closure for a Pi of the tests.
    pub fn closure(&mut self, variant: Variant) -> Result<Closure> {
        let settings = closure::Settings::new(self.user_public()?, variant);
        self.built(match variant {
            Variant::Full => settings.with_agent(&self.programs.agent),
            Variant::Tiny
            | Variant::TinyActivationFails
            | Variant::TinyBootLoaderFails
            | Variant::TinyWrongArchitecture
            | Variant::TinyHuge
            | Variant::TinyLong
            | Variant::TinyTwin
            | Variant::TinyNoHostId
            | Variant::TinyOtherDisks => settings,
        })
    }

    /// The tiny closure of a machine of this name, so that others do not see what happens to its store paths.
    pub fn own_closure(&mut self, host_name: &str) -> Result<Closure> {
        self.closure_of(Variant::Tiny, host_name)
    }

    /// A closure of a machine that is called so.
    pub fn closure_of(&mut self, variant: Variant, host_name: &str) -> Result<Closure> {
        let settings = closure::Settings::new(self.user_public()?, variant);
        self.built(closure::Settings { host_name: host_name.to_owned(), ..settings })
    }

    /// The key of whoever uses a Pi of the tests: the same one for all, so that closures are the same.
    fn user_public(&self) -> Result<String> {
        let file = self.parts.user_key.join("user_key.pub");
        fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
    }

    /// Two that want the same closure build it once.
    fn built(&mut self, settings: closure::Settings) -> Result<Closure> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, built)) = built.iter().find(|(of, _)| *of == settings) {
            return Ok(built.clone());
        }
        let closure = closure::build(&self.settings.cache, &settings)?;
        built.push((settings, closure.clone()));
        Ok(closure)
    }

    /// A flake with the same system and layout, as `--flake` takes it.
    pub fn flake(&mut self, variant: Variant) -> Result<String> {
        let directory = closure::flake(&self.settings.cache, &closure::Settings::new(self.user_public()?, variant))?;
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
