//! `cygnet push`: only the closure, into a target store that waits for it.

use crate::cli;
use crate::control::{self, Control};
use crate::interrupt;
use crate::nix;
use crate::push::{self, Counters};
use crate::ssh::Target;
use crate::ui::Ui;
use crate::ui::bar::{Bar, Unit};
use crate::ui::summary::{Sent, sent_text};
use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Carries it out.
pub fn run(ui: &Ui, target: &Target, arguments: &cli::Push) -> Result<()> {
    let closure = nix::find_closure(ui, arguments.flake.as_deref(), arguments.closure.as_deref())?;
    let (session, mut control) = control::connect(target)?;
    closure.check_system(&control.status()?.system)?;
    interrupt::set_farewell("What was sent completely is kept; give the same command again to send the rest.");
    let begun = Instant::now();
    let counters = Arc::new(Counters::default());
    let result = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| push::push(&session, &mut control, &closure, &counters));
        let mut bar = None;
        while !pushing.is_finished() {
            let total = counters.total.load(Ordering::Relaxed);
            if total > 0 {
                bar.get_or_insert_with(|| Bar::new(ui, "Sending the closure", Unit::Bytes, total))
                    .set(counters.nar.load(Ordering::Relaxed), total);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        pushing.join()
    });
    result.unwrap_or_else(|_| Err(anyhow::anyhow!("the sender has panicked").context("sending the closure")))?;
    account(ui, target, counters.sent(begun.elapsed()), &mut control)
}

fn account(ui: &Ui, target: &Target, sent: Sent, control: &mut Control) -> Result<()> {
    if !ui.json() {
        ui.status(&sent_text(&sent));
        return Ok(());
    }
    let peak = control.status().ok().map(|status| status.agent_peak_memory);
    ui.record(&serde_json::json!({
        "type": "summary",
        "host": target.given,
        "sent": sent,
        "ratio": sent.ratio(),
        "agent-peak-memory": peak,
    }))
}
