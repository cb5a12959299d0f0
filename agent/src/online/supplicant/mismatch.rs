//! The wrong passphrase, for a wpa_supplicant that does not tell it on D-Bus: 2.10, which Debian 13 has.

use super::Signal;

/// Reason code 17 (IEEE 802.11-2020, table 9-49): the elements in the handshake differ. A passphrase has no part in that.
const ELEMENTS_DIFFER: i32 = 17;

// Status codes (table 9-50).
const SUCCESS: u16 = 0;
/// hostapd before 2.11 says no more than that of a confirmation that does not fit, and the same of a MAC address that is
/// not welcome; the latter before anything was committed.
const UNSPECIFIED: u16 = 1;
/// SAE's confirmation did not fit; nothing else that we do has one.
const CHALLENGE_FAILURE: u16 = 15;
/// A commitment by hash to element; no refusal.
const SAE_HASH_TO_ELEMENT: u16 = 126;

/// Follows the signals, and knows by wpa_supplicant's own rules when the passphrase must be wrong: the connection ended in
/// the 4-way handshake, or SAE's confirmation was refused.
#[derive(Debug, Default)]
pub(super) struct Watch {
    in_handshake: bool,
    psk_told: bool,
    /// SAE's commitments were exchanged.
    committed: bool,
    sae_told: bool,
}

impl Watch {
    /// What has to be told too, after `signal`. Newer ones tell it themselves, and before what it is concluded from.
    pub(super) fn conclude(&mut self, signal: &Signal) -> Option<Signal> {
        match signal {
            Signal::State(state) => {
                self.in_handshake = state == "4way_handshake";
                self.committed &= state == "authenticating";
                if self.in_handshake {
                    self.psk_told = false;
                }
            }
            Signal::PskMismatch => self.psk_told = true,
            Signal::SaeMismatch => self.sae_told = true,
            Signal::Disconnected(reason) if self.in_handshake && *reason != -ELEMENTS_DIFFER => {
                self.in_handshake = false;
                return (!std::mem::replace(&mut self.psk_told, true)).then_some(Signal::PskMismatch);
            }
            Signal::AuthStatus(SUCCESS | SAE_HASH_TO_ELEMENT) => self.committed = true,
            Signal::AuthStatus(status) if *status == CHALLENGE_FAILURE || self.committed && *status == UNSPECIFIED => {
                self.committed = false;
                return (!std::mem::take(&mut self.sae_told)).then_some(Signal::SaeMismatch);
            }
            Signal::Disconnected(_)
            | Signal::AuthStatus(_)
            | Signal::AssocStatus(_)
            | Signal::ScanDone(_)
            | Signal::BssChanged
            | Signal::InterfaceGone
            | Signal::Gone => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mismatches(signals: &[Signal]) -> usize {
        let mut watch = Watch::default();
        signals.iter().filter_map(|signal| watch.conclude(signal)).count()
    }

    fn state(name: &str) -> Signal {
        Signal::State(name.into())
    }

    #[test]
    fn a_connection_that_ends_in_the_handshake_has_the_wrong_passphrase() {
        let wrong = [state("associated"), state("4way_handshake"), Signal::Disconnected(15), state("disconnected")];
        assert_eq!(mismatches(&wrong), 1);
        assert_eq!(mismatches(&[wrong.clone(), wrong].concat()), 2);
        let told = [state("4way_handshake"), Signal::PskMismatch, Signal::Disconnected(15), state("disconnected")];
        assert_eq!(mismatches(&told), 0);
        let vanished = [state("4way_handshake"), state("completed"), Signal::Disconnected(3), state("disconnected")];
        assert_eq!(mismatches(&vanished), 0);
        assert_eq!(mismatches(&[state("4way_handshake"), Signal::Disconnected(-17)]), 0);
    }

    #[test]
    fn a_refused_confirmation_is_the_wrong_passphrase_too() {
        let refused = [state("authenticating"), Signal::AuthStatus(15), state("disconnected")];
        assert_eq!(mismatches(&[refused.clone(), refused].concat()), 2);
        assert_eq!(mismatches(&[Signal::SaeMismatch, Signal::AuthStatus(15)]), 0);
        assert_eq!(mismatches(&[Signal::AuthStatus(126), Signal::AuthStatus(0)]), 0);
        let old = [state("authenticating"), Signal::AuthStatus(126), Signal::AuthStatus(1), state("disconnected")];
        assert_eq!(mismatches(&[old.clone(), old].concat()), 2);
        let filtered = [state("authenticating"), Signal::AuthStatus(1), state("disconnected")];
        assert_eq!(mismatches(&[filtered.clone(), filtered].concat()), 0);
    }
}
