//! One terminal's life: open, draw, obey, and once more when it comes back.

use super::Shared;
use super::devices::{Device, Kind};
use super::keys::{self, Action, Context, State};
use super::pace::{Draw, Pace};
use super::screen::View;
use super::tty::{Tty, Written, drain, has_session};
use crate::events::lock;
use crate::online::Order;
use crate::report;
use cygnet_protocol::event::EventKind;
use cygnet_protocol::online::diagnosis::Code;
use cygnet_protocol::online::line;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A stuck line costs us this long at most: a screen at 9600 baud, and some.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a prompt waits for somebody.
const PROMPT: Duration = Duration::from_secs(180);
/// A terminal that is not there is looked for after 1 s, then less and less often.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a scan may take until its result is shown (all channels of two bands, passively, and some).
const SCAN: Duration = Duration::from_secs(12);
/// How often it is seen whether a getty still has the keys.
const SESSION: Duration = Duration::from_secs(30);
/// The least time between two looks at everything.
const LOOK: Duration = Duration::from_millis(200);
/// How long an answer to a key stays on a video terminal.
const HOLD: Duration = Duration::from_secs(60);
/// The most networks that are listed.
const LISTED: usize = 20;
/// How many events `l` shows.
const EVENTS: usize = 20;

const HELP: &str = "
  s  status: the screen          w  look what WiFi is in the air
  n  enter a WiFi network        r  try again to get online, now
  l  what happened last          d  doctor: the whole report
  x  a root shell, if this image allows it
";

