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
    /// Store paths that the agent copied from the card's own store.
    pub paths_from_card: u64,
    /// Sum of their NAR sizes, bytes.
    pub bytes_from_card: u64,
    /// Of the paths sent, those that went as patches against others.
    pub patched_paths: u64,
    /// Sum of their NAR sizes, bytes; a part of `nar_bytes`.
    pub patched_bytes: u64,
    /// Sum of the NAR sizes sent, bytes.
    pub nar_bytes: u64,
    /// Bytes given to ssh for them.
    pub wire_bytes: u64,
    /// Store paths that the Pi fetched from caches.
    pub paths_fetched: u64,
    /// Sum of their NAR sizes, bytes.
    pub fetched_nar_bytes: u64,
    /// What it fetched for them, bytes.
    pub fetched_wire_bytes: u64,
    /// Time from the first byte to the agent's answer, milliseconds.
    pub took: u64,
}

impl Sent {
    /// Both together, for a push that was interrupted and gone on with.
    pub fn and(self, later: Sent) -> Sent {
        Sent {
            paths_sent: self.paths_sent + later.paths_sent,
            // What came with the first one, the second found there.
            paths_skipped: later.paths_skipped.saturating_sub(self.paths_sent + self.paths_fetched),
            // The agent counts from the beginning of the installation.
            paths_from_card: self.paths_from_card.max(later.paths_from_card),
            bytes_from_card: self.bytes_from_card.max(later.bytes_from_card),
            patched_paths: self.patched_paths + later.patched_paths,
            patched_bytes: self.patched_bytes + later.patched_bytes,
            nar_bytes: self.nar_bytes + later.nar_bytes,
            wire_bytes: self.wire_bytes + later.wire_bytes,
            paths_fetched: self.paths_fetched + later.paths_fetched,
            fetched_nar_bytes: self.fetched_nar_bytes + later.fetched_nar_bytes,
            fetched_wire_bytes: self.fetched_wire_bytes + later.fetched_wire_bytes,
            took: self.took + later.took,
        }
    }

    /// NAR bytes that arrived each second, from wherever they came.
    pub fn rate(&self) -> Option<u64> {
        let bytes = self.nar_bytes + self.bytes_from_card + self.fetched_nar_bytes;
        let rate = u128::from(bytes) * 1000 / u128::from(self.took.max(1));
        (bytes > 0).then(|| u64::try_from(rate).unwrap_or(u64::MAX))
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
            "rate": self.sent.rate(),
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
    let card = match sent.paths_from_card {
        0 => String::new(),
        paths => format!(", {paths} with {} came from the card", bytes(sent.bytes_from_card)),
    };
    let patched = match sent.patched_paths {
        0 => String::new(),
        paths => format!(", {paths} with {} of them as patches", bytes(sent.patched_bytes)),
    };
    let rate = sent.rate().map(|rate| format!(", {}/s on average", bytes(rate))).unwrap_or_default();
    let fetched = match sent.paths_fetched {
        0 => String::new(),
        count => format!(
            "; {count} paths from caches, {} of NARs as {}",
            bytes(sent.fetched_nar_bytes),
            bytes(sent.fetched_wire_bytes)
        ),
    };
    format!(
        "{} paths ({} were there already{card}), {} of NARs as {} on the wire{ratio}{patched}{fetched}{rate}",
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
        let sent = |paths_sent, paths_skipped, nar_bytes, wire_bytes, took| Sent {
            paths_sent,
            paths_skipped,
            nar_bytes,
            wire_bytes,
            took,
            ..Sent::default()
        };
        let first = sent(30, 10, 300, 100, 3);
        let second = sent(60, 40, 600, 200, 6);
        let both = first.and(second);
        assert_eq!(both, sent(90, 10, 900, 300, 9));
        assert_eq!(both.ratio(), Some(3.0));
        assert_eq!(Sent::default().ratio(), None);
        assert_eq!((both.rate(), Sent::default().rate()), (Some(100_000), None));
        let patched = Sent { patched_paths: 3, patched_bytes: 2_000_000, ..first };
        assert!(sent_text(&patched).contains("3 with 2.00 MB of them as patches"), "{}", sent_text(&patched));
        let fetched = Sent { paths_fetched: 5, ..first };
        assert_eq!(fetched.and(sent(0, 45, 0, 0, 1)).paths_skipped, 10);
        assert!(sent_text(&fetched).contains("5 paths from caches") && !sent_text(&first).contains("cache"));
    }
}
