//! `cargo verify`: the tests of every crate, then the scenarios in virtual Pis, beside each other, and a count at the end.
//!
//! [`schedule`] decides what is next, [`times`] keeps how long it took, [`changed`] leaves out what a change can't touch.

mod changed;
mod schedule;
mod times;

use crate::scenarios::{self, Outcome, Scenario, State, World};
use crate::{crates, host, workshop};
use anyhow::{Result, bail};
use schedule::{Job, Next, Plan, Why};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;
use times::{Lane, Times};

/// What `cargo verify` was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Only scenarios whose names contain one of these; all if there are none.
    pub names: Vec<String>,
    /// Only what the changes since the main branch can touch.
    pub changed: bool,
    /// From the end of the order.
    pub reverse: bool,
    /// One at a time.
    pub one_by_one: bool,
    /// The long variants, too.
    pub all: bool,
    /// Only the building of what a whole run needs.
    pub build: bool,
}

impl Request {
    /// Reads the words behind `verify`.
    ///
    /// # Errors
    /// The first word that is none.
    pub fn parse(words: &[&str]) -> Result<Request, String> {
        let mut request = Request::default();
        for word in words {
            match *word {
                "--changed" => request.changed = true,
                "--reverse" => request.reverse = true,
                "--one-by-one" => request.one_by_one = true,
                "--all" => request.all = true,
                "--build" => request.build = true,
                word if word.starts_with('-') => return Err(format!("cargo verify does not know {word}")),
                name => request.names.push(name.to_owned()),
            }
        }
        Ok(request)
    }

    fn is_whole(&self) -> bool {
        self.names.is_empty() && !self.changed
    }
}

/// Names the scenarios.
pub fn list() {
    for scenario in scenarios::all() {
        let measures = if scenario.measures { ", measures" } else { "" };
        let thorough = if scenario.thorough { ", with --all" } else { "" };
        println!("{:<26} {} (from {}{measures}{thorough})", scenario.name, scenario.what, scenario.from.name());
    }
}

/// Runs everything but what measures, or what was asked for.
///
/// # Errors
/// If anything fails, or nothing has such a name.
pub fn run(request: &Request) -> Result<()> {
    let begin = Instant::now();
    if request.build {
        return workshop::build(Some(crates::build));
    }
    let touched = if request.changed { Some(changed::touched()?) } else { None };
    let chosen: Vec<Scenario> = scenarios::all()
        .into_iter()
        .filter(|scenario| match request.names.as_slice() {
            [] => !scenario.measures && (request.all || !scenario.thorough),
            names => names.iter().any(|name| scenario.name.contains(name.as_str())),
        })
        .filter(|scenario| touched.as_ref().is_none_or(|touched| touched.scenario(scenario.name)))
        .collect();
    if let Some(touched) = &touched {
        println!("changed since the main branch: {touched}");
    } else if chosen.is_empty() {
        bail!("no scenario's name contains any of {:?}; `cargo verify -- --list` names them", request.names);
    }
    let with_crates = request.is_whole() || touched.as_ref().is_some_and(|touched| touched.crates());
    let programs = workshop::programs(with_crates.then_some(crates::build as fn(&Path) -> Result<()>))?;
    host::ensure_host_packages()?;
    let mut steps = Times::new();
    steps.insert("(building)".into(), begin.elapsed().as_secs_f64());
    if with_crates {
        host::ensure_ssh_server()?;
        workshop::check_size(&programs)?;
        let begin = Instant::now();
        crates::run(&workshop::target_dir()?)?;
        steps.insert("(the tests of the crates)".into(), begin.elapsed().as_secs_f64());
    }
    let prepare = Instant::now();
    let (settings, parts) = workshop::parts()?;
    steps.insert("(the virtual Pi's parts)".into(), prepare.elapsed().as_secs_f64());
    let world = World::new(programs, settings.clone(), parts);
    let failed = carry_out(&world, &chosen, request, &mut steps, &settings.cache)?;
    if request.is_whole() {
        let all = scenarios::all();
        let named = |which: fn(&Scenario) -> bool| {
            all.iter().filter(|scenario| which(scenario)).map(|scenario| scenario.name).collect::<Vec<_>>().join(", ")
        };
        println!("\nnot run unless asked for by name, as they measure: {}", named(|scenario| scenario.measures));
        if !request.all {
            println!("not run without --all, as they are long variants of others: {}", named(|one| one.thorough));
        }
    }
    println!("\nscenarios: {} passed, {} failed", chosen.len() - failed.len().min(chosen.len()), failed.len());
    if !failed.is_empty() {
        bail!("these failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs the scenarios in lanes, prints times, and gives the names of those that failed.
fn carry_out(
    world: &World,
    chosen: &[Scenario],
    request: &Request,
    steps: &mut Times,
    cache: &Path,
) -> Result<Vec<String>> {
    // All of them are named now, by what the sources are at the beginning.
    let made: BTreeMap<State, bool> =
        State::ALL.into_iter().map(|state| Ok((state, scenarios::is_made(state, world)?))).collect::<Result<_>>()?;
    let made = |state: State| made.get(&state).copied().unwrap_or(false);
    let plan = Plan::new(schedule::jobs(chosen, made), &times::read(cache), request.reverse);
    let total = plan.jobs().len();
    let desk = Desk { plan: Mutex::new(plan), changed: Condvar::new(), total, cache: cache.to_owned() };
    // As many as there can be that wait.
    let count = if request.one_by_one { 1 } else { schedule::ROOM };
    let lanes: Vec<(Lane, Times, Vec<String>)> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..count).map(|_| scope.spawn(|| desk.lane(world))).collect();
        // A panic is a failure, too; it has been printed.
        let panicked = || (Lane::default(), Times::new(), vec!["a panic".to_owned()]);
        lanes.into_iter().map(|lane| lane.join().unwrap_or_else(|_| panicked())).collect()
    });
    let (mut taken, mut failed, mut ends) = (Times::new(), Vec::new(), Vec::new());
    for (lane, times, names) in lanes {
        ends.push(lane);
        taken.extend(times);
        failed.extend(names);
    }
    steps.extend(taken);
    println!("\n{}", times::render(steps, &ends));
    Ok(failed)
}

