//! Gives the networks and the country that the agent has to the new system, whose module `nixosModules.installed` may use
//! them. They are in a file for root only; no secret of it is in any message.
//!
//! A system that is kept may have networks already. No clock says which are newer, as a Pi has none: beside the file stands
//! which card gave it, as what number, and what it was. So the same card's later gift wins, what was changed there since
//! stays, and of two gifts whose order nobody knows both are kept, the card's first: the Pi has come online by those.

use super::{Installation, register::no_link};
use crate::card::given::{self, Given, digest};
use crate::card::replace;
use crate::online::settings::{SETTINGS, read};
use cygnet_protocol::fault::Fault;
use cygnet_protocol::online::settings::{MAX_NETWORKS, Network, Settings};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where, below the target's root.
const CARRIED: &str = "var/lib/cygnet/carried.json";
/// Who gave it.
const GIVER: &str = "var/lib/cygnet/carried.from.json";
/// What leads there.
const PARENTS: [(&str, u32); 3] = [("var", 0o755), ("var/lib", 0o755), ("var/lib/cygnet", 0o700)];

/// What was carried, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Giver {
    card: String,
    count: u64,
    /// The SHA-256 of the file as it was written.
    content: String,
}

/// What is known of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// This card has given what is there, and was given something else since.
    Newer,
    /// This card has given what is there, or what it was before somebody changed it there.
    Same { changed: bool },
    /// Another card has, or nobody knows who.
    Unknown,
}

/// What becomes of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Write { settings: Settings, kept: usize },
    Keep,
}

/// Does it. A system that is kept keeps what it has, unless ours was given later.
pub fn give_networks(installation: &Installation<'_>) -> Result<(), Fault> {
    let places = &installation.agent.places;
    let file = places.card.join(SETTINGS.trim_start_matches('/'));
    let settings = read(&file, &places.state).settings;
    let settings = Settings { country: settings.country, networks: settings.networks, ..Settings::default() };
    if settings == Settings::default() {
        return Ok(());
    }
    let given = given::count(&places.state, &settings).unwrap_or_else(|error| {
        installation.warn(format!("What was given to the card is not counted: {error}."));
        Given::default()
    });
    let via = installation.agent.network().via.unwrap_or_default();
    let keeps = installation.job.plan.mode.keeps();
    match give(&places.target, settings, &given, &via, keeps) {
        Ok(text) => drop(installation.task(text)),
        Err(error) => {
            return Err(installation.io_fault(&format!("writing {CARRIED} on the target"), &error));
        }
    }
    Ok(())
}

fn give(target: &Path, settings: Settings, given: &Given, via: &str, keeps: bool) -> io::Result<String> {
    for (directory, mode) in PARENTS {
        let directory = target.join(directory);
        no_link(&directory)?;
        if !directory.is_dir() {
            fs::create_dir(&directory)?;
            // The umask would shut everybody out of /var.
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode))?;
        }
    }
    let path = target.join(CARRIED);
    let there = match fs::symlink_metadata(&path) {
        Ok(meta) if keeps && meta.is_file() && meta.len() < 1 << 20 => Some(fs::read(&path)?),
        Ok(_) | Err(_) => None,
    };
    let verdict = match &there {
        None => Verdict::Write { settings, kept: 0 },
        Some(there) => {
            let giver = fs::read(target.join(GIVER)).ok().and_then(|json| serde_json::from_slice(&json).ok());
            let order = order(giver.as_ref(), given, &digest(there));
            decide(settings, order, Settings::parse(there).unwrap_or_default(), via)
        }
    };
    let Verdict::Write { settings, kept } = verdict else {
        return Ok("The system on the disks keeps the networks that it was given before".into());
    };
    let text = serde_json::to_vec_pretty(&settings)?;
    replace(&path, &text, 0o600)?;
    let giver = Giver { card: given.card.clone(), count: given.count, content: digest(&text) };
    replace(&target.join(GIVER), &serde_json::to_vec(&giver)?, 0o600)?;
    let country = settings.country.map(|country| format!(" and the country {country}")).unwrap_or_default();
    let kept = if kept > 0 { format!("; {kept} that it had stay, behind them") } else { String::new() };
    let count = settings.networks.len();
    Ok(format!("{count} network(s){country} of the card given to the new system, in /{CARRIED}{kept}"))
}

fn order(giver: Option<&Giver>, given: &Given, content: &str) -> Order {
    match giver {
        Some(giver) if giver.card == given.card && !given.card.is_empty() => {
            if given.count > giver.count {
                Order::Newer
            } else {
                Order::Same { changed: giver.content != content }
            }
        }
        Some(_) | None => Order::Unknown,
    }
}

/// Decides; `via` is by what the Pi is online. A network that it is online by is right, whatever somebody says of it elsewhere.
fn decide(ours: Settings, order: Order, theirs: Settings, via: &str) -> Verdict {
    if ours == theirs {
        return Verdict::Keep;
    }
    let works = |network: &&Network| via.ends_with(&format!("(“{}”)", network.ssid));
    match order {
        Order::Newer | Order::Same { changed: false } => Verdict::Write { settings: ours, kept: 0 },
        Order::Same { changed: true } => match ours.networks.into_iter().find(|network| works(&network)) {
            Some(working) if !theirs.networks.contains(&working) => {
                let first =
                    Settings { country: theirs.country.clone(), networks: vec![working], ..Settings::default() };
                together(first, theirs)
            }
            Some(_) | None => Verdict::Keep,
        },
        Order::Unknown => together(ours, theirs),
    }
}

