//! One attempt to join a network, kept from what wpa_supplicant signals: pure, because its properties cannot be asked.
//!
//! `DisconnectReason` and the status codes stay as they are after the next success, so only their changes count.

use super::supplicant::Signal;
use cygnet_protocol::online::observation::Attempt;
use cygnet_protocol::online::ssid::Ssid;

/// Not a refusal: SAE hash-to-element is under way (IEEE 802.11-2020, table 9-50).
const SAE_HASH_TO_ELEMENT: u16 = 126;

/// The next attempt begins.
pub fn begin(now: u64, was_connected: bool) -> Attempt {
    Attempt { began: now, was_connected, ..Attempt::default() }
}

/// Takes in what was signalled at `now`.
pub fn apply(attempt: &mut Attempt, signal: &Signal, now: u64, scan: &mut (u32, u32)) {
    match signal {
        Signal::State(state) => state_changed(attempt, state, now, scan),
        Signal::AuthStatus(0 | SAE_HASH_TO_ELEMENT) => {}
        Signal::AuthStatus(code) => attempt.auth_status = Some(*code),
        Signal::AssocStatus(0) => {}
        Signal::AssocStatus(code) => attempt.assoc_status = Some(*code),
        // Negative ones are our own doing.
        Signal::Disconnected(reason) => {
            if let Ok(reason) = u16::try_from(*reason)
                && reason > 0
            {
                attempt.disconnect_reason = Some(reason);
            }
        }
        Signal::PskMismatch => attempt.psk_mismatches += 1,
        Signal::SaeMismatch => attempt.sae_mismatches += 1,
        Signal::ScanDone(true) => scan.0 += 1,
        Signal::ScanDone(false) => scan.1 += 1,
        Signal::BssChanged | Signal::InterfaceGone | Signal::Gone => {}
    }
}

fn state_changed(attempt: &mut Attempt, state: &str, now: u64, scan: &mut (u32, u32)) {
    match state {
        "completed" if attempt.connected.is_none() => {
            // What went wrong before it went right is of no interest any more.
            *attempt = Attempt {
                connected: Some(now),
                ssid: attempt.ssid.take(),
                bssid: attempt.bssid.take(),
                ..begin(attempt.began, false)
            };
        }
        "4way_handshake" => attempt.handshakes += 1,
        "disconnected" | "scanning" | "inactive" | "interface_disabled" if attempt.connected.is_some() => {
            // The reason may have been signalled before the state.
            let reason = attempt.disconnect_reason;
            let (ssid, bssid): (Option<Ssid>, Option<String>) = (attempt.ssid.take(), attempt.bssid.take());
            *attempt = Attempt { disconnect_reason: reason, ssid, bssid, ..begin(now, true) };
            // What was seen before says nothing of what is there now.
            *scan = (0, 0);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(signals: &[Signal]) -> Attempt {
        let (mut attempt, mut scans) = (begin(0, false), (0, 0));
        for (now, signal) in (1..).zip(signals) {
            apply(&mut attempt, signal, now, &mut scans);
        }
        attempt
    }

    fn state(text: &str) -> Signal {
        Signal::State(text.into())
    }

    #[test]
    fn what_counts_is_what_was_signalled_since_the_attempt_began() {
        let wrong = run(&[state("4way_handshake"), Signal::Disconnected(15), Signal::PskMismatch]);
        assert_eq!((wrong.handshakes, wrong.disconnect_reason, wrong.psk_mismatches), (1, Some(15), 1));
        let right = run(&[Signal::PskMismatch, Signal::AuthStatus(17), state("4way_handshake"), state("completed")]);
        assert_eq!((right.psk_mismatches, right.auth_status, right.connected), (0, None, Some(4)));
        let lost = run(&[state("completed"), Signal::Disconnected(3), state("disconnected"), state("scanning")]);
        assert!(lost.was_connected && lost.connected.is_none());
        assert_eq!((lost.began, lost.disconnect_reason), (3, Some(3)));
    }

    #[test]
    fn hash_to_element_and_our_own_leaving_are_no_errors() {
        let attempt = run(&[Signal::AuthStatus(126), Signal::AuthStatus(0), Signal::Disconnected(-3)]);
        assert_eq!((attempt.auth_status, attempt.disconnect_reason), (None, None));
    }
}
