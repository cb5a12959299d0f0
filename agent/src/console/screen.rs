//! The screen, as text: 80 columns, 24 rows, nothing that a dumb terminal or a log would not show.

use super::glyph::{COLUMNS, Glyphs, fit, pad, width, wrap};
use cygnet_protocol::event::{Phase, State};
use cygnet_protocol::message::Status;
use cygnet_protocol::online::diagnosis::Diagnosis;
use cygnet_protocol::online::line::{ConsoleReport, letters};
use cygnet_protocol::online::link::{LinkReport, NetworkReport};

/// The rows of a dumb terminal. One is left for the cursor.
const ROWS: usize = 23;
/// The column in which values begin.
const LABEL: usize = 10;
/// Cells of the progress bar.
const BAR: u64 = 24;

/// How far the present phase is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// Done so far.
    pub done: u64,
    /// In all, 0 if not known.
    pub total: u64,
    /// `bytes`, `paths` or `steps`.
    pub unit: String,
}

impl Progress {
    /// Percent, where the whole is known.
    pub fn percent(&self) -> Option<u8> {
        let percent = self.done.saturating_mul(100).checked_div(self.total)?;
        u8::try_from(percent.min(100)).ok()
    }
}

/// All that is on the screen.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// What `status` tells.
    pub status: Status,
    /// Milliseconds since the agent started; none: without ages, for comparing.
    pub now: Option<u64>,
    /// How far the present phase is.
    pub progress: Option<Progress>,
    /// What the terminal can show.
    pub glyphs: Glyphs,
    /// What the last row says of the keys.
    pub keys: String,
}

impl View {
    /// What makes a new screen worth printing into a log: all but ages, progress, and numbers that grow or tremble in
    /// what is said of the links: seconds, signals, attempts.
    pub fn gist(&self) -> String {
        let mut view = View { now: None, progress: None, ..self.clone() };
        if let Some(network) = &mut view.status.network {
            network.links.iter_mut().for_each(|link| link.detail = without_numbers(&link.detail));
            for diagnosis in network.diagnosis.iter_mut().chain(&mut network.warnings) {
                diagnosis.what = without_numbers(&diagnosis.what);
                diagnosis.next = without_numbers(&diagnosis.next);
            }
        }
        render(&view)
    }

    /// The same for the reader of the machine's line.
    pub fn report(&self) -> ConsoleReport {
        let network = self.network();
        let status = &self.status;
        let fault = match &status.state {
            State::Failed { fault, .. } => Some(fault),
            _ => None,
        };
        let mut report = ConsoleReport {
            serial: status.serial.clone(),
            host: status.host_name.clone(),
            version: status.version.clone(),
            state: status.state.name().into(),
            phase: phase(status),
            percent: self.progress.as_ref().filter(|p| Some(p.phase) == phase(status)).and_then(Progress::percent),
            online: network.online,
            via: network.via.clone(),
            addresses: reachable(&status.addresses),
            key: status.host_keys.first().cloned(),
            links: letters(&network.links),
            ..ConsoleReport::default()
        };
        if let Some(diagnosis) = network.diagnosis.as_ref().filter(|_| fault.is_none() || !network.online) {
            report.link = Some(diagnosis.link);
            report.code = Some(diagnosis.code.name().into());
            report.what.clone_from(&diagnosis.what);
            report.remedy.clone_from(&diagnosis.remedy);
            report.next.clone_from(&diagnosis.next);
        } else if let Some(fault) = fault {
            report.code = Some(fault.code.name().into());
            report.what.clone_from(&fault.what);
            report.remedy.clone_from(&fault.remedy);
        } else if let Some(warning) = network.warnings.first() {
            report.link = Some(warning.link);
            report.code = Some(warning.code.name().into());
            report.what.clone_from(&warning.what);
            report.remedy.clone_from(&warning.remedy);
        }
        report
    }

    fn network(&self) -> NetworkReport {
        self.status.network.clone().unwrap_or_default()
    }
}

/// Each number as one `#`.
pub fn without_numbers(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '0'..='9' if masked.ends_with('#') => {}
            '0'..='9' => masked.push('#'),
            c => masked.push(c),
        }
    }
    masked
}

/// The phase, if the state has to do with an installation.
pub fn phase(status: &Status) -> Option<Phase> {
    match &status.state {
        State::Installing { phase } | State::Failed { phase, .. } | State::Interrupted { phase } => Some(*phase),
        State::Receiving => Some(Phase::Receive),
        State::Waiting | State::Installed | State::Rebooting => None,
    }
}

/// Addresses, the best for `cygnet install` first: IPv4, IPv6, then those that are good on their own link only.
pub fn reachable(addresses: &[String]) -> Vec<String> {
    let mut sorted = addresses.to_vec();
    let rank = |address: &String| match address {
        a if a.contains('%') => 3,
        a if a.starts_with("169.254.") => 2,
        a if a.contains(':') => 1,
        _ => 0,
    };
    sorted.sort_by_key(rank);
    sorted
}

