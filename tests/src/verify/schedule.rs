//! Which job is next: pure, from what has run, what runs, and how long each took the last time.
//!
//! A job is a scenario or the making of a state that scenarios begin with. The next is the one with the most time behind it: its
//! own, and that of what waits for it. One that does not fit beside those that run lets smaller ones go first. What measures is
//! last, and alone.

use crate::scenarios::{Scenario, State, Weight};
use std::collections::{BTreeMap, BTreeSet};

/// Room of the machine: two that work, or four that wait.
pub const ROOM: u32 = 4;

/// How long a job is taken for that never ran, seconds.
const UNKNOWN: f64 = 60.0;

/// What is to be done.
#[derive(Clone, Copy)]
pub enum Job {
    /// A scenario.
    Run(Scenario),
    /// The making of a state that no chosen scenario leaves behind.
    Make(State),
}

impl Job {
    /// Its name, which its time is noted under.
    pub fn name(&self) -> String {
        match self {
            Job::Run(scenario) => scenario.name.to_owned(),
            Job::Make(state) => format!("(state {})", state.name()),
        }
    }

    /// The state that it begins with.
    pub fn needs(&self) -> State {
        match self {
            Job::Run(scenario) => scenario.from,
            Job::Make(state) => state.before(),
        }
    }

    /// The state that it leaves behind.
    pub fn makes(&self) -> Option<State> {
        match self {
            Job::Run(scenario) => scenario.makes,
            Job::Make(state) => Some(*state),
        }
    }

    /// How much of the machine it takes.
    pub fn room(&self) -> u32 {
        match self {
            Job::Run(scenario) if scenario.measures => ROOM,
            Job::Run(scenario) => match scenario.weight {
                Weight::Waits => 1,
                Weight::Works => 2,
            },
            Job::Make(_) => 2,
        }
    }

    fn measures(&self) -> bool {
        matches!(self, Job::Run(scenario) if scenario.measures)
    }
}

/// The jobs of a run: the chosen scenarios, and the states that they need and nobody has made.
pub fn jobs(chosen: &[Scenario], made: impl Fn(State) -> bool) -> Vec<Job> {
    let left_behind: BTreeSet<State> = chosen.iter().filter_map(|scenario| scenario.makes).collect();
    let mut missing = BTreeSet::new();
    let mut wanted: Vec<State> = chosen.iter().map(|scenario| scenario.from).collect();
    while let Some(state) = wanted.pop() {
        if state.is_saved() && !made(state) && !left_behind.contains(&state) && missing.insert(state) {
            wanted.push(state.before());
        }
    }
    let makers = missing.into_iter().map(Job::Make);
    makers.chain(chosen.iter().copied().map(Job::Run)).collect()
}

/// What has been, and what is.
pub struct Plan {
    jobs: Vec<Job>,
    weights: Vec<f64>,
    waiting: BTreeSet<usize>,
    running: BTreeSet<usize>,
    /// States that somebody has made, or could not make: nobody waits for those.
    settled: BTreeSet<State>,
    reverse: bool,
}

/// What a lane does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This job.
    Job(usize),
    /// Nothing yet.
    Wait(Why),
    /// Nothing any more.
    End,
}

/// What a lane waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The machine is full.
    Room,
    /// A state that is being made.
    State(State),
    /// Something measures, or is about to.
    Measurement,
}

impl Plan {
    /// A plan for these jobs, by their times of the last run in seconds; from the end if `reverse`.
    pub fn new(jobs: Vec<Job>, times: &BTreeMap<String, f64>, reverse: bool) -> Plan {
        let own = |job: &Job| times.get(&job.name()).copied().unwrap_or(UNKNOWN);
        let weights = jobs.iter().map(|job| own(job) + behind(job, &jobs, &own)).collect();
        let made_here: BTreeSet<State> = jobs.iter().filter_map(Job::makes).collect();
        let settled = State::ALL
            .into_iter()
            .chain([State::None, State::Pi3])
            .filter(|state| !made_here.contains(state))
            .collect();
        Plan { waiting: (0..jobs.len()).collect(), running: BTreeSet::new(), weights, jobs, settled, reverse }
    }

    /// The jobs, by their numbers.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// Takes the next job for a lane that is free.
    pub fn take(&mut self) -> Next {
        let next = self.next();
        if let Next::Job(job) = next {
            self.waiting.remove(&job);
            self.running.insert(job);
        }
        next
    }

