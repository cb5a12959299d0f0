//! The mDNS announcement: `_cygnet._tcp`, with the state, so that `cygnet discover` finds this Pi.
//!
//! Nothing in it is trusted by anyone: the host key's fingerprint is a hint for the person, ssh checks the key.

use crate::agent::Agent;
use cygnet_protocol::event::EventKind;
use cygnet_protocol::message::PROTOCOL;
use mdns_sd::{ServiceDaemon, ServiceInfo};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const SERVICE: &str = "_cygnet._tcp.local.";

/// How often mdns-sd compares the machine's addresses, seconds. The agent is up before DHCP has given one, and a
/// client must not be told of the link-local address alone for longer than this.
const IP_CHECK: u32 = 1;

/// Announces until the process ends, anew at every change of state. Failure to announce stops nothing else.
pub fn spawn(agent: Arc<Agent>) {
    let spawned = std::thread::Builder::new().name("announce".into()).spawn(move || {
        if let Err(error) = announce(&agent) {
            tracing::warn!("mDNS announcement stopped: {error}; find the Pi by its address instead");
        }
    });
    if let Err(error) = spawned {
        tracing::warn!("mDNS announcement did not start: {error}");
    }
}

fn announce(agent: &Agent) -> Result<(), mdns_sd::Error> {
    let daemon = ServiceDaemon::new()?;
    daemon.set_ip_check_interval(IP_CHECK)?;
    let (mut seen, mut last) = (0, None);
    loop {
        let text = text(agent);
        if last.as_ref() != Some(&text) {
            let tail: String = agent.identity.serial.chars().rev().take(8).collect::<String>().chars().rev().collect();
            let name = format!("cygnet-{tail}");
            let info = ServiceInfo::new(SERVICE, &name, &format!("{name}.local."), "", 22, text.clone())?;
            daemon.register(info.enable_addr_auto())?;
            last = Some(text);
        }
        // A minute at most, so that an address that came late is in the fingerprint of what was announced.
        let events = agent.log.since(seen + 1, Duration::from_secs(60));
        seen = events.last().map_or(seen, |event| event.seq);
        if !events.iter().any(|event| matches!(event.kind, EventKind::StateChanged { .. })) && !events.is_empty() {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn text(agent: &Agent) -> HashMap<String, String> {
    let status = agent.status();
    let mut text = HashMap::from([
        ("proto".to_owned(), PROTOCOL.to_string()),
        ("version".to_owned(), status.version),
        ("state".to_owned(), status.state.name().to_owned()),
        ("board".to_owned(), status.board),
        ("serial".to_owned(), status.serial),
        ("host".to_owned(), status.host_name),
    ]);
    if let Some(key) = status.host_keys.into_iter().next() {
        text.insert("key".into(), key);
    }
    if let Some(job) = status.job {
        text.insert("job".into(), job.digest.chars().take(12).collect());
    }
    text
}