/// Draws it: rows of at most 80 columns, each with a newline, at most 23 of them.
pub fn render(view: &View) -> String {
    let network = view.network();
    let clean = |text: &str| view.glyphs.clean(text);
    let mut top = vec![title(view)];
    top.push(labelled("State", &clean(&state(view))));
    let via = match (&network.via, network.online) {
        (Some(via), true) => via.clone(),
        (None, true) => "yes".to_owned(),
        (_, false) if network.links.is_empty() => "not looked yet".to_owned(),
        (_, false) => "no".to_owned(),
    };
    top.push(labelled("Online", &clean(&via)));
    if let Some(bar) = bar(view) {
        top.push(labelled("Progress", &clean(&bar)));
    }
    top.extend(chain(view, &network.links));

    let mut bottom = Vec::new();
    let addresses = reachable(&view.status.addresses);
    if let Some(best) = addresses.first() {
        bottom.push(labelled("Address", &clean(&addresses.join("  "))));
        bottom.extend(view.status.host_keys.first().map(|key| labelled("Host key", &clean(key))));
        bottom.extend(next_command(view, best).iter().map(|row| fit(&clean(row), COLUMNS)));
    } else {
        bottom.extend(view.status.host_keys.first().map(|key| labelled("Host key", &clean(key))));
    }
    if !view.keys.is_empty() {
        bottom.push(fit(&clean(&view.keys), COLUMNS));
    }

    let room = ROWS.saturating_sub(top.len() + bottom.len());
    let mut rows = top;
    rows.extend(trouble(view, &network, room));
    rows.extend(bottom);
    rows.iter().map(|row| format!("{}\n", row.trim_end())).collect()
}

/// One row for progress alone, where the whole screen would be too much.
pub fn progress_row(view: &View) -> Option<String> {
    bar(view).map(|bar| fit(&view.glyphs.clean(&format!("cygnet: {bar}")), COLUMNS))
}

fn labelled(label: &str, value: &str) -> String {
    fit(&format!("{}{value}", pad(label, LABEL)), COLUMNS)
}

fn title(view: &View) -> String {
    let status = &view.status;
    let text = format!("--- cygnet {} --- {} --- {} ", status.version, status.board, status.serial);
    let mut text = fit(&view.glyphs.clean(&text), COLUMNS);
    text.extend(std::iter::repeat_n('-', COLUMNS - width(&text).min(COLUMNS)));
    text
}

fn state(view: &View) -> String {
    match &view.status.state {
        State::Waiting => "waiting for `cygnet install`".into(),
        State::Installing { phase } => format!("installing: {}", phase.title()),
        State::Receiving => format!("installing: {}", Phase::Receive.title()),
        State::Failed { phase, .. } => format!("the installation FAILED: {}", phase.title()),
        State::Interrupted { phase } => format!("the installation was interrupted: {}", phase.title()),
        State::Installed => "installed; only the reboot is missing".into(),
        State::Rebooting => "rebooting".into(),
    }
}

fn bar(view: &View) -> Option<String> {
    let progress = view.progress.as_ref().filter(|progress| Some(progress.phase) == phase(&view.status))?;
    let title = progress.phase.title();
    let Some(percent) = progress.percent() else {
        return Some(format!("{title}: {}", amount(progress.done, &progress.unit)));
    };
    let full = usize::try_from(u64::from(percent) * BAR / 100).unwrap_or(0);
    let cells: String = (0..BAR as usize).map(|cell| if cell < full { '#' } else { '.' }).collect();
    let (done, total) = (amount(progress.done, &progress.unit), amount(progress.total, &progress.unit));
    Some(format!("[{cells}] {percent:>3} %  {done} of {total}"))
}

fn amount(count: u64, unit: &str) -> String {
    if unit != "bytes" {
        return format!("{count} {unit}");
    }
    let (divisor, name) = match count {
        1_000_000_000.. => (100_000_000, "GB"),
        1_000_000.. => (100_000, "MB"),
        _ => (100, "kB"),
    };
    let tenths = count / divisor;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// The links in two columns, the first half left.
fn chain(view: &View, links: &[LinkReport]) -> Vec<String> {
    let half = links.len().div_ceil(2);
    let (left, right) = links.split_at(half);
    left.iter()
        .enumerate()
        .map(|(row, link)| match right.get(row) {
            Some(other) => format!("{}  {}", cell(view, link), cell(view, other)),
            None => cell(view, link),
        })
        .collect()
}

/// 39 columns: mark, title, detail, age.
fn cell(view: &View, report: &LinkReport) -> String {
    let age = match view.now {
        Some(now) => age(now.saturating_sub(report.since) / 1000),
        None => String::new(),
    };
    format!(
        "{} {} {} {age:>4}",
        view.glyphs.mark(report.state),
        pad(report.link.title(), 12),
        pad(&view.glyphs.clean(&report.detail), 19)
    )
}

/// Seconds in at most four characters.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", (seconds / 86_400).min(999)),
    }
}

