//! How far something is: a bar on a terminal, a line now and then elsewhere.

use super::Ui;
use super::format::bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Without a terminal a line comes at most this often…
const LINE_EVERY: Duration = Duration::from_secs(5);
/// …unless this many percent were done since the last.
const LINE_PERCENT: u64 = 5;

/// What is being counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Store paths.
    Paths,
}

/// One thing in progress.
#[derive(Debug)]
pub struct Bar<'a> {
    ui: &'a Ui,
    drawn: Option<ProgressBar>,
    title: String,
    unit: Unit,
    total: u64,
    begun: Instant,
    last: (Instant, u64),
}

impl<'a> Bar<'a> {
    /// Starts showing `title`; `total` may be 0 if it isn't known.
    pub fn new(ui: &'a Ui, title: &str, unit: Unit, total: u64) -> Self {
        let drawn = (ui.terminal && !ui.quiet).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            // The bar takes what is left of 80 columns.
            let template = match unit {
                Unit::Bytes => {
                    "  {msg} {wide_bar} {percent:>3} % {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}"
                }
                Unit::Paths => "  {msg} {wide_bar} {percent:>3} % {human_pos}/{human_len} {eta}",
            };
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.set_message(title.to_owned());
            bar
        });
        ui.set_bar(drawn.clone());
        let now = Instant::now();
        Self { ui, drawn, title: title.to_owned(), unit, total, begun: now, last: (now, 0) }
    }

    /// This much is done, of so much.
    pub fn set(&mut self, done: u64, total: u64) {
        self.total = total;
        if let Some(bar) = &self.drawn {
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        let now = Instant::now();
        if due(now - self.last.0, self.last.1, done, total) {
            self.last = (now, done);
            self.ui.status(&line(&self.title, self.unit, done, total, now - self.begun));
        }
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.ui.set_bar(None);
    }
}

/// Is a line due, `since` the last one, which said `before`?
fn due(since: Duration, before: u64, done: u64, total: u64) -> bool {
    let percent = |n: u64| if total == 0 { 0 } else { u128::from(n) * 100 / u128::from(total) };
    done > before
        && (since >= LINE_EVERY
            || percent(done).saturating_sub(percent(before)) >= u128::from(LINE_PERCENT)
                && since >= Duration::from_millis(500))
}

/// One line of progress, with the rate and the time that is left at that rate.
fn line(title: &str, unit: Unit, done: u64, total: u64, elapsed: Duration) -> String {
    let show = |n: u64| match unit {
        Unit::Bytes => bytes(n),
        Unit::Paths => format!("{n} paths"),
    };
    let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
    let mut text = format!("  {title}: {}", show(done));
    if total > 0 {
        let percent = u128::from(done) * 100 / u128::from(total);
        text.push_str(&format!(" of {}, {percent} %", show(total)));
    }
    text.push_str(&format!(", {}/s", show(rate as u64)));
    if total > done && rate >= 1.0 {
        text.push_str(&format!(", {} s left", ((total - done) as f64 / rate) as u64));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_seldom() {
        let short = Duration::from_millis(600);
        assert!(!due(short, 0, 4, 100));
        assert!(due(short, 0, 5, 100));
        assert!(!due(Duration::from_millis(10), 0, 50, 100));
        assert!(due(LINE_EVERY, 0, 1, 100));
        assert!(!due(LINE_EVERY, 1, 1, 100));
        assert!(due(LINE_EVERY, 1, 2, 0));
    }

    #[test]
    fn a_line_has_rate_and_rest() {
        assert_eq!(
            line("Sending", Unit::Bytes, 50_000_000, 100_000_000, Duration::from_secs(5)),
            "  Sending: 50.0 MB of 100 MB, 50 %, 10.0 MB/s, 5 s left"
        );
        assert_eq!(line("x", Unit::Paths, 0, 0, Duration::ZERO), "  x: 0 paths, 0 paths/s");
    }
}