/// Until the end, or until the shared `stop`.
pub fn live(shared: &Shared, device: &Device, wake: &OwnedFd) {
    let (mut backoff, mut said) = (BACKOFF.0, String::new());
    while !shared.stop.load(Ordering::SeqCst) {
        // Keys that a getty reads are not ours; what we say may be said all the same.
        let keys = !has_session(&device.path);
        let ended = match Tty::open(&device.path, keys) {
            Ok(tty) => {
                backoff = BACKOFF.0;
                Terminal::new(shared, device, &tty, keys).run(wake)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            let text = format!("no screen on {}: {error}", device.path.display());
            if text != said {
                tracing::info!("{text}; it is tried again");
                said = text;
            }
        }
        pause(shared, wake, backoff);
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

fn pause(shared: &Shared, wake: &OwnedFd, time: Duration) {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let time = Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
        if poll(&mut [PollFd::new(wake, PollFlags::IN)], Some(&time)).is_ok() {
            drain(wake);
        }
    }
}

struct Terminal<'a> {
    shared: &'a Shared,
    device: &'a Device,
    tty: &'a Tty,
    keys: bool,
    state: State,
    pace: Pace,
    typed_at: Instant,
    /// A scan was asked for: its result is shown when it comes, or at this time.
    scan: Option<(Instant, u64)>,
    asked: bool,
    /// What was asked for on a video terminal is left there until then; a serial line scrolls.
    hold: Option<Instant>,
    drawn: Option<Instant>,
    looked: Instant,
}

impl<'a> Terminal<'a> {
    fn new(shared: &'a Shared, device: &'a Device, tty: &'a Tty, keys: bool) -> Self {
        Self {
            shared,
            device,
            tty,
            keys,
            state: State::default(),
            pace: Pace::default(),
            typed_at: Instant::now(),
            scan: None,
            asked: false,
            hold: None,
            drawn: None,
            looked: Instant::now(),
        }
    }

    fn run(&mut self, wake: &OwnedFd) -> io::Result<()> {
        while !self.shared.stop.load(Ordering::SeqCst) {
            let patience =
                if self.state.is_prompt() { PROMPT.saturating_sub(self.typed_at.elapsed()) } else { self.draw()? };
            if !self.keys && self.looked.elapsed() >= SESSION {
                if !has_session(&self.device.path) {
                    // Whoever had the keys has gone: opened anew, they are ours.
                    return Ok(());
                }
                self.looked = Instant::now();
            }
            let patience = if self.keys { patience } else { patience.min(SESSION) };
            let patience = match self.scan {
                Some((deadline, _)) => patience.min(deadline.saturating_duration_since(Instant::now())),
                None => patience,
            };
            // A little more than nothing, or a clock that is not fine enough makes a busy loop of the last instant.
            let typed = self.tty.read(wake, patience + Duration::from_millis(5))?;
            for byte in typed {
                self.typed_at = Instant::now();
                let (state, action) = keys::step(std::mem::take(&mut self.state), byte, &self.context());
                self.state = state;
                self.obey(action)?;
            }
            if self.state.is_prompt() && self.typed_at.elapsed() >= PROMPT {
                let (state, action) = keys::expire(std::mem::take(&mut self.state));
                self.state = state;
                self.obey(action)?;
            }
            self.show_scan()?;
        }
        Ok(())
    }

    /// Draws what is due; says for how long nothing will be.
    fn draw(&mut self) -> io::Result<Duration> {
        let now = Instant::now();
        let soon = |then: Option<Instant>, time: Duration| {
            then.map_or(Duration::ZERO, |then| time.saturating_sub(now.saturating_duration_since(then)))
        };
        // Five events a second come while a closure is received; looking at everything each time is no use.
        let early = soon(self.drawn, LOOK).max(soon(self.hold, HOLD));
        if !self.asked && !early.is_zero() {
            return Ok(early);
        }
        self.drawn = Some(now);
        self.hold = None;
        let view = self.view();
        let asked = std::mem::take(&mut self.asked);
        let text = match self.pace.next(&view, self.device.kind, asked, now) {
            Draw::Nothing => return Ok(self.pace.patience(&view, self.device.kind, now)),
            Draw::Screen(screen) => match self.device.kind {
                // Whatever the cursor stands in is left alone, and the screen begins on a line of its own.
                Kind::Serial => format!("\n{screen}{}\n", self.line(&view)),
                Kind::Video => format!("\x1b[H{}\x1b[J", screen.replace('\n', "\x1b[K\n")),
            },
            Draw::Row(row) => format!("\n{row}\n{}\n", self.line(&view)),
            Draw::Line => format!("\n{}\n", self.line(&view)),
        };
        self.write(&text)?;
        Ok(self.pace.patience(&view, self.device.kind, Instant::now()))
    }

    fn line(&self, view: &View) -> String {
        line::write(self.shared.line.fetch_add(1, Ordering::Relaxed) + 1, &view.report())
    }

    fn view(&self) -> View {
        let keys = match (self.keys, self.shared.shell) {
            (true, true) => "keys: s status  w scan  n WiFi  r retry  l log  d doctor  x shell  ? help",
            (true, false) => "keys: s status  w scan  n WiFi  r retry  l log  d doctor  ? help",
            (false, _) => "",
        };
        View {
            status: self.shared.agent.status(),
            now: Some(self.shared.agent.log.now()),
            progress: lock(&self.shared.progress).clone(),
            glyphs: self.device.glyphs(),
            keys: keys.into(),
        }
    }

    fn context(&self) -> Context {
        let network = self.shared.agent.network();
        let diagnoses = network.diagnosis.iter().chain(&network.warnings);
        Context {
            seen: keys::listed(&lock(&self.shared.agent.air), LISTED),
            has_country: !diagnoses.into_iter().any(|diagnosis| diagnosis.code == Code::NoCountry),
            shell: self.shared.shell,
        }
    }

    fn obey(&mut self, action: Action) -> io::Result<()> {
        match action {
            Action::None => Ok(()),
            Action::Say(text) => self.say(&text),
            Action::Status => {
                self.asked = true;
                Ok(())
            }
            Action::Help => self.say(HELP),
            Action::Scan => {
                self.order(Order::Scan);
                self.scan = Some((Instant::now() + SCAN, self.seen()));
                self.say("\nLooking what is in the air ...\n")
            }
            Action::Retry => {
                self.order(Order::Retry);
                self.say("\nTrying again.\n")
            }
            Action::Join { network, country } => {
                let text = format!("\nJoining “{}”.\n", network.ssid);
                self.order(Order::Join { network, country });
                self.say(&text)
            }
            Action::Log => self.say(&self.log()),
            Action::Doctor => self.say(&format!("\n{}\n", report::current(&self.shared.agent))),
            Action::Shell => self.shell(),
        }
    }

    fn order(&self, order: Order) {
        if self.shared.agent.orders.send(order).is_err() {
            tracing::warn!("nobody looks after the network, so what was asked for on the console is not done");
        }
    }

    /// A number that changes when the air is seen anew.
    fn seen(&self) -> u64 {
        let air = lock(&self.shared.agent.air);
        let mut hasher = std::hash::DefaultHasher::new();
        for bss in air.iter() {
            (&bss.bssid, bss.signal, bss.frequency).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn show_scan(&mut self) -> io::Result<()> {
        let Some((deadline, before)) = self.scan else { return Ok(()) };
        if Instant::now() < deadline && self.seen() == before {
            return Ok(());
        }
        self.scan = None;
        if self.state.is_prompt() {
            return Ok(());
        }
        self.say(&format!("\n{}", keys::list(&self.context().seen)))
    }

    fn log(&self) -> String {
        let events = self.shared.agent.log.since(0, Duration::ZERO);
        let skip = events.len().saturating_sub(EVENTS);
        let mut text = String::from("\n");
        for event in events.iter().skip(skip) {
            text.push_str(&report::event_line(event));
            text.push('\n');
        }
        text
    }

    /// Shows text in which there may be anything: only ends of lines and backspaces do what they mean.
    fn say(&mut self, text: &str) -> io::Result<()> {
        if self.device.kind == Kind::Video {
            self.hold = Some(Instant::now());
        }
        let glyphs = self.device.glyphs();
        let mut clean = String::new();
        for part in text.split_inclusive(['\n', '\u{8}']) {
            match part.strip_suffix(['\n', '\u{8}']) {
                Some(text) => {
                    clean.push_str(&glyphs.clean(text));
                    clean.extend(part.chars().next_back());
                }
                None => clean.push_str(&glyphs.clean(part)),
            }
        }
        self.write(&clean)
    }

    fn write(&self, text: &str) -> io::Result<()> {
        match self.tty.write(text.as_bytes(), PATIENCE)? {
            Written::Whole => Ok(()),
            Written::Stuck => {
                tracing::debug!("{} takes no more; what did not fit was left out", self.device.path.display());
                Ok(())
            }
        }
    }

    /// A root shell with this as its terminal, until it ends.
    fn shell(&mut self) -> io::Result<()> {
        if !self.shared.shell {
            return Ok(());
        }
        tracing::warn!("a root shell was opened on {}", self.device.path.display());
        let event = EventKind::Warning { text: format!("A root shell was opened on {}.", self.device.name()) };
        self.shared.agent.log.emit(None, event);
        self.say("\nThe screen comes back when the shell ends.\n")?;
        self.tty.release()?;
        let shell = ["/run/current-system/sw/bin/bash", "/bin/bash"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
            .unwrap_or("/bin/sh");
        let ended = Tty::for_child(&self.device.path).and_then(|terminal| {
            let (output, errors) = (terminal.try_clone()?, terminal.try_clone()?);
            Command::new("setsid")
                .args(["--ctty", "--wait", shell, "-l"])
                .env_remove("NOTIFY_SOCKET")
                .env_remove("WATCHDOG_USEC")
                .env("HOME", "/root")
                .env("TERM", if self.device.kind == Kind::Video { "linux" } else { "vt220" })
                .stdin(Stdio::from(terminal))
                .stdout(Stdio::from(output))
                .stderr(Stdio::from(errors))
                .status()
        });
        // The end of the session hangs the terminal up: this fails then, and it is opened anew.
        self.tty.grab()?;
        self.asked = true;
        match ended {
            Ok(_) => Ok(()),
            Err(error) => self.say(&format!("\nNo shell: starting setsid (util-linux): {error}\n")),
        }
    }
}
