//! What a trial leaves behind on the SSD's FAT partition, and what follows from it when the card runs again.
//!
//! The file is a head of `name: value` lines, an empty line, and the end of the journal. It comes from a system that did not
//! work, by way of a disk that may be broken: it is bounded, nothing in it is trusted, and control characters are gone before
//! anybody sees it.

use super::switch::{MOST_STARTS, Switch};
use crate::fault::{Fault, FaultCode};
use std::fmt::Write;

/// The file, below [`super::DIRECTORY`].
pub const LOG: &str = "trial.log";
/// The most bytes of it.
pub const MOST: usize = 128 * 1024;
/// The longest line, characters.
const LINE: usize = 400;
/// The first line.
const HEAD: &str = "cygnet-trial: 1";

/// How a trial ended, as its own unit knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// It had not ended when this was written.
    #[default]
    Running,
    /// Nobody confirmed it in time.
    Deadline,
    /// The system gave up (emergency.target).
    Emergency,
    /// It was confirmed.
    Confirmed,
}

impl End {
    const ALL: [End; 4] = [End::Running, End::Deadline, End::Emergency, End::Confirmed];

    const fn name(self) -> &'static str {
        match self {
            End::Running => "running",
            End::Deadline => "deadline",
            End::Emergency => "emergency",
            End::Confirmed => "confirmed",
        }
    }
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// How it ended.
    pub end: End,
    /// The number of the trial, from the card ([`super::NUMBER`]).
    pub number: String,
    /// The system that was on trial.
    pub toplevel: String,
    /// For how long it had run, seconds.
    pub uptime: u64,
    /// Whether it had an address.
    pub network: bool,
    /// Whether somebody listened at ssh's port.
    pub ssh: bool,
    /// The units that had failed, the last one last.
    pub failed: Vec<String>,
    /// The end of the journal.
    pub lines: Vec<String>,
}

impl Log {
    /// The file: the newest lines, as many as there is room for.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!(
            "{HEAD}\nend: {}\nnumber: {}\ntoplevel: {}\nuptime: {}\n",
            self.end.name(),
            clean(&self.number),
            clean(&self.toplevel),
            self.uptime
        );
        let yes = |is| if is { "yes" } else { "no" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "network: {}\nssh: {}", yes(self.network), yes(self.ssh));
        let failed: Vec<String> = self.failed.iter().take(20).map(|unit| clean(unit)).collect();
        let _ = writeln!(text, "failed: {}\n", failed.join(" "));
        let mut room = MOST.saturating_sub(text.len());
        let lines: Vec<String> = self.lines.iter().map(|line| clean(line)).collect();
        let fits = |line: &&String| {
            let fits = line.len() < room;
            room = room.saturating_sub(line.len() + 1);
            fits
        };
        let kept = lines.iter().rev().take_while(fits).count();
        for line in lines.iter().skip(lines.len() - kept) {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Reads the beginning of such a file; nothing if it is none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes.get(..MOST).unwrap_or(bytes));
        let (head, lines) = text.split_once("\n\n")?;
        let mut head = head.lines();
        if head.next() != Some(HEAD) {
            return None;
        }
        let mut log = Self::default();
        for (name, value) in head.filter_map(|line| line.split_once(": ")) {
            match name {
                "end" => log.end = End::ALL.into_iter().find(|end| end.name() == value).unwrap_or_default(),
                "number" => log.number = clean(value),
                "toplevel" => log.toplevel = clean(value),
                "uptime" => log.uptime = value.parse().unwrap_or_default(),
                "network" => log.network = value == "yes",
                "ssh" => log.ssh = value == "yes",
                "failed" => log.failed = value.split_whitespace().take(20).map(clean).collect(),
                _ => {}
            }
        }
        log.lines = lines.lines().map(clean).collect();
        Some(log)
    }
}

/// One line without what a terminal would obey.
fn clean(line: &str) -> String {
    crate::text::line(&line.chars().take(LINE).collect::<String>())
}

