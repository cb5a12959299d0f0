//! `cygnet card`.

use super::flash;
use crate::card::configure::{self, Found};
use crate::card::disks::{self, Disk};
use crate::card::fat::Firmware;
use crate::card::host_key::{self, PublicKey};
use crate::card::medium::{Medium, Purpose};
use crate::card::pins::{self, Doing, Note};
use crate::card::settings::{self, Given};
use crate::card::{keys, wifi};
use crate::cli::{self, CardCommand, Global};
use crate::error::fault;
use crate::ui::Ui;
use crate::ui::format::{bytes, table};
use anyhow::{Context, Result};
use cygnet_protocol::card::authorized_key::AuthorizedKey;
use cygnet_protocol::card::{self, CardConfig, HostKey};
use cygnet_protocol::fault::FaultCode;
use cygnet_protocol::online::settings::Key;
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The most bytes of a file with a passphrase.
const PASSPHRASE_LIMIT: u64 = 4096;

/// Carries it out.
pub fn run(ui: &Ui, global: &Global, command: &CardCommand) -> Result<()> {
    match command {
        CardCommand::List => list(ui),
        CardCommand::Flash(arguments) => flash::run(ui, arguments),
        CardCommand::Configure(arguments) => configure(ui, global, arguments),
        CardCommand::Show(arguments) => show(ui, arguments),
    }
}

pub(super) fn list(ui: &Ui) -> Result<()> {
    let cards: Vec<Disk> = disks::all()?.into_iter().filter(Disk::is_card).collect();
    if ui.json() {
        return ui.record(&json!({"type": "cards", "cards": cards}));
    }
    if cards.is_empty() {
        ui.status("There is no card in this machine, nor another disk that could be taken out.");
        return Ok(());
    }
    ui.data(&cards_table(&cards))
}

pub(super) fn cards_table(cards: &[Disk]) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let mut rows = vec![["DEVICE", "SIZE", "BUS", "MODEL", "NOW"].map(str::to_owned).to_vec()];
    for card in cards {
        let now = match (card.read_only, card.mounts.as_slice()) {
            (true, _) => "write-protected".to_owned(),
            (false, []) => "free".to_owned(),
            (false, mounts) => format!("mounted at {}", mounts.join(", ")),
        };
        rows.push(vec![card.path.display().to_string(), bytes(card.size), text(&card.bus), text(&card.model), now]);
    }
    table(&rows)
}

/// Which host key the Pi gets.
enum Identity {
    Key(HostKey),
    /// The one that the Pi has taken from the card already.
    Its,
}

fn configure(ui: &Ui, global: &Global, arguments: &cli::Configure) -> Result<()> {
    let mut config = match &arguments.from {
        Some(file) => from_file(file)?,
        None => CardConfig::default(),
    };
    if let Some(ssids) = &arguments.import_wifi {
        let found = wifi::system(ssids)?;
        for note in &found.notes {
            ui.warning(note);
        }
        config.country = config.country.take().or(found.country);
        settings::add_networks(&mut config.networks, found.networks);
        settings::rank(&mut config.networks);
    }
    let given = Given {
        hostname: arguments.hostname.clone(),
        country: arguments.country.clone(),
        claim: arguments.claim.clone(),
        target: arguments.target.clone(),
        keys: keys::authorized(ui, global, arguments, &config)?,
        networks: network(ui, arguments)?.into_iter().collect(),
    };
    let mut config = settings::merge(config, given)?;
    config.networks.iter().filter_map(configure::remark).for_each(|remark| ui.warning(&remark));
    // All that can be wrong is known before the card is touched.
    settings::compose(&config)?;

    let medium = Medium::open(&arguments.medium, Purpose::Change, arguments.unmount)?;
    let firmware = Firmware::open(&medium)?;
    let found = Found::read(&firmware)?;
    if found.settings.is_some() && !arguments.force {
        write_over(ui, &found)?;
    }
    // What other installers' files say of it, the Pi would tell where nobody sees it.
    for (name, reading) in &found.others {
        reading.faults.iter().for_each(|fault| ui.warning(&format!("{name} on the card: {fault}")));
    }
    let identity = identity(arguments, config.host_key.take(), &found)?;
    if config.hostname.is_none() {
        config.hostname = match &identity {
            Identity::Key(key) => Some(settings::default_hostname(&config, key)),
            Identity::Its => found.settings.as_ref().and_then(|reading| reading.config.hostname.clone()),
        };
    }
    let names = pins::names(config.hostname.as_deref(), &arguments.addresses);
    if let Identity::Key(key) = &identity {
        config.host_key = Some(key.clone());
    }
    let note = match (&config.host_key, global.known_hosts.clone().or_else(pins::file)) {
        (Some(key), Some(file)) => Some(Note { file, names: names.clone(), public: PublicKey::of(key).public }),
        (None, _) | (_, None) => None,
    };
    // A card whose key nobody knows must not come about.
    note.iter().try_for_each(|note| pins::pin(note, Doing::Try))?;
    configure::put(&medium, firmware, &config)?;
    drop(medium);
    note.iter().try_for_each(|note| pins::pin(note, Doing::Write).map_err(|error| not_pinned(note, &error)))?;
    let pinned = note.map(|note| note.file);
    if config.networks.is_empty() {
        ui.status("There is no network among the settings: the Pi needs a cable, or what its image has.");
    } else if config.country.is_none() {
        ui.warning("Without `--country` the radio may use only what is allowed everywhere: no channels 12 and 13, little of 5 GHz.");
    }
    told(ui, arguments, &config, &names, pinned)
}

