//! The inside of the target: a native `nixos-enter`.
//!
//! The agent starts `unshare … cygnetd enter ROOT` in fresh mount, pid and uts namespaces. This side mounts what a system
//! expects, changes its root, and then runs what it is told: one JSON line on stdin is a [`Task`], one on stdout its
//! [`Outcome`]. All tasks share the namespaces, so `/run/current-system` made by the first is there for the next.

use cygnet_protocol::frame::{self, FrameError};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_remount,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// A program to run inside.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    /// Program, with its path inside the target, and arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The namespaces are ready for the first task.
    Ready,
    /// It ended with this exit code.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
    /// It could not be started, or the namespaces not be prepared.
    Broken(String),
}

/// The `enter` command.
pub fn run(root: &Path) -> ExitCode {
    let mut output = io::stdout().lock();
    let ready = match prepare(root) {
        Ok(()) => Outcome::Ready,
        Err((doing, error)) => Outcome::Broken(format!("{doing}: {error}")),
    };
    let broken = ready != Outcome::Ready;
    if frame::send(&mut output, &ready).is_err() || broken {
        return ExitCode::FAILURE;
    }
    let mut input = BufReader::new(io::stdin().lock());
    loop {
        match frame::receive::<Task>(&mut input) {
            Ok(task) => {
                if frame::send(&mut output, &perform(&task)).is_err() {
                    return ExitCode::FAILURE;
                }
            }
            Err(FrameError::Closed) => return ExitCode::SUCCESS,
            Err(error) => {
                crate::say::err(&format!("cygnetd enter: {error}"));
                return ExitCode::FAILURE;
            }
        }
    }
}

fn prepare(root: &Path) -> Result<(), (String, io::Error)> {
    let at = |name: &str| root.join(name);
    for name in ["proc", "sys", "dev", "run", "tmp", "etc"] {
        let directory = at(name);
        fs::create_dir_all(&directory).map_err(|e| (format!("creating {}", directory.display()), e))?;
    }
    mounted(
        "proc",
        mount("proc", at("proc"), "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None),
    )?;
    for name in ["sys", "dev"] {
        mounted(name, mount_bind_recursive(Path::new("/").join(name), at(name)))?;
        // What is unmounted inside must not go away outside.
        mounted(name, mount_change(at(name), MountPropagationFlags::REC | MountPropagationFlags::PRIVATE))?;
    }
    // As at every boot of a NixOS: a script that writes through a link into the store would spoil it unnoticed.
    let store = at("nix/store");
    mounted("nix/store", mount_bind(&store, &store))?;
    mounted("nix/store", mount_remount(&store, MountFlags::BIND | MountFlags::RDONLY, c""))?;
    mounted("run", mount("tmpfs", at("run"), "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=0755")))?;
    rustix::process::chroot(root).map_err(|e| (format!("changing the root to {}", root.display()), e.into()))?;
    rustix::process::chdir("/").map_err(|e| ("entering the new root".to_owned(), e.into()))
}

fn mounted(name: &str, result: rustix::io::Result<()>) -> Result<(), (String, io::Error)> {
    result.map_err(|error| (format!("mounting /{name} in the target"), error.into()))
}

fn perform(task: &Task) -> Outcome {
    let Some((program, arguments)) = task.argv.split_first() else {
        return Outcome::Broken("an empty command".into());
    };
    // Its output goes to our stderr, which the agent passes on; our stdout carries outcomes only.
    let status = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&task.environment)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status();
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Outcome::Exited(code),
            (None, signal) => Outcome::Killed(signal.unwrap_or(0)),
        },
        Err(error) => Outcome::Broken(format!("starting {program}: {error}")),
    }
}
