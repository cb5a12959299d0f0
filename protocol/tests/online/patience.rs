//! What is still normal is called no fault, and what serves is not spoilt by what does not.

use crate::specimens::*;
use cygnet_protocol::online::chain::links;
use cygnet_protocol::online::diagnose::{can_announce, diagnose, is_online, via, warnings};
use cygnet_protocol::online::diagnosis::Code;
use cygnet_protocol::online::link::{Link, LinkState};
use cygnet_protocol::online::observation::*;

fn code(o: &Observations) -> Option<Code> {
    diagnose(o).map(|d| d.code)
}

fn state(o: &Observations, link: Link) -> LinkState {
    links(o).into_iter().find(|report| report.link == link).unwrap().state
}

#[test]
fn a_boot_is_busy_and_not_broken() {
    let mut o = without_radio();
    o.hardware.sdio.clear();
    for now in [0, 3_000, 9_999] {
        o.now = now;
        assert_eq!(code(&o), None);
        assert_eq!(state(&o, Link::Sdio), LinkState::Busy);
    }
    o.hardware.sdio = well().hardware.sdio;
    o.hardware.driver = ModuleState::Available;
    o.now = 9_000;
    assert_eq!((code(&o), state(&o, Link::Driver)), (None, LinkState::Busy));
    o.hardware.driver = ModuleState::Loaded;
    o.now = 14_000;
    assert_eq!((code(&o), state(&o, Link::Interface)), (None, LinkState::Busy));
    o.now = 15_000;
    assert_eq!(code(&o), Some(Code::NoInterface));
}

#[test]
fn one_scan_without_the_network_is_not_enough() {
    let mut o = specimen(Code::NotSeen);
    o.scan.done = 1;
    o.attempt.began = NOW - 5_000;
    assert_eq!((code(&o), state(&o, Link::Scan)), (None, LinkState::Busy));
    o.scan.done = 2;
    assert_eq!(code(&o), Some(Code::NotSeen));
    o.scan.done = 1;
    o.attempt.began = NOW - 12_000;
    assert_eq!(code(&o), Some(Code::NotSeen));
}

#[test]
fn a_slow_dhcp_server_is_waited_for_and_comes_online_by_itself() {
    let mut o = specimen(Code::NoDhcp);
    o.now = 14_000 + 11_999;
    assert_eq!((code(&o), state(&o, Link::Address)), (None, LinkState::Busy));
    o.now += 1;
    assert_eq!(code(&o), Some(Code::NoDhcp));
    assert!(!is_online(&o) && can_announce(&o));
    assert_eq!(state(&o, Link::Announce), LinkState::Pending);
    let remedy = diagnose(&o).unwrap().remedy;
    assert!(remedy.contains("link-local"), "{remedy}");
    // A client that begins anew does not start the patience over and over.
    o.dhcp = Dhcp::Asking { since: o.now };
    assert_eq!(code(&o), None);
    o.now = NOW;
    o.dhcp = Dhcp::Asking { since: o.now };
    assert_eq!(code(&o), Some(Code::NoDhcp));
    o.addresses = well().addresses;
    assert_eq!(code(&o), None);
    assert!(is_online(&o));
}

#[test]
fn a_connection_that_is_lost_may_come_back() {
    let mut o = specimen(Code::Deauthenticated);
    o.attempt.began = NOW - 1_000;
    assert_eq!((code(&o), state(&o, Link::Association)), (None, LinkState::Busy));
    // One that is not seen any more may have been left for another one of its name, but not for long.
    o.scan.seen.clear();
    assert_eq!(code(&o), None);
    o.attempt.began = NOW - 2_000;
    assert_eq!(code(&o), Some(Code::ApVanished));
    // Another network that we know is there: that is the one to speak of.
    let shed = cygnet_protocol::online::ssid::Ssid::new("shed").unwrap();
    o.networks.push(cygnet_protocol::online::observation::KnownNetwork { ssid: shed.clone(), ..o.networks[0].clone() });
    o.scan.seen = well().scan.seen;
    o.scan.seen.iter_mut().for_each(|bss| bss.ssid = Some(shed.clone()));
    assert_eq!((code(&o), state(&o, Link::Association)), (None, LinkState::Busy));
    // And one that said it would leave, but is still seen in fresh scans, sent us away.
    let mut o = specimen(Code::ApVanished);
    o.attempt.began = NOW - 30_000;
    o.scan = well().scan;
    o.scan.done = 3;
    assert_eq!(code(&o), Some(Code::Deauthenticated));
}

#[test]
fn a_key_that_was_changed_meanwhile_is_the_diagnosis() {
    let mut o = specimen(Code::Deauthenticated);
    (o.attempt.psk_mismatches, o.attempt.handshakes) = (1, 1);
    assert_eq!(code(&o), Some(Code::WrongPassphrase));
}

#[test]
fn an_access_point_that_never_says_why_is_not_waited_for_without_end() {
    let mut o = joining();
    assert_eq!((code(&o), state(&o, Link::Association)), (None, LinkState::Busy));
    o.attempt.began = NOW - 45_000;
    let said = diagnose(&o).unwrap();
    assert_eq!(said.code, Code::NoAnswer);
    assert!(said.what.contains("for 45 s"), "{said}");
}

