//! How the agent lives: it listens on its socket, keeps systemd's watchdog content, and goes when told to.

use crate::agent::{Agent, Places};
use crate::visitors::Visitors;
use crate::{announce, boot, card, console, control, identity::Identity, led, online, report, say};
use cygnet_protocol::online::settings::{Console, Settings};
use rustix::fs::Mode;
use sd_notify::NotifyState;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

/// That of nixos-install: files made in the target, also by tools, are readable by all.
const TARGET_UMASK: Mode = Mode::from_bits_truncate(0o022);

/// What the agent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To bring the machine online and install it.
    Install,
    /// To fill a store that is there, and nothing else.
    ReceiveOnly,
}

/// Runs until SIGTERM or SIGINT.
pub fn run(socket: &Path, places: Places, purpose: Purpose) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(|| say::Log)
        // It would tell of a write that failed by `eprintln!`, which panics where that fails, too.
        .log_internal_errors(false)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_level(true)
        .init();
    // What is made on the target is for all its users: the systemd unit's, or a shell's, umask must not reach it.
    rustix::process::umask(TARGET_UMASK);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("starting the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(live(socket, places, purpose)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}: {error}", socket.display());
            ExitCode::FAILURE
        }
    }
}

async fn live(socket: &Path, places: Places, purpose: Purpose) -> io::Result<()> {
    let listener = listen(socket)?;
    match purpose {
        Purpose::Install => install_on_this_machine(socket, &listener, places).await,
        Purpose::ReceiveOnly => {
            let agent = Agent::receive_only(Identity::read(), places)?;
            attend(socket, &listener, &agent).await
        }
    }
}

async fn install_on_this_machine(socket: &Path, listener: &UnixListener, places: Places) -> io::Result<()> {
    let agent = Agent::new(Identity::read(), places);
    agent.vault.forget_after_crash(agent.unfinished().as_ref().map(|job| &job.plan));
    agent.extra.forget();
    // A crash of the agent alone leaves the target mounted. Nothing else waits until it is let go of, which may take minutes
    // or, if a disk does not answer, never come about.
    agent.let_go_of_the_past();
    let announcement = announce::spawn(agent.clone());
    online::spawn(agent.clone());
    // The machine's screens, its LED and its card are for its own agent; one elsewhere is somebody's experiment.
    let shown = (socket == Path::new(cygnet_protocol::handover::SOCKET)).then(|| {
        card::told::retell(&agent.log, &Path::new("/").join(card::told::TOLD));
        let given = online::settings::read(Path::new(online::settings::SETTINGS), &agent.places.state);
        count_given(&agent, &given.settings);
        report::spawn(agent.clone());
        boot::back::spawn(agent.clone());
        (console::spawn(agent.clone(), &given.settings.console), led::spawn(agent.clone()))
    });
    let result = attend(socket, listener, &agent).await;
    tell_systemd(&[NotifyState::Stopping]);
    agent.forget_secrets();
    announcement.goodbye();
    if let Some((consoles, led)) = shown {
        led.stop();
        consoles.stop();
    }
    result
}

/// Notes what was given to the card, so that an installation knows what was given last.
fn count_given(agent: &Agent, settings: &Settings) {
    let settings = Settings { console: Console::default(), ..settings.clone() };
    if settings != Settings::default()
        && let Err(error) = card::given::count(&agent.places.state, &settings)
    {
        tracing::warn!("what was given to the card is not counted: {error}");
    }
}

/// Serves connections until SIGTERM or SIGINT.
async fn attend(socket: &Path, listener: &UnixListener, agent: &Arc<Agent>) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut watchdog = tokio::time::interval(watchdog_interval());
    tell_systemd(&[NotifyState::Ready, NotifyState::Status("waiting for cygnet")]);
    tracing::info!("cygnetd {} listens on {}", env!("CARGO_PKG_VERSION"), socket.display());
    let visitors = Arc::new(Visitors::default());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => let_in(agent, &visitors, stream),
                Err(error) => {
                    visitors.tell("accept", &format!("accepting a connection: {error}"));
                    // Out of descriptors, most likely: accept would fail again at once.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            _ = watchdog.tick() => {
                tell_systemd(&[NotifyState::Watchdog]);
                if let Some(state) = agent.state_name() {
                    tell_systemd(&[NotifyState::Status(state)]);
                }
            }
            _ = terminate.recv() => if ended(agent) { return Ok(()) },
            _ = interrupt.recv() => if ended(agent) { return Ok(()) },
        }
    }
}

/// Serves a connection on a thread of its own, if there is room for it.
fn let_in(agent: &Arc<Agent>, visitors: &Arc<Visitors>, stream: UnixStream) {
    let visit = match visitors.enter(&stream) {
        Ok(Some(visit)) => visit,
        Ok(None) => return visitors.tell("refused", "too many are connected, and all are at work; one was refused"),
        Err(error) => return visitors.tell("enter", &format!("a connection was refused: {error}")),
    };
    let agent = agent.clone();
    let serve = move || {
        if stream.set_nonblocking(false).is_ok() {
            control::serve(&agent, stream, visit);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("connection".into()).spawn(serve) {
        visitors.tell("thread", &format!("no thread for a connection: {error}"));
    }
}

/// Whether it ends when told to. A forced reboot may need the kernel in the end, which nobody but the agent asks.
fn ended(agent: &Agent) -> bool {
    if agent.is_forcing() {
        tracing::warn!("told to end, and stays until the Pi is restarted");
        return false;
    }
    agent.ends();
    true
}

/// Root only, and never a socket that another agent listens on.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    // A directory that is there already has the mode that somebody gave it.
    if let Some(directory) = socket.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        std::fs::create_dir_all(directory)?;
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
    }
    if UnixStream::connect(socket).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another cygnetd listens there already"));
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mask = rustix::process::umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(socket);
    rustix::process::umask(mask);
    let listener = listener?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A third of what the unit's WatchdogSec allows, 10 s without a watchdog.
fn watchdog_interval() -> Duration {
    std::env::var("WATCHDOG_USEC")
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(Duration::from_secs(10), |micros: u64| Duration::from_micros((micros / 3).max(1000)))
}

fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("notifying systemd: {error}");
    }
}
