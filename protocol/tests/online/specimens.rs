//! For each code the least that shows it, changed from a Pi that is online.

use cygnet_protocol::online::diagnose::{diagnose, is_online, via, warnings};
use cygnet_protocol::online::diagnosis::{Code, Diagnosis};
use cygnet_protocol::online::kernel::KernelSign;
use cygnet_protocol::online::link::LinkState;
use cygnet_protocol::online::observation::*;
use cygnet_protocol::online::ssid::Ssid;
use std::collections::BTreeSet;

pub const NOW: u64 = 300_000;
const BUILT: u64 = 1_790_000_000;

pub fn ssid(text: &str) -> Ssid {
    Ssid::new(text).unwrap()
}

pub fn network(name: &str, key: KeyKind) -> KnownNetwork {
    KnownNetwork { ssid: ssid(name), key, hidden: false }
}

pub fn bss(name: &str, frequency: u32, key_mgmt: &[&str]) -> Bss {
    Bss {
        ssid: Some(ssid(name)),
        bssid: "02:00:00:00:01:00".into(),
        frequency,
        signal: -52,
        key_mgmt: key_mgmt.iter().map(|word| word.to_string()).collect(),
        h2e_only: false,
        pmf_required: false,
        siblings: vec![],
    }
}

/// A Pi 4 that is online over WiFi, with nothing wrong.
pub fn well() -> Observations {
    Observations {
        now: NOW,
        wants_wifi: true,
        hardware: Hardware {
            compatible: "raspberrypi,4-model-b".into(),
            expects_sdio: true,
            sdio: vec!["0x02d0:0xa9a6".into()],
            driver: ModuleState::Loaded,
            vendor_module: ModuleState::Loaded,
            kernel: vec![
                KernelSign::FirmwareWanted { base: "brcm/brcmfmac43455-sdio".into(), chip: "BCM4345/6".into() },
                KernelSign::FirmwareMissing { file: "brcm/brcmfmac43455-sdio.raspberrypi,4-model-b.bin".into() },
                KernelSign::FirmwareRuns {
                    version: "BCM4345/6 wl0: Jul 29 2022 02:15:20 version 7.45.250 (70e9766 CY) FWID 01-e53e306b"
                        .into(),
                },
            ],
            under_voltage: false,
        },
        radio: Some(Radio {
            interface: "wlan0".into(),
            phy: "phy0".into(),
            driver: "brcmfmac".into(),
            bands: vec![Band::Two, Band::Five],
            sae: true,
            power_save: Some(true),
        }),
        rfkill: Rfkill::default(),
        country: Some("DE".into()),
        regdomain: Some("DE".into()),
        networks: vec![network("home", KeyKind::Passphrase)],
        supplicant: Supplicant::Ready { state: "completed".into(), through: "D-Bus".into(), sae_pwe: 2 },
        attempt: Attempt {
            began: 10_000,
            ssid: Some(ssid("home")),
            bssid: Some("02:00:00:00:01:00".into()),
            connected: Some(14_000),
            ..Attempt::default()
        },
        scan: Scan {
            done: 2,
            failed: 0,
            seen: vec![bss("home", 2412, &["wpa-psk"]), bss("next door", 2437, &["sae"])],
        },
        wired: vec![Wired { interface: "end0".into(), carrier: false }],
        addresses: vec![
            Address { interface: "wlan0".into(), ip: "192.168.1.7".parse().unwrap() },
            Address { interface: "wlan0".into(), ip: "fe80::1".parse().unwrap() },
        ],
        dhcp: Dhcp::Bound,
        gateway: Some(Gateway { ip: "192.168.1.1".parse().unwrap(), answers: Some(true) }),
        resolvers: vec!["192.168.1.1".parse().unwrap()],
        clock: Clock { unix: BUILT + 1000, built: BUILT, synchronized: true },
        announce: Announce { since: Some(15_000), heard: Some(20_000), asked: Some(16_000) },
    }
}

/// The same while it tries to join.
pub fn joining() -> Observations {
    let mut o = well();
    o.attempt.connected = None;
    o.attempt.began = NOW - 31_000;
    o.supplicant = Supplicant::Ready { state: "scanning".into(), through: "D-Bus".into(), sae_pwe: 2 };
    o.addresses.clear();
    o.gateway = None;
    o.resolvers.clear();
    o.dhcp = Dhcp::Idle;
    o.announce = Announce::default();
    o
}

/// The same without a wireless interface, and nothing said of the firmware.
pub fn without_radio() -> Observations {
    let mut o = joining();
    o.radio = None;
    o.hardware.kernel.clear();
    o.supplicant = Supplicant::Unasked;
    o.attempt = Attempt::default();
    o.scan = Scan::default();
    o
}