/// The card is written, and its key is not noted, though that was possible a moment before.
fn not_pinned(note: &Note, error: &anyhow::Error) -> anyhow::Error {
    fault(
        FaultCode::Internal,
        "The card is complete, but its host key is not noted on this machine.",
        format!("{error:#}"),
        format!(
            "Add this line to {}, or configure the card again with `--force --keep-host-key`: {} {}",
            note.file.display(),
            note.names.join(","),
            note.public
        ),
    )
}

fn told(
    ui: &Ui,
    arguments: &cli::Configure,
    config: &CardConfig,
    names: &[String],
    pinned: Option<PathBuf>,
) -> Result<()> {
    if ui.json() {
        return ui.record(&json!({
            "type": "card-configured",
            "device": arguments.medium.display().to_string(),
            "settings": configure::masked(config),
            "names": names,
            "known-hosts": pinned.map(|file| file.display().to_string()),
        }));
    }
    ui.data(&summary(config))?;
    let name = names.get(1).or(names.first()).cloned().unwrap_or_else(|| "HOST".into());
    match pinned {
        Some(file) => ui.status(&format!(
            "The host key is noted for {} in {}.\nPut the card into the Pi, then: cygnet wait {name} --for online",
            names.join(", "),
            file.display()
        )),
        None => ui.status("The Pi keeps the host key that it has."),
    }
    Ok(())
}

/// Settings as a person reads them, without secrets.
fn summary(config: &CardConfig) -> String {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    let texts = [
        ("Host name", &config.hostname),
        ("Country", &config.country),
        ("Claim", &config.claim),
        ("Target", &config.target),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            row(name, value.clone());
        }
    }
    for network in &config.networks {
        let hidden = if network.hidden { ", hidden" } else { "" };
        let priority = if network.priority == 0 { String::new() } else { format!(", priority {}", network.priority) };
        row("Network", format!("{} ({}{hidden}{priority})", network.ssid, configure::key_name(&network.key)));
    }
    for key in &config.authorized_keys {
        let Ok(AuthorizedKey { options, kind, base64, comment }) = AuthorizedKey::parse(key) else { continue };
        let end: String = base64.chars().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect();
        row("May log in", format!("{options} {kind} …{end} {comment}").trim().to_owned());
    }
    rows.extend(config.host_key.as_ref().map(|key| PublicKey::of(key).rows()).unwrap_or_default());
    table(&rows)
}

