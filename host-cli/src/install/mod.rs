//! `cygnet install`: the longest way from a command to its end.
//!
//! [`secrets`] has what opens the disks, [`extra`] what is laid over the new system, [`decide`] sees what the agent's state calls for, [`confirm`] asks the person, [`follower`] carries the events here,
//! [`watch`] lives with the installation until it is over, [`verify`] waits for the installed system, [`trial`] confirms it.

pub mod confirm;
pub mod decide;
pub mod extra;
pub mod follower;
pub mod secrets;
pub mod trial;
pub mod verify;
pub mod watch;

use crate::cli;
use crate::control::{self, Control, unexpected};
use crate::fit;
use crate::interrupt;
use crate::nix;
use crate::push;
use crate::push::caches::Caches;
use crate::ssh::{Session, Target};
use crate::ui::Ui;
use crate::ui::summary::Summary;
use anyhow::{Context, Result};
use confirm::Answer;
use cygnet_protocol::extra::Count;
use cygnet_protocol::fault::Fault;
use cygnet_protocol::message::{
    BootFrom, EXTRA_FILES, InstallOptions, MODES, Reply, Request, SECRETS, SUBSTITUTE, Status, TRIAL,
};
use cygnet_protocol::plan::{Mode, Plan, Wanted, layout_hash};
use cygnet_protocol::text;
use decide::{Decision, Wish};
use extra::Extra;
use follower::Follower;
use secrets::Secrets;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trial::Confirmed;
use watch::{Ended, Watch};

