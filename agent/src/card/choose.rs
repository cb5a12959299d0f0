//! What of the files is new, and what becomes of it. Pure.
//!
//! `cygnet.toml` goes first. What it does not mention stays as it was, or comes from other installers' files.

use super::sources::{Source, digest};
use super::state::State;
use super::told::Line;
use cygnet_protocol::card::authorized_key::AuthorizedKey;
use cygnet_protocol::card::redact::TAKEN;
use cygnet_protocol::card::says::{Says, says};
use cygnet_protocol::card::{CardConfig, HostKey, Reading};
use cygnet_protocol::online::settings::{Key, MAX_NETWORKS, Network, Settings};
use cygnet_protocol::online::ssid::Ssid;

/// What was taken before.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Networks and country.
    pub settings: Settings,
    /// The rest.
    pub state: State,
}

/// What is to be done.
#[derive(Default)]
pub struct Change {
    /// The networks and the country from now on, if they are others.
    pub settings: Option<Settings>,
    /// The authorized keys from now on.
    pub keys: Option<Vec<String>>,
    /// A host key to put in place.
    pub host_key: Option<HostKey>,
    /// What is known from now on, without the digests of files that are yet to be written.
    pub state: State,
    /// What is said of each file that is new.
    pub chapters: Vec<Chapter>,
}

/// What is said of a file.
pub struct Chapter {
    /// The file.
    pub name: String,
    /// In order.
    pub lines: Vec<Line>,
}

/// Compares the files with what was taken before.
pub fn choose(sources: &[Source], known: &Known) -> Change {
    let is_new = |source: &Source| {
        let digests = known.state.taken.get(&source.name.to_ascii_lowercase());
        !digests.is_some_and(|digests| digests.contains(&digest(&source.bytes)))
    };
    let ours = sources.iter().find(|source| source.is_ours());
    let says = ours.map(|source| says(&source.bytes)).unwrap_or_default();
    let mut making = Making::new(known, says);
    for source in sources.iter().filter(|source| is_new(source)) {
        let mut reading = (source.reader)(&source.bytes);
        let mut lines = Vec::new();
        if source.is_ours() {
            lines.extend(making.ours(reading));
        } else {
            if String::from_utf8_lossy(&source.bytes).contains(TAKEN) {
                lines.extend(making.without_bare(&mut reading));
            }
            lines.extend(making.foreign(reading));
        }
        making.change.chapters.push(Chapter { name: source.name.clone(), lines });
        let digests = vec![digest(&source.bytes)];
        making.change.state.taken.insert(source.name.to_ascii_lowercase(), digests);
    }
    making.finish(known)
}

struct Making {
    says: Says,
    settings: Settings,
    change: Change,
    /// Who has given what only the first gives.
    given: Vec<&'static str>,
}

impl Making {
    fn new(known: &Known, says: Says) -> Self {
        let change = Change { state: known.state.clone(), ..Change::default() };
        Self { says, settings: known.settings.clone(), change, given: Vec::new() }
    }

    fn ours(&mut self, reading: Reading) -> Vec<Line> {
        let Reading { config, mut faults } = reading;
        // A network whose passphrase was taken before has none in the file any more.
        let kept: Vec<Ssid> = self
            .says
            .networks
            .iter()
            .filter(|named| !named.has_key && self.settings.networks.iter().any(|known| known.ssid == named.ssid))
            .map(|named| {
                let key = format!("network {}", named.number);
                faults.retain(|fault| fault.key != key || !fault.why.starts_with("it needs"));
                named.ssid.clone()
            })
            .collect();
        let mut lines = Vec::new();
        if !self.says.networks.is_empty() {
            let named = |network: &Network| self.says.networks.iter().any(|named| named.ssid == network.ssid);
            let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(&mut self.settings.networks).into_iter().partition(named);
            self.settings.networks = stay;
            if !go.is_empty() {
                lines.push(Line::done(format!("forgotten, because it is not there any more: {}", names(&go))));
            }
        }
        if !kept.is_empty() {
            let names: Vec<String> = kept.iter().map(|ssid| format!("“{ssid}”")).collect();
            lines.push(Line::done(format!("the passphrase that was taken before stays: {}", names.join(", "))));
        }
        self.take(config, &mut lines);
        lines.extend(faults.iter().map(|fault| Line::warning(format!("ignored: {fault}"))));
        lines
    }