/// Where lanes get their jobs.
struct Desk {
    plan: Mutex<Plan>,
    changed: Condvar,
    total: usize,
    cache: PathBuf,
}

impl Desk {
    /// Does one job after the other.
    fn lane(&self, world: &World) -> (Lane, Times, Vec<String>) {
        let (mut lane, mut times, mut failed) = (Lane::default(), Times::new(), Vec::new());
        while let Some((number, job)) = self.take(&mut lane) {
            let begin = Instant::now();
            let name = job.name();
            // Whatever becomes of it, others must not wait for it for ever.
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one(world, &job)));
            self.plan.lock().unwrap_or_else(PoisonError::into_inner).done(number);
            self.changed.notify_all();
            lane.worked += begin.elapsed();
            let seconds = begin.elapsed().as_secs_f64();
            match ended {
                Ok(Outcome::Passed) => {
                    eprintln!("{name}: passed in {seconds:.0} s");
                    self.note(&name, seconds);
                    times.insert(name, seconds);
                }
                Ok(Outcome::Failed(error)) => {
                    eprintln!("{name}: FAILED after {seconds:.0} s: {error:#}");
                    failed.push(name);
                }
                Err(_) => failed.push(name),
            }
        }
        (lane, times, failed)
    }

    /// Notes a time at once: a run that is interrupted has taught something, too.
    fn note(&self, name: &str, seconds: f64) {
        let _one_at_a_time = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = times::note(&self.cache, &Times::from([(name.to_owned(), seconds)])) {
            eprintln!("{error:#}; the next run has another order");
        }
    }

    fn take(&self, lane: &mut Lane) -> Option<(usize, Job)> {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match plan.take() {
                Next::Job(number) => {
                    let job = plan.jobs()[number];
                    if let Job::Run(scenario) = job {
                        eprintln!("\n{} (of {}): {}", scenario.name, self.total, scenario.what);
                    }
                    return Some((number, job));
                }
                Next::End => return None,
                Next::Wait(why) => {
                    let begin = Instant::now();
                    plan = self.changed.wait(plan).unwrap_or_else(PoisonError::into_inner);
                    let what = match why {
                        Why::Room => "room".to_owned(),
                        Why::State(state) => format!("the state {}", state.name()),
                        Why::Measurement => "the machine for itself".to_owned(),
                    };
                    *lane.waited.entry(what).or_default() += begin.elapsed();
                }
            }
        }
    }
}

fn one(world: &World, job: &Job) -> Outcome {
    match job {
        Job::Run(scenario) => world.run(scenario),
        Job::Make(state) => match scenarios::make(*state, world) {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_options_or_names() {
        let request = Request::parse(&["push", "--reverse", "cut-"]).unwrap();
        assert_eq!(request.names, ["push", "cut-"]);
        assert!(request.reverse && !request.changed && !request.is_whole());
        assert!(Request::parse(&[]).unwrap().is_whole());
        assert!(Request::parse(&["--fast"]).is_err());
    }
}
