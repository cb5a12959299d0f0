//! What came out, for a person and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::closures::Case;
use super::link::Shape;
use super::push::Seen;
use super::ways::Way;

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What was pushed.
    pub case: Case,
    /// How much that is, bytes of NARs.
    pub nar_size: u64,
    /// Over which link.
    pub shape: Shape,
    /// By which way.
    pub way: Way,
    /// What was seen, or why nothing was.
    pub seen: Result<Seen, String>,
}

/// How a figure is read from what was seen; less is better.
type Figure = fn(&Seen) -> f64;

/// What is compared: a name, and how it is read from what was seen.
const RATIOS: [(&str, Figure); 6] = [
    ("bytes", |seen| seen.bytes() as f64),
    ("time", |seen| seen.wall_seconds),
    ("time to disk", |seen| seen.disk_seconds),
    ("receiver's CPU", Seen::receiver_cpu),
    ("CPU with sshd", Seen::all_cpu),
    ("peak RSS", |seen| seen.peak_rss() as f64),
];

/// A block for each link and case.
pub fn render(rows: &[Row], nix: &str) -> String {
    let mut text = String::new();
    for group in rows.chunk_by(|a, b| a.case == b.case && a.shape == b.shape) {
        let Some(first) = group.first() else { continue };
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "\n{}, {:.0} MB of NARs, at {} Mbit/s with a round trip of {} ms",
            first.case.name(),
            first.nar_size as f64 / 1e6,
            first.shape.bits_per_second / 1_000_000,
            first.shape.round_trip.as_secs_f64() * 1e3
        );
        let _ = writeln!(
            text,
            "  {:<32} {:>10} {:>9} {:>9} {:>8} {:>9} {:>9} {:>8} {:>9} {:>8} {:>6}",
            "", "sent", "received", "time", "÷ link", "on disk", "CPU", "CPU/GB", "sshd", "peak RSS", "load"
        );
        for row in group {
            let _ = match &row.seen {
                Ok(seen) => writeln!(text, "  {:<32} {}", title(row.way, seen), figures(row, seen)),
                Err(why) => writeln!(text, "  {:<32} failed: {why}", row.way.title()),
            };
        }
        let again = group.iter().find_map(|row| row.seen.as_ref().ok()?.bytes_again);
        if let Some(bytes) = again {
            let _ = writeln!(text, "  the same once more by cygnet: {:.2} kB", bytes as f64 / 1e3);
        }
        if let Some(compared) = compared(group) {
            let _ = writeln!(text, "  cygnet ÷ the best of the others: {compared}");
        }
    }
    let _ = write!(
        text,
        "\nThe others are Nix {nix} at both ends. MB are 10^6 bytes. “÷ link”: time ÷ (bytes sent ÷ rate). CPU and memory: what \
         receives; sshd's CPU time is beside it. Nix does not wait for the disk, cygnet does: “on disk” is the time with a sync(1) behind it.\n(A): measured with A, of which it differs in nothing for this way.\n"
    );
    text
}

fn title(way: Way, seen: &Seen) -> String {
    match (seen.taken_over, seen.card) {
        (true, _) => format!("{} (A)", way.title()),
        (false, true) => format!("{} + card", way.title()),
        (false, false) => way.title().to_owned(),
    }
}

fn figures(row: &Row, seen: &Seen) -> String {
    let least = row.shape.time_for(seen.bytes_up).as_secs_f64();
    format!(
        "{:>7.2} MB {:>6.2} MB {:>7.2} s {:>8.2} {:>7.2} s {:>7.2} s {:>8.2} {:>7.2} s {:>5.0} MB {:>6.1}",
        seen.bytes_up as f64 / 1e6,
        seen.bytes_down as f64 / 1e6,
        seen.wall_seconds,
        seen.wall_seconds / least.max(1e-9),
        seen.disk_seconds,
        seen.receiver_cpu(),
        seen.receiver_cpu() / (row.nar_size as f64 / 1e9),
        seen.sshd_cpu_seconds,
        seen.peak_rss() as f64 / 1e6,
        seen.load
    )
}