/// The same on a cable.
pub fn by_cable(mut o: Observations) -> Observations {
    o.wired = vec![Wired { interface: "end0".into(), carrier: true }];
    o.addresses.push(Address { interface: "end0".into(), ip: "192.168.1.9".parse().unwrap() });
    o.gateway = well().gateway;
    o.resolvers = well().resolvers;
    o.announce = well().announce;
    o
}

fn changed(mut o: Observations, change: impl FnOnce(&mut Observations)) -> Observations {
    change(&mut o);
    o
}

fn said(signs: Vec<KernelSign>) -> Observations {
    changed(without_radio(), |o| o.hardware.kernel = signs)
}

fn with_ap(key_mgmt: &[&str]) -> Observations {
    changed(joining(), |o| o.scan.seen = vec![bss("home", 2412, key_mgmt)])
}

fn dead() -> KernelSign {
    let line = "brcmfmac: brcmf_sdio_htclk: HT Avail timeout (1000000): clkctl 0x50";
    KernelSign::FirmwareDead { line: line.into() }
}

/// The least that shows a code.
pub fn specimen(code: Code) -> Observations {
    match code {
        Code::NoSdio => changed(without_radio(), |o| o.hardware.sdio.clear()),
        Code::SdioStuck => {
            said(vec![KernelSign::SdioStuck { line: "mmc1: Controller never released inhibit bit(s).".into() }])
        }
        Code::UnderVoltage => said(vec![KernelSign::UnderVoltage, dead(), KernelSign::VoltageNormal]),
        Code::NoModule => changed(without_radio(), |o| o.hardware.driver = ModuleState::Missing),
        Code::NoVendorModule => said(vec![KernelSign::VendorModuleMissing { vendor: "wcc".into() }]),
        Code::NotLoaded => changed(without_radio(), |o| o.hardware.driver = ModuleState::Available),
        Code::NoFirmware => said(vec![
            KernelSign::FirmwareWanted { base: "brcm/brcmfmac43455-sdio".into(), chip: "BCM4345/6".into() },
            KernelSign::FirmwareMissing { file: "brcm/brcmfmac43455-sdio.raspberrypi,4-model-b.bin".into() },
            KernelSign::FirmwareMissing { file: "brcm/brcmfmac43455-sdio.bin".into() },
            dead(),
        ]),
        Code::Nvram => said(vec![
            KernelSign::CalibrationRefused {
                line: "brcmf_c_process_clm_blob: get clmload_status failed (-110)".into(),
            },
            dead(),
        ]),
        Code::FirmwareDead => said(vec![dead()]),
        Code::NoInterface => without_radio(),
        Code::RfkillSoft => changed(joining(), |o| o.rfkill.soft = true),
        Code::RfkillHard => changed(joining(), |o| (o.rfkill.soft, o.rfkill.hard) = (true, true)),
        Code::NoCountry => changed(well(), |o| (o.country, o.regdomain) = (None, Some("00".into()))),
        Code::NoRegulatoryDatabase => changed(well(), |o| {
            o.regdomain = Some("00".into());
            o.hardware.kernel.push(KernelSign::NoRegulatoryDatabase);
        }),
        Code::NoSupplicant => changed(joining(), |o| {
            o.supplicant = Supplicant::Absent { why: "Unit wpa_supplicant.service not found".into() };
        }),
        Code::InterfaceTaken => {
            changed(joining(), |o| o.supplicant = Supplicant::Taken { by: "NetworkManager".into() })
        }
        Code::NoNetworks => changed(joining(), |o| o.networks.clear()),
        Code::NotSeen => changed(joining(), |o| o.scan.seen = vec![bss("next door", 2437, &["sae"])]),
        Code::WrongBand => changed(joining(), |o| {
            o.radio.as_mut().unwrap().bands = vec![Band::Two];
            o.networks = vec![network("home-5G", KeyKind::Passphrase)];
            o.attempt.ssid = None;
        }),
        Code::ScanFailed => changed(joining(), |o| o.scan = Scan { done: 0, failed: 4, seen: vec![] }),
        Code::SaeOnly => changed(with_ap(&["sae"]), |o| o.networks[0].key = KeyKind::Pmk),
        Code::NoSae => changed(with_ap(&["sae"]), |o| o.radio.as_mut().unwrap().sae = false),
        Code::H2eOnly => changed(with_ap(&["sae"]), |o| {
            o.scan.seen[0].h2e_only = true;
            o.supplicant = Supplicant::Ready { state: "scanning".into(), through: "D-Bus".into(), sae_pwe: 0 };
        }),
        Code::KeyManagement => with_ap(&["wpa-eap"]),
        Code::WrongSaePassword => changed(with_ap(&["sae"]), |o| {
            (o.attempt.sae_mismatches, o.attempt.auth_status) = (2, Some(15));
        }),
        Code::ApFull => changed(joining(), |o| o.attempt.auth_status = Some(17)),
        Code::Refused => changed(joining(), |o| o.attempt.auth_status = Some(1)),
        Code::NoAnswer => changed(joining(), |o| o.attempt.timeouts = 3),
        Code::ApVanished => changed(joining(), |o| {
            (o.attempt.was_connected, o.attempt.disconnect_reason) = (true, Some(3));
            o.attempt.began = NOW - 2_000;
            o.scan = Scan::default();
        }),
        Code::Deauthenticated => changed(joining(), |o| {
            (o.attempt.was_connected, o.attempt.disconnect_reason) = (true, Some(7));
            o.attempt.began = NOW - 20_000;
        }),
        Code::WrongPassphrase => changed(joining(), |o| {
            (o.attempt.psk_mismatches, o.attempt.handshakes, o.attempt.disconnect_reason) = (2, 2, Some(15));
        }),
        Code::HandshakeTimeout => changed(joining(), |o| {
            (o.attempt.handshakes, o.attempt.disconnect_reason) = (3, Some(15));
        }),
        Code::NoCarrier => changed(joining(), |o| {
            (o.wants_wifi, o.radio) = (false, None);
            o.networks.clear();
        }),
        Code::NoDhcp => changed(well(), |o| {
            o.addresses.remove(0);
            o.dhcp = Dhcp::Asking { since: 14_000 };
            (o.gateway, o.resolvers) = (None, vec![]);
        }),
        Code::NoGateway => changed(well(), |o| o.gateway = None),
        Code::GatewaySilent => changed(well(), |o| o.gateway.as_mut().unwrap().answers = Some(false)),
        Code::NoResolver => changed(well(), |o| o.resolvers.clear()),
        Code::ClockBeforeBuild => changed(well(), |o| (o.clock.unix, o.clock.synchronized) = (86_400, false)),
        Code::Isolated => changed(well(), |o| o.announce.heard = None),
        Code::Unknown => unreachable!("no Pi says that"),
    }
}

