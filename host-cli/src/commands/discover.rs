//! `cygnet discover`: Pis that announce themselves by mDNS.

use crate::cli;
use crate::discover::known::KnownHosts;
use crate::discover::{Browser, Change, Pi, multicast};
use crate::error::fault;
use crate::ui::Ui;
use crate::ui::format::table;
use anyhow::Result;
use cygnet_protocol::fault::FaultCode;
use serde::Serialize;
use std::time::{Duration, Instant};

/// How long `--first` waits for more addresses of the Pi that answered.
const SAME_PI: Duration = Duration::from_millis(400);

/// How long `--first` waits while only link-local addresses are known: the agent is up before DHCP has given one.
const SETTLING: Duration = Duration::from_secs(4);

/// The same for a Pi that says it is online: it has another address, whose announcement was lost. Over the air nobody says again
/// what was multicast and not heard.
const UNHEARD: Duration = Duration::from_secs(15);

/// How long `--watch` waits at a time.
const A_WHILE: Duration = Duration::from_secs(3600);

/// Carries it out.
pub fn run(ui: &Ui, global: &cli::Global, arguments: &cli::Discover) -> Result<()> {
    let mut browser = Browser::start(KnownHosts::of(global))?;
    if arguments.watch {
        return watch(ui, &mut browser);
    }
    ui.status(&format!("Listening for {} s …", arguments.timeout.as_secs_f64()));
    let mut until = Instant::now() + arguments.timeout;
    let mut first: Option<Pi> = None;
    while let Some(change) = browser.next(until) {
        if !arguments.first {
            continue;
        }
        let pi = change.pi();
        if first.as_ref().is_some_and(|first| first.name != pi.name) {
            continue;
        }
        first = match change {
            Change::Gone(_) => None,
            Change::Found(pi) | Change::Changed(pi) => {
                if let Some(patience) = patience(&pi) {
                    until = until.min(Instant::now() + patience);
                }
                if !pi.is_settled() {
                    browser.ask_for_addresses(&pi);
                }
                Some(pi)
            }
        };
    }
    let found: Vec<&Pi> = if arguments.first { first.iter().collect() } else { browser.pis().collect() };
    if found.is_empty() {
        return Err(nobody(arguments.timeout));
    }
    if ui.json() {
        return found.iter().try_for_each(|pi| ui.record(pi));
    }
    ui.data(&as_table(&found))
}

/// How much longer `--first` waits when it has seen this.
fn patience(pi: &Pi) -> Option<Duration> {
    match pi.addresses.is_empty() {
        true => None,
        // Its answers on other interfaces come at the same time, more or less.
        false if pi.is_settled() => Some(SAME_PI),
        false if pi.says("online") == Some("yes") => Some(UNHEARD),
        false => Some(SETTLING),
    }
}

/// Nothing was heard; here is why.
pub fn nobody(waited: Duration) -> anyhow::Error {
    let what = format!("No Pi announced itself within {} s.", waited.as_secs_f64());
    match multicast::obstacle() {
        Some(obstacle) => fault(
            FaultCode::NotFound,
            what,
            format!("{obstacle} So no announcement can be asked for."),
            "Join the Pi's network; in a container use the host's network; on a Mac let your terminal use the local \
             network (System Settings, Privacy & Security). Or use the Pi's address, which its console and your router \
             know.",
        ),
        None => fault(
            FaultCode::NotFound,
            what,
            "It is off, still booting, not in this network, or the network or a firewall here holds mDNS (UDP port 5353) back.",
            "Wait until the Pi has booted and try with `--timeout 30s`, or use its address, which its console and your router know.",
        ),
    }
}

/// One change as a script reads it.
#[derive(Serialize)]
struct Record<'a> {
    event: &'static str,
    #[serde(flatten)]
    pi: &'a Pi,
}

fn watch(ui: &Ui, browser: &mut Browser) -> Result<()> {
    ui.status("Listening until Ctrl-C …");
    if let Some(obstacle) = multicast::obstacle() {
        ui.warning(&obstacle);
    }
    loop {
        let Some(change) = browser.next(Instant::now() + A_WHILE) else { continue };
        let pi = change.pi();
        if ui.json() {
            ui.record(&Record { event: change.name(), pi })?;
        } else {
            ui.data(&line(&change))?;
        }
    }
}

/// One change as a person reads it.
fn line(change: &Change) -> String {
    let pi = change.pi();
    let address = pi.addresses.first().map_or("-", String::as_str);
    match change {
        Change::Gone(_) => format!("gone     {}", pi.name),
        Change::Found(_) | Change::Changed(_) => {
            format!("{:<8} {}  {address}  key known: {}  {}", change.name(), pi.name, pi.known.name(), pi.condition())
        }
    }
}

fn as_table(found: &[&Pi]) -> String {
    let header = ["NAME", "STATE", "ADDRESS", "KNOWN", "BOARD", "SERIAL", "PROTOCOL", "JOB", "HOST", "HOST KEY"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for pi in found {
        let text = |key: &str| pi.says(key).unwrap_or("-").to_owned();
        rows.push(vec![
            pi.name.clone(),
            text("state"),
            pi.addresses.first().cloned().unwrap_or_else(|| "-".into()),
            pi.known.name().into(),
            text("board"),
            text("serial"),
            text("proto"),
            text("job"),
            pi.host_name.clone(),
            text("key"),
        ]);
        for address in pi.addresses.iter().skip(1) {
            rows.push(vec![String::new(), String::new(), address.clone()]);
        }
    }
    let mut all = table(&rows);
    for pi in found.iter().filter(|pi| pi.says("code").is_some()) {
        all.push_str(&format!("{}: {}\n", pi.name, pi.condition()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::pi::tests::pi;

    #[test]
    fn first_waits_for_an_address_to_type() {
        assert_eq!(patience(&pi("a", &[], &[])), None);
        assert_eq!(patience(&pi("a", &["fe80::1%wlan0"], &[])), Some(SETTLING));
        assert_eq!(patience(&pi("a", &["fe80::1%wlan0", "10.0.0.2"], &[])), Some(SAME_PI));
    }

    #[test]
    fn every_address_has_a_line_and_every_diagnosis_its_words() {
        let pi = pi("cygnet-1", &["10.0.0.2", "fe80::1%wlan0"], &[("state", "waiting"), ("code", "W12-CLOCK")]);
        let text = as_table(&[&pi]);
        assert_eq!(text.lines().count(), 4);
        assert!(text.lines().nth(1).unwrap().starts_with("cygnet-1  waiting  10.0.0.2       no"), "{text}");
        assert!(
            text.ends_with("cygnet-1: waiting, W12-CLOCK: The clock is earlier than this program's making.\n"),
            "{text}"
        );
    }

    #[test]
    fn a_change_is_a_line_and_a_record() {
        let pi = pi("cygnet-1", &["10.0.0.2"], &[("state", "waiting")]);
        let json = serde_json::to_value(Record { event: "found", pi: &pi }).unwrap();
        assert_eq!(
            (&json["event"], &json["state"], &json["known"]),
            (&"found".into(), &"waiting".into(), &"no".into())
        );
        assert_eq!(line(&Change::Found(pi.clone())), "found    cygnet-1  10.0.0.2  key known: no  waiting");
        assert_eq!(line(&Change::Gone(pi)), "gone     cygnet-1");
    }
}