fn from_file(file: &Path) -> Result<CardConfig> {
    let mut bytes = Zeroizing::new(Vec::new());
    let opened = std::fs::File::open(file).with_context(|| format!("opening {}", file.display()))?;
    opened
        .take(card::LIMIT as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {}", file.display()))?;
    settings::accept(card::read(&bytes), &file.display().to_string())
}

/// The network of the command line, with its passphrase.
fn network(ui: &Ui, arguments: &cli::Configure) -> Result<Option<cygnet_protocol::online::settings::Network>> {
    let Some(ssid) = &arguments.network else { return Ok(None) };
    let key = if arguments.open {
        Key::of(None, None, true)
    } else {
        let secret = passphrase(ui, arguments, ssid)?.to_string();
        if arguments.pmk { Key::of(None, Some(secret), false) } else { Key::of(Some(secret), None, false) }
    };
    settings::network(ssid, key, arguments.hidden, arguments.priority).map(Some)
}

fn passphrase(ui: &Ui, arguments: &cli::Configure, ssid: &str) -> Result<Zeroizing<String>> {
    let bytes = match &arguments.passphrase_file {
        Some(file) if file.as_os_str() == "-" => {
            limited(std::io::stdin().lock()).context("reading the passphrase from stdin")?
        }
        Some(file) => std::fs::File::open(file)
            .and_then(limited)
            .with_context(|| format!("reading the passphrase from {}", file.display()))?,
        None if ui.can_ask() => return ask(ui, ssid),
        None => {
            return Err(fault(
                FaultCode::BadSettings,
                format!("There is no passphrase for “{ssid}”."),
                "There is no terminal to ask on, and none was given.",
                "Give it with `--passphrase-file FILE`, or `--passphrase-file -` for stdin; or `--open` if there is none.",
            ));
        }
    };
    text(&bytes)
}

fn ask(ui: &Ui, ssid: &str) -> Result<Zeroizing<String>> {
    loop {
        let first = ui.ask_hidden(&format!("Passphrase of “{ssid}”: "))?;
        if ui.ask_hidden("The same once more: ")? == first {
            return text(first.expose());
        }
        ui.show("These were not the same.");
    }
}

fn limited(source: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(PASSPHRASE_LIMIT).unwrap_or(0)));
    source.take(PASSPHRASE_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Without the line's end: editors put one there, and it is no part of a passphrase.
fn text(bytes: &[u8]) -> Result<Zeroizing<String>> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        fault(
            FaultCode::BadSettings,
            "The passphrase is no text.",
            "It has bytes that are no UTF-8; the file may be UTF-16, or another file.",
            "Save it as plain text.",
        )
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn write_over(ui: &Ui, found: &Found) -> Result<()> {
    let stamp =
        if found.stamp.is_some() { "A Pi has taken settings from it already." } else { "No Pi has taken them yet." };
    if ui.can_ask() {
        if let Some(reading) = &found.settings {
            ui.show(&summary(&reading.config));
        }
        if ui.ask(&format!("There are settings on the card. {stamp} Write over them?"), &["yes", "no"])? == "yes" {
            return Ok(());
        }
    }
    Err(fault(
        FaultCode::BadSettings,
        "There are settings on the card already; nothing was changed.",
        stamp,
        "Look at them with `cygnet card show`; `--force` writes over them, `--keep-host-key` keeps the Pi's identity.",
    ))
}

fn identity(arguments: &cli::Configure, from: Option<HostKey>, found: &Found) -> Result<Identity> {
    if let Some(file) = &arguments.host_key {
        return host_key::read(file).map(Identity::Key);
    }
    if arguments.keep_host_key {
        let on_card = found.settings.as_ref().and_then(|reading| reading.config.host_key.clone());
        return match on_card {
            Some(key) => Ok(Identity::Key(key)),
            None if found.stamp.is_some() => Ok(Identity::Its),
            None => Err(fault(
                FaultCode::BadSettings,
                "There is no host key on the card that could be kept.",
                "It has no settings with one, and no Pi has taken one from it.",
                "Leave `--keep-host-key` out: a fresh one is made.",
            )),
        };
    }
    match from {
        Some(key) => Ok(Identity::Key(key)),
        None => host_key::make().map(Identity::Key),
    }
}

fn show(ui: &Ui, arguments: &cli::Show) -> Result<()> {
    let medium = Medium::open(&arguments.medium, Purpose::Read, false)?;
    let found = Found::read(&Firmware::open(&medium)?)?;
    let faults = found.told();
    if ui.json() {
        let others: Vec<_> = found
            .others
            .iter()
            .map(|(name, reading)| json!({"file": name, "settings": configure::masked(&reading.config)}))
            .collect();
        return ui.record(&json!({
            "type": "card",
            "device": arguments.medium.display().to_string(),
            "label": found.label,
            "settings": found.settings.as_ref().map(|reading| configure::masked(&reading.config)),
            "faults": faults,
            "host-key": found.host_key(),
            "stamp": found.stamp,
            "others": others,
        }));
    }
    let mut text = match &found.settings {
        Some(reading) => summary(&reading.config),
        None => format!("There is no {} on the partition “{}”.\n", card::FILE, found.label),
    };
    for (name, reading) in &found.others {
        text.push_str(&format!("\n{name}, for what {} does not say:\n{}", card::FILE, summary(&reading.config)));
    }
    for fault in faults {
        text.push_str(&format!("Not as it should be: {fault}\n"));
    }
    if let Some(stamp) = &found.stamp {
        text.push_str(&format!("\nWhat the Pi says of it:\n{stamp}"));
    }
    if text.is_empty() {
        text.push_str("The settings are empty.\n");
    }
    ui.data(&text)
}