/// All that is said of it.
pub fn all_said(o: &Observations) -> Vec<Diagnosis> {
    diagnose(o).into_iter().chain(warnings(o)).collect()
}

#[test]
fn each_code_is_told_apart_from_the_others() {
    let mut texts = BTreeSet::new();
    for code in Code::ALL.iter().copied() {
        let said = all_said(&specimen(code));
        let codes: Vec<&str> = said.iter().map(|d| d.code.name()).collect();
        assert_eq!(codes, [code.name()]);
        let one = &said[0];
        assert_eq!(one.link, code.link());
        assert!(texts.insert(one.what.clone()), "{one}");
        for text in [&one.what, &one.cause, &one.remedy] {
            assert!(text.ends_with(['.', ')']) && text.len() > 20 && !text.contains("  "), "{one}");
            assert!(
                text.starts_with(|c: char| !c.is_lowercase()) || text.starts_with("wlan0") || text.starts_with("wpa_"),
                "{one}"
            );
        }
        assert!(!one.next.is_empty());
    }
}

#[test]
fn the_chain_ends_where_the_diagnosis_says() {
    for code in Code::ALL.iter().copied() {
        let o = specimen(code);
        let links = cygnet_protocol::online::chain::links(&o);
        let down = links.iter().find(|report| report.state == LinkState::Down).map(|report| report.link);
        assert_eq!(down, diagnose(&o).map(|d| d.link), "{code:?}");
        if let Some(down) = down {
            let after = links.iter().filter(|report| report.link > down);
            assert!(after.into_iter().all(|r| matches!(r.state, LinkState::Pending | LinkState::Unused)), "{code:?}");
        } else {
            let warned = links.iter().find(|report| report.state == LinkState::Warning).map(|report| report.link);
            assert_eq!(warned, Some(code.link()));
        }
        assert!(links.iter().all(|report| report.detail.len() < 60), "{links:?}");
    }
}

#[test]
fn all_is_well() {
    for o in [well(), by_cable(well())] {
        assert_eq!(all_said(&o), []);
        assert!(is_online(&o));
        let links = cygnet_protocol::online::chain::links(&o);
        assert!(links.iter().all(|report| report.state == LinkState::Up), "{links:?}");
    }
    assert_eq!(via(&well()).as_deref(), Some("wlan0 (“home”)"));
    assert_eq!(via(&by_cable(well())).as_deref(), Some("end0 (cable)"));
}

#[test]
fn what_nobody_looked_at_yet_is_no_fault() {
    assert_eq!(all_said(&Observations::default()), []);
    let o = Observations { wants_wifi: true, ..Observations::default() };
    assert!(!is_online(&o) && via(&o).is_none());
}
