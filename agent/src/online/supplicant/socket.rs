//! The second way: the control socket (wpa_ctrl.h), for a machine without a bus.
//!
//! wpactrl blocks, up to 10 s for an answer, so it lives on a thread of its own.

use super::block::block;
use super::places::Place;
use super::{Joining, Now, Offer, Signal, SupplicantError, elements, said};
use cygnet_protocol::online::settings::Network;
use cygnet_protocol::online::ssid::Ssid;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use wpactrl::ClientAttached;

/// A command for the thread, and where its reply goes. Commands have secrets in them: nothing here can be printed.
struct Order {
    command: String,
    reply: oneshot::Sender<Result<String, String>>,
}

/// The interface behind a control socket. Its thread ends when this is dropped.
pub(super) struct Interface {
    orders: Sender<Order>,
}

impl std::fmt::Debug for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interface")
    }
}

/// Events are looked for this often.
const TICK: Duration = Duration::from_millis(200);
/// There is no event for a new state.
const LOOK: Duration = Duration::from_secs(1);
/// More access points than anybody hears.
const MOST_BSS: usize = 256;

impl Interface {
    /// The first of `places` where somebody answers; an error says what happened at each.
    pub(super) async fn open(places: &[Place], signals: mpsc::Sender<Signal>) -> Result<Self, String> {
        let (orders, received) = channel();
        let (opened, open) = oneshot::channel();
        let places = places.to_vec();
        let live = move || match attach(&places) {
            Ok(attached) => {
                if opened.send(Ok(())).is_ok() {
                    Talk { attached, signals, state: String::new() }.live(&received);
                }
            }
            Err(why) => drop(opened.send(Err(why))),
        };
        let thread = std::thread::Builder::new().name("wpa-control".into()).spawn(live);
        thread.map_err(|error| format!("no thread for its control socket: {error}"))?;
        open.await.unwrap_or_else(|_| Err("the thread for its control socket ended".into()))?;
        Ok(Self { orders })
    }

    async fn ask(&self, doing: &'static str, command: String) -> Result<String, SupplicantError> {
        let (reply, answered) = oneshot::channel();
        let gone = |why: &str| SupplicantError::Gone { doing, why: why.to_owned() };
        self.orders.send(Order { command, reply }).map_err(|_| gone("its control socket was closed"))?;
        match answered.await {
            Ok(Ok(text)) if text.starts_with("FAIL") || text.starts_with("UNKNOWN COMMAND") => {
                Err(SupplicantError::Refused { doing, why: text.trim_end().to_owned() })
            }
            Ok(Ok(text)) => Ok(text),
            Ok(Err(why)) => Err(gone(&why)),
            Err(_) => Err(gone("its control socket was closed")),
        }
    }

    /// Says something to which the answer is no more than OK.
    pub(super) async fn say(&self, doing: &'static str, command: impl Into<String>) -> Result<(), SupplicantError> {
        self.ask(doing, command.into()).await.map(drop)
    }

    pub(super) async fn configure(&self, country: Option<&str>, sae_pwe: u8, pmf: u8) -> Result<(), SupplicantError> {
        let mut outcome = Ok(());
        if let Some(country) = country {
            outcome = self.say("setting the country", format!("SET country {country}")).await;
        }
        let way = self.say("setting the way of SAE", format!("SET sae_pwe {sae_pwe}")).await;
        let pmf = self.say("setting the protection of management frames", format!("SET pmf {pmf}")).await;
        outcome.and(way).and(pmf)
    }

    pub(super) async fn join(&self, networks: &[Network], offer: Offer) -> Result<Joining, SupplicantError> {
        self.say("forgetting the networks", "REMOVE_NETWORK all").await?;
        let (mut added, mut refused) = (Vec::new(), Vec::new());
        for network in networks {
            let id = self.ask("adding a network", "ADD_NETWORK".into()).await?.trim_end().to_owned();
            let mut outcome = Ok(());
            for (name, value) in block(network, offer) {
                let set = format!("SET_NETWORK {id} {name} {}", value.written());
                outcome = self.say("adding a network", set).await;
                if outcome.is_err() {
                    break;
                }
            }
            match outcome {
                Ok(()) => added.push(id),
                Err(SupplicantError::Refused { .. }) => {
                    refused.push(network.ssid.clone());
                    self.say("adding a network", format!("REMOVE_NETWORK {id}")).await?;
                }
                Err(other) => return Err(other),
            }
        }
        if let [only] = added.as_slice() {
            self.say("choosing the network", format!("SELECT_NETWORK {only}")).await?;
        } else {
            for id in &added {
                self.say("enabling a network", format!("ENABLE_NETWORK {id}")).await?;
            }
        }
        Ok(Joining { offered: added.len(), refused })
    }