macro_rules! causes {
    ($($variant:ident = $name:literal, $summary:literal, $remedy:literal;)+) => {
        /// Why the card runs although the SSD was to. The names are an interface: they never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Cause { $(#[doc = $summary] $variant,)+ }

        impl Cause {
            /// All of them.
            pub const ALL: &'static [Cause] = &[$(Cause::$variant),+];

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Cause::$variant => $name,)+ } }

            /// What is the case, one sentence.
            #[must_use]
            pub const fn summary(self) -> &'static str { match self { $(Cause::$variant => $summary,)+ } }

            /// What a person can do.
            #[must_use]
            pub const fn remedy(self) -> &'static str { match self { $(Cause::$variant => $remedy,)+ } }
        }
    };
}

causes! {
    NothingToStart = "B01-NOTHING-TO-START", "U-Boot found nothing on the SSD that it could start.",
        "See that the SSD is plugged in and has power of its own if it needs more than the port gives; and that /boot is on a FAT or ext4 partition with extlinux/extlinux.conf on it, its files whole.";
    NotStarted = "B02-NOT-FIRED", "The trial was armed, and U-Boot did not start it.",
        "See that config.txt on the card starts its U-Boot, that the card is not write-protected, and that uboot.env is there; then `cygnet boot HOST --trial`.";
    NoSign = "B03-NO-SIGN", "The new system was started, and gave no sign of itself.",
        "Its kernel or initrd stopped early, or the power was cut: look at the serial console during `cygnet boot HOST --trial`. An initrd without the driver of the SSD, or that does not find its root, is the usual reason.";
    Panic = "B04-PANIC", "The new system's kernel panicked.",
        "Look at the log with `cygnet logs HOST`; a root that was not found, or a driver, is the usual reason.";
    Pool = "B05-POOL-NOT-IMPORTED", "The new system did not import its pool.",
        "Set networking.hostId and boot.supportedFilesystems, see that boot.zfs.devNodes leads to the disk, and install again.";
    DeviceTimeout = "B06-DEVICE-TIMEOUT", "The new system waited in vain for a disk or partition.",
        "Compare fileSystems with the layout: a device of that name is not there. Then install again.";
    Emergency = "B07-EMERGENCY", "The new system ended in emergency mode.",
        "Mend the unit that failed, and install again.";
    NoNetwork = "B08-NO-NETWORK", "The new system came up without an address.",
        "See that it has the driver, the firmware and the network's passphrase (nixosModules.installed takes those of the card), and install again.";
    NoSsh = "B09-NO-SSH", "The new system came online, and no ssh server listened.",
        "Set services.openssh.enable, and install again.";
    NotConfirmed = "B10-NOT-CONFIRMED", "The new system came up, and nobody confirmed it in time.",
        "The laptop did not reach it: another address, another network, or `cygnet install` was ended. Give `cygnet boot HOST --trial` and wait with `cygnet install`, or take it as it is with `cygnet boot HOST --ssd`.";
    Reset = "B11-RESET", "The new system ran, and was reset or lost its power before it was confirmed.",
        "If nobody cut the power, it was a watchdog, a crash or too weak a power supply; look at the end of its log.";
    ThreeTimes = "B12-THREE-STARTS", "The installed system was started three times in a row without coming up.",
        "Look at its log; try it again with `cygnet boot HOST --ssd`, or install anew.";
    SsdGone = "B13-SSD-NOT-FOUND", "The installed system is confirmed, and U-Boot did not find it.",
        "Plug the SSD in, and reboot; if it is, see that its /boot is whole.";
    Damaged = "B14-SWITCH-DAMAGED", "The switch on the card, cygnet/boot, says nothing that is known.",
        "A power cut tore it, or the card wears out: `cygnet boot HOST --ssd` writes it anew.";
}

/// What is known of the start before this one, all of it on the card or read from the SSD.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found<'a> {
    /// What the trial left.
    pub log: Option<&'a Log>,
    /// The kernel's own record of its end (pstore) has a panic.
    pub panic: bool,
}

/// Whether a log is of the start that is asked about: of this trial, and of a later start only if that was the one that failed.
#[must_use]
pub fn is_of(log: &Log, file: Option<Switch>, number: &str) -> bool {
    let trial = matches!(file, Some(Switch::Gone { .. }));
    log.number == number && (trial || matches!(log.end, End::Deadline | End::Emergency))
}

