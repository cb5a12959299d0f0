//! `cygnet push`: only the closure, into a target store that waits for it.

use crate::cli;
use crate::control::{self, Control};
use crate::install::follower::{Follower, Update};
use crate::interrupt;
use crate::nix;
use crate::nix::copy::{NixCopy, Reach};
use crate::push::caches::Caches;
use crate::push::{self, Counters};
use crate::ssh::Target;
use crate::ui::Ui;
use crate::ui::sending::Sending;
use crate::ui::summary::{Sent, sent_text};
use anyhow::Result;
use cygnet_protocol::event::{EventKind, Phase};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often what moves on the screen is drawn.
const TICK: Duration = Duration::from_millis(100);

/// Carries it out.
pub fn run(ui: &Ui, target: &Target, arguments: &cli::Push) -> Result<()> {
    if arguments.print_nix_copy {
        return print_nix_copy(ui, target, arguments);
    }
    let trust = push::trust::read(&arguments.trusted)?;
    let prepare = || -> Result<_> {
        let closure = nix::find_closure(ui, arguments.flake.as_deref(), arguments.closure.as_deref())?;
        let caches = Caches::find(ui, &arguments.trusted, &closure)?;
        push::trust::look_ahead(&trust, &closure.paths, caches.is_some())?;
        Ok((closure, caches))
    };
    let connect = || -> Result<_> {
        let (session, control) = control::connect(target)?;
        let follower = Follower::start(&session)?;
        Ok((session, control, follower))
    };
    // Both take some tenths of a second at least.
    let (prepared, connected) = std::thread::scope(|scope| {
        let preparing = scope.spawn(prepare);
        let connected = connect();
        let panicked = |_| Err(anyhow::anyhow!("the thread has panicked").context("collecting the closure"));
        (preparing.join().unwrap_or_else(panicked), connected)
    });
    let (closure, caches) = prepared?;
    let (session, mut control, follower) = connected?;
    push::trust::must_be_known(&control, &trust)?;
    closure.check_system(&control.status()?.system)?;
    interrupt::set_farewell("What was sent completely is kept; give the same command again to send the rest.");
    let begun = Instant::now();
    let counters = Arc::new(Counters::default());
    let result = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| push::push(&session, &mut control, &closure, &trust, caches.as_ref(), &counters));
        let mut shown = Sending::new(ui);
        while !pushing.is_finished() {
            follow(ui, &follower, &counters);
            shown.show(counters.look());
            std::thread::sleep(TICK);
        }
        shown.end(counters.look());
        pushing.join()
    });
    result.unwrap_or_else(|_| Err(anyhow::anyhow!("the sender has panicked").context("sending the closure")))?;
    account(ui, target, counters.sent(begun.elapsed()), &mut control)
}

/// Passes on what the agent has said meanwhile. That the channel for it was lost shows elsewhere, if it matters.
fn follow(ui: &Ui, follower: &Follower, counters: &Counters) {
    for update in follower.updates.try_iter() {
        let Update::Event(event) = update else { continue };
        counters.hear(&event);
        if let EventKind::Warning { text } = &event.kind
            && event.phase == Some(Phase::Receive)
        {
            ui.warning(text);
        }
    }
}

/// Says how Nix itself does it. Connects, to see that the agent is there, and which host key it has.
fn print_nix_copy(ui: &Ui, target: &Target, arguments: &cli::Push) -> Result<()> {
    let given = arguments.flake.is_some() || arguments.closure.is_some();
    let closure = given.then(|| nix::find_closure(ui, arguments.flake.as_deref(), arguments.closure.as_deref()));
    let closure = closure.transpose()?;
    let (session, mut control) = control::connect(target)?;
    if let Some(closure) = &closure {
        closure.check_system(&control.status()?.system)?;
    }
    let host_key = session.host_key().map(|key| key.line());
    if host_key.is_none() {
        ui.warning("ssh does not tell the Pi's host key; Nix will compare it with your known hosts instead.");
    }
    let reach = Reach {
        host: &target.host,
        agent_command: &target.agent_command,
        options: target.options(),
        identity: target.identity(),
        host_key: host_key.as_deref(),
        known_as: &target.known_as(),
    };
    let toplevel = closure.map(|closure| closure.toplevel.to_absolute_path());
    let copy = NixCopy::new(&reach, toplevel.as_deref())?;
    if ui.json() {
        return ui.record(&copy);
    }
    if copy.toplevel.is_none() {
        ui.status("Put what is to be copied behind it:");
    }
    ui.data(&copy.line)
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
        "rate": sent.rate(),
        "agent-peak-memory": peak,
    }))
}
