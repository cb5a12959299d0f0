//! Runs the new system's own programs inside the target: its activation script, and then its boot-loader installer.
//!
//! What `nixos-install` does here (nixos-enter.sh, nixos-install.sh), but no exit code is overlooked: a failed activation
//! or boot loader ends the installation, and the Pi never reboots into it.

use super::register::public_keys;
use super::{Installation, Outcome, step_fault};
use crate::enter::{Outcome as Ended, Task};
use crate::identity::fingerprint;
use crate::run::tool::{self, LOOK, Stopping, Tool};
use crate::run::{RunError, TO_RUN_SCRIPTS, command, printable};
use cygnet_protocol::event::{EventKind, Phase};
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::frame;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

/// Where sshd has its keys, below the target's root.
const SSH: &str = "etc/ssh";
/// How many lines of a failed script go into the error.
const TAIL: usize = 12;

/// How long the target's namespaces may take to be made, or to end.
const TO_ENTER: Duration = Duration::from_secs(60);
/// How long what is left of a script's output is waited for after its end: others may hold its pipe, and go on writing.
const TO_DRAIN: Duration = Duration::from_secs(1);

/// The process inside the target's namespaces.
pub struct Inside {
    tool: Tool,
    tasks: Option<ChildStdin>,
    /// From a thread that may be left behind, as the process may.
    outcomes: Receiver<Result<Ended, String>>,
    lines: Receiver<String>,
}