    fn foreign(&mut self, reading: Reading) -> Vec<Line> {
        let Reading { mut config, faults } = reading;
        let mut lines = Vec::new();
        let mut twice = |key: &str, is: bool| {
            if is {
                // Secrets do not stay, if the card can be written.
                let stays = if matches!(key, "network" | "host-key") { "" } else { "; it stays in the file" };
                lines.push(Line::done(format!(
                    "not used: {key}, because cygnet.toml or a file before this one gives it{stays}"
                )));
            }
            !is
        };
        // Given by cygnet.toml, or by a file that comes before.
        let mut ours = |key: &'static str, there: bool, many: bool| {
            let before = !many && self.given.contains(&key);
            let use_it = !there || twice(key, self.says.keys.contains(key) || before);
            if there && use_it {
                self.given.push(key);
            }
            use_it
        };
        if !ours("hostname", config.hostname.is_some(), false) {
            config.hostname = None;
        }
        if !ours("country", config.country.is_some(), false) {
            config.country = None;
        }
        if !ours("host-key", config.host_key.is_some(), false) {
            config.host_key = None;
        }
        if !ours("authorized-keys", !config.authorized_keys.is_empty(), true) {
            config.authorized_keys.clear();
        }
        if !ours("network", !config.networks.is_empty(), true) {
            config.networks.clear();
        }
        self.take(config, &mut lines);
        lines.extend(faults.iter().map(|fault| Line::warning(format!("ignored: {fault}"))));
        lines
    }

    /// In a file whose passphrases were taken, a network without one is not open because of that: others would be let in
    /// who have an open network of this name.
    fn without_bare(&self, reading: &mut Reading) -> Vec<Line> {
        let (bare, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut reading.config.networks).into_iter().partition(|network| network.key == Key::Open);
        reading.config.networks = rest;
        let mut lines = Vec::new();
        for network in bare {
            let ssid = &network.ssid;
            match self.settings.networks.iter().find(|known| known.ssid == *ssid) {
                Some(known) if known.key == Key::Open => reading.config.networks.push(network),
                Some(_) => lines.push(Line::done(format!("the passphrase that was taken before stays: “{ssid}”"))),
                None => lines.push(Line::warning(format!(
                    "ignored: “{ssid}” has no passphrase any more, as it was taken off the card; write it down anew, or, if the \
                     network is open, without the line that says so"
                ))),
            }
        }
        lines
    }

    fn take(&mut self, config: CardConfig, lines: &mut Vec<Line>) {
        let CardConfig { hostname, country, networks, authorized_keys, claim, target, host_key } = config;
        let remark = |network: &Network| Some(Line::warning(format!("“{}”: {}", network.ssid, network.remark()?)));
        let remarks: Vec<Line> = networks.iter().filter_map(remark).collect();
        let mut say = |what: &str, value: &str| lines.push(Line::done(format!("taken: {what} {value}")));
        let state = &mut self.change.state;
        for (what, value, slot) in [
            ("hostname", hostname, &mut state.hostname),
            ("claim", claim, &mut state.claim),
            ("target", target, &mut state.target),
            ("country", country, &mut self.settings.country),
        ] {
            if let Some(value) = value {
                say(what, &value);
                *slot = Some(value);
            }
        }
        if !networks.is_empty() {
            say(&format!("{} network(s)", networks.len()), &names(&networks));
            self.settings.networks.retain(|known| networks.iter().all(|newer| newer.ssid != known.ssid));
            self.settings.networks.splice(0..0, networks);
            self.settings.networks.truncate(MAX_NETWORKS);
            self.settings.networks.sort_by_key(|network| std::cmp::Reverse(network.priority));
        }
        if !authorized_keys.is_empty() {
            let comments: Vec<&str> = authorized_keys.iter().map(|key| comment(key)).collect();
            say(&format!("{} key(s) that may log in as root:", authorized_keys.len()), &comments.join(", "));
            let keys = self.change.keys.get_or_insert_default();
            keys.extend(authorized_keys);
            keys.dedup();
        }
        if let Some(key) = host_key {
            say("ssh host key", &key.fingerprint());
            self.change.host_key = Some(key);
        }
        lines.extend(remarks);
    }

    fn finish(mut self, known: &Known) -> Change {
        self.change.settings = Some(self.settings).filter(|settings| *settings != known.settings);
        self.change
    }
}

fn names(networks: &[Network]) -> String {
    let names: Vec<String> = networks.iter().map(|network| format!("“{}”", network.ssid)).collect();
    names.join(", ")
}

/// What a person knows a public key by.
fn comment(key: &str) -> &str {
    let comment = AuthorizedKey::parse(key).map_or("", |key| key.comment);
    if comment.is_empty() { "(one without a comment)" } else { comment }
}
