//! The agent's events as a person sees them: a line for each phase that ended, the present one on the move.

use super::Ui;
use super::bar::{Bar, Unit};
use super::format::millis;
use cygnet_protocol::event::{Event, EventKind, Phase, State};
use cygnet_protocol::text;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::VecDeque;
use std::time::Duration;

/// How many lines of tools' output are shown when a phase fails.
const KEPT_OUTPUT: usize = 20;

/// Renders events, and remembers how long each phase took.
#[derive(Debug)]
pub struct Timeline<'a> {
    ui: &'a Ui,
    /// Phases that ended well, with their milliseconds.
    pub finished: Vec<(Phase, u64)>,
    phase: Option<Phase>,
    /// Why the present phase had nothing to do.
    skipped: Option<String>,
    output: VecDeque<String>,
    progress: Option<Bar<'a>>,
    /// We send the closure ourselves and know better how far it is.
    pub sending: bool,
}

impl<'a> Timeline<'a> {
    /// Nothing has happened yet.
    pub fn new(ui: &'a Ui) -> Self {
        Self {
            ui,
            finished: vec![],
            phase: None,
            skipped: None,
            output: VecDeque::new(),
            progress: None,
            sending: false,
        }
    }

    /// The phase that was last heard of.
    pub fn phase(&self) -> Option<Phase> {
        self.phase
    }

    /// Renders one event.
    pub fn event(&mut self, event: &Event) {
        let phase = event.phase.or(self.phase);
        let title = phase.map_or("", Phase::title);
        match &event.kind {
            EventKind::PhaseStarted => {
                self.phase = phase;
                self.output.clear();
                self.skipped = None;
                self.end_progress();
                self.spin(title);
            }
            EventKind::PhaseFinished { took } => {
                self.end_progress();
                if let Some(phase) = phase {
                    self.finished.retain(|(other, _)| *other != phase);
                    self.finished.push((phase, *took));
                }
                self.still();
                let result = match self.skipped.take() {
                    Some(why) => format!("  skipped: {}", text::line(&why)),
                    None => format!("{:>12}", millis(*took)),
                };
                self.ui.status(&format!("  {title:<34} {result}"));
            }
            EventKind::Skipped { why } => self.skipped = Some(why.clone()),
            EventKind::Task { text } => self.spin(&format!("{title}: {text}")),
            EventKind::Output { line } => {
                if self.output.len() == KEPT_OUTPUT {
                    self.output.pop_front();
                }
                self.output.push_back(line.clone());
            }
            EventKind::Progress { done, total, unit, .. } if !self.sending => {
                let unit = match unit.as_str() {
                    "bytes" => Unit::Bytes,
                    "paths" => Unit::Paths,
                    // Steps: the sentence of the present one says more than their number.
                    _ => return,
                };
                let ui = self.ui;
                self.progress.get_or_insert_with(|| Bar::new(ui, title, unit, *total)).set(*done, *total);
            }
            EventKind::Progress { .. }
            | EventKind::Unknown
            | EventKind::Link { .. }
            // A warning of the agent's comes with them.
            | EventKind::HostKeys { .. } => {}
            EventKind::Diagnosed { diagnosis } => {
                self.ui.warning(&format!("{} {}", diagnosis.code.name(), diagnosis.what));
            }
            EventKind::Online { online, via } => {
                let through = via.as_deref().map(|via| format!(" through {}", text::line(via))).unwrap_or_default();
                self.ui.status(&format!("  The Pi is {}{through}", if *online { "online" } else { "offline" }));
            }
            EventKind::Warning { text } => self.ui.warning(text),
            EventKind::Failed { .. } => {
                self.end_progress();
                self.still();
                self.ui.status(&format!("  {title:<34} {:>12}", "failed"));
                for line in self.output.drain(..) {
                    self.ui.status(&format!("    | {}", text::line(&line)));
                }
            }
            EventKind::StateChanged { to } => match to {
                State::Installing { phase } => self.phase = Some(*phase),
                State::Receiving | State::Interrupted { .. } => {}
                State::Waiting | State::Failed { .. } | State::Installed | State::Rebooting => self.still(),
            },
        }
    }

