//! The end of a trial: the installed system is told over ssh that it is what was wanted, and says so to its card.
//!
//! A system with `nixosModules.installed` has `cygnetd confirm` for that. One without it gets a few lines of shell, which do the
//! same but for one thing: nobody there will say at later starts that it is up, so those are not counted.

use crate::error::{fault, tail};
use crate::ssh::Target;
use crate::ssh::remote::root_command as as_root;
use anyhow::{Context, Result};
use cygnet_protocol::boot::switch::Switch;
use cygnet_protocol::fault::FaultCode;
use std::process::{Output, Stdio};

/// `cygnetd confirm` ends with this if it was started without the card's switch.
const NOTHING: i32 = 4;
/// What a shell ends with if there is no such program.
const NO_PROGRAM: i32 = 127;

/// What is in force from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// The card stays in, and counts starts that fail.
    Counted,
    /// The card stays in, and does not.
    Uncounted,
    /// The system was started without the card's switch.
    WithoutSwitch,
}

impl Confirmed {
    /// For a person.
    pub const fn text(self) -> &'static str {
        match self {
            Confirmed::Counted => {
                "Confirmed: the SSD starts from now on. The card stays in, as switch and rescue; three starts in a row that fail end there."
            }
            Confirmed::Uncounted => {
                "Confirmed: the SSD starts from now on. The card stays in, as switch; a later start that fails does not end there, because \
                 the system has no nixosModules.installed, which would say that it is up."
            }
            Confirmed::WithoutSwitch => {
                "It was started without the card's switch. If its card is in, the next start may be the card's: pull it."
            }
        }
    }
}

/// Confirms. `ssh` runs a command on the system that was verified, with the host key that was verified.
pub fn confirm(target: &Target, ssh: &dyn Fn(&str) -> Result<Output>) -> Result<Confirmed> {
    let ended = |output: &Output| output.status.code();
    let output = ssh(&as_root("cygnetd confirm"))?;
    match ended(&output) {
        Some(0) => return Ok(Confirmed::Counted),
        Some(NOTHING) => return Ok(Confirmed::WithoutSwitch),
        Some(NO_PROGRAM) => {}
        _ => return Err(not_confirmed(target, &output)),
    }
    let output = ssh(&as_root(&plain()))?;
    match ended(&output) {
        Some(0) => Ok(Confirmed::Uncounted),
        Some(NOTHING) => Ok(Confirmed::WithoutSwitch),
        _ => Err(not_confirmed(target, &output)),
    }
}

/// Finds the card by its controller (an SD slot, or a virtio disk with a switch on it), and writes in place and to the card.
fn plain() -> String {
    let file = |switch: Switch| {
        let text = String::from_utf8_lossy(&switch.render()).into_owned();
        text.trim_end_matches('\0').replace('\n', "\\n")
    };
    let (ran, keep) = (file(Switch::Gone { started: true }), file(Switch::Keep));
    format!(
        "set -e; d=$(mktemp -d); trap 'umount \"$d\" 2>/dev/null || :; rmdir \"$d\"' EXIT; \
         for p in /dev/mmcblk?p1 /dev/vd?1; do [ -b \"$p\" ] || continue; \
         mount -t vfat -o ro,nosuid,nodev,noexec \"$p\" \"$d\" 2>/dev/null || continue; f=\"$d/cygnet/boot\"; \
         if [ -f \"$f\" ]; then is=$(head -c 28 \"$f\" | tr -d '\\000'); \
         [ \"$is\" = \"$(printf '{ran}')\" ] || {{ echo \"the switch says: $is\" >&2; exit {NOTHING}; }}; \
         mount -o remount,rw \"$d\"; printf '{keep}\\000' | dd of=\"$f\" conv=notrunc,fsync 2>/dev/null; \
         [ \"$(head -c 28 \"$f\" | tr -d '\\000')\" = \"$(printf '{keep}')\" ] || exit 1; exit 0; fi; umount \"$d\"; done; exit {NOTHING}"
    )
}

fn not_confirmed(target: &Target, output: &Output) -> anyhow::Error {
    let said = tail(&String::from_utf8_lossy(&output.stderr));
    fault(
        FaultCode::NotConfirmed,
        format!("{} runs what was installed, but could not be confirmed: its next start is the card's.", target.given),
        match said.is_empty() {
            true => "The command there said nothing.".to_owned(),
            false => format!("It said: {said}"),
        },
        "See that this user is root there or may use sudo without a password, and that the card is in and can be written; then \
         `cygnet boot HOST --ssd`.",
    )
}

