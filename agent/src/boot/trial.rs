//! `cygnetd trial`, on the installed system: reboots what nobody confirms, and says when a confirmed system is up.
//!
//! The card's switch says which of the two it is. `decide` is pure; around it is a loop that looks every few seconds, and ends in
//! nothing or in a reboot. Started again, it looks again: all it needs to know is on the card and in the time since the kernel's start.

use super::confirm::{change, was_changed};
use super::file::{self, Reading};
use super::journal;
use super::place::{self, Runs};
use crate::identity::{self, Identity, uptime_seconds};
use crate::run::capture;
use cygnet_protocol::boot::switch::{Act, Switch};
use cygnet_protocol::boot::trial::End;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long after the kernel's start a trial may go on, or a start without anybody being able to log in.
    pub deadline: Duration,
    /// For how long it must have been reachable to confirm itself, if it may do that at all.
    pub confirm_after: Option<Duration>,
    /// emergency.target was reached.
    pub emergency: bool,
    /// The directory in whose `cygnet/` the log is kept, if it is not looked for.
    pub boot: Option<PathBuf>,
}

/// The usual time.
pub const DEADLINE: Duration = Duration::from_secs(600);
/// How often it looks, and how often it writes the log down.
const LOOK: Duration = Duration::from_secs(5);
const LOOKS_PER_LOG: u32 = 3;
/// So long a confirmed system must have been up to count as up, seconds.
const SETTLED: u64 = 20;
/// How long systemd may take to reboot before it is done without it.
const MERCY: Duration = Duration::from_secs(60);
/// A card that has not appeared so many seconds after the kernel's start is not there.
const APPEARS: u64 = 90;
/// Says to others on this system that it is on trial.
pub const ON_TRIAL: &str = "/run/cygnet-on-trial";

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Do {
    /// It has nothing to do with the switch.
    Leave,
    /// Look again later.
    Wait,
    /// Say that it is up.
    Clear,
    /// Confirm it: nobody else has, and it can be reached.
    Confirm,
    /// It was confirmed.
    Done,
    /// Go back, and say why.
    Reboot(End),
}

/// What there is to be seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    switch: Switch,
    /// Somebody has changed the switch since the start.
    changed: bool,
    emergency: bool,
    /// Seconds since the kernel's start.
    uptime: u64,
    deadline: u64,
    /// For so many seconds default.target has been reached, or an ssh server listens.
    up: Option<u64>,
    /// For so many seconds without a break it has had an address, and an ssh server has listened.
    reachable: Option<u64>,
    /// So many of those are enough.
    confirm_after: Option<u64>,
}

fn decide(seen: Seen) -> Do {
    let late = seen.uptime >= seen.deadline;
    match seen.switch {
        Switch::Card | Switch::Once | Switch::Gone { started: false } | Switch::Keep => Do::Leave,
        Switch::Gone { started: true } if seen.emergency => Do::Reboot(End::Emergency),
        Switch::Gone { started: true } if reachable_enough(seen) => Do::Confirm,
        Switch::Gone { started: true } if late => Do::Reboot(End::Deadline),
        Switch::Gone { started: true } => Do::Wait,
        Switch::Stay { .. } if seen.changed => Do::Done,
        // Not counted: a person has called for it later, or the card can't be written, and then a reboot ends nowhere else.
        Switch::Stay { starts: 0 } => Do::Leave,
        Switch::Stay { .. } if seen.emergency => Do::Reboot(End::Emergency),
        Switch::Stay { .. } => match seen.up {
            Some(seconds) if seconds >= SETTLED => Do::Clear,
            Some(_) => Do::Wait,
            None if late => Do::Reboot(End::Deadline),
            None => Do::Wait,
        },
    }
}

/// Whether it may confirm itself.
fn reachable_enough(seen: Seen) -> bool {
    matches!((seen.reachable, seen.confirm_after), (Some(since), Some(enough)) if since >= enough)
}