/// What is wrong, in no more than `room` rows: the failed installation first, because a person is waiting for it.
fn trouble(view: &View, network: &NetworkReport, room: usize) -> Vec<String> {
    let mut texts: Vec<(String, String)> = Vec::new();
    let of = |diagnosis: &Diagnosis| {
        vec![
            (diagnosis.code.name().to_owned(), diagnosis.what.clone()),
            ("  remedy".into(), diagnosis.remedy.clone()),
            ("  next".into(), diagnosis.next.clone()),
            ("  cause".into(), diagnosis.cause.clone()),
        ]
    };
    let offline = network.diagnosis.as_ref().filter(|_| !network.online);
    texts.extend(offline.into_iter().flat_map(of));
    if let State::Failed { fault, .. } = &view.status.state {
        texts.push((fault.code.name().into(), fault.what.clone()));
        texts.push(("  remedy".into(), fault.remedy.clone()));
        texts.push(("  cause".into(), fault.cause.clone()));
    }
    let harmless = network.diagnosis.iter().filter(|_| network.online).chain(&network.warnings);
    texts.extend(harmless.flat_map(of));
    if !network.tried.is_empty() && !network.online {
        texts.push(("  tried".into(), network.tried.join(", ")));
    }
    let mut rows = Vec::new();
    for (label, text) in texts.iter().filter(|(_, text)| !text.trim().is_empty()) {
        let text = view.glyphs.clean(text.trim());
        let (first, indent, text) = match label.starts_with(' ') {
            true => (pad(label, LABEL), LABEL, text),
            false => (String::new(), 2, format!("! {label} {text}")),
        };
        let lines = wrap(&text, COLUMNS - LABEL);
        rows.extend(lines.iter().enumerate().map(|(number, line)| match number {
            0 => format!("{first}{line}"),
            _ => format!("{}{line}", " ".repeat(indent)),
        }));
    }
    if rows.len() > room {
        rows.truncate(room);
        if let Some(last) = rows.last_mut() {
            *last = format!("{} ..", fit(last, COLUMNS - 3));
        }
    }
    rows
}

