//! The green LED of the board: which link fails, for a person who has neither a network nor a serial cable.
//!
//! The firmware blinks codes of its own when it finds nothing to boot: none, two or four long flashes, then short ones
//! (Raspberry Pi documentation, "LED warning flash codes"). Ours begin with **one** long flash, or have a long one after
//! a short one, or are so even that nobody counts.

use crate::agent::Agent;
use crate::events::lock;
use cygnet_protocol::event::State;
use cygnet_protocol::online::link::NetworkReport;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Where the kernel has its LEDs.
pub const LEDS: &str = "/sys/class/leds";
/// What the activity LED is called: by the Raspberry Pis' device trees, by the older ones, and by mainline's function.
const NAMES: &[&str] = &["ACT", "led0", "green:activity", "green:ACT"];
/// A long flash, and a short one; both longer than the flicker of a card that is being read.
const LONG: u64 = 1200;
const SHORT: u64 = 200;
/// Between flashes, and between two codes.
const GAP: u64 = 400;
const PAUSE: u64 = 2500;
/// How long the end waits for the LED to be set back.
const FAREWELL: Duration = Duration::from_millis(500);

/// Something to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What it means, as in [`PATTERNS`].
    pub name: &'static str,
    /// On and off, milliseconds, over and over; nothing is steady light.
    pub steps: Vec<(u64, u64)>,
}

/// All patterns, for the documentation: the meaning, and how it looks.
pub const PATTERNS: &[(&str, &str)] = &[
    ("online, waiting", "a short flash every 3 s"),
    ("coming up", "even, slow: 1 s on, 1 s off"),
    ("installing", "even, fast: five times a second"),
    ("installed", "steady light"),
    ("installation failed or interrupted", "short, long, short, long, pause"),
    ("chip or driver", "one long flash, 1 short, pause"),
    ("radio switch, country or supplicant", "one long flash, 2 short, pause"),
    ("network or access point", "one long flash, 3 short, pause"),
    ("key", "one long flash, 4 short, pause"),
    ("address or way out", "one long flash, 5 short, pause"),
    ("clock or announcement", "one long flash, 6 short, pause"),
];

/// What the LED shows. Being unreachable comes before all else: nobody can ask a Pi what else there is.
pub fn pattern(network: &NetworkReport, state: &State) -> Pattern {
    let named = |at: usize, steps: &[(u64, u64)]| Pattern {
        name: PATTERNS.get(at).map_or("", |(name, _)| name),
        steps: steps.to_vec(),
    };
    let installing = matches!(state, State::Installing { .. } | State::Receiving);
    if let Some(diagnosis) = network.diagnosis.as_ref().filter(|_| !network.online) {
        let group = diagnosis.link.group();
        let mut steps = vec![(LONG, GAP)];
        steps.extend(std::iter::repeat_n((SHORT, GAP), group.into()));
        if let Some(last) = steps.last_mut() {
            last.1 = PAUSE;
        }
        return named(4 + usize::from(group), &steps);
    }
    match state {
        _ if installing => named(2, &[(100, 100)]),
        State::Failed { .. } | State::Interrupted { .. } => {
            named(4, &[(SHORT, GAP), (LONG, GAP), (SHORT, GAP), (LONG, PAUSE)])
        }
        State::Installed | State::Rebooting => named(3, &[]),
        _ if network.online => named(0, &[(SHORT, 3000 - SHORT)]),
        State::Waiting | State::Installing { .. } | State::Receiving => named(1, &[(1000, 1000)]),
    }
}

/// The LED, to be set back.
pub struct Blinker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: Mutex<bool>,
    woken: Condvar,
}

/// Blinks until [`Blinker::stop`]. A board without such an LED is none the worse.
pub fn spawn(agent: Arc<Agent>) -> Blinker {
    spawn_at(agent, Path::new(LEDS))
}

fn spawn_at(agent: Arc<Agent>, root: &Path) -> Blinker {
    let shared = Arc::new(Shared { stop: Mutex::new(false), woken: Condvar::new() });
    let Some(led) = Led::find(root) else { return Blinker { shared, thread: None } };
    let theirs = shared.clone();
    let spawned = std::thread::Builder::new().name("led".into()).spawn(move || {
        if let Err(error) = blink(&agent, &led, &theirs) {
            tracing::info!("{} does not blink: {error}", led.0.display());
        }
    });
    match spawned {
        Ok(thread) => Blinker { shared, thread: Some(thread) },
        Err(error) => {
            tracing::info!("no LED blinks: {error}");
            Blinker { shared, thread: None }
        }
    }
}