/// Carries it out.
pub fn run(options: &Options) -> ExitCode {
    let board = Identity::read().board;
    let Some((mut switch, number)) = look_patiently(&board) else {
        crate::say::out("there is no card with a switch; this system starts by itself");
        return ExitCode::SUCCESS;
    };
    crate::say::out(&format!("the card's switch: {switch}"));
    let on_trial = matches!(switch, Switch::Gone { .. });
    if on_trial && let Err(error) = fs::write(ON_TRIAL, "") {
        crate::say::err(&format!("cygnetd: {ON_TRIAL} was not written: {error}"));
    }
    if switch == (Switch::Stay { starts: 0 }) && !options.emergency {
        crate::say::err(
            "cygnetd: U-Boot has not counted this start: the card could not be written, or somebody has confirmed it since",
        );
    }
    let (mut up_since, mut reachable_since, mut looks) = (None, None, 0);
    loop {
        if was_changed() || uptime_seconds() >= options.deadline.as_secs() {
            // The last word is the card's.
            switch = look(&board).map_or(switch, |(switch, _)| switch);
        }
        up_since = if is_up() { up_since.or_else(|| Some(uptime_seconds())) } else { None };
        reachable_since = if is_reachable() { reachable_since.or_else(|| Some(uptime_seconds())) } else { None };
        let seen = Seen {
            switch,
            changed: was_changed(),
            emergency: options.emergency,
            uptime: uptime_seconds(),
            deadline: options.deadline.as_secs(),
            up: up_since.map(|since| uptime_seconds().saturating_sub(since)),
            reachable: reachable_since.map(|since| uptime_seconds().saturating_sub(since)),
            confirm_after: options.confirm_after.map(|time| time.as_secs()),
        };
        match decide(seen) {
            Do::Leave => return ExitCode::SUCCESS,
            Do::Wait => {}
            Do::Clear => return clear(&board),
            Do::Confirm => match change(&board, Act::Confirm) {
                // Seen at once, as if somebody else had said it.
                Ok(now) => {
                    crate::say::out("nobody has confirmed this system, but it can be reached: it confirms itself");
                    switch = now;
                    continue;
                }
                // The deadline is still there.
                Err(fault) => crate::say::err(&format!("cygnetd: {fault}")),
            },
            Do::Done => {
                keep(End::Confirmed, &number, options);
                let _ = fs::remove_file(ON_TRIAL);
                crate::say::out("confirmed: this system starts from now on");
                return ExitCode::SUCCESS;
            }
            Do::Reboot(end) => {
                crate::say::err(&format!("cygnetd: {}; rebooting", why(end)));
                keep(end, &number, options);
                return reboot();
            }
        }
        if on_trial && looks % LOOKS_PER_LOG == 0 {
            keep(End::Running, &number, options);
        }
        looks += 1;
        std::thread::sleep(LOOK);
    }
}

const fn why(end: End) -> &'static str {
    match end {
        End::Deadline => "nobody has confirmed this system in time, or nobody could log in",
        End::Emergency => "this system ended in emergency mode",
        End::Running | End::Confirmed => "the trial is over",
    }
}

/// This begins before the kernel has found every disk.
fn look_patiently(board: &str) -> Option<(Switch, String)> {
    loop {
        match look(board) {
            None if uptime_seconds() < APPEARS => std::thread::sleep(LOOK),
            found => return found,
        }
    }
}

fn look(board: &str) -> Option<(Switch, String)> {
    match place::open(board) {
        Ok((fat, Runs::Ssd)) => {
            let switch = file::read(fat.path()).ok().map(Reading::switch)?;
            Some((switch, file::number(fat.path())))
        }
        Ok((_, Runs::Card)) | Err(_) => None,
    }
}