/// Carries it out.
pub fn run(ui: &Ui, target: &Target, arguments: &cli::Install) -> Result<()> {
    let begun = Instant::now();
    interrupt::set_farewell("Nothing was changed on the Pi.");
    if let Some(digest) = &arguments.yes {
        confirm::check_digest(digest)?;
    }
    let mut secrets = Secrets::read(&arguments.secrets)?;
    let source = &arguments.source;
    let extra = source.extra_files.as_deref().map(Extra::read).transpose()?.map(Arc::new);
    let extra_count = extra.as_ref().map(|extra| extra.count());
    let trust = push::trust::read(&arguments.trusted)?;
    let layout = nix::find_layout(ui, source)?;
    let closure = Arc::new(nix::find_closure(ui, source.flake.as_deref(), source.closure.as_deref())?);

    let caches = Caches::find(ui, &arguments.trusted, &closure)?;
    push::trust::look_ahead(&trust, &closure.paths, caches.is_some())?;

    let (session, mut control) = control::connect(target)?;
    let status = control.status()?;
    greet(ui, target, &session, &status);
    closure.check_system(&status.system)?;
    push::trust::must_be_known(&control, &trust)?;
    if caches.is_some() {
        control.must_have(SUBSTITUTE)?;
    }

    let wish = Wish {
        layout: layout_hash(&layout, source.mode),
        toplevel: closure.toplevel.to_absolute_path(),
        yes: arguments.yes.clone(),
        fresh: arguments.fresh,
    };
    let options = InstallOptions {
        reboot: !arguments.no_reboot,
        keep_host_key: !arguments.new_host_key,
        carry_networks: !arguments.no_carry_networks,
        trust,
        extra_files: extra.as_ref().map(|extra| extra.named()),
        boot_from: boot_from(&control, source)?,
    };
    let request = |digest: String, secrets: &Secrets| Request::Install {
        disko: layout.clone(),
        digest,
        closure: closure.summary(),
        mode: source.mode,
        options: options.clone(),
        secrets: secrets.given().to_vec(),
    };
    if !secrets.given().is_empty() {
        control.must_have(SECRETS)?;
    }
    if extra.is_some() {
        control.must_have(EXTRA_FILES)?;
    }

    // Before the request, so that not one event of it is missed.
    let mut follower = Follower::start(&session)?;
    let mut decision = decide::decide(&status, &wish)?;
    if let Decision::GoOn { digest, sure: false } | Decision::Attach { digest, sure: false } = &decision {
        let attach = matches!(decision, Decision::Attach { .. });
        match confirm::go_on(ui, target, &status, attach)? {
            Answer::Yes => {}
            Answer::Fresh => decision = Decision::Begin,
            Answer::No => return Err(confirm::declined(&target.given, digest)),
        }
    }
    extra::goes_with(&decision, status.job.as_ref().and_then(|job| job.extra_files), extra_count)?;
    // The agent forgets them if it does not hear what they are for.
    let begin = |control: &mut Control, request: &Request| {
        extra.as_ref().map_or(Ok(()), |extra| extra.send(ui, control))?;
        control.accepted(request)
    };
    let digest = match decision {
        Decision::Attach { digest, .. } => {
            ui.status("The installation runs already; following it.");
            digest
        }
        Decision::GoOn { digest, .. } => {
            let wanted = status.job.as_ref().map(|job| job.secrets.clone()).unwrap_or_default();
            // The agent knows what else the layout asks for.
            secrets.check(None, &wanted, ui.can_ask())?;
            secrets.ask(ui, &wanted)?;
            ui.status("Going on with the installation where it was interrupted.");
            begin(&mut control, &request(digest.clone(), &secrets))?;
            follower.forget_the_past();
            digest
        }
        Decision::Begin => {
            let ways = (source.mode, options.boot_from);
            let Planned { plan, secrets: wanted, boot } =
                plan(&mut control, layout.clone(), Some(closure.summary()), ways)?;
            // Here, so that it holds whatever the agent knows of such wishes.
            if source.keep_data {
                plan.keeps_data().map_err(|refusal| Fault::from(&refusal))?;
            }
            fit::check(ui, &plan, &closure.directory(), &status.board, source.allow_mismatch)?;
            let wanted = secrets.mark(wanted);
            show_plan(ui, &plan, &wanted, extra_count, arguments.yes.is_none())?;
            if let Some(boot) = boot {
                ui.status(&how_it_starts(&boot));
            }
            secrets.check(Some(&wanted), &wanted, ui.can_ask())?;
            let digest = match &arguments.yes {
                // The agent compares it, and knows whether the disks have changed since it was shown.
                Some(digest) => digest.trim().to_ascii_lowercase(),
                None => {
                    confirm::destroy(ui, target, &plan)?;
                    plan.digest.to_string()
                }
            };
            secrets.ask(ui, &wanted)?;
            begin(&mut control, &request(digest, &secrets))?;
            follower.forget_the_past();
            plan.digest.to_string()
        }
    };

    let key = session.host_key();
    let mut watch = Watch::new(ui, target, closure.clone(), request(digest.clone(), &secrets), options.reboot)
        .with_caches(caches)
        .with_extra(extra.clone());
    let ended = watch.see_through(session, control, follower)?;
    let pinned = match watch.own_keys() {
        // Told through the connection that was verified, so that the new key is known before the Pi reboots.
        Some(keys) => match verify::Key::kept(keys) {
            verify::Key::Known if arguments.new_host_key => verify::Key::Any,
            key => key,
        },
        None if arguments.new_host_key => verify::Key::Any,
        None => verify::Key::of(key),
    };
    let (phases, sent, agent_peak_memory) = watch.account();
    let mut summary = Summary {
        host: target.given.clone(),
        toplevel: wish.toplevel.clone(),
        digest,
        phases,
        sent,
        agent_peak_memory,
        verified: None,
        reboot: None,
        total: Duration::ZERO,
    };
    let wait = ended == Ended::Rebooting && !arguments.no_wait;
    let result = if wait {
        interrupt::set_farewell(
            "The system is installed and the Pi reboots into it; only its answer was not waited for.",
        );
        see_started(ui, target, &pinned, &wish.toplevel, arguments.wait, &mut summary)
    } else {
        Ok(None)
    };
    summary.verified = wait.then_some(summary.reboot.is_some());
    summary.total = begun.elapsed();
    summary.print(ui)?;
    let confirmed = result?;
    ui.status(&match ended {
        Ended::Rebooting if wait => format!("{} runs {}.", target.given, wish.toplevel),
        Ended::Rebooting => format!("{} reboots into {}.", target.given, wish.toplevel),
        Ended::Installed => format!("Installed; `cygnet reboot {}` starts the new system.", target.given),
    });
    match confirmed {
        Some(confirmed) => ui.status(confirmed.text()),
        None if matches!(options.boot_from, None | Some(BootFrom::Ssd)) => {}
        None => ui.status(&format!(
            "If the card has started it on trial, it goes back to the card unless it is confirmed: `cygnet boot {} --ssd --no-reboot` \
             once it runs.",
            target.given
        )),
    }
    Ok(())
}