    /// From now on we send the closure; what the agent checked before that is over.
    pub fn we_send(&mut self) {
        if !self.sending {
            self.end_progress();
            self.sending = true;
        }
    }

    fn end_progress(&mut self) {
        self.progress = None;
    }

    fn spin(&self, text: &str) {
        if !self.ui.terminal || self.ui.quiet || self.sending || self.progress.is_some() {
            return;
        }
        let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        spinner.set_style(
            ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        spinner.set_message(text::line(text));
        spinner.enable_steady_tick(Duration::from_millis(120));
        self.ui.set_bar(Some(spinner));
    }

    fn still(&self) {
        if !self.sending {
            self.ui.set_bar(None);
        }
    }
}

impl Drop for Timeline<'_> {
    fn drop(&mut self) {
        self.ui.set_bar(None);
    }
}

/// One event as one line, for `cygnet logs`.
pub fn line(event: &Event) -> String {
    let seconds = event.millis as f64 / 1000.0;
    let phase = event.phase.map_or("", Phase::name);
    let text = match &event.kind {
        EventKind::PhaseStarted => "started".to_owned(),
        EventKind::PhaseFinished { took } => format!("finished in {}", millis(*took)),
        EventKind::Skipped { why } => format!("skipped: {why}"),
        EventKind::Task { text } => text.clone(),
        EventKind::Output { line } => format!("| {line}"),
        EventKind::Progress { done, total, unit, .. } => format!("{done} of {total} {unit}"),
        EventKind::Warning { text } => format!("warning: {text}"),
        EventKind::Failed { fault } => format!("failed: {fault}"),
        EventKind::StateChanged { to } => format!("state: {}", to.name()),
        EventKind::Link { report } => format!("{}: {:?} {}", report.link.name(), report.state, report.detail),
        EventKind::Diagnosed { diagnosis } => diagnosis.to_string(),
        EventKind::Online { online, via } => {
            format!("{} {}", if *online { "online" } else { "offline" }, via.as_deref().unwrap_or_default())
        }
        EventKind::HostKeys { keys } => format!("the new system's ssh host keys: {}", keys.join(", ")),
        EventKind::Unknown => "(an event that only a newer cygnet knows)".to_owned(),
    };
    // No line of what was said on the Pi begins as events do.
    let text = text::lines(&text).replace('\n', "\n                              | ");
    format!("{:>6} {seconds:>10.3} {phase:<10} {text}", event.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(phase: Phase, kind: EventKind) -> Event {
        Event { seq: 7, millis: 1500, phase: Some(phase), kind }
    }

    #[test]
    fn a_phase_that_is_done_again_counts_once() {
        let ui = Ui::new(false, true);
        let mut timeline = Timeline::new(&ui);
        timeline.event(&event(Phase::Mount, EventKind::PhaseStarted));
        timeline.event(&event(Phase::Mount, EventKind::PhaseFinished { took: 5 }));
        timeline.event(&event(Phase::Mount, EventKind::PhaseFinished { took: 9 }));
        assert_eq!(timeline.finished, [(Phase::Mount, 9)]);
        assert_eq!(timeline.phase(), Some(Phase::Mount));
    }

    #[test]
    fn what_the_pi_says_looks_like_no_event_of_ours() {
        let text = line(&event(
            Phase::Format,
            EventKind::Output { line: "x\n     8      1.500 format     done\x1b[2J".into() },
        ));
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().nth(1).unwrap().trim_start().starts_with("| ") && !text.contains('\x1b'), "{text:?}");
    }

    #[test]
    fn lines_have_number_time_and_phase() {
        let text = line(&event(Phase::Format, EventKind::Task { text: "Make a pool".into() }));
        assert_eq!(text, "     7      1.500 format     Make a pool");
    }
}