/// The first, and of the second what the first has not.
fn together(mut first: Settings, second: Settings) -> Verdict {
    let before = first.networks.len();
    for network in second.networks {
        if first.networks.len() < MAX_NETWORKS && first.networks.iter().all(|known| known.ssid != network.ssid) {
            first.networks.push(network);
        }
    }
    first.country = first.country.or(second.country);
    let kept = first.networks.len() - before;
    Verdict::Write { settings: first, kept }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn settings() -> Settings {
        Settings::parse(br#"{"country":"DE","networks":[{"ssid":"a","passphrase":"correct horse"}]}"#).unwrap()
    }

    fn networks(list: &[(&str, &str)]) -> Settings {
        let list: Vec<_> =
            list.iter().map(|(ssid, key)| serde_json::json!({"ssid": ssid, "passphrase": key})).collect();
        Settings::parse(serde_json::json!({"country": "DE", "networks": list}).to_string().as_bytes()).unwrap()
    }

    fn given(card: &str, count: u64) -> Given {
        Given { card: card.into(), count, content: String::new() }
    }

    #[test]
    fn the_networks_are_given_and_never_told() {
        let target = tempfile::tempdir().unwrap();
        let told = give(target.path(), settings(), &given("one", 1), "", false).unwrap();
        assert!(told.starts_with("1 network(s) and the country DE") && !told.contains("horse"), "{told}");
        for file in [CARRIED, GIVER] {
            assert_eq!(fs::metadata(target.path().join(file)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(!fs::read_to_string(target.path().join(GIVER)).unwrap().contains("horse"));
        let carried = Settings::parse(&fs::read(target.path().join(CARRIED)).unwrap()).unwrap();
        assert_eq!(carried, settings());
    }

    /// As the files are now, whatever the clock says: all are of the year 1970, or all of today.
    #[test]
    fn what_was_given_last_wins_whatever_the_clock_says() {
        let target = tempfile::tempdir().unwrap();
        let path = target.path().join(CARRIED);
        let carried = || Settings::parse(&fs::read(&path).unwrap()).unwrap();
        let old = networks(&[("home", "old passphrase")]);
        let new = networks(&[("home", "new passphrase")]);
        give(target.path(), old.clone(), &given("one", 1), "", true).unwrap();
        // The target's file is newer by the clock, as far as the card's is concerned, which starts in 1970.
        let said = give(target.path(), new.clone(), &given("one", 2), "", true).unwrap();
        assert_eq!(carried(), new, "{said}");
        // Nothing new was given.
        let said = give(target.path(), new.clone(), &given("one", 2), "", true).unwrap();
        assert!(said.contains("keeps the networks"), "{said}");
        // Somebody has changed it there since.
        let theirs = networks(&[("home", "their passphrase"), ("cabin", "their passphrase")]);
        fs::write(&path, serde_json::to_vec(&theirs).unwrap()).unwrap();
        give(target.path(), new.clone(), &given("one", 2), "wlan0 (“elsewhere”)", true).unwrap();
        assert_eq!(carried(), theirs);
        // But the Pi is online by this very network, with the card's passphrase.
        give(target.path(), new.clone(), &given("one", 2), "wlan0 (“home”)", true).unwrap();
        assert_eq!(carried(), networks(&[("home", "new passphrase"), ("cabin", "their passphrase")]));
    }

    #[test]
    fn of_an_unknown_order_both_are_kept_and_the_cards_come_first() {
        let target = tempfile::tempdir().unwrap();
        let path = target.path().join(CARRIED);
        let theirs = networks(&[("home", "old passphrase"), ("cabin", "their passphrase")]);
        let ours = networks(&[("home", "new passphrase")]);
        for (giver, card) in [(None, "one"), (Some("two"), "one"), (Some(""), "")] {
            give(target.path(), theirs.clone(), &given(giver.unwrap_or_default(), 7), "", false).unwrap();
            if giver.is_none() {
                fs::remove_file(target.path().join(GIVER)).unwrap();
            }
            let said = give(target.path(), ours.clone(), &given(card, 1), "", true).unwrap();
            assert!(said.ends_with("1 that it had stay, behind them"), "{said}");
            let both = networks(&[("home", "new passphrase"), ("cabin", "their passphrase")]);
            assert_eq!(Settings::parse(&fs::read(&path).unwrap()).unwrap(), both);
        }
        // What nobody can read is worth nothing.
        fs::write(&path, "torn").unwrap();
        give(target.path(), ours.clone(), &given("three", 1), "", true).unwrap();
        assert_eq!(Settings::parse(&fs::read(&path).unwrap()).unwrap(), ours);
    }

    #[test]
    fn a_link_is_not_followed() {
        let target = tempfile::tempdir().unwrap();
        fs::create_dir(target.path().join("var")).unwrap();
        symlink("/var/lib", target.path().join("var/lib")).unwrap();
        assert!(give(target.path(), settings(), &given("one", 1), "", false).is_err());
    }
}
