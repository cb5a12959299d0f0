//! One expectation, and how it is run.

use super::State;
use super::world::World;
use anyhow::Result;

/// How much of the machine a scenario takes while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// It mostly waits for what takes its time by itself: timeouts, scans, leases.
    Waits,
    /// It keeps about one core busy.
    Works,
}

/// One expectation.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// To name it on the command line.
    pub name: &'static str,
    /// What is expected, in a few words.
    pub what: &'static str,
    /// How the Pi is when it begins.
    pub from: State,
    /// How much of the machine it takes.
    pub weight: Weight,
    /// Whether it measures time, and so has the machine for itself.
    pub measures: bool,
    /// Whether it is a variant of another one, which takes long and is run only when all are asked for, or it by name.
    pub thorough: bool,
    /// The state that it leaves the Pi in, for others to begin with.
    pub makes: Option<State>,
    pub(super) check: fn(&mut World) -> Result<()>,
}

impl Scenario {
    /// A scenario that keeps a core busy and measures nothing.
    pub const fn new(
        name: &'static str,
        what: &'static str,
        from: State,
        check: fn(&mut World) -> Result<()>,
    ) -> Scenario {
        Scenario { name, what, from, weight: Weight::Works, measures: false, thorough: false, makes: None, check }
    }

    /// One that mostly waits.
    pub const fn waits(self) -> Scenario {
        Scenario { weight: Weight::Waits, ..self }
    }

    /// One that measures time.
    pub const fn measures(self) -> Scenario {
        Scenario { measures: true, ..self }
    }

    /// One that takes long and is a variant of another.
    pub const fn thorough(self) -> Scenario {
        Scenario { thorough: true, ..self }
    }

    /// One that leaves the Pi in a state which others begin with.
    pub const fn makes(self, state: State) -> Scenario {
        Scenario { makes: Some(state), ..self }
    }
}