fn clear(board: &str) -> ExitCode {
    match change(board, Act::Clear) {
        Ok(_) => {
            crate::say::out("this system is up; its start is counted as a good one");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            crate::say::err(&format!("cygnetd: {fault}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether somebody can log in, or all that was to start has started.
fn is_up() -> bool {
    journal::ssh_listens() || capture(&["timeout", "10", "systemctl", "is-active", "--quiet", "default.target"]).is_ok()
}

/// Whether somebody could log in from elsewhere: it has an address that is more than link-local, and an ssh server listens.
fn is_reachable() -> bool {
    journal::ssh_listens() && identity::has_address()
}

fn keep(end: End, number: &str, options: &Options) {
    if let Err(error) = journal::keep(end, number, options.boot.as_deref()) {
        crate::say::err(&format!("cygnetd: no log of the trial was kept: {error}"));
    }
}

/// By systemd, and if that hangs without it: nobody is there to cut the power.
fn reboot() -> ExitCode {
    for force in [&["systemctl", "reboot"][..], &["systemctl", "--force", "reboot"]] {
        if let Err(error) = capture(&[&["timeout", "30"], force].concat()) {
            crate::say::err(&format!("cygnetd: {error}"));
        }
        std::thread::sleep(MERCY);
    }
    rustix::fs::sync();
    match rustix::system::reboot(rustix::system::RebootCommand::Restart) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::say::err(&format!("cygnetd: rebooting: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(switch: Switch, uptime: u64) -> Seen {
        Seen {
            switch,
            changed: false,
            emergency: false,
            uptime,
            deadline: 600,
            up: None,
            reachable: None,
            confirm_after: None,
        }
    }

    #[test]
    fn a_trial_ends_confirmed_or_in_a_reboot() {
        let trial = Switch::Gone { started: true };
        assert_eq!(decide(seen(trial, 10)), Do::Wait);
        assert_eq!(decide(seen(trial, 600)), Do::Reboot(End::Deadline));
        assert_eq!(decide(Seen { emergency: true, ..seen(trial, 10) }), Do::Reboot(End::Emergency));
        assert_eq!(
            decide(Seen { up: Some(500), ..seen(trial, 600) }),
            Do::Reboot(End::Deadline),
            "up is not confirmed"
        );
        let stay = Switch::Stay { starts: 0 };
        assert_eq!(decide(Seen { changed: true, ..seen(stay, 700) }), Do::Done, "confirmed at the last moment");
    }

    #[test]
    fn it_confirms_itself_only_if_it_was_allowed_to() {
        let trial = seen(Switch::Gone { started: true }, 400);
        assert_eq!(decide(Seen { reachable: Some(399), ..trial }), Do::Wait, "off unless it was asked for");
        assert_eq!(decide(Seen { reachable: Some(299), confirm_after: Some(300), ..trial }), Do::Wait);
        assert_eq!(decide(Seen { reachable: Some(300), confirm_after: Some(300), ..trial }), Do::Confirm);
        assert_eq!(decide(Seen { confirm_after: Some(0), ..trial }), Do::Wait, "it can't be reached");
        let hurt = Seen { emergency: true, reachable: Some(300), confirm_after: Some(300), ..trial };
        assert_eq!(decide(hurt), Do::Reboot(End::Emergency));
        let later = seen(Switch::Stay { starts: 1 }, 400);
        assert_eq!(decide(Seen { reachable: Some(300), confirm_after: Some(300), ..later }), Do::Wait);
    }

    #[test]
    fn a_later_start_is_cleared_once_it_is_up() {
        let start = Switch::Stay { starts: 2 };
        assert_eq!(decide(seen(start, 10)), Do::Wait);
        assert_eq!(decide(Seen { up: Some(1), ..seen(start, 10) }), Do::Wait);
        assert_eq!(decide(Seen { up: Some(SETTLED), ..seen(start, 60) }), Do::Clear);
        assert_eq!(decide(Seen { emergency: true, ..seen(start, 60) }), Do::Reboot(End::Emergency));
        assert_eq!(decide(seen(start, 600)), Do::Reboot(End::Deadline), "nobody can log in: the card can, after three");
    }

    #[test]
    fn what_is_not_counted_is_never_rebooted() {
        for switch in
            [Switch::Card, Switch::Once, Switch::Gone { started: false }, Switch::Stay { starts: 0 }, Switch::Keep]
        {
            let late = Seen { emergency: true, ..seen(switch, 9999) };
            assert_eq!(decide(late), Do::Leave, "{switch:?}");
        }
    }
}
