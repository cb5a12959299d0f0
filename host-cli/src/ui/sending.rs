//! How a closure gets over, for whoever watches: a bar on a terminal, a line now and then elsewhere, JSON for scripts.

use super::Ui;
use super::format::{bytes, duration};
use crate::push::progress::{Look, Meter, Reading};
use crate::push::stall::{Turn, Turns};
use cygnet_protocol::event::Source;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Without a terminal a line comes so often.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// A script gets a line so often.
const RECORD_EVERY: Duration = Duration::from_secs(1);

/// One closure on its way.
#[derive(Debug)]
pub struct Sending<'a> {
    ui: &'a Ui,
    drawn: Option<ProgressBar>,
    begun: Instant,
    meter: Meter,
    turns: Turns,
    /// When the last line was printed, and what it was about.
    told: Option<(Instant, Look)>,
}

impl<'a> Sending<'a> {
    /// Starts showing it.
    pub fn new(ui: &'a Ui) -> Self {
        let drawn = (ui.terminal && !ui.quiet).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("  {prefix} {wide_bar} {percent:>3} % {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar
        });
        ui.set_bar(drawn.clone());
        Self { ui, drawn, begun: Instant::now(), meter: Meter::default(), turns: Turns::default(), told: None }
    }

    /// Shows how far it is; to be called several times a second.
    pub fn show(&mut self, look: Look) {
        if look.total.bytes == 0 {
            // Nothing is known yet.
            return;
        }
        let reading = self.meter.read(self.begun.elapsed(), look);
        match self.turns.next(reading.stalled) {
            Some(Turn::Stopped) => {
                self.ui.status(&format!("  {}: {}", title(look.source), reading.complaint().unwrap_or_default()));
            }
            Some(Turn::GoesOn(stood)) => {
                self.ui.status(&format!("  It goes on, after {} without a byte.", duration(stood)));
            }
            None => {}
        }
        if let Some(bar) = &self.drawn {
            bar.set_prefix(title(look.source));
            bar.set_length(look.total.bytes);
            bar.set_position(look.done.bytes);
            bar.set_message(reading.complaint().unwrap_or_else(|| brief(&reading)));
        }
        let every = if self.ui.json() { RECORD_EVERY } else { LINE_EVERY };
        // A line that says the same again is for scripts: they want to know that we live.
        let new = self.told.is_none_or(|(_, last)| last.done != look.done);
        let due = self.told.is_none_or(|(at, _)| at.elapsed() >= every) && (new || self.ui.json());
        if due {
            self.tell(&reading);
        }
    }

    /// The last line, which says how it ended.
    pub fn end(&mut self, look: Look) {
        let reading = self.meter.read(self.begun.elapsed(), look);
        if self.told.is_some_and(|(_, last)| last.done != look.done) {
            self.tell(&reading);
        }
    }

    fn tell(&mut self, reading: &Reading) {
        self.told = Some((Instant::now(), reading.look));
        if self.ui.json() {
            // Somebody who reads no more is noticed at the next record that matters.
            self.ui.record(&record(reading)).ok();
        } else if self.drawn.is_none() {
            self.ui.status(&line(reading));
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.ui.set_bar(None);
    }
}

fn title(source: Option<Source>) -> &'static str {
    match source {
        Some(Source::Card) => "Copying from the card",
        Some(Source::Cache) => "Fetching from caches",
        Some(Source::Client) => "Sending the closure",
        None | Some(Source::Unknown) => "Receiving the closure",
    }
}

/// What stands behind the bar.
fn brief(reading: &Reading) -> String {
    let Look { done, total, .. } = reading.look;
    let left = reading.left.map(|left| format!(", {} left", duration(whole(left)))).unwrap_or_default();
    format!("{}/{}, {}/s{left}", bytes(done.bytes), bytes(total.bytes), bytes(reading.rate as u64))
}

/// A line of its own.
fn line(reading: &Reading) -> String {
    let Look { done, total, source, .. } = reading.look;
    let percent = (u128::from(done.bytes) * 100).checked_div(u128::from(total.bytes)).unwrap_or(0);
    let mut text = format!(
        "  {}: {} of {}, {percent} %, {} of {} paths",
        title(source),
        bytes(done.bytes),
        bytes(total.bytes),
        done.paths,
        total.paths
    );
    if reading.rate >= 1.0 || reading.wire_rate >= 1.0 {
        text += &format!(", {}/s", bytes(reading.rate as u64));
        if source == Some(Source::Client) {
            text += &format!(" as {}/s on the wire", bytes(reading.wire_rate as u64));
        }
    }
    if let Some(left) = reading.left {
        text += &format!(", {} left", duration(whole(left)));
    }
    text
}

/// For scripts. Rates are bytes each second.
fn record(reading: &Reading) -> serde_json::Value {
    let Look { done, total, source, wire, .. } = reading.look;
    serde_json::json!({
        "type": "progress",
        "source": source,
        "done": done.bytes,
        "total": total.bytes,
        "paths": done.paths,
        "paths-total": total.paths,
        "wire-bytes": wire,
        "rate": reading.rate as u64,
        "wire-rate": reading.wire_rate as u64,
        "eta-seconds": reading.left.map(|left| left.as_secs()),
        "stalled": reading.stalled.is_some(),
    })
}

/// Nobody wants the milliseconds of a guess.
fn whole(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs_f64().round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::progress::{Amount, Progress};

    fn reading(source: Source) -> Reading {
        let mut progress = Progress::default();
        progress.set_total(Amount { paths: 240, bytes: 786_000_000 });
        progress.begin(source, Amount { paths: 12, bytes: 393_000_000 });
        Reading {
            look: progress.look(100_000_000),
            rate: 12_000_000.0,
            wire_rate: 4_000_000.0,
            left: Some(Duration::from_millis(32_700)),
            stalled: None,
        }
    }

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let text = line(&reading(Source::Client));
        assert_eq!(
            text,
            "  Sending the closure: 393 MB of 786 MB, 50 %, 12 of 240 paths, 12.0 MB/s as 4.00 MB/s on the wire, 33.0 s left"
        );
        assert!(!line(&reading(Source::Card)).contains("wire"));
        let nothing = Reading { look: Progress::default().look(0), rate: 0.0, left: None, ..reading(Source::Card) };
        assert!(line(&nothing).starts_with("  Receiving the closure: 0 B of 0 B, 0 %, 0 of 0 paths"));
    }

    #[test]
    fn a_record_has_numbers_only() {
        let record = record(&reading(Source::Client));
        assert_eq!(
            record,
            serde_json::json!({
                "type": "progress", "source": "client", "done": 393_000_000, "total": 786_000_000, "paths": 12,
                "paths-total": 240, "wire-bytes": 100_000_000, "rate": 12_000_000, "wire-rate": 4_000_000,
                "eta-seconds": 32, "stalled": false,
            })
        );
    }
}
