//! `cargo verify`: the tests of every crate, then the scenarios in the virtual Pi, and a count at the end.

use crate::scenarios::{self, Outcome, Scenario, World};
use crate::{crates, host, workshop};
use anyhow::{Result, bail};
use std::path::Path;
use std::time::Instant;

/// Names the scenarios.
pub fn list() {
    for scenario in scenarios::all() {
        println!("{:<28} {}", scenario.name, scenario.what);
    }
}

/// Runs everything, or only the scenarios whose names contain one of `names`.
///
/// # Errors
/// If anything fails, or nothing has such a name.
pub fn run(names: &[&str]) -> Result<()> {
    let chosen: Vec<Scenario> = scenarios::all()
        .into_iter()
        .filter(|scenario| names.is_empty() || names.iter().any(|name| scenario.name.contains(name)))
        .collect();
    if chosen.is_empty() {
        bail!("no scenario's name contains any of {names:?}; `cargo verify -- --list` names them");
    }
    let everything = names.is_empty();
    let programs = workshop::programs(everything.then_some(crates::build as fn(&Path) -> Result<()>))?;
    host::ensure_host_packages()?;
    if everything {
        crates::run(&workshop::target_dir()?)?;
    }
    let (settings, parts) = workshop::parts()?;
    let mut world = World::new(programs, settings, parts);
    let mut failed = Vec::new();
    let mut passed = 0;
    for scenario in &chosen {
        eprintln!("\nscenario {}: {}", scenario.name, scenario.what);
        let begin = Instant::now();
        match world.run(scenario) {
            Outcome::Passed => {
                passed += 1;
                eprintln!("scenario {}: passed in {:.0} s", scenario.name, begin.elapsed().as_secs_f64());
            }
            Outcome::Failed(error) => {
                eprintln!("scenario {}: FAILED: {error:#}", scenario.name);
                failed.push(scenario.name);
            }
        }
    }
    println!("\nscenarios: {passed} passed, {} failed", failed.len());
    if !failed.is_empty() {
        bail!("these scenarios failed: {}", failed.join(", "));
    }
    Ok(())
}