/// Waits for the new system, sees that it is the right one, and confirms it.
fn see_started(
    ui: &Ui,
    target: &Target,
    key: &verify::Key,
    toplevel: &str,
    patience: Duration,
    summary: &mut Summary,
) -> Result<Option<Confirmed>> {
    let dir = tempfile::tempdir().context("making a directory for the pinned host key")?;
    let ssh_options = verify::options(target, key, dir.path())?;
    summary.reboot = Some(verify::wait(ui, target, key, &ssh_options, toplevel, patience)?);
    verify::tell_unverified(ui, key, dir.path());
    let ssh = |remote: &str| trial::run(target, &ssh_options, remote);
    trial::confirm(target, &ssh).map(Some)
}

/// What the agent is told of the card; an older one starts the SSD in its own way.
pub fn boot_from(control: &Control, source: &cli::Source) -> Result<Option<BootFrom>> {
    if source.boot_from == BootFrom::Card {
        control.must_have(TRIAL)?;
    }
    Ok(control.has(TRIAL).then_some(source.boot_from))
}

/// Says whom we have reached.
fn greet(ui: &Ui, target: &Target, session: &Session, status: &Status) {
    let key =
        session.host_key().and_then(|key| key.fingerprint()).map(|key| format!(", host key {key}")).unwrap_or_default();
    ui.status(&text::line(&format!(
        "{}: {} ({}), cygnetd {}, {}{key}",
        target.given,
        status.board,
        status.serial,
        status.version,
        status.state.name()
    )));
}

/// What an agent says to a layout.
pub struct Planned {
    /// What would be done.
    pub plan: Plan,
    /// What has to be given for it.
    pub secrets: Vec<Wanted>,
    /// How the new system would be started, if the agent says.
    pub boot: Option<String>,
}

/// The agent's words on how the new system is started, on a line of their own.
pub fn how_it_starts(boot: &str) -> String {
    let plain = cygnet_protocol::text::line(&boot.chars().take(1000).collect::<String>());
    format!("Starts: {plain}.")
}

/// Asks for a plan and the secrets it needs, and sees that it is what its digest says.
pub fn plan(
    control: &mut Control,
    disko: serde_json::Value,
    closure: Option<cygnet_protocol::message::ClosureSummary>,
    (mode, boot_from): (Mode, Option<BootFrom>),
) -> Result<Planned> {
    if !mode.is_default() {
        control.must_have(MODES)?;
    }
    match control.request(&Request::Plan { disko, closure, mode, boot_from })? {
        Reply::Plan { plan, secrets, boot } if plan.is_intact() && plan.mode == mode => {
            Ok(Planned { plan: *plan, secrets, boot })
        }
        Reply::Plan { plan, .. } => Err(crate::error::fault(
            cygnet_protocol::fault::FaultCode::Garbage,
            "The agent's plan is not what its digest says.",
            format!(
                "It has version {} of the plan's form; the bytes were damaged, or the agent is of another version.",
                plan.version
            ),
            "Use the cygnet that belongs to this agent; `cygnet --version` and `cygnetd --version` tell.",
        )),
        other => Err(unexpected("plan", &other)),
    }
}

/// A question is understood only with what it is about; without one, `--quiet` holds.
fn show_plan(ui: &Ui, plan: &Plan, secrets: &[Wanted], extra: Option<Count>, asking: bool) -> Result<()> {
    if ui.json() {
        let mut record = json!({"type": "plan", "plan": plan, "secrets": secrets});
        if let Some(count) = extra {
            record["extra-files"] = json!(count);
        }
        ui.record(&record)?;
    }
    match (asking, ui.json()) {
        (true, _) => ui.show_plan(&plan.render_with(secrets, extra)),
        (false, false) if !ui.is_quiet() => ui.show_plan(&plan.render_with(secrets, extra)),
        (false, _) => {}
    }
    Ok(())
}