    pub(super) async fn state(&self) -> Result<Now, SupplicantError> {
        let doing = "asking for its state";
        let status = self.ask(doing, "STATUS".into()).await?;
        let capabilities = self.ask(doing, "GET_CAPABILITY key_mgmt".into()).await;
        let mut now = Now {
            state: state_in(&status),
            ssid: said::field(&status, "ssid").and_then(said::unescape).and_then(|octets| Ssid::new(octets).ok()),
            bssid: said::field(&status, "bssid").map(str::to_owned),
            key_mgmt_capabilities: capabilities
                .map(|text| text.split_whitespace().map(str::to_lowercase).collect())
                .unwrap_or_default(),
            ..Now::default()
        };
        let mut next = "BSS FIRST".to_owned();
        // One by one: all at once would not fit into a reply, which has 4 KiB.
        while now.bss.len() < MOST_BSS
            && let Ok(reply) = self.ask(doing, next).await
            && let Some((id, heard)) = said::heard(&reply)
        {
            now.bss.push(elements::bss(&heard));
            next = format!("BSS NEXT-{id}");
        }
        Ok(now)
    }
}

/// D-Bus has the same words in lower case.
fn state_in(status: &str) -> String {
    said::field(status, "wpa_state").unwrap_or_default().to_lowercase()
}

/// One socket for commands and events: a second client in the same process would take the first one's path from it
/// (wpactrl names both after the process).
fn attach(places: &[Place]) -> Result<ClientAttached, String> {
    let mut why = Vec::new();
    for place in places.iter().filter(|place| place.server.exists()) {
        let client = wpactrl::Client::builder().ctrl_path(place.server.clone()).cli_path(place.client.clone());
        match client.open().and_then(wpactrl::Client::attach) {
            Ok(attached) => return Ok(attached),
            Err(error) => why.push(format!("{}: {}", place.server.display(), plain(&error))),
        }
    }
    if why.is_empty() { Err("there is no control socket for the interface".into()) } else { Err(why.join("; ")) }
}

/// wpactrl waits 10 s and then says that it would have to wait.
fn plain(error: &wpactrl::Error) -> String {
    match error {
        wpactrl::Error::Io(io) if io.kind() == std::io::ErrorKind::WouldBlock => "no answer within 10 s".into(),
        other => other.to_string(),
    }
}

/// The thread's side.
struct Talk {
    attached: ClientAttached,
    signals: mpsc::Sender<Signal>,
    state: String,
}

impl Talk {
    fn live(mut self, orders: &Receiver<Order>) {
        let mut looked = Instant::now();
        loop {
            match orders.recv_timeout(TICK) {
                Ok(order) => {
                    let answer = self.attached.request(&order.command).map_err(|error| plain(&error));
                    let failed = answer.is_err();
                    // Who asked may have given up.
                    let _ = order.reply.send(answer);
                    if failed {
                        // An answer that comes late would be taken for that to the next command.
                        return self.tell(Signal::Gone);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                match self.attached.request("STATUS") {
                    Ok(status) => self.tell(Signal::State(state_in(&status))),
                    Err(_) => return self.tell(Signal::Gone),
                }
            }
            loop {
                match self.attached.recv() {
                    Ok(Some(event)) => {
                        for signal in said::signals(&event) {
                            let last = signal == Signal::Gone;
                            self.tell(signal);
                            if last {
                                return;
                            }
                        }
                    }
                    Ok(None) => break,
                    // An event that isn't UTF-8 means nothing to us.
                    Err(wpactrl::Error::Utf8ToStr(_)) => {}
                    Err(_) => return self.tell(Signal::Gone),
                }
            }
        }
    }

    fn tell(&mut self, signal: Signal) {
        match &signal {
            Signal::State(state) if *state == self.state => return,
            Signal::State(state) => self.state.clone_from(state),
            _ => {}
        }
        // What finds no room is lost; `state` tells the truth.
        let _ = self.signals.try_send(signal);
    }
}
