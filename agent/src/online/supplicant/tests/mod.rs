//! With a real wpa_supplicant: [`bus`] on a bus of its own and no radio, [`air`] on simulated radios.

mod air;
mod bus;

use super::Signal;
use cygnet_protocol::online::settings::{Key, Network};
use cygnet_protocol::online::ssid::Ssid;
use std::time::Duration;
use tokio::sync::mpsc;

fn network(ssid: &[u8], key: Key) -> Network {
    Network { ssid: Ssid::new(ssid).unwrap(), key, hidden: false, priority: 0 }
}

fn passphrase(text: &str) -> Key {
    Key::Passphrase(text.into())
}

/// All that is signalled until one is `wanted`, or so much time went by that something is wrong.
async fn until(signals: &mut mpsc::Receiver<Signal>, wanted: impl Fn(&Signal) -> bool) -> Vec<Signal> {
    let mut all = Vec::new();
    let wait = async {
        while let Some(signal) = signals.recv().await {
            let found = wanted(&signal);
            all.push(signal);
            if found {
                return true;
            }
        }
        false
    };
    let found = tokio::time::timeout(Duration::from_secs(90), wait).await;
    assert_eq!(found, Ok(true), "not signalled; only {all:?}");
    all
}
