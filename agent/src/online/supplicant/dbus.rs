//! The first way: D-Bus, `fi.w1.wpa_supplicant1` (<https://w1.fi/wpa_supplicant/devel/dbus.html>).
//!
//! Calls go to the unique name of whoever owns the well-known one. So nothing is started by the bus in our name, and a
//! wpa_supplicant that was restarted does not get what was meant for the one before it.

use super::block::{Value, block};
use super::elements::{self, Heard};
use super::mismatch::Watch;
use super::{Joining, Now, Offer, Signal, SupplicantError, UNIT};
use crate::online::services;
use cygnet_protocol::online::observation::Bss;
use cygnet_protocol::online::settings::Network;
use futures_util::{Stream, StreamExt, stream};
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, Variant, fdo};

/// Its well-known name.
pub(super) const NAME: &str = services::WPA_SUPPLICANT;
const ROOT: &str = "/fi/w1/wpa_supplicant1";
const INTERFACE: &str = "fi.w1.wpa_supplicant1.Interface";
const NETWORK: &str = "fi.w1.wpa_supplicant1.Network";
const BSS: &str = "fi.w1.wpa_supplicant1.BSS";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Programs that hand interfaces to wpa_supplicant themselves.
const MANAGERS: &[(&str, &str)] =
    &[("org.freedesktop.NetworkManager", "NetworkManager"), ("net.connman", "ConnMan"), ("org.wicd.daemon", "wicd")];

/// More access points than anybody hears; a flood of them must not keep us busy for ever.
const MOST_BSS: usize = 256;

type Properties = HashMap<String, OwnedVariant>;

/// wpa_supplicant's object for the interface.
#[derive(Debug)]
pub(super) struct Interface {
    bus: Connection,
    owner: String,
    path: OwnedObjectPath,
    listener: AbortHandle,
}

impl Drop for Interface {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Interface {
    pub(super) async fn open(
        bus: &Connection,
        interface: &str,
        driver: &str,
        signals: &mpsc::Sender<Signal>,
    ) -> Result<Self, SupplicantError> {
        let absent = |error: zbus::Error| SupplicantError::Absent { why: format!("the system bus failed: {error}") };
        let Some(owner) = services::name_owner(bus, NAME).await.map_err(absent)? else {
            return Err(SupplicantError::Absent { why: format!("nobody is {NAME} on the system bus") });
        };
        let root = Peer { bus, owner: &owner };
        let path = match root.create_interface(interface, driver).await {
            Err(error) if is_named(&error, "InterfaceExists") => {
                let held = root.interface(interface).await?;
                if let Some(by) = root.holder(&held).await {
                    return Err(SupplicantError::Taken { by });
                }
                // It is left from a life before this one, or its device was bound anew under it: wpa_supplicant keeps the
                // object then and never uses the device again.
                root.remove_interface(&held).await?;
                root.create_interface(interface, driver).await
            }
            other => other,
        }
        .map_err(|error| explain("taking the interface", error))?;
        let messages = listen(bus, &owner, &path).await.map_err(absent)?;
        let listener = tokio::spawn(pass_on(messages, path.clone(), signals.clone())).abort_handle();
        Ok(Self { bus: bus.clone(), owner, path, listener })
    }

    fn peer(&self) -> Peer<'_> {
        Peer { bus: &self.bus, owner: &self.owner }
    }

    async fn call<B: serde::Serialize + zbus::DynamicType>(
        &self,
        doing: &'static str,
        method: &'static str,
        body: &B,
    ) -> Result<Message, SupplicantError> {
        self.peer().call(&self.path, INTERFACE, method, body).await.map_err(|error| explain(doing, error))
    }

    pub(super) async fn configure(&self, country: Option<&str>, sae_pwe: u8, pmf: u8) -> Result<(), SupplicantError> {
        let mut outcome = Ok(());
        let (sae_pwe, pmf) = (sae_pwe.to_string(), pmf.to_string());
        let settings = [
            ("Country", country, "setting the country"),
            ("SaePwe", Some(sae_pwe.as_str()), "setting the way of SAE"),
            ("Pmf", Some(pmf.as_str()), "setting the protection of management frames"),
        ];
        for (property, value, doing) in settings {
            let Some(value) = value else { continue };
            let set = self.peer().set(&self.path, INTERFACE, property, Variant::from(value)).await;
            outcome = outcome.and(set.map_err(|error| explain(doing, error)));
        }
        outcome
    }