/// Why the card runs; nothing if it should. `file` is what the card's switch says: nothing if there is none.
#[must_use]
pub fn cause(file: Option<Option<Switch>>, found: Found<'_>) -> Option<Cause> {
    match file? {
        None => Some(Cause::Damaged),
        Some(Switch::Card) => None,
        Some(Switch::Once) => Some(Cause::NotStarted),
        Some(Switch::Gone { started: false }) => Some(Cause::NothingToStart),
        Some(Switch::Gone { started: true }) => Some(of_log(found)),
        Some(Switch::Stay { starts }) if starts >= MOST_STARTS => Some(Cause::ThreeTimes),
        Some(Switch::Stay { .. } | Switch::Keep) => Some(Cause::SsdGone),
    }
}

fn of_log(found: Found<'_>) -> Cause {
    let Some(log) = found.log else {
        return if found.panic { Cause::Panic } else { Cause::NoSign };
    };
    let says = |words: &[&str]| log.lines.iter().any(|line| words.iter().any(|word| line.contains(word)));
    let has_failed = |start: &str| log.failed.iter().any(|unit| unit.starts_with(start));
    if found.panic || says(&["Kernel panic - not syncing"]) {
        return Cause::Panic;
    }
    let stuck = if has_failed("zfs-import") || says(&["cannot import '"]) {
        Some(Cause::Pool)
    } else if says(&["Timed out waiting for device"]) || log.failed.iter().any(|unit| unit.ends_with(".device")) {
        Some(Cause::DeviceTimeout)
    } else {
        None
    };
    match log.end {
        End::Emergency => stuck.unwrap_or(Cause::Emergency),
        // Confirmed by whoever could no longer write it down.
        End::Deadline | End::Confirmed => match (log.network, log.ssh) {
            (true, true) => Cause::NotConfirmed,
            (true, false) => stuck.unwrap_or(Cause::NoSsh),
            (false, _) => stuck.unwrap_or(Cause::NoNetwork),
        },
        End::Running => Cause::Reset,
    }
}

