//! How long each job took the last time, so that the longest come first, and what is printed of it.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seconds by a job's name.
pub type Times = BTreeMap<String, f64>;

/// How many of the slowest are printed.
const SHOWN: usize = 10;

fn file(cache: &Path) -> PathBuf {
    cache.join("times.json")
}

/// The times of the last runs. None if there were none: an order is all that depends on them.
pub fn read(cache: &Path) -> Times {
    fs::read_to_string(file(cache)).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Notes new times beside those of jobs that did not run.
///
/// # Errors
/// If the cache can't be written.
pub fn note(cache: &Path, new: &Times) -> Result<()> {
    let mut all = read(cache);
    all.extend(new.iter().map(|(name, time)| (name.clone(), *time)));
    let file = file(cache);
    fs::write(&file, serde_json::to_string_pretty(&all)?).with_context(|| format!("writing {}", file.display()))
}

/// The slowest steps, and what each lane has done and waited for.
pub fn render(steps: &Times, lanes: &[Lane]) -> String {
    let mut slowest: Vec<(&String, &f64)> = steps.iter().collect();
    slowest.sort_by(|a, b| b.1.total_cmp(a.1));
    let mut text = String::from("the slowest steps:\n");
    for (name, time) in slowest.into_iter().take(SHOWN) {
        text.push_str(&format!("  {time:6.0} s  {name}\n"));
    }
    for (number, lane) in lanes.iter().enumerate() {
        text.push_str(&format!("lane {}: {:.0} s of work", number + 1, lane.worked.as_secs_f64()));
        for (why, time) in &lane.waited {
            text.push_str(&format!(", {:.0} s waiting for {why}", time.as_secs_f64()));
        }
        text.push('\n');
    }
    text
}

/// What a lane has done.
#[derive(Debug, Default, Clone)]
pub struct Lane {
    /// How long it had a job.
    pub worked: Duration,
    /// How long it waited, by what for.
    pub waited: BTreeMap<String, Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_jobs_that_did_not_run_stay() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).is_empty());
        note(dir.path(), &Times::from([("a".into(), 1.0), ("b".into(), 2.0)])).unwrap();
        note(dir.path(), &Times::from([("b".into(), 3.0)])).unwrap();
        assert_eq!(read(dir.path()), Times::from([("a".into(), 1.0), ("b".into(), 3.0)]));
    }

    #[test]
    fn the_slowest_are_told_first() {
        let steps: Times = (0..12).map(|n| (format!("step{n}"), f64::from(n))).collect();
        let lane = Lane { worked: Duration::from_secs(7), waited: [("room".into(), Duration::from_secs(2))].into() };
        let text = render(&steps, &[lane]);
        assert!(text.contains("    11 s  step11\n") && !text.contains("step1\n"), "{text}");
        assert!(text.contains("lane 1: 7 s of work, 2 s waiting for room"), "{text}");
    }
}