impl Inside {
    /// Makes the namespaces: what is mounted in them is gone with them, and so is every process left behind.
    fn new(target: &Path) -> Result<Self, Fault> {
        let ourselves = std::env::current_exe().map_err(|e| Fault::internal("cygnetd cannot find itself.", e))?;
        let mut unshare = command("unshare");
        unshare
            .args(["--mount", "--uts", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private", "--"])
            .arg(ourselves)
            .arg("enter")
            .arg(target)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let doing = "Entering the target";
        if tool::hangs(&unshare) {
            return Err(step_fault(RunError::Hangs { program: "unshare".into() }, doing));
        }
        let start = |source| step_fault(RunError::Start { program: "unshare".into(), source }, doing);
        let mut tool = Tool::start(&mut unshare).map_err(start)?;
        let pipes = tool.child().map(|child| (child.stdin.take(), child.stdout.take(), child.stderr.take()));
        let Some((Some(tasks), Some(stdout), Some(errors))) = pipes else {
            return Err(start(io::Error::other("no pipes")));
        };
        let (ended, outcomes) = channel();
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            loop {
                let outcome = frame::receive::<Ended>(&mut stdout).map_err(|error| error.to_string());
                let last = outcome.is_err();
                if ended.send(outcome).is_err() || last {
                    return;
                }
            }
        });
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut errors = BufReader::new(errors);
            let mut line = Vec::new();
            while matches!((&mut errors).take(4096).read_until(b'\n', &mut line), Ok(1..)) {
                if sender.send(printable(&line)).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let inside = Self { tool, tasks: Some(tasks), outcomes, lines };
        match inside.outcomes.recv_timeout(TO_ENTER) {
            Ok(Ok(Ended::Ready)) => Ok(inside),
            Ok(Ok(other)) => Err(Fault::internal("The target could not be entered.", format!("{other:?}"))),
            Ok(Err(error)) => {
                let said = std::iter::from_fn(|| inside.lines.recv_timeout(TO_DRAIN).ok());
                let said: Vec<String> = said.take(TAIL).collect();
                Err(Fault::internal("The target could not be entered.", format!("{error}: {}", said.join(" | "))))
            }
            Err(RecvTimeoutError::Timeout) => {
                Err(Fault::internal("The target could not be entered.", "mounting in it does not come to an end"))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(Fault::internal("The target could not be entered.", "its reader stopped"))
            }
        }
    }

    /// Runs one program inside; its output goes to the log, the last lines of it come back.
    fn run(&mut self, installation: &Installation<'_>, phase: Phase, task: &Task) -> Result<(Ended, String), Fault> {
        let broken = |e: &dyn std::fmt::Display| Fault::internal("The process inside the target is gone.", e);
        let tasks = self.tasks.as_mut().ok_or_else(|| broken(&"it was told to end"))?;
        frame::send(tasks, task).map_err(|e| broken(&e))?;
        let mut tail = VecDeque::new();
        let mut relay = |line: String| {
            let line = installation.agent.log.clean(line);
            if line.is_empty() {
                return;
            }
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(line.clone());
            installation.agent.log.emit(Some(phase), EventKind::Output { line });
        };
        let begun = Instant::now();
        let outcome = loop {
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => relay(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
            }
            match self.outcomes.try_recv() {
                Ok(outcome) => break outcome,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => break Err("its reader stopped".into()),
            }
            let overdue = begun.elapsed() >= TO_RUN_SCRIPTS;
            if overdue || installation.agent.cancel.asked() {
                let hangs = self.end();
                if !overdue {
                    return Err(crate::run::aborted());
                }
                let error = RunError::Overdue {
                    program: task.argv.first().cloned().unwrap_or_default(),
                    command: task.argv.join(" "),
                    seconds: TO_RUN_SCRIPTS.as_secs(),
                    hangs,
                    tail: Vec::from(tail).join(" | "),
                };
                return Err(step_fault(error, "Running a script of the new system"));
            }
        };
        // Its own output is in the pipe by now; what others write to it is not waited for.
        let ended = Instant::now();
        while let Some(line) = self.lines.recv_timeout(LOOK).ok().filter(|_| ended.elapsed() < TO_DRAIN) {
            relay(line);
        }
        if installation.agent.cancel.asked() {
            return Err(crate::run::aborted());
        }
        outcome.map(|ended| (ended, Vec::from(tail).join(" | "))).map_err(|error| broken(&error))
    }

    /// Ends whatever runs inside. Whether it could not be ended.
    fn end(&mut self) -> bool {
        self.tasks = None;
        let mut stop = self.tool.stop();
        loop {
            match self.tool.go_on(&mut stop) {
                Stopping::Ended => return false,
                Stopping::LeftBehind => return true,
                Stopping::Waiting => {
                    let _ = self.tool.wait(LOOK);
                }
            }
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // With the end of its tasks it ends by itself; whatever it left running is killed with its namespace. What does not
        // end is killed, and left behind if that does not end it.
        self.tasks = None;
        let _ = self.tool.wait(TO_ENTER);
    }
}

/// The environment that nixos-enter gives, plus what the phase needs.
fn environment(toplevel: &str, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([
        ("PATH".to_owned(), format!("{toplevel}/sw/bin:{toplevel}/sw/sbin")),
        ("HOME".to_owned(), "/root".to_owned()),
        ("LC_ALL".to_owned(), "C".to_owned()),
        ("LOCALE_ARCHIVE".to_owned(), format!("{toplevel}/sw/lib/locale/locale-archive")),
        ("IN_NIXOS_ENTER".to_owned(), "1".to_owned()),
    ]);
    environment.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    environment
}

/// Runs `activate`, then systemd-tmpfiles as nixos-enter does.
pub fn activate(installation: &mut Installation<'_>) -> Result<Outcome, Fault> {
    let toplevel = installation.job.closure.toplevel.clone();
    let target = installation.agent.places.target.clone();
    check_toplevel(&target, &toplevel, &installation.agent.identity.system)?;
    let before = public_keys(&target.join(SSH));
    let mut inside = Inside::new(&target)?;
    installation.task(format!("Running {toplevel}/activate"));
    let task = Task { argv: vec![format!("{toplevel}/activate")], environment: environment(&toplevel, &[]) };
    let (ended, tail) = inside.run(installation, Phase::Activate, &task)?;
    succeeded(&ended).map_err(|how| {
        Fault::new(
            FaultCode::ActivationFailed,
            format!("The activation script of the new system {how}."),
            if tail.is_empty() { "It printed nothing.".into() } else { format!("It said: {tail}") },
            "Correct that part of the configuration, build again and run `cygnet install` again; nothing is formatted anew. The Pi has not been rebooted.",
        )
    })?;
    let tmpfiles = format!("{toplevel}/sw/bin/systemd-tmpfiles");
    if target.join(tmpfiles.trim_start_matches('/')).symlink_metadata().is_ok() {
        let argv = [&tmpfiles, "--create", "--remove", "-E"].map(|word: &str| word.to_owned()).to_vec();
        let task = Task { argv, environment: environment(&toplevel, &[]) };
        // It complains of every rule that needs a running system; nixos-enter drops its exit code too.
        if let Err(how) = succeeded(&inside.run(installation, Phase::Activate, &task)?.0) {
            installation.warn(format!("systemd-tmpfiles in the new system {how}; it runs again at the first boot."));
        }
    }
    installation.inside = Some(inside);
    tell_new_host_keys(installation, &before);
    Ok(Outcome::Done)
}

/// Tells the client which ssh host keys the new system's scripts have made, through the connection that it has verified: so
/// it knows them before the Pi reboots.
fn tell_new_host_keys(installation: &Installation<'_>, before: &[String]) {
    let now = public_keys(&installation.agent.places.target.join(SSH));
    if now.is_empty() || now == before {
        return;
    }
    let names: Vec<String> = now.iter().filter_map(|key| fingerprint(key)).collect();
    installation.task(format!("The new system has made its ssh host keys: {}", names.join(", ")));
    installation.agent.log.emit(Some(Phase::Activate), EventKind::HostKeys { keys: now });
}

/// Runs `switch-to-configuration boot`, which installs the boot loader.
pub fn install_boot_loader(installation: &mut Installation<'_>) -> Result<Outcome, Fault> {
    let toplevel = installation.job.closure.toplevel.clone();
    let Some(mut inside) = installation.inside.take() else {
        return Err(Fault::internal("The boot loader has no target to be installed in.", "activation did not run"));
    };
    installation.task(format!("Running {toplevel}/bin/switch-to-configuration boot"));
    let task = Task {
        argv: vec![format!("{toplevel}/bin/switch-to-configuration"), "boot".into()],
        environment: environment(&toplevel, &[("NIXOS_INSTALL_BOOTLOADER", "1")]),
    };
    let (ended, tail) = inside.run(installation, Phase::Bootloader, &task)?;
    succeeded(&ended).map_err(|how| {
        Fault::new(
            FaultCode::BootloaderFailed,
            format!("The boot-loader installer of the new system {how}."),
            if tail.is_empty() { "It printed nothing.".into() } else { format!("It said: {tail}") },
            "Correct the boot-loader part of the configuration (is /boot large enough, is the right loader enabled?), build again and run `cygnet install` again. The Pi has not been rebooted.",
        )
    })?;
    Ok(Outcome::Done)
}

fn succeeded(ended: &Ended) -> Result<(), String> {
    match ended {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(code) => Err(format!("ended with exit code {code}")),
        Ended::Killed(signal) => Err(format!("was ended by signal {signal}")),
        Ended::Broken(error) => Err(format!("could not be run ({error})")),
        Ended::Ready => Err("answered out of turn".into()),
    }
}

/// The client checked this too; but what arrived is what counts.
fn check_toplevel(target: &Path, toplevel: &str, system: &str) -> Result<(), Fault> {
    let inside = target.join(toplevel.trim_start_matches('/'));
    let found = std::fs::read_to_string(inside.join("system")).unwrap_or_default();
    if found.trim() != system {
        return Err(Fault::new(
            FaultCode::WrongArchitecture,
            format!("{toplevel} is for {:?}, this Pi is {system}.", found.trim()),
            "The system was built for another machine.",
            format!("Set nixpkgs.hostPlatform = \"{system}\" and build it again."),
        ));
    }
    for part in ["activate", "init", "bin/switch-to-configuration"] {
        if inside.join(part).symlink_metadata().is_err() {
            return Err(Fault::new(
                FaultCode::BadClosure,
                format!("{toplevel} has no {part}."),
                "It is a store path, but not the toplevel of a NixOS system.",
                "Build config.system.build.toplevel of the host.",
            ));
        }
    }
    Ok(())
}
