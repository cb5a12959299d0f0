//! The account at the end of an installation or a push.

use super::Ui;
use super::format::{bytes, duration, millis, table};
use anyhow::Result;
use cygnet_protocol::event::Phase;
use serde::Serialize;
use std::time::Duration;

/// How the closure went over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sent {
    /// Store paths sent.
    pub paths_sent: u64,
    /// Store paths that were there already.
    pub paths_skipped: u64,
    /// Sum of the NAR sizes sent, bytes.
    pub nar_bytes: u64,
    /// Bytes given to ssh for them.
    pub wire_bytes: u64,
    /// Time from the first byte to the agent's answer, milliseconds.
    pub took: u64,
}

impl Sent {
    /// Both together, for a push that was interrupted and gone on with.
    pub fn and(self, later: Sent) -> Sent {
        Sent {
            paths_sent: self.paths_sent + later.paths_sent,
            // What the first one sent, the second found there.
            paths_skipped: later.paths_skipped.saturating_sub(self.paths_sent),
            nar_bytes: self.nar_bytes + later.nar_bytes,
            wire_bytes: self.wire_bytes + later.wire_bytes,
            took: self.took + later.took,
        }
    }

    /// NAR bytes for one byte on the wire.
    pub fn ratio(&self) -> Option<f64> {
        (self.wire_bytes > 0).then(|| self.nar_bytes as f64 / self.wire_bytes as f64)
    }
}

/// How an installation went.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The Pi.
    pub host: String,
    /// The system.
    pub toplevel: String,
    /// The plan.
    pub digest: String,
    /// Phases and their milliseconds.
    pub phases: Vec<(Phase, u64)>,
    /// What was sent by this process.
    pub sent: Sent,
    /// VmHWM of the agent, bytes; none if it couldn't be asked.
    pub agent_peak_memory: Option<u64>,
    /// Did the installed system answer? None if it wasn't waited for.
    pub verified: Option<bool>,
    /// Time from the reboot to its answer.
    pub reboot: Option<Duration>,
    /// All of it.
    pub total: Duration,
}

impl Summary {
    /// Prints it: as JSON on stdout, or for a person on stderr.
    pub fn print(&self, ui: &Ui) -> Result<()> {
        if ui.json() {
            return ui.record(&self.record());
        }
        ui.status(&self.text());
        Ok(())
    }

    fn record(&self) -> serde_json::Value {
        let phases: Vec<_> =
            self.phases.iter().map(|(phase, took)| serde_json::json!({"phase": phase.name(), "took": took})).collect();
        serde_json::json!({
            "type": "summary",
            "host": self.host,
            "toplevel": self.toplevel,
            "digest": self.digest,
            "phases": phases,
            "sent": self.sent,
            "ratio": self.sent.ratio(),
            "agent-peak-memory": self.agent_peak_memory,
            "verified": self.verified,
            "reboot-millis": self.reboot.map(|time| time.as_millis() as u64),
            "total-millis": self.total.as_millis() as u64,
        })
    }

    fn text(&self) -> String {
        let mut rows: Vec<Vec<String>> =
            self.phases.iter().map(|(phase, took)| vec![phase.title().to_owned(), millis(*took)]).collect();
        if let Some(time) = self.reboot {
            rows.push(vec!["Waiting for the installed system".into(), duration(time)]);
        }
        rows.push(vec!["In all".into(), duration(self.total)]);
        rows.push(vec!["Sent".into(), sent_text(&self.sent)]);
        if let Some(peak) = self.agent_peak_memory {
            rows.push(vec!["Agent's peak memory".into(), bytes(peak)]);
        }
        format!("\n{}", table(&rows))
    }
}

/// One line about a push.
pub fn sent_text(sent: &Sent) -> String {
    let ratio = sent.ratio().map(|ratio| format!(", ratio {ratio:.2}")).unwrap_or_default();
    format!(
        "{} paths ({} were there already), {} of NARs as {} on the wire{ratio}",
        sent.paths_sent,
        sent.paths_skipped,
        bytes(sent.nar_bytes),
        bytes(sent.wire_bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_in_two_parts_counts_nothing_twice() {
        let first = Sent { paths_sent: 30, paths_skipped: 10, nar_bytes: 300, wire_bytes: 100, took: 3 };
        let second = Sent { paths_sent: 60, paths_skipped: 40, nar_bytes: 600, wire_bytes: 200, took: 6 };
        let both = first.and(second);
        assert_eq!(both, Sent { paths_sent: 90, paths_skipped: 10, nar_bytes: 900, wire_bytes: 300, took: 9 });
        assert_eq!(both.ratio(), Some(3.0));
        assert_eq!(Sent::default().ratio(), None);
    }
}
