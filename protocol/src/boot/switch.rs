//! The switch: one sector of text on the card's FAT partition that says what the next start is.
//!
//! It is what U-Boot's `env export -t ADDR cygnet cygnet_tries` writes and `env import -t` reads (doc/usage/cmd/env.rst):
//! `name=value` lines and a NUL. All that we write has the same length, so it is written in place: one sector, and no entry
//! of a directory, changes. A sector that is torn says nothing that is known, and that means the card.

use std::fmt;

/// So many starts in a row that nobody confirmed end on the card.
pub const MOST_STARTS: u8 = 3;
/// As much of the file as is read, bytes; [`super::environment`] tells U-Boot the same.
pub const READ: usize = 64;

/// What the card's file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Switch {
    /// The card's own system starts. So it does if there is no file, or one that says nothing of this.
    Card,
    /// The next start is the SSD's trial.
    Once,
    /// The SSD was on trial, and nobody has confirmed it: the next start is the card's.
    Gone {
        /// Whether U-Boot found something to start there.
        started: bool,
    },
    /// The SSD is confirmed: the next start is its own.
    Stay {
        /// How many starts in a row were not confirmed since; [`MOST_STARTS`] at most, and then the card starts.
        starts: u8,
    },
    /// The SSD is confirmed, and its system can't say that it is up: nothing is counted, and only a person gets back to the card.
    Keep,
}

/// Who writes the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Writer {
    /// The agent, which runs from the card.
    Agent,
    /// U-Boot, by the `bootcmd` that the agent gave it.
    UBoot,
    /// The system on the SSD.
    System,
}

/// What happens to the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Act {
    /// The next start is to be a trial.
    Arm,
    /// The trial starts.
    Fire,
    /// U-Boot has found nothing to start on the SSD.
    FoundNothing,
    /// The system on trial is what was wanted.
    Confirm,
    /// The same, of a system that will not say at later starts that it is up.
    ConfirmUncounted,
    /// A confirmed system starts once more.
    Count,
    /// It is up.
    Clear,
    /// A person wants the card.
    ToCard,
    /// A person wants the SSD, without a trial.
    ToSsd,
}

impl Act {
    /// All of them.
    pub const ALL: [Act; 9] = [
        Act::Arm,
        Act::Fire,
        Act::FoundNothing,
        Act::Confirm,
        Act::ConfirmUncounted,
        Act::Count,
        Act::Clear,
        Act::ToCard,
        Act::ToSsd,
    ];

    /// Who may do it.
    #[must_use]
    pub const fn writers(self) -> &'static [Writer] {
        match self {
            Act::Arm | Act::ToCard | Act::ToSsd => &[Writer::Agent, Writer::System],
            Act::Fire | Act::FoundNothing | Act::Count => &[Writer::UBoot],
            Act::Confirm | Act::ConfirmUncounted | Act::Clear => &[Writer::System],
        }
    }
}

/// What U-Boot does with the switch when the power comes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Starts the card, and writes nothing.
    Card,
    /// Starts the SSD, but only if it has written this.
    Trial {
        /// What it writes first.
        write: Switch,
        /// What it writes if there was nothing to start, before it starts the card.
        back: Switch,
    },
    /// Starts the SSD, whether it could write this or not.
    ///
    /// A card that can't be written must not take a confirmed system out of service: that is what a worn-out card is like, and its
    /// own system, whose root is on it, would hardly come up instead. What is lost is the counting, so that an SSD that then
    /// breaks, too, is started again and again; the system says so at each start, and needs two faults for it.
    Ssd {
        /// What it writes first.
        write: Switch,
        /// What it writes if there was nothing to start, before it starts the card.
        back: Switch,
    },
    /// Starts the SSD, and writes nothing.
    SsdUncounted,
}

impl Switch {
    /// Everything that it can say.
    pub const ALL: [Switch; 9] = [
        Switch::Card,
        Switch::Once,
        Switch::Gone { started: true },
        Switch::Gone { started: false },
        Switch::Stay { starts: 0 },
        Switch::Stay { starts: 1 },
        Switch::Stay { starts: 2 },
        Switch::Stay { starts: 3 },
        Switch::Keep,
    ];

    /// The values of `cygnet` and `cygnet_tries`.
    #[must_use]
    pub const fn words(self) -> (&'static str, u8) {
        match self {
            Switch::Card => ("card", 0),
            Switch::Once => ("once", 0),
            Switch::Gone { started: true } => ("gone", 1),
            Switch::Gone { started: false } => ("gone", 0),
            Switch::Stay { starts } => ("stay", starts),
            Switch::Keep => ("keep", 0),
        }
    }