    pub(super) async fn join(&self, networks: &[Network], offer: Offer) -> Result<Joining, SupplicantError> {
        self.call("forgetting the networks", "RemoveAllNetworks", &()).await?;
        let (mut added, mut refused) = (Vec::new(), Vec::new());
        for network in networks {
            match self.add(network, offer).await {
                Ok(path) => added.push(path),
                Err(SupplicantError::Refused { .. }) => refused.push(network.ssid.clone()),
                Err(other) => return Err(other),
            }
        }
        if let [only] = added.as_slice() {
            // Joins at once, without waiting for the next scan.
            self.call("choosing the network", "SelectNetwork", only).await?;
        } else {
            for path in &added {
                let set = self.peer().set(path, NETWORK, "Enabled", Variant::from(true)).await;
                set.map_err(|error| explain("enabling a network", error))?;
            }
        }
        Ok(Joining { offered: added.len(), refused })
    }

    async fn add(&self, network: &Network, offer: Offer) -> Result<OwnedObjectPath, SupplicantError> {
        let block: HashMap<&str, Variant<'_>> =
            block(network, offer).into_iter().map(|(name, value)| (name, variant(value))).collect();
        let reply = self.peer().call(&self.path, INTERFACE, "AddNetwork", &block).await.map_err(secretive)?;
        path_in(&reply).map_err(secretive)
    }

    pub(super) async fn scan(&self) -> Result<(), SupplicantError> {
        self.call("scanning", "Scan", &HashMap::from([("Type", Variant::from("active"))])).await.map(drop)
    }

    pub(super) async fn forget_heard(&self) -> Result<(), SupplicantError> {
        self.call("forgetting what was heard", "FlushBSS", &0_u32).await.map(drop)
    }

    pub(super) async fn reassociate(&self) -> Result<(), SupplicantError> {
        self.call("joining anew", "Reassociate", &()).await.map(drop)
    }

    pub(super) async fn release(self) -> Result<(), SupplicantError> {
        self.peer().remove_interface(&self.path).await
    }

    pub(super) async fn state(&self) -> Result<Now, SupplicantError> {
        let doing = "asking for its state";
        let get = |property: &'static str| self.peer().get(&self.path, INTERFACE, property);
        let state = get("State").await.map_err(|error| explain(doing, error))?;
        let paths = get("BSSs").await.map_err(|error| explain(doing, error))?;
        let paths = Vec::<OwnedObjectPath>::try_from(paths).unwrap_or_default();
        // Drivers other than nl80211 may not say.
        let capabilities = get("Capabilities").await.ok();
        let current = get("CurrentBSS").await.ok().and_then(|value| OwnedObjectPath::try_from(value).ok());
        let mut now = Now {
            state: String::try_from(state).unwrap_or_default(),
            key_mgmt_capabilities: capabilities.map(key_management).unwrap_or_default(),
            ..Now::default()
        };
        for path in paths.iter().take(MOST_BSS) {
            let Some(bss) = self.bss(path).await else { continue };
            if current.as_ref() == Some(path) {
                (now.ssid, now.bssid) = (bss.ssid.clone(), Some(bss.bssid.clone()));
            }
            now.bss.push(bss);
        }
        Ok(now)
    }

    /// `None` if it has been forgotten in the meantime.
    async fn bss(&self, path: &OwnedObjectPath) -> Option<Bss> {
        let all = self.peer().call(path, PROPERTIES, "GetAll", &BSS).await;
        let mut properties: Properties = match all {
            Ok(reply) => reply.body().deserialize().ok()?,
            // One property that can't be read, such as an RSN element that is none, makes all of GetAll fail; such an
            // access point must not hide what else it is.
            Err(_) => {
                let mut some = Properties::new();
                for name in ["SSID", "BSSID", "Frequency", "Signal", "Privacy", "IEs"] {
                    some.insert(name.to_owned(), self.peer().get(path, BSS, name).await.ok()?);
                }
                some
            }
        };
        let octets = |value: Option<OwnedVariant>| value.and_then(|v| Vec::<u8>::try_from(v).ok()).unwrap_or_default();
        let bssid = octets(properties.remove("BSSID"));
        Some(elements::bss(&Heard {
            ssid: octets(properties.remove("SSID")),
            bssid: bssid.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":"),
            frequency: properties.remove("Frequency").and_then(|v| u16::try_from(v).ok()).map_or(0, u32::from),
            signal: properties.remove("Signal").and_then(|v| i16::try_from(v).ok()).unwrap_or_default(),
            privacy: properties.remove("Privacy").and_then(|v| bool::try_from(v).ok()).unwrap_or_default(),
            elements: octets(properties.remove("IEs")),
        }))
    }
}

