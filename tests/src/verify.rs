//! `cargo verify`: the tests of every crate, then the scenarios in virtual Pis, two at a time, and a count at the end.

use crate::scenarios::{self, Lane, Outcome, Scenario, World};
use crate::{crates, host, workshop};
use anyhow::{Result, bail};
use std::path::Path;
use std::sync::RwLock;
use std::time::Instant;

/// Names the scenarios.
pub fn list() {
    for scenario in scenarios::all() {
        println!("{:<28} {}", scenario.name, scenario.what);
    }
}

/// Runs everything but what measures, or only the scenarios whose names contain one of `names`.
///
/// # Errors
/// If anything fails, or nothing has such a name.
pub fn run(names: &[&str]) -> Result<()> {
    let chosen: Vec<Scenario> = scenarios::all()
        .into_iter()
        .filter(|scenario| match names {
            [] => !scenario.measures(),
            names => names.iter().any(|name| scenario.name.contains(name)),
        })
        .collect();
    if chosen.is_empty() {
        bail!("no scenario's name contains any of {names:?}; `cargo verify -- --list` names them");
    }
    let everything = names.is_empty();
    let programs = workshop::programs(everything.then_some(crates::build as fn(&Path) -> Result<()>))?;
    host::ensure_host_packages()?;
    if everything {
        host::ensure_ssh_server()?;
        workshop::check_size(&programs)?;
        crates::run(&workshop::target_dir()?)?;
    }
    let (settings, parts) = workshop::parts()?;
    // Whoever measures time has the machine for itself.
    let quiet = RwLock::new(());
    let run = |lane: Lane| {
        let mut world = World::new(programs.clone(), settings.clone(), parts.clone());
        let mine = chosen.iter().filter(|scenario| scenario.lane() == lane);
        mine.filter_map(|scenario| one(&mut world, scenario, &quiet)).collect::<Vec<&str>>()
    };
    let failed: Vec<&str> = std::thread::scope(|scope| {
        let lanes = Lane::ALL.map(|lane| scope.spawn(move || run(lane)));
        // A panic is a failure, too; it has been printed.
        lanes.into_iter().flat_map(|lane| lane.join().unwrap_or_else(|_| vec!["a panic"])).collect()
    });
    let left_out: Vec<&str> = scenarios::all().iter().filter(|s| everything && s.measures()).map(|s| s.name).collect();
    if !left_out.is_empty() {
        println!("\nmeasured only when asked for, with this machine for itself: {}", left_out.join(", "));
    }
    println!("\nscenarios: {} passed, {} failed", chosen.len() - failed.len().min(chosen.len()), failed.len());
    if !failed.is_empty() {
        bail!("these scenarios failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs one scenario; answers with its name if it fails.
fn one<'a>(world: &mut World, scenario: &'a Scenario, quiet: &RwLock<()>) -> Option<&'a str> {
    let shared = (!scenario.measures()).then(|| quiet.read());
    let alone = scenario.measures().then(|| quiet.write());
    eprintln!("\nscenario {}: {}", scenario.name, scenario.what);
    let begin = Instant::now();
    let outcome = world.run(scenario);
    drop((shared, alone));
    match outcome {
        Outcome::Passed => {
            eprintln!("scenario {}: passed in {:.0} s", scenario.name, begin.elapsed().as_secs_f64());
            None
        }
        Outcome::Failed(error) => {
            eprintln!("scenario {}: FAILED: {error:#}", scenario.name);
            Some(scenario.name)
        }
    }
}