    /// The bytes of the file.
    #[must_use]
    pub fn render(self) -> Vec<u8> {
        let (word, tries) = self.words();
        format!("cygnet={word}\ncygnet_tries={tries}\n\0").into_bytes()
    }

    /// What the beginning of the file says, or nothing if it is damaged. [`READ`] bytes are looked at, as U-Boot does.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..READ).unwrap_or(bytes);
        let text = std::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()?;
        let (mut word, mut tries) = (None, None);
        for line in text.split('\n') {
            match line.split_once('=') {
                Some(("cygnet", value)) => word = Some(value),
                Some(("cygnet_tries", value)) => tries = Some(value),
                Some(_) | None => {}
            }
        }
        let (word, tries) = (word?, tries?);
        Self::ALL.into_iter().find(|known| (word, tries) == (known.words().0, &*known.words().1.to_string()))
    }

    /// What U-Boot does with it when the power comes on. What is damaged is [`Switch::Card`] here.
    #[must_use]
    pub const fn at_power_on(self) -> Start {
        match self {
            Switch::Card | Switch::Gone { .. } => Start::Card,
            Switch::Once => {
                Start::Trial { write: Switch::Gone { started: true }, back: Switch::Gone { started: false } }
            }
            Switch::Stay { starts } if starts < MOST_STARTS => {
                Start::Ssd { write: Switch::Stay { starts: starts + 1 }, back: self }
            }
            Switch::Stay { .. } => Start::Card,
            Switch::Keep => Start::SsdUncounted,
        }
    }

    /// What it says after an act, or nothing if that is not for this state.
    #[must_use]
    pub const fn after(self, act: Act) -> Option<Switch> {
        match (act, self) {
            (Act::Arm, _) => Some(Switch::Once),
            (Act::ToCard, _) => Some(Switch::Card),
            (Act::ToSsd, _) => Some(Switch::Stay { starts: 0 }),

            (Act::Fire, Switch::Once) => Some(Switch::Gone { started: true }),
            (Act::Fire, Switch::Card | Switch::Gone { .. } | Switch::Stay { .. } | Switch::Keep) => None,

            (Act::FoundNothing, Switch::Gone { started: true }) => Some(Switch::Gone { started: false }),
            (Act::FoundNothing, Switch::Stay { starts: starts @ 1.. }) => Some(Switch::Stay { starts: starts - 1 }),
            (
                Act::FoundNothing,
                Switch::Card
                | Switch::Once
                | Switch::Gone { started: false }
                | Switch::Stay { starts: 0 }
                | Switch::Keep,
            ) => None,

            // Said twice, because the answer to the first was lost.
            (Act::Confirm, Switch::Gone { started: true } | Switch::Stay { .. } | Switch::Keep) => {
                Some(Switch::Stay { starts: 0 })
            }
            (Act::ConfirmUncounted, Switch::Gone { started: true } | Switch::Stay { .. } | Switch::Keep) => {
                Some(Switch::Keep)
            }
            (Act::Confirm | Act::ConfirmUncounted, Switch::Card | Switch::Once | Switch::Gone { started: false }) => {
                None
            }

            (Act::Count, Switch::Stay { starts }) if starts < MOST_STARTS => Some(Switch::Stay { starts: starts + 1 }),
            (Act::Count, Switch::Card | Switch::Once | Switch::Gone { .. } | Switch::Stay { .. } | Switch::Keep) => {
                None
            }

            (Act::Clear, Switch::Stay { .. }) => Some(Switch::Stay { starts: 0 }),
            (Act::Clear, Switch::Card | Switch::Once | Switch::Gone { .. } | Switch::Keep) => None,
        }
    }

    /// What the next start is.
    #[must_use]
    pub const fn next(self) -> &'static str {
        match self.at_power_on() {
            Start::Card => "the card",
            Start::Trial { .. } => "the SSD, on trial",
            Start::Ssd { .. } | Start::SsdUncounted => "the SSD",
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Switch::Card => f.write_str("the card starts"),
            Switch::Once => f.write_str("the SSD starts once, on trial"),
            Switch::Gone { started: true } => f.write_str("the SSD was on trial and is not confirmed; the card starts"),
            Switch::Gone { started: false } => f.write_str("U-Boot found nothing to start on the SSD; the card starts"),
            Switch::Stay { starts: 0 } => f.write_str("the SSD is confirmed and starts"),
            Switch::Keep => f.write_str("the SSD is confirmed and starts, and its starts are not counted"),
            Switch::Stay { starts } if *starts < MOST_STARTS => {
                write!(f, "the SSD starts; it was started {starts} times in a row without coming up")
            }
            Switch::Stay { starts } => {
                write!(f, "the SSD was started {starts} times in a row without coming up; the card starts")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_state_is_read_as_it_was_written() {
        for state in Switch::ALL {
            let bytes = state.render();
            assert_eq!(bytes.len(), 28, "all are written in place");
            assert_eq!(Switch::parse(&bytes), Some(state));
            let mut padded = bytes.clone();
            padded.resize(512, 0xff);
            assert_eq!(Switch::parse(&padded), Some(state), "what is behind the NUL is not looked at");
            let (word, tries) = state.words();
            let by_hand = format!("# mine\ncygnet_tries={tries}\nother=1\ncygnet={word}");
            assert_eq!(Switch::parse(by_hand.as_bytes()), Some(state), "as U-Boot would read it");
        }
    }

    #[test]
    fn what_is_damaged_says_nothing() {
        let torn = |at: usize| {
            let (old, new) = (Switch::Once.render(), Switch::Gone { started: true }.render());
            [&new[..at], &old[at..]].concat()
        };
        for at in 0..=28 {
            let read = Switch::parse(&torn(at));
            assert!(
                matches!(read, None | Some(Switch::Once | Switch::Gone { .. })),
                "a sector torn at {at} is {read:?}: never another's state"
            );
        }
        for bad in [
            &b""[..],
            b"cygnet=stay\n",
            b"cygnet=stay\r\ncygnet_tries=0\r\n",
            b"cygnet=stay\ncygnet_tries=4\n",
            b"cygnet=stay\ncygnet_tries=00\n",
            b"cygnet=stay\ncygnet_tries=-1\n",
            b"cygnet=once\ncygnet_tries=1\n",
            b"cygnet=gone\ncygnet_tries=2\n",
            b"cygnet=STAY\ncygnet_tries=0\n",
            b"cygnet=stay0\ncygnet_tries=0\n",
            b"\0cygnet=stay\ncygnet_tries=0\n",
            b"\xff\xfe\ncygnet=stay\ncygnet_tries=0\n",
            b"0123456789012345678901234567890123456789\ncygnet=stay\ncygnet_tries=0\n",
            &[0xe5; 512],
        ] {
            assert_eq!(Switch::parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    /// The table of acts; what is not in it is refused.
    #[test]
    fn every_act_in_every_state() {
        use Switch::{Card, Gone, Once, Stay};
        let (ran, none) = (Gone { started: true }, Gone { started: false });
        let s = |starts| Stay { starts };
        let keep = Switch::Keep;
        let table: &[(Act, [Option<Switch>; 9])] = &[
            // in the order of Switch::ALL: card, once, gone 1, gone 0, stay 0 to 3, keep
            (Act::Arm, [Some(Once); 9]),
            (Act::Fire, [None, Some(ran), None, None, None, None, None, None, None]),
            (Act::FoundNothing, [None, None, Some(none), None, None, Some(s(0)), Some(s(1)), Some(s(2)), None]),
            (Act::Confirm, [None, None, Some(s(0)), None, Some(s(0)), Some(s(0)), Some(s(0)), Some(s(0)), Some(s(0))]),
            (
                Act::ConfirmUncounted,
                [None, None, Some(keep), None, Some(keep), Some(keep), Some(keep), Some(keep), Some(keep)],
            ),
            (Act::Count, [None, None, None, None, Some(s(1)), Some(s(2)), Some(s(3)), None, None]),
            (Act::Clear, [None, None, None, None, Some(s(0)), Some(s(0)), Some(s(0)), Some(s(0)), None]),
            (Act::ToCard, [Some(Card); 9]),
            (Act::ToSsd, [Some(s(0)); 9]),
        ];
        assert_eq!(table.iter().map(|(act, _)| *act).collect::<Vec<_>>(), Act::ALL);
        for (act, row) in table {
            for (state, expected) in Switch::ALL.iter().zip(row) {
                assert_eq!(state.after(*act), *expected, "{act:?} in {state:?}");
            }
            let by_u_boot = act.writers().contains(&Writer::UBoot);
            assert_eq!(by_u_boot, matches!(act, Act::Fire | Act::FoundNothing | Act::Count), "{act:?}");
        }
    }

    /// What U-Boot does is made of acts, and of nothing else.
    #[test]
    fn a_start_is_made_of_acts() {
        for state in Switch::ALL {
            match state.at_power_on() {
                Start::Card | Start::SsdUncounted => {
                    assert_eq!((state.after(Act::Fire), state.after(Act::Count)), (None, None));
                }
                Start::Trial { write, back } => {
                    assert_eq!((state.after(Act::Fire), write.after(Act::FoundNothing)), (Some(write), Some(back)));
                }
                Start::Ssd { write, back } => {
                    assert_eq!((state.after(Act::Count), write.after(Act::FoundNothing)), (Some(write), Some(back)));
                    assert_eq!(back, state, "an SSD that is not there is no start");
                }
            }
        }
    }

    /// What runs after one power-on, and what the file says then.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Runs {
        Card,
        /// The SSD before it was confirmed.
        Trial,
        Ssd,
        /// The power went before anything ran.
        Nothing,
    }

    /// Every way that one power-on can go: writes that fail or are torn, an SSD that is not there, cuts in between.
    fn power_on(state: Switch) -> BTreeSet<(Runs, Switch)> {
        let mut ways = BTreeSet::new();
        // Torn is damaged, and that is the card.
        let written = |old: Switch, new: Switch| [old, new, Switch::Card];
        match state.at_power_on() {
            Start::Card => {
                ways.insert((Runs::Card, state));
            }
            Start::SsdUncounted => ways.extend([(Runs::Ssd, state), (Runs::Card, state)]),
            Start::Trial { write, back } => {
                ways.insert((Runs::Card, state)); // the write failed
                ways.extend(written(state, write).map(|after| (Runs::Nothing, after))); // cut at the write
                ways.insert((Runs::Trial, write));
                ways.extend(written(write, back).map(|after| (Runs::Card, after))); // nothing to start
                ways.extend(written(write, back).map(|after| (Runs::Nothing, after)));
            }
            Start::Ssd { write, back } => {
                ways.insert((Runs::Ssd, state)); // the write failed
                ways.extend(written(state, write).map(|after| (Runs::Nothing, after)));
                ways.insert((Runs::Ssd, write));
                ways.extend(written(write, back).map(|after| (Runs::Card, after)));
                ways.extend(written(write, back).map(|after| (Runs::Nothing, after)));
            }
        }
        ways
    }

    /// From the moment of arming, through every power cut: only the card, one trial, or a system that was confirmed.
    #[test]
    fn no_power_cut_ends_in_anything_else() {
        // (the file, whether a trial has run, whether it was confirmed)
        let mut todo = vec![(Switch::Card, false, false), (Switch::Once, false, false)];
        let mut seen = BTreeSet::new();
        while let Some((state, tried, confirmed)) = todo.pop() {
            if !seen.insert((state, tried, confirmed)) {
                continue;
            }
            for (runs, after) in power_on(state) {
                match runs {
                    Runs::Nothing => todo.push((after, tried, confirmed)),
                    Runs::Card => todo.push((after, tried, confirmed)),
                    Runs::Trial => {
                        assert!(!tried, "a second trial that nobody armed, from {state:?}");
                        assert_eq!(after, Switch::Gone { started: true });
                        todo.push((after, true, confirmed));
                        // Confirmed, the write cut short, or torn.
                        let (stay, keep) = (after.after(Act::Confirm).unwrap(), Switch::Keep);
                        assert_eq!(after.after(Act::ConfirmUncounted), Some(keep));
                        todo.extend([
                            (stay, true, true),
                            (keep, true, true),
                            (after, true, false),
                            (Switch::Card, true, false),
                        ]);
                    }
                    Runs::Ssd => {
                        assert!(confirmed, "an SSD that nobody confirmed, from {state:?}");
                        todo.extend([(after, tried, true), (Switch::Card, tried, true)]);
                        todo.extend(after.after(Act::Clear).map(|cleared| (cleared, tried, true)));
                    }
                }
            }
        }
        assert!(seen.contains(&(Switch::Stay { starts: 3 }, true, true)), "the walk was short: {seen:?}");
    }

    /// Whatever happens, a system that never comes up is left for the card, as long as the card can be written.
    #[test]
    fn a_pi_never_starts_a_dead_system_for_ever() {
        for mut state in Switch::ALL {
            let mut starts = 0;
            loop {
                match state.at_power_on() {
                    Start::Card => break,
                    // Its system has nobody who could say that it is up; the plan says what that costs.
                    Start::SsdUncounted => {
                        assert_eq!(state, Switch::Keep);
                        break;
                    }
                    Start::Trial { write, .. } | Start::Ssd { write, .. } => state = write,
                }
                starts += 1;
                assert!(starts <= MOST_STARTS, "{state:?}");
            }
        }
    }
}