impl Blinker {
    /// Sets the LED back to what it showed before.
    pub fn stop(self) {
        *lock(&self.shared.stop) = true;
        self.shared.woken.notify_all();
        let deadline = Instant::now() + FAREWELL;
        if let Some(thread) = self.thread {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Shared {
    /// True if the end came.
    fn sleep(&self, millis: u64) -> bool {
        let stop = lock(&self.stop);
        let (stop, _) = self
            .woken
            .wait_timeout_while(stop, Duration::from_millis(millis), |stop| !*stop)
            .unwrap_or_else(PoisonError::into_inner);
        *stop
    }
}

fn blink(agent: &Agent, led: &Led, shared: &Shared) -> io::Result<()> {
    let before = led.trigger();
    let light = led.brightness();
    let bright = led.max();
    led.write("trigger", "none")?;
    let result = run(agent, led, bright, shared);
    // The trigger drives the light again; without one it stays as it was found.
    match before.as_deref() {
        Some(trigger) if trigger != "none" => led.write("trigger", trigger)?,
        _ => led.write("brightness", &light.to_string())?,
    }
    result
}

fn run(agent: &Agent, led: &Led, bright: u64, shared: &Shared) -> io::Result<()> {
    loop {
        let showing = pattern(&agent.network(), &agent.state());
        if showing.steps.is_empty() {
            led.write("brightness", &bright.to_string())?;
            if shared.sleep(1000) {
                return Ok(());
            }
        }
        // A code is shown to its end: half of one would be another.
        for (on, off) in showing.steps {
            led.write("brightness", &bright.to_string())?;
            if shared.sleep(on) {
                return Ok(());
            }
            led.write("brightness", "0")?;
            if shared.sleep(off) {
                return Ok(());
            }
        }
    }
}

/// One of the kernel's LEDs (Documentation/leds/leds-class.rst). Which level lights it is the driver's knowledge.
struct Led(PathBuf);

impl Led {
    fn find(root: &Path) -> Option<Self> {
        NAMES.iter().map(|name| root.join(name)).find(|path| path.join("brightness").exists()).map(Self)
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::write(self.0.join(name), text)
    }

    /// The one in brackets: `none [mmc0] timer`.
    fn trigger(&self) -> Option<String> {
        let all = fs::read_to_string(self.0.join("trigger")).ok()?;
        let (_, rest) = all.split_once('[')?;
        rest.split_once(']').map(|(name, _)| name.to_owned())
    }

    fn brightness(&self) -> u64 {
        self.number("brightness").unwrap_or(0)
    }

    fn max(&self) -> u64 {
        self.number("max_brightness").filter(|max| *max > 0).unwrap_or(1)
    }

    fn number(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.0.join(name)).ok()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Places;
    use crate::console::screen::tests::view;
    use crate::identity::Identity;
    use cygnet_protocol::event::Phase;
    use cygnet_protocol::fault::Fault;
    use cygnet_protocol::online::diagnosis::Code;
    use cygnet_protocol::online::link::Link;

    fn all() -> Vec<Pattern> {
        let mut patterns = Vec::new();
        let up = view(true).status.network.unwrap();
        let phase = Phase::Format;
        for state in [
            State::Waiting,
            State::Receiving,
            State::Installing { phase },
            State::Installed,
            State::Rebooting,
            State::Failed { phase, fault: Fault::internal("x", "y") },
            State::Interrupted { phase },
        ] {
            patterns.push(pattern(&up, &state));
        }
        patterns.push(pattern(&NetworkReport::default(), &State::Waiting));
        let mut down = view(false).status.network.unwrap();
        for link in Link::ALL {
            let diagnosis = down.diagnosis.as_mut().unwrap();
            diagnosis.link = *link;
            diagnosis.code = Code::NotSeen;
            patterns.push(pattern(&down, &State::Receiving));
        }
        patterns
    }

    #[test]
    fn each_meaning_has_a_pattern_of_its_own_and_none_is_the_firmwares() {
        for (name, _) in PATTERNS {
            let same: Vec<Pattern> = all().into_iter().filter(|pattern| pattern.name == *name).collect();
            assert!(!same.is_empty(), "{name}");
            assert!(same.windows(2).all(|two| two[0] == two[1]), "{name}");
        }
        for one in all() {
            for other in all() {
                assert_eq!(one.name == other.name, one.steps == other.steps, "{one:?} {other:?}");
            }
            let long = one.steps.iter().take_while(|(on, _)| *on >= LONG).count();
            let short = one.steps.iter().skip(long).take_while(|(on, _)| *on < LONG).count();
            let firmware = [0, 2, 4].contains(&long) && short > 1 && long + short == one.steps.len();
            assert!(!firmware, "{one:?}");
        }
    }

    #[test]
    fn the_failing_links_group_is_counted_out() {
        let down = view(false).status.network.unwrap();
        let shown = pattern(&down, &State::Waiting);
        let short = (SHORT, GAP);
        assert_eq!(shown.steps, [(LONG, GAP), short, short, short, (SHORT, PAUSE)]);
        assert_eq!(shown.name, "key");
    }

    #[test]
    fn the_led_is_found_blinks_and_is_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let led = dir.path().join("leds/ACT");
        fs::create_dir_all(&led).unwrap();
        for (name, text) in [("brightness", "7"), ("max_brightness", "255\n"), ("trigger", "none [mmc0] timer\n")] {
            fs::write(led.join(name), text).unwrap();
        }
        let identity = Identity { host_name: "x".into(), board: "x".into(), serial: "x".into(), system: "x".into() };
        let agent = Agent::new(
            identity,
            Places {
                state: dir.path().join("s"),
                target: dir.path().join("t"),
                card: dir.path().join("c"),
                secrets: dir.path().join("x"),
            },
        );
        agent.set_state(State::Installed);
        let blinker = spawn_at(agent.clone(), &dir.path().join("leds"));
        let deadline = Instant::now() + Duration::from_secs(30);
        let read = |name: &str| fs::read_to_string(led.join(name)).unwrap();
        while read("brightness") != "255" || read("trigger") != "none" {
            assert!(Instant::now() < deadline, "{} {}", read("brightness"), read("trigger"));
            std::thread::sleep(Duration::from_millis(5));
        }
        agent.set_state(State::Receiving);
        while read("brightness") != "0" {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
        blinker.stop();
        assert_eq!(read("trigger"), "mmc0");
        // Without an LED, nothing happens.
        spawn_at(agent, &dir.path().join("none")).stop();
    }
}