/// The cause as a person reads it.
#[must_use]
pub fn fault(cause: Cause, log: Option<&Log>) -> Fault {
    let trial = !matches!(cause, Cause::ThreeTimes | Cause::SsdGone | Cause::Damaged);
    let what = format!("{}{}: {}", if trial { "The trial failed: " } else { "" }, cause.name(), cause.summary());
    let words = log.map(|log| {
        let mut words = vec![format!("It ran for {} s", log.uptime)];
        words.extend(log.failed.last().map(|unit| format!("the last unit that failed is {unit}")));
        let telling = |line: &&String| {
            ["panic", "Timed out", "cannot import", "Failed to", "emergency"].iter().any(|word| line.contains(word))
        };
        words.extend(
            log.lines.iter().rev().find(telling).or(log.lines.last()).map(|line| format!("its log has “{line}”")),
        );
        format!("{}.", words.join("; "))
    });
    let none = match trial {
        true => "There is no log of it on the SSD.",
        false => "The switch on the card says so.",
    };
    Fault::new(FaultCode::TrialFailed, what, words.unwrap_or_else(|| none.to_owned()), cause.remedy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn log(end: End, failed: &[&str], lines: &[&str], network: bool, ssh: bool) -> Log {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Log {
            end,
            number: "7".into(),
            toplevel: "/nix/store/x".into(),
            uptime: 61,
            network,
            ssh,
            failed: own(failed),
            lines: own(lines),
        }
    }

    #[test]
    fn a_log_is_read_as_it_was_written() {
        let log = log(End::Deadline, &["a.service", "b.mount"], &["[1.0] one", "", "two: \u{e9}"], true, false);
        assert_eq!(Log::parse(log.render().as_bytes()), Some(log));
        assert_eq!(Log::parse(b""), None);
        assert_eq!(Log::parse(b"cygnet-trial: 2\n\nx"), None);
        assert_eq!(
            Log::parse(b"cygnet-trial: 1\nend: exploded\nuptime: -3\n\n").map(|log| log.end),
            Some(End::Running)
        );
    }

    #[test]
    fn it_is_bounded_and_harmless() {
        let many: Vec<String> = (0..10_000).map(|n| format!("\x1b[2J{n} {}", "x".repeat(1000))).collect();
        let log = Log { lines: many, ..Log::default() };
        let text = log.render();
        assert!(text.len() <= MOST && text.contains("9999 ") && !text.contains("\n?[2J0 "), "the newest stay");
        assert!(!text.contains('\x1b'));
        let read = Log::parse(&[text.as_bytes(), &[0x1b; 200_000]].concat()).unwrap();
        assert!(read.lines.iter().all(|line| !line.contains(char::is_control) && line.chars().count() <= LINE));
    }

    #[test]
    fn every_end_has_its_cause() {
        let ran = Some(Some(Switch::Gone { started: true }));
        let of = |log: &Log| cause(ran, Found { log: Some(log), panic: false }).unwrap();
        let nothing = Found::default();
        assert_eq!(cause(None, nothing), None);
        assert_eq!(cause(Some(Some(Switch::Card)), nothing), None);
        let cases = [
            (cause(Some(None), nothing).unwrap(), Cause::Damaged),
            (cause(Some(Some(Switch::Once)), nothing).unwrap(), Cause::NotStarted),
            (cause(Some(Some(Switch::Gone { started: false })), nothing).unwrap(), Cause::NothingToStart),
            (cause(ran, nothing).unwrap(), Cause::NoSign),
            (cause(ran, Found { log: None, panic: true }).unwrap(), Cause::Panic),
            (of(&log(End::Running, &[], &["Kernel panic - not syncing: x"], true, true)), Cause::Panic),
            (of(&log(End::Running, &[], &["fine"], true, true)), Cause::Reset),
            (of(&log(End::Emergency, &["zfs-import-rpool.service"], &[], false, false)), Cause::Pool),
            (
                of(&log(End::Emergency, &[], &["Timed out waiting for device /dev/x"], false, false)),
                Cause::DeviceTimeout,
            ),
            (of(&log(End::Emergency, &["x.service"], &[], false, false)), Cause::Emergency),
            (of(&log(End::Deadline, &[], &[], false, true)), Cause::NoNetwork),
            (of(&log(End::Deadline, &[], &[], true, false)), Cause::NoSsh),
            (of(&log(End::Deadline, &[], &[], true, true)), Cause::NotConfirmed),
            (cause(Some(Some(Switch::Stay { starts: 3 })), nothing).unwrap(), Cause::ThreeTimes),
            (cause(Some(Some(Switch::Stay { starts: 1 })), nothing).unwrap(), Cause::SsdGone),
            (cause(Some(Some(Switch::Keep)), nothing).unwrap(), Cause::SsdGone),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
        let seen: BTreeSet<Cause> = cases.iter().map(|(found, _)| *found).collect();
        assert_eq!(seen.len(), Cause::ALL.len(), "each is found by something");
    }

    #[test]
    fn a_log_of_another_trial_is_not_believed() {
        let ran = Some(Switch::Gone { started: true });
        let old = log(End::Running, &[], &["Kernel panic - not syncing"], true, true);
        assert!(is_of(&old, ran, "7") && !is_of(&old, ran, "8") && !is_of(&old, ran, ""));
        let later = Some(Switch::Stay { starts: 3 });
        assert!(!is_of(&log(End::Confirmed, &[], &[], true, true), later, "7"), "it is of the trial, which went well");
        assert!(is_of(&log(End::Emergency, &[], &[], true, true), later, "7"));
    }

    #[test]
    fn each_is_told_in_three_parts() {
        let told = log(End::Emergency, &["a.mount"], &["Failed to mount /boot.", "later"], false, false);
        for cause in Cause::ALL.iter().copied() {
            for log in [None, Some(&told)] {
                let fault = fault(cause, log);
                assert_eq!(fault.code, FaultCode::TrialFailed);
                assert!(fault.what.contains(cause.name()) && fault.remedy.ends_with('.') && fault.cause.ends_with('.'));
            }
        }
        let fault = fault(Cause::Emergency, Some(&told));
        assert!(fault.cause.contains("a.mount") && fault.cause.contains("Failed to mount /boot."), "{fault}");
    }
}