/// What to type on the laptop, where there is something to type.
fn next_command(view: &View, address: &str) -> Vec<String> {
    let host = match address.split_once('%') {
        // The scope is the name of the laptop's own interface, which nobody here knows.
        Some((address, _)) => format!("{address}%INTERFACE"),
        None => address.to_owned(),
    };
    match &view.status.state {
        State::Waiting | State::Failed { .. } | State::Interrupted { .. } => vec![
            "On the laptop, HOST being the Pi's name in your flake:".into(),
            format!("  cygnet install root@{host} --flake .#HOST"),
        ],
        State::Installing { .. } | State::Receiving => {
            vec!["On the laptop, to watch:".into(), format!("  cygnet logs root@{host} --follow")]
        }
        State::Installed => vec!["On the laptop:".into(), format!("  cygnet reboot root@{host}")],
        State::Rebooting => Vec::new(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use cygnet_protocol::fault::{Fault, FaultCode};
    use cygnet_protocol::online::diagnosis::Code;
    use cygnet_protocol::online::link::{Link, LinkState};

    /// A Pi that waits, online or with a wrong passphrase.
    pub fn view(online: bool) -> View {
        let links = Link::ALL.iter().map(|&link| {
            let state = match link {
                _ if online => LinkState::Up,
                l if l < Link::Handshake => LinkState::Up,
                Link::Handshake => LinkState::Down,
                _ => LinkState::Pending,
            };
            let detail = match link {
                Link::Driver => "brcmfmac, brcmfmac-wcc and some more words".into(),
                Link::Scan => "“Käfer 🦢🦢🦢🦢🦢🦢🦢” at -52 dBm".into(),
                _ => String::new(),
            };
            LinkReport { link, state, detail, since: 5_000 }
        });
        let diagnosis = Diagnosis {
            link: Link::Handshake,
            code: Code::WrongPassphrase,
            what: "“Käfer 🦢” refused the passphrase 3 times; its access point aa:bb:cc:dd:ee:ff is at -52 dBm.".into(),
            cause: "The passphrase is mistyped, or was changed on the access point.".into(),
            remedy: "Correct it in the settings on the card's FAT partition, or press n here and type it again.".into(),
            next: "tries again within 30 s".into(),
        };
        let network = NetworkReport {
            online,
            via: online.then(|| "wlan0 (“Käfer 🦢”)".into()),
            links: links.collect(),
            diagnosis: (!online).then_some(diagnosis),
            warnings: vec![],
            tried: if online { vec![] } else { vec!["power save off".into(), "WPA2 only".into()] },
        };
        let addresses: &[&str] = if online { &["fe80::1%wlan0", "2001:db8::7", "192.0.2.7"] } else { &[] };
        View {
            status: Status {
                version: "0.1.0".into(),
                host_name: "cygnet".into(),
                board: "Raspberry Pi 4 Model B Rev 1.5".into(),
                serial: "10000000abcdef01".into(),
                system: "aarch64-linux".into(),
                state: State::Waiting,
                job: None,
                running_disk: None,
                uptime_seconds: 65,
                memory_total: 0,
                memory_available: 0,
                agent_peak_memory: 0,
                host_keys: vec!["ssh-ed25519 SHA256:2m4mQ0Jr3x5y7z9A1B3C5D7E9F1G3H5I7J9K1L3M5N7".into()],
                addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
                network: Some(network),
                claim: None,
                target: None,
            },
            now: Some(65_000),
            progress: None,
            glyphs: Glyphs::Unicode,
            keys: "keys: s status  w scan  n WiFi  r retry  l log  d doctor  x shell  ? help".into(),
        }
    }

    fn check(view: &View) -> String {
        let text = render(view);
        assert!(text.lines().count() <= ROWS, "{} rows:\n{text}", text.lines().count());
        for line in text.lines() {
            assert!(width(line) <= COLUMNS, "{} columns: {line}", width(line));
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        text
    }

    #[test]
    fn it_fits_whatever_happens() {
        for online in [true, false] {
            for glyphs in [Glyphs::Unicode, Glyphs::Cp437] {
                let fault =
                    Fault::new(FaultCode::StepFailed, "word ".repeat(100), "\u{1b}[2J".repeat(50), "🦢".repeat(300));
                for state in [
                    State::Waiting,
                    State::Receiving,
                    State::Installing { phase: Phase::Format },
                    State::Failed { phase: Phase::Format, fault },
                    State::Interrupted { phase: Phase::Receive },
                    State::Installed,
                    State::Rebooting,
                ] {
                    let mut view = View { glyphs, ..view(online) };
                    view.status.state = state;
                    view.progress =
                        Some(Progress { phase: Phase::Receive, done: u64::MAX, total: 5, unit: "bytes".into() });
                    check(&view);
                    view.status.board = "x".repeat(200);
                    view.status.addresses = vec!["2001:db8:1111:2222:3333:4444:5555:6666".into(); 20];
                    check(&view);
                }
            }
        }
    }

    #[test]
    fn a_pi_that_waits_says_what_to_type() {
        let text = check(&view(true));
        assert!(text.contains("  cygnet install root@192.0.2.7 --flake .#HOST\n"), "{text}");
        assert!(text.contains("Host key  ssh-ed25519 SHA256:2m4m"), "{text}");
        assert!(text.contains("✓ WiFi chip                          1m  ✓ Association"), "{text}");
        assert_eq!(view(true).report().addresses[0], "192.0.2.7");
    }

    #[test]
    fn a_pi_that_is_not_online_says_why_and_what_to_do() {
        let text = check(&view(false));
        for says in ["✗ Key accepted", "! W10-WRONG-PASSPHRASE", "remedy", "press n", "next", "within 30 s", "tried"]
        {
            assert!(text.contains(says), "{says} in\n{text}");
        }
        let kernel = check(&View { glyphs: Glyphs::Cp437, ..view(false) });
        assert!(
            kernel.contains("x Key accepted") && kernel.contains("√ WiFi chip") && !kernel.contains('✓'),
            "{kernel}"
        );
        let report = view(false).report();
        assert_eq!(report.links, "uuuuuuuuudppppp");
        assert_eq!(report.diagnosis(), Some(Code::WrongPassphrase));
    }

    #[test]
    fn progress_is_a_bar_and_no_news() {
        let mut view = view(true);
        view.status.state = State::Receiving;
        let before = view.gist();
        view.progress =
            Some(Progress { phase: Phase::Receive, done: 1_200_000_000, total: 2_600_000_000, unit: "bytes".into() });
        let text = check(&view);
        assert!(text.contains("[###########.............]  46 %  1.2 GB of 2.6 GB"), "{text}");
        assert_eq!(view.gist(), before);
        assert_eq!(view.report().percent, Some(46));
        view.now = Some(900_000);
        if let Some(network) = &mut view.status.network {
            network.links.iter_mut().for_each(|link| link.detail = link.detail.replace("-52", "-9"));
        }
        assert_eq!(view.gist(), before);
        view.status.state = State::Installing { phase: Phase::Register };
        assert!(view.gist() != before && progress_row(&view).is_none());
    }
}