/// Ours by the best of the others, each figure by itself: no single one of them need be best in all.
fn ratios(group: &[Row]) -> Option<Vec<(&'static str, f64)>> {
    let ours = group.iter().find(|row| row.way == Way::Ours)?.seen.as_ref().ok()?;
    let others: Vec<&Seen> =
        group.iter().filter(|row| row.way != Way::Ours).filter_map(|row| row.seen.as_ref().ok()).collect();
    let best = |figure: Figure| others.iter().map(|seen| figure(seen)).min_by(f64::total_cmp);
    RATIOS.iter().map(|(name, figure)| Some((*name, figure(ours) / best(*figure)?))).collect()
}

fn compared(group: &[Row]) -> Option<String> {
    let words: Vec<String> = ratios(group)?.iter().map(|(name, ratio)| format!("{name} {ratio:.2}")).collect();
    Some(words.join(", "))
}

/// All of it.
pub fn as_json(rows: &[Row], nix: &str) -> Value {
    let link = |shape: Shape| json!({"bits-per-second": shape.bits_per_second, "round-trip-seconds": shape.round_trip.as_secs_f64()});
    let runs: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "case": row.case.name(), "nar-size": row.nar_size, "link": link(row.shape), "way": row.way.name(),
                "seen": row.seen.as_ref().ok(), "error": row.seen.as_ref().err(),
            })
        })
        .collect();
    let compared: Vec<Value> = rows
        .chunk_by(|a, b| a.case == b.case && a.shape == b.shape)
        .filter_map(|group| {
            let first = group.first()?;
            let ratios: serde_json::Map<String, Value> =
                ratios(group)?.into_iter().map(|(name, ratio)| (name.replace(' ', "-"), json!(ratio))).collect();
            Some(json!({"case": first.case.name(), "link": link(first.shape), "cygnet-by-best": ratios}))
        })
        .collect();
    json!({"nix": nix, "runs": runs, "compared": compared})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::usage::Used;
    use std::time::Duration;

    fn row(way: Way, bytes: u64, wall: f64) -> Row {
        let used = Used { name: "nix".into(), cpu_seconds: wall / 2.0, peak_rss: 40_000_000 };
        let seen = Seen {
            bytes_up: bytes,
            bytes_down: 0,
            wall_seconds: wall,
            disk_seconds: wall,
            receivers: vec![used],
            sshd_cpu_seconds: 1.0,
            load: 0.1,
            paths_verified: 3,
            bytes_again: None,
            card: false,
            taken_over: false,
        };
        let shape = Shape { bits_per_second: 40_000_000, round_trip: Duration::from_millis(10) };
        Row { case: Case::A, nar_size: 1_000_000_000, shape, way, seen: Ok(seen) }
    }

    #[test]
    fn each_figure_has_its_own_best() {
        let rows = [row(Way::SshNg, 100, 4.0), row(Way::Export, 50, 8.0), row(Way::Ours, 25, 2.0)];
        let text = render(&rows, "2.26.3");
        assert!(text.contains("bytes 0.50, time 0.50, time to disk 0.50"), "{text}");
        assert_eq!(as_json(&rows, "2.26.3")["compared"][0]["cygnet-by-best"]["time"], 0.5);
    }

    #[test]
    fn what_failed_is_no_peer() {
        let mut failed = row(Way::SshNg, 1, 0.1);
        failed.seen = Err("no".into());
        let rows = [failed, row(Way::Export, 50, 8.0), row(Way::Ours, 25, 2.0)];
        let text = render(&rows, "2");
        assert!(text.contains("failed: no") && text.contains("bytes 0.50"), "{text}");
        assert!(!render(&rows[..2], "2").contains("÷ the best"));
    }
}