/// wpa_supplicant itself.
#[derive(Clone, Copy)]
struct Peer<'a> {
    bus: &'a Connection,
    owner: &'a str,
}

impl Peer<'_> {
    async fn call<B: serde::Serialize + zbus::DynamicType>(
        self,
        path: &str,
        interface: &'static str,
        method: &'static str,
        body: &B,
    ) -> zbus::Result<Message> {
        self.bus.call_method(Some(self.owner), path, Some(interface), method, body).await
    }

    async fn get(self, path: &str, interface: &'static str, property: &'static str) -> zbus::Result<OwnedVariant> {
        self.call(path, PROPERTIES, "Get", &(interface, property)).await?.body().deserialize()
    }

    async fn set(self, path: &str, interface: &'static str, property: &str, value: Variant<'_>) -> zbus::Result<()> {
        self.call(path, PROPERTIES, "Set", &(interface, property, value)).await.map(drop)
    }

    async fn create_interface(self, interface: &str, driver: &str) -> zbus::Result<OwnedObjectPath> {
        let what = HashMap::from([("Ifname", Variant::from(interface)), ("Driver", Variant::from(driver))]);
        path_in(&self.call(ROOT, NAME, "CreateInterface", &what).await?)
    }

    async fn interface(self, interface: &str) -> Result<OwnedObjectPath, SupplicantError> {
        let reply = self.call(ROOT, NAME, "GetInterface", &interface).await;
        reply.and_then(|reply| path_in(&reply)).map_err(|error| explain("finding the interface", error))
    }

    async fn remove_interface(self, path: &OwnedObjectPath) -> Result<(), SupplicantError> {
        let removed = self.call(ROOT, NAME, "RemoveInterface", path).await;
        removed.map(drop).map_err(|error| explain("releasing the interface", error))
    }

    /// Who gave the interface to wpa_supplicant, if it wasn't us.
    async fn holder(self, path: &OwnedObjectPath) -> Option<String> {
        let unit = services::unit_of(self.bus, self.owner).await;
        if unit.as_deref() == Some(UNIT) {
            return None;
        }
        for (name, manager) in MANAGERS {
            if matches!(services::name_owner(self.bus, name).await, Ok(Some(_))) {
                return Some((*manager).to_owned());
            }
        }
        // One that came over the bus has no file. With no manager around, an agent before us made it.
        let file = self.get(path, INTERFACE, "ConfigFile").await.ok().and_then(|value| String::try_from(value).ok());
        match file.as_deref() {
            Some("") => None,
            _ => Some(
                unit.map_or_else(|| "another wpa_supplicant".to_owned(), |unit| format!("wpa_supplicant ({unit})")),
            ),
        }
    }
}

fn path_in(reply: &Message) -> zbus::Result<OwnedObjectPath> {
    reply.body().deserialize()
}

/// A psk of octets is a PMK, one of text a passphrase; wpa_supplicant quotes text by itself.
fn variant(value: Value) -> Variant<'static> {
    match value {
        Value::Octets(octets) => Variant::from(octets),
        Value::Quoted(text) => Variant::from(text),
        Value::Words(words) => Variant::from(words),
        Value::Number(number) => Variant::from(number),
    }
}

fn key_management(capabilities: OwnedVariant) -> Vec<String> {
    let mut all = Properties::try_from(capabilities).unwrap_or_default();
    all.remove("KeyMgmt").and_then(|value| Vec::try_from(value).ok()).unwrap_or_default()
}

async fn listen(bus: &Connection, owner: &str, path: &OwnedObjectPath) -> zbus::Result<Messages> {
    let signals = || MatchRule::builder().msg_type(Type::Signal);
    let of_interface = signals().sender(owner).path(path.clone()).build()?;
    let removed = signals().sender(owner).path(ROOT).interface(NAME).member("InterfaceRemoved").build()?;
    let gone = signals().sender("org.freedesktop.DBus").member("NameOwnerChanged").arg(0, owner).build()?;
    let mut streams = Vec::new();
    for rule in [of_interface, removed, gone] {
        streams.push(MessageStream::for_match_rule(rule, bus, None).await?);
    }
    Ok(Box::pin(stream::select_all(streams)))
}

type Messages = std::pin::Pin<Box<dyn Stream<Item = zbus::Result<Message>> + Send>>;

