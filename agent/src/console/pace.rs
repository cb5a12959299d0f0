//! When something is drawn, and what: a whole screen is 0.15 s of a serial line, and every one stays in its log.

use super::devices::Kind;
use super::screen::{View, progress_row, render};
use std::time::{Duration, Instant};

/// The least time between two screens on a serial line.
const SERIAL: Duration = Duration::from_secs(2);
/// On a video terminal.
const VIDEO: Duration = Duration::from_millis(200);
/// How often ages are drawn anew, where that costs nothing.
const AGES: Duration = Duration::from_secs(10);
/// How often progress makes a row in a log, unless…
const ROW: Duration = Duration::from_secs(10);
/// …it is this many percent further.
const ROW_PERCENT: u8 = 10;
/// How often the machine's line is sent by itself, so that who connects late knows soon.
const LINE: Duration = Duration::from_secs(20);

/// What was drawn last.
#[derive(Debug, Default)]
pub struct Pace {
    gist: String,
    drawn: Option<Instant>,
    row: Option<(Instant, u8)>,
    line: Option<Instant>,
}

/// What is to be written now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Draw {
    /// Nothing.
    Nothing,
    /// The whole screen, and the machine's line.
    Screen(String),
    /// One row, and the machine's line.
    Row(String),
    /// The machine's line alone.
    Line,
}

impl Pace {
    /// Decides for now. `asked`: a person wants to see the screen.
    pub fn next(&mut self, view: &View, kind: Kind, asked: bool, now: Instant) -> Draw {
        let since = |then: Option<Instant>| then.map_or(Duration::MAX, |then| now.saturating_duration_since(then));
        let gist = view.gist();
        let news = gist != self.gist;
        let least = if kind == Kind::Video { VIDEO } else { SERIAL };
        let moved = kind == Kind::Video && (view.progress.is_some() || since(self.drawn) >= AGES);
        if asked || ((news || moved) && since(self.drawn) >= least) {
            self.gist = gist;
            self.drawn = Some(now);
            self.line = Some(now);
            self.row = view.progress.as_ref().and_then(|p| p.percent()).map(|percent| (now, percent));
            return Draw::Screen(render(view));
        }
        if kind == Kind::Video {
            return Draw::Nothing;
        }
        if let (Some(row), Some(percent)) = (progress_row(view), view.progress.as_ref().and_then(|p| p.percent())) {
            let due = match self.row {
                None => true,
                Some((then, last)) => {
                    percent != last
                        && (since(Some(then)) >= ROW
                            || (percent.abs_diff(last) >= ROW_PERCENT && since(Some(then)) >= SERIAL))
                }
            };
            if due {
                self.row = Some((now, percent));
                self.line = Some(now);
                return Draw::Row(row);
            }
        }
        if since(self.line) >= LINE {
            self.line = Some(now);
            return Draw::Line;
        }
        Draw::Nothing
    }

    /// How long nothing can be due, if no event comes. An event that came too early is not forgotten.
    pub fn patience(&self, view: &View, kind: Kind, now: Instant) -> Duration {
        let least = if kind == Kind::Video { VIDEO } else { SERIAL };
        let left = |then: Option<Instant>, period: Duration| {
            then.map_or(Duration::ZERO, |then| period.saturating_sub(now.saturating_duration_since(then)))
        };
        if view.gist() != self.gist {
            return left(self.drawn, least);
        }
        match kind {
            Kind::Video => left(self.drawn, AGES),
            Kind::Serial => left(self.line, LINE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::{Progress, tests::view};
    use super::*;
    use cygnet_protocol::event::{Phase, State};

    fn at(view: &View, now: u64) -> View {
        View { now: Some(now), ..view.clone() }
    }

    #[test]
    fn a_log_gets_a_screen_for_news_and_not_for_ages() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        let mut next = |view: &View, asked, millis| {
            pace.next(&at(view, millis), Kind::Serial, asked, begin + Duration::from_millis(millis))
        };
        let (waiting, lost) = (view(true), view(false));
        assert!(matches!(next(&waiting, false, 0), Draw::Screen(_)));
        assert_eq!(next(&waiting, false, 15_000), Draw::Nothing);
        assert_eq!(next(&waiting, false, 20_000), Draw::Line);
        assert!(matches!(next(&waiting, true, 20_100), Draw::Screen(_)));
        assert_eq!(next(&lost, false, 20_200), Draw::Nothing);
        assert!(matches!(next(&lost, false, 22_200), Draw::Screen(_)));
        let mut receiving = waiting.clone();
        receiving.status.state = State::Receiving;
        let mut step = |done, millis| {
            let progress = Progress { phase: Phase::Receive, done, total: 1000, unit: "bytes".into() };
            next(&View { progress: Some(progress), ..receiving.clone() }, false, millis)
        };
        assert!(matches!(step(0, 30_000), Draw::Screen(_)));
        assert_eq!(step(90, 32_000), Draw::Nothing);
        assert!(matches!(step(110, 33_000), Draw::Row(row) if row.contains("11 %")));
        assert_eq!(step(119, 40_000), Draw::Nothing);
        assert!(matches!(step(121, 43_500), Draw::Row(_)));
    }

    #[test]
    fn news_that_came_too_early_is_drawn_later() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        pace.next(&view(true), Kind::Serial, false, begin);
        let soon = begin + Duration::from_millis(500);
        assert_eq!(pace.next(&view(false), Kind::Serial, false, soon), Draw::Nothing);
        assert_eq!(pace.patience(&view(false), Kind::Serial, soon), Duration::from_millis(1500));
        assert_eq!(pace.patience(&view(true), Kind::Serial, soon), Duration::from_millis(19_500));
    }

    #[test]
    fn a_person_at_the_screen_sees_ages() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        let mut next =
            |millis| pace.next(&at(&view(true), millis), Kind::Video, false, begin + Duration::from_millis(millis));
        assert!(matches!(next(0), Draw::Screen(_)));
        assert_eq!(next(5_000), Draw::Nothing);
        assert!(matches!(next(10_000), Draw::Screen(_)));
    }
}
