//! What is tried, in which order, and when not.

use crate::specimens::*;
use cygnet_protocol::online::diagnosis::{Code, Diagnosis};
use cygnet_protocol::online::ladder::{Installing, Remedy, next, remedies};
use cygnet_protocol::online::observation::*;

/// All that would be tried, one after the other.
fn ladder(o: &Observations, code: Code, installing: Installing) -> Vec<Remedy> {
    let diagnosis: Diagnosis = all_said(&specimen(code)).remove(0);
    let mut tried = Vec::new();
    while let Some(remedy) = next(o, &diagnosis, &tried, installing) {
        assert!(!tried.contains(&remedy));
        tried.push(remedy);
    }
    tried
}

#[test]
fn mildest_first() {
    assert!(Remedy::ALL.windows(2).all(|w| w[0] < w[1]));
    for code in Code::ALL {
        assert!(remedies(*code).windows(2).all(|w| w[0] < w[1]), "{code:?}");
    }
    let titles: std::collections::BTreeSet<_> = Remedy::ALL.iter().map(|r| r.title()).collect();
    assert_eq!(titles.len(), Remedy::ALL.len());
}

#[test]
fn the_whole_ladder_against_a_mixed_access_point() {
    let mut o = specimen(Code::HandshakeTimeout);
    o.scan.seen = vec![bss("home", 2412, &["wpa-psk", "sae"]), bss("home", 5180, &["wpa-psk", "sae"])];
    o.supplicant = Supplicant::Ready { state: "scanning".into(), through: "D-Bus".into(), sae_pwe: 0 };
    use Remedy::*;
    let all = [PowerSaveOff, SaeSettings, DropSae, TwoGigahertz, ReloadModule, RebindSdio, PowerCycle];
    assert_eq!(ladder(&o, Code::HandshakeTimeout, Installing::No), all);
    assert_eq!(ladder(&o, Code::HandshakeTimeout, Installing::OverWifi), all[..5]);
    assert_eq!(ladder(&o, Code::HandshakeTimeout, Installing::OverCable), all[..4]);
    // Nothing of it with a simulated radio that cannot be rebound, with WPA2 alone, on one band.
    o.radio.as_mut().unwrap().driver = "mac80211_hwsim".into();
    o.radio.as_mut().unwrap().bands = vec![Band::Two];
    o.scan.seen = vec![bss("home", 2412, &["wpa-psk"])];
    assert_eq!(ladder(&o, Code::HandshakeTimeout, Installing::No), [PowerSaveOff]);
    o.radio.as_mut().unwrap().power_save = Some(false);
    assert_eq!(ladder(&o, Code::HandshakeTimeout, Installing::No), []);
}

#[test]
fn what_cannot_help_is_not_tried() {
    for code in
        [Code::WrongPassphrase, Code::WrongSaePassword, Code::ApFull, Code::Refused, Code::SaeOnly, Code::NoModule]
    {
        assert_eq!(ladder(&specimen(code), code, Installing::No), [], "{code:?}");
    }
    assert_eq!(ladder(&specimen(Code::H2eOnly), Code::H2eOnly, Installing::No), [Remedy::SaeSettings]);
    assert_eq!(ladder(&specimen(Code::RfkillSoft), Code::RfkillSoft, Installing::OverCable), [Remedy::Unblock]);
    // A radio that hears others is not deaf.
    assert_eq!(ladder(&specimen(Code::NotSeen), Code::NotSeen, Installing::No), []);
    let mut o = specimen(Code::NotSeen);
    o.scan.seen.clear();
    assert_eq!(ladder(&o, Code::NotSeen, Installing::No), [Remedy::ReloadModule, Remedy::RebindSdio]);
}

#[test]
fn firmware_that_died_is_started_again() {
    let o = specimen(Code::FirmwareDead);
    let all = [Remedy::ReloadModule, Remedy::RebindSdio, Remedy::PowerCycle];
    assert_eq!(ladder(&o, Code::FirmwareDead, Installing::No), all);
    assert_eq!(ladder(&o, Code::FirmwareDead, Installing::OverWifi), all[..1]);
    assert_eq!(ladder(&o, Code::FirmwareDead, Installing::OverCable), []);
}

#[test]
fn a_connection_that_carries_an_installation_is_not_cut() {
    for code in Code::ALL {
        let mut o = specimen(*code);
        if o.radio.is_none() {
            continue;
        }
        o.attempt.connected = Some(14_000);
        let tried = ladder(&o, *code, Installing::OverWifi);
        assert!(tried.iter().all(|r| matches!(r, Remedy::Unblock | Remedy::PowerSaveOff)), "{code:?}: {tried:?}");
    }
}
