//! What is said of the card's settings, by a process that ends before the agent starts: a file in between.

use super::state::replace;
use crate::events::EventLog;
use cygnet_protocol::event::EventKind;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

/// The file, below the root.
pub const TOLD: &str = "run/cygnet-card/told.json";

/// A sentence for a person. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Whether something was not as it should be.
    pub warning: bool,
    /// The sentence.
    pub text: String,
}

impl Line {
    /// Something that was done.
    pub fn done(text: impl Into<String>) -> Self {
        Self { warning: false, text: text.into() }
    }

    /// Something that is not as it should be.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { warning: true, text: text.into() }
    }
}

/// Leaves them for the agent.
pub fn write(path: &Path, lines: &[Line]) -> io::Result<()> {
    replace(path, &serde_json::to_vec(lines)?, 0o600)
}

/// Says them again, as events.
pub fn retell(log: &EventLog, path: &Path) {
    let lines = fs::read(path).ok().and_then(|json| serde_json::from_slice::<Vec<Line>>(&json).ok());
    for Line { warning, text } in lines.unwrap_or_default() {
        log.emit(None, if warning { EventKind::Warning { text } } else { EventKind::Task { text } });
    }
}