    fn next(&self) -> Next {
        if self.waiting.is_empty() {
            return Next::End;
        }
        let used: u32 = self.running.iter().map(|job| self.jobs[*job].room()).sum();
        let mut order: Vec<usize> = self.waiting.iter().copied().collect();
        // Measurements last, the longest first.
        order.sort_by(|a, b| {
            let measures = self.jobs[*a].measures().cmp(&self.jobs[*b].measures());
            measures.then(self.weights[*b].total_cmp(&self.weights[*a]))
        });
        if self.reverse {
            order.reverse();
        }
        let mut why = None;
        for job in order {
            let needs = self.jobs[job].needs();
            if !self.settled.contains(&needs) {
                why = why.or(Some(Why::State(needs)));
            } else if used + self.jobs[job].room() > ROOM {
                why = why.or(Some(if self.jobs[job].measures() { Why::Measurement } else { Why::Room }));
            } else {
                return Next::Job(job);
            }
        }
        Next::Wait(why.unwrap_or(Why::Room))
    }

    /// A job is over, well or not.
    pub fn done(&mut self, job: usize) {
        self.running.remove(&job);
        self.settled.extend(self.jobs[job].makes());
    }
}

/// The longest time of what can only begin after this job, seconds.
fn behind(job: &Job, jobs: &[Job], own: &impl Fn(&Job) -> f64) -> f64 {
    let Some(state) = job.makes() else { return 0.0 };
    let after = jobs.iter().filter(|other| other.needs() == state && other.makes() != Some(state));
    after.map(|other| own(other) + behind(other, jobs, own)).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::Scenario;

    fn scenario(name: &'static str, from: State) -> Scenario {
        Scenario::new(name, "", from, |_| Ok(()))
    }

    fn plan(chosen: &[Scenario], times: &[(&str, f64)], reverse: bool) -> Plan {
        let times = times.iter().map(|(name, time)| ((*name).to_owned(), *time)).collect();
        Plan::new(jobs(chosen, |_| false), &times, reverse)
    }

    fn names(plan: &mut Plan, lanes: usize) -> Vec<String> {
        (0..lanes)
            .map(|_| match plan.take() {
                Next::Job(job) => plan.jobs()[job].name(),
                Next::Wait(why) => format!("{why:?}"),
                Next::End => "end".into(),
            })
            .collect()
    }

    #[test]
    fn what_others_wait_for_is_first_and_the_longest_next() {
        let chosen = [scenario("short", State::None), scenario("long", State::None), scenario("late", State::Waiting)];
        let times = [("short", 5.0), ("long", 50.0), ("late", 40.0), ("(state waiting)", 30.0)];
        let mut plan = plan(&chosen, &times, false);
        assert_eq!(names(&mut plan, 3), ["(state waiting)", "long", "State(Waiting)"]);
        plan.done(0);
        assert_eq!(names(&mut plan, 2), ["late", "Room"]);
    }

    #[test]
    fn four_that_wait_run_at_once() {
        let chosen = ["a", "b", "c", "d", "e"].map(|name| scenario(name, State::None).waits());
        let mut plan = plan(&chosen, &[], false);
        assert_eq!(names(&mut plan, 5)[4], "Room");
    }

    #[test]
    fn what_measures_is_last_and_alone() {
        let chosen = [scenario("bench", State::None).measures(), scenario("work", State::None)];
        let mut plan = plan(&chosen, &[("bench", 500.0)], false);
        assert_eq!(names(&mut plan, 2), ["work", "Measurement"]);
        plan.done(1);
        assert_eq!(names(&mut plan, 2), ["bench", "end"]);
    }

    #[test]
    fn a_state_that_a_scenario_leaves_behind_is_made_once() {
        let chosen = [scenario("maker", State::None).makes(State::FirstBoot), scenario("user", State::FirstBoot)];
        let all: Vec<String> = jobs(&chosen, |_| false).iter().map(Job::name).collect();
        assert_eq!(all, ["maker", "user"]);
        // It was made before, so nobody waits.
        assert_eq!(jobs(&chosen[1..], |_| true).len(), 1);
        // Alone, it makes what it needs, and what that needs.
        let deep = [scenario("finish", State::AfterPowerCut)];
        let all: Vec<String> = jobs(&deep, |_| false).iter().map(Job::name).collect();
        assert_eq!(all, ["(state waiting)", "(state middle-of-push)", "(state after-power-cut)", "finish"]);
    }

    #[test]
    fn in_reverse_nothing_begins_before_its_state() {
        let chosen = [scenario("maker", State::None).makes(State::FirstBoot), scenario("user", State::FirstBoot)];
        let mut plan = plan(&chosen, &[("maker", 1.0), ("user", 90.0)], true);
        assert_eq!(names(&mut plan, 2), ["maker", "State(FirstBoot)"]);
        plan.done(0);
        assert_eq!(names(&mut plan, 1), ["user"]);
    }
}