async fn pass_on(mut messages: Messages, path: OwnedObjectPath, signals: mpsc::Sender<Signal>) {
    let mut watch = Watch::default();
    while let Some(Ok(message)) = messages.next().await {
        let read = read(&message, &path);
        let told = read.into_iter().flat_map(|signal| {
            let concluded = watch.conclude(&signal);
            std::iter::once(signal).chain(concluded)
        });
        for signal in told {
            // Never wait: zbus reads nothing more for anybody while one of its streams isn't read.
            let last = signal == Signal::Gone;
            let sent = signals.try_send(signal);
            if last || matches!(sent, Err(mpsc::error::TrySendError::Closed(_))) {
                return;
            }
        }
    }
    let _ = signals.try_send(Signal::Gone);
}

/// What a message means; most mean nothing to us.
fn read(message: &Message, path: &OwnedObjectPath) -> Vec<Signal> {
    let header = message.header();
    let (Some(interface), Some(member)) = (header.interface(), header.member()) else { return vec![] };
    match (interface.as_str(), member.as_str()) {
        // wpa_supplicant sends the same as INTERFACE.PropertiesChanged too.
        (PROPERTIES, "PropertiesChanged") => {
            let body = message.body();
            match body.deserialize::<(String, Properties, Vec<String>)>() {
                Ok((of, changed, _)) if of == INTERFACE => changes(changed),
                _ => vec![],
            }
        }
        (INTERFACE, "PskMismatch") => vec![Signal::PskMismatch],
        (INTERFACE, "SaePasswordMismatch") => vec![Signal::SaeMismatch],
        (INTERFACE, "ScanDone") => vec![Signal::ScanDone(message.body().deserialize().unwrap_or(false))],
        (INTERFACE, "BSSAdded" | "BSSRemoved") => vec![Signal::BssChanged],
        (NAME, "InterfaceRemoved") => match path_in(message) {
            Ok(removed) if removed == *path => vec![Signal::InterfaceGone],
            _ => vec![],
        },
        ("org.freedesktop.DBus", "NameOwnerChanged") => {
            match message.body().deserialize::<(String, String, String)>() {
                Ok((_, _, new)) if !new.is_empty() => vec![],
                _ => vec![Signal::Gone],
            }
        }
        _ => vec![],
    }
}

/// wpa_supplicant gathers changes for 5 ms; those that explain a new state come before it.
fn changes(mut changed: Properties) -> Vec<Signal> {
    let mut take = |name| changed.remove(name).and_then(|value| i32::try_from(value).ok());
    let status = |code: i32| u16::try_from(code).ok();
    let auth = take("AuthStatusCode").and_then(status).map(Signal::AuthStatus);
    let assoc = take("AssocStatusCode").and_then(status).map(Signal::AssocStatus);
    let reason = take("DisconnectReason").map(Signal::Disconnected);
    let state = changed.remove("State").and_then(|value| String::try_from(value).ok()).map(Signal::State);
    auth.into_iter().chain(assoc).chain(reason).chain(state).collect()
}

/// Whether it is wpa_supplicant's error of that name.
fn is_named(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(full, ..) if full.strip_prefix(NAME).and_then(|n| n.strip_prefix('.')) == Some(name))
}

fn explain(doing: &'static str, error: zbus::Error) -> SupplicantError {
    let why = match &error {
        zbus::Error::MethodError(name, text, _) => match text {
            Some(text) => return SupplicantError::Refused { doing, why: text.clone() },
            None => return SupplicantError::Refused { doing, why: name.to_string() },
        },
        zbus::Error::FDO(fdo) => match fdo.as_ref() {
            // It is there, but the object is not.
            fdo::Error::UnknownMethod(_) | fdo::Error::UnknownObject(_) | fdo::Error::UnknownInterface(_) => {
                "it has let go of the interface".to_owned()
            }
            fdo::Error::ServiceUnknown(_)
            | fdo::Error::NameHasNoOwner(_)
            | fdo::Error::NoReply(_)
            | fdo::Error::Disconnected(_) => fdo.to_string(),
            other => return SupplicantError::Refused { doing, why: other.to_string() },
        },
        other => other.to_string(),
    };
    SupplicantError::Gone { doing, why }
}

/// [`explain`] for calls with a secret in them: not a word of what is said about it.
fn secretive(error: zbus::Error) -> SupplicantError {
    match explain("adding a network", error) {
        SupplicantError::Refused { doing, .. } => {
            SupplicantError::Refused { doing, why: "the network's settings".to_owned() }
        }
        other => other,
    }
}