/// Runs a command over ssh, with no connection of before.
pub fn run(target: &Target, options: &[String], remote: &str) -> Result<Output> {
    let mut command = target.command_with(options);
    command.args(["-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "LogLevel=ERROR"]);
    command.args(["-o", "BatchMode=yes", "-T", "--", &target.host, remote]);
    command.stdin(Stdio::null()).output().context("running ssh to the installed system")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use crate::error::fault_of;
    use clap::Parser;
    use std::cell::RefCell;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    fn target() -> Target {
        let cli = Cli::try_parse_from(["cygnet", "status", "root@pi"]).unwrap();
        Target::new("root@pi", &cli.global).unwrap()
    }

    fn ends(codes: &[i32]) -> (Result<Confirmed>, usize) {
        let left = RefCell::new(codes.to_vec());
        let ssh = |_: &str| {
            let code = left.borrow_mut().remove(0);
            Ok(Output { status: ExitStatus::from_raw(code << 8), stdout: vec![], stderr: b"no\n".to_vec() })
        };
        let confirmed = confirm(&target(), &ssh);
        let asked = codes.len() - left.borrow().len();
        (confirmed, asked)
    }

    #[test]
    fn the_system_is_asked_first_and_then_the_shell() {
        assert_eq!(ends(&[0]).0.unwrap(), Confirmed::Counted);
        assert_eq!(ends(&[4]).0.unwrap(), Confirmed::WithoutSwitch);
        let (confirmed, asked) = ends(&[127, 0]);
        assert_eq!((confirmed.unwrap(), asked), (Confirmed::Uncounted, 2));
        assert_eq!(ends(&[127, 4]).0.unwrap(), Confirmed::WithoutSwitch);
        for codes in [&[1][..], &[127, 1], &[255]] {
            let error = ends(codes).0.unwrap_err();
            assert_eq!(fault_of(&error).code, FaultCode::NotConfirmed, "{codes:?}");
        }
    }

    /// The lines of shell, on files in the place of the card.
    #[test]
    fn the_shell_writes_what_u_boot_reads() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::create_dir_all(at("bin")).unwrap();
        std::fs::create_dir_all(at("card/cygnet")).unwrap();
        // Mounting links the directory that stands for the card.
        let script = |name: &str, text: &str| {
            std::fs::write(at("bin").join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(at("bin").join(name), mode).unwrap();
        };
        script(
            "mount",
            &format!(
                "for last; do :; done; rm -rf \"$last/cygnet\"; ln -s {}/cygnet \"$last/cygnet\"",
                at("card").display()
            ),
        );
        script("umount", "rm -f \"$1/cygnet\"");
        let text = plain().replace("/dev/mmcblk?p1 /dev/vd?1", "/card").replace("[ -b \"$p\" ]", ":");
        let run = |file: &[u8]| {
            std::fs::write(at("card/cygnet/boot"), file).unwrap();
            let path = format!("{}:{}", at("bin").display(), std::env::var("PATH").unwrap());
            let output = std::process::Command::new("sh").args(["-c", &text]).env("PATH", path).output().unwrap();
            (output.status.code(), Switch::parse(&std::fs::read(at("card/cygnet/boot")).unwrap()), output)
        };
        let (code, switch, output) = run(&Switch::Gone { started: true }.render());
        assert_eq!((code, switch), (Some(0), Some(Switch::Keep)), "{output:?}");
        assert_eq!(std::fs::read(at("card/cygnet/boot")).unwrap(), Switch::Keep.render(), "to the last byte");
        for other in [Switch::Card, Switch::Once, Switch::Gone { started: false }] {
            let (code, switch, _) = run(&other.render());
            assert_eq!((code, switch), (Some(NOTHING), Some(other)));
        }
        std::fs::remove_file(at("card/cygnet/boot")).unwrap();
    }

    #[test]
    fn whoever_logs_in_it_is_root_that_does_it() {
        let command = as_root("printf 'a'");
        assert_eq!(command.matches(r"printf '\''a'\''").count(), 2);
        let output = std::process::Command::new("sh").args(["-c", &as_root("printf '%s' \"it's\"")]).output().unwrap();
        if output.status.success() {
            assert_eq!(output.stdout, b"it's");
        }
    }
}