#[test]
fn codes_that_are_no_errors_are_none() {
    for status in [0, 76, 126, 30] {
        let mut o = joining();
        o.attempt.auth_status = Some(status);
        assert_eq!(code(&o), None, "{status}");
    }
    let mut o = joining();
    (o.attempt.handshakes, o.attempt.disconnect_reason) = (1, Some(15));
    assert_eq!(code(&o), None);
}

#[test]
fn a_mixed_access_point_is_not_refused_for_a_key() {
    let mut o = joining();
    o.scan.seen = vec![bss("home", 2412, &["wpa-psk", "sae"])];
    for key in [KeyKind::Pmk, KeyKind::Passphrase] {
        o.networks[0].key = key;
        assert_eq!(code(&o), None);
    }
    // One access point of several is enough.
    o.networks[0].key = KeyKind::Pmk;
    o.scan.seen = vec![bss("home", 5180, &["sae"]), bss("home", 2412, &["wpa-psk"])];
    assert_eq!(code(&o), None);
}

#[test]
fn of_several_networks_the_best_is_spoken_of() {
    let mut o = specimen(Code::SaeOnly);
    o.networks.insert(0, network("away", KeyKind::Passphrase));
    o.attempt.ssid = None;
    assert_eq!(code(&o), Some(Code::SaeOnly));
    o.networks.push(network("next door", KeyKind::Passphrase));
    o.scan.seen.push(bss("next door", 2437, &["wpa-psk"]));
    assert_eq!(code(&o), None);
    o.scan.seen.clear();
    let said = diagnose(&o).unwrap();
    assert_eq!(said.code, Code::NotSeen);
    assert!(said.what.contains("“away” and the 2 other networks"), "{said}");
}

#[test]
fn what_may_be_meant_is_said() {
    let mut o = specimen(Code::NotSeen);
    o.scan.seen.push(bss("Home", 2437, &["wpa-psk"]));
    assert!(diagnose(&o).unwrap().cause.contains("“Home” is in the air"));
    let mut o = specimen(Code::NotSeen);
    o.radio.as_mut().unwrap().bands = vec![Band::Two];
    (o.country, o.regdomain) = (None, Some("00".into()));
    let cause = diagnose(&o).unwrap().cause;
    assert!(cause.contains("no 5 GHz") && cause.contains("country"), "{cause}");
    assert_eq!(warnings(&o).first().map(|w| w.code), Some(Code::NoCountry));
    // A neighbour that says it has a sibling on a band we lack.
    let mut o = specimen(Code::WrongBand);
    o.networks = vec![network("HOME", KeyKind::Passphrase)];
    assert_eq!(code(&o), Some(Code::NotSeen));
    o.scan.seen[0].siblings = vec![Band::Five];
    assert_eq!(code(&o), Some(Code::WrongBand));
}

#[test]
fn a_cable_serves_while_the_wifi_is_diagnosed() {
    for fault in [Code::NoSdio, Code::NoFirmware, Code::RfkillSoft, Code::NotSeen, Code::WrongPassphrase] {
        let o = by_cable(specimen(fault));
        assert!(is_online(&o));
        assert_eq!(code(&o), Some(fault));
        assert_eq!(state(&o, fault.link()), LinkState::Down);
        assert_eq!(state(&o, Link::Address), LinkState::Up);
        assert_eq!(state(&o, Link::Announce), LinkState::Up);
        assert_eq!(via(&o).as_deref(), Some("end0 (cable)"));
    }
    // With no network given, nobody misses the WiFi.
    let o = by_cable(specimen(Code::NoNetworks));
    assert_eq!(code(&o), None);
    assert_eq!(state(&o, Link::Scan), LinkState::Unused);
}

#[test]
fn a_cable_without_dhcp() {
    let mut o = specimen(Code::NoCarrier);
    o.wired[0].carrier = true;
    o.now = 20_000;
    assert_eq!(code(&o), None);
    o.now = 30_000;
    let said = diagnose(&o).unwrap();
    assert_eq!(said.code, Code::NoDhcp);
    assert!(said.what.contains("end0") && said.what.contains("cable"), "{said}");
}

#[test]
fn low_voltage_is_a_warning_while_all_works_and_once_only() {
    let mut o = well();
    o.hardware.under_voltage = true;
    assert_eq!(code(&o), None);
    assert_eq!(warnings(&o).iter().map(|w| w.code).collect::<Vec<_>>(), [Code::UnderVoltage]);
    assert_eq!(state(&o, Link::Sdio), LinkState::Warning);
    o.wants_wifi = false;
    assert_eq!(warnings(&o).iter().map(|w| w.code).collect::<Vec<_>>(), [Code::UnderVoltage]);
    let mut o = specimen(Code::FirmwareDead);
    o.hardware.under_voltage = true;
    assert_eq!(all_said(&o).iter().map(|w| w.code).collect::<Vec<_>>(), [Code::UnderVoltage]);
    // It does not make files vanish.
    let mut o = specimen(Code::NoFirmware);
    o.hardware.under_voltage = true;
    assert_eq!(code(&o), Some(Code::NoFirmware));
}

#[test]
fn a_simulated_radio_needs_no_chip() {
    let mut o = joining();
    o.hardware = Hardware::default();
    o.radio.as_mut().unwrap().driver = "mac80211_hwsim".into();
    assert_eq!(code(&o), None);
    assert_eq!(state(&o, Link::Sdio), LinkState::Unused);
    assert_eq!(state(&o, Link::Interface), LinkState::Up);
}
