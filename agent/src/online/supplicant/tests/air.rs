//! Simulated radios: hostapd on one, in a network namespace, and wpa_supplicant on the other, as our unit.
//!
//! In the virtual Pi, with the unit in /etc/systemd/system, one after the other (`--test-threads=1`).

use super::super::{Offer, Signal, Supplicant, UNIT, places, socket};
use super::{network, passphrase, until};
use crate::online::services;
use cygnet_protocol::online::observation::Dhcp;
use cygnet_protocol::online::settings::{Key, Network};
use std::process::{Child, Command};
use std::time::Duration;
use tokio::sync::mpsc;

const WHY: &str = "needs mac80211_hwsim: run in the virtual Pi";

/// An access point.
struct Air {
    hostapd: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Air {
    fn drop(&mut self) {
        let _ = self.hostapd.kill();
        let _ = self.hostapd.wait();
    }
}

fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{WHY}: {line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Air {
    fn new(settings: &str) -> Self {
        sh("test -d /sys/module/mac80211_hwsim || modprobe mac80211_hwsim radios=2; rfkill unblock wlan || true; \
            ip netns list | grep -q ^ap || { ip netns add ap; phy=$(ls /sys/class/ieee80211 | tail -n 1); \
            iw phy $phy set netns name ap; }");
        let access_point = sh("ip netns exec ap ls /sys/class/net | grep -v ^lo");
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("hostapd.conf");
        let common = format!("interface={access_point}\ndriver=nl80211\nhw_mode=g\nchannel=6\n{settings}");
        std::fs::write(&config, common).unwrap();
        let mut hostapd = Command::new("ip");
        hostapd.args(["netns", "exec", "ap", "hostapd"]).arg(&config);
        Self { hostapd: hostapd.spawn().unwrap(), _dir: dir }
    }
}

fn interface() -> String {
    sh("basename $(dirname $(ls -d /sys/class/net/*/phy80211))")
}

const WPA2: &str = "ssid=home\nwpa=2\nwpa_key_mgmt=WPA-PSK\nrsn_pairwise=CCMP\nwpa_passphrase=correct horse\n";
const WPA3: &str =
    "ssid=home\nwpa=2\nwpa_key_mgmt=SAE\nieee80211w=2\nrsn_pairwise=CCMP\nwpa_passphrase=correct horse\nsae_pwe=2\n";
const ALL: Offer = Offer { sae: true, only_24ghz: false, interface_can_sae: true };

async fn open() -> (zbus::Connection, Supplicant, mpsc::Receiver<Signal>) {
    let bus = services::bus().await.unwrap();
    services::start_unit(&bus, UNIT).await.unwrap();
    let (supplicant, signals) = Supplicant::open(Some(&bus), &interface(), "nl80211").await.unwrap();
    supplicant.configure(Some("DE"), 2, 1).await.unwrap();
    (bus, supplicant, signals)
}

fn connected(signal: &Signal) -> bool {
    *signal == Signal::State("completed".into())
}

async fn joins(access_point: &str, network: Network) {
    let _air = Air::new(access_point);
    let (_bus, supplicant, mut signals) = open().await;
    assert!(supplicant.state().await.unwrap().can_sae());
    supplicant.join(std::slice::from_ref(&network), ALL).await.unwrap();
    let all = until(&mut signals, connected).await;
    let now = supplicant.state().await.unwrap();
    assert_eq!((now.state.as_str(), now.ssid.as_ref()), ("completed", Some(&network.ssid)), "{all:?}");
    assert!(now.bss.iter().any(|bss| bss.ssid.as_ref() == Some(&network.ssid) && bss.frequency == 2437), "{now:?}");
    supplicant.release().await.unwrap();
}

async fn fails(access_point: &str, network: Network, with: Signal) {
    let _air = Air::new(access_point);
    let (_bus, supplicant, mut signals) = open().await;
    supplicant.join(&[network], ALL).await.unwrap();
    let all = until(&mut signals, |signal| *signal == with).await;
    assert!(!all.iter().any(connected), "{all:?}");
    supplicant.release().await.unwrap();
}

#[tokio::test]
#[ignore = "needs mac80211_hwsim: run in the virtual Pi"]
async fn wpa2() {
    joins(WPA2, network(b"home", passphrase("correct horse"))).await;
    fails(WPA2, network(b"home", passphrase("wrong horse")), Signal::PskMismatch).await;
}

#[tokio::test]
#[ignore = "needs mac80211_hwsim: run in the virtual Pi"]
async fn wpa3() {
    joins(WPA3, network(b"home", passphrase("correct horse"))).await;
    fails(WPA3, network(b"home", passphrase("wrong horse")), Signal::SaeMismatch).await;
}

#[tokio::test]
#[ignore = "needs mac80211_hwsim: run in the virtual Pi"]
async fn a_pmk_joins_a_transition_network() {
    let access_point =
        "ssid=IEEE\nwpa=2\nwpa_key_mgmt=WPA-PSK SAE\nieee80211w=1\nrsn_pairwise=CCMP\nwpa_passphrase=password\n";
    // IEEE 802.11-2020, J.4.2, test case 1.
    let pmk = [
        0xf4, 0x2c, 0x6f, 0xc5, 0x2d, 0xf0, 0xeb, 0xef, 0x9e, 0xbb, 0x4b, 0x90, 0xb3, 0x8a, 0x5f, 0x90, 0x2e, 0x83,
        0xfe, 0x1b, 0x13, 0x5a, 0x70, 0xe2, 0x3a, 0xed, 0x76, 0x2e, 0x97, 0x10, 0xa1, 0x2e,
    ];
    joins(access_point, network(b"IEEE", Key::Pmk(pmk))).await;
}

#[tokio::test]
#[ignore = "needs mac80211_hwsim: run in the virtual Pi"]
async fn hidden_open_and_named_by_any_octets() {
    let hidden = Network { hidden: true, ..network(b"home", passphrase("correct horse")) };
    joins(&format!("{WPA2}ignore_broadcast_ssid=1\n"), hidden).await;
    joins("ssid2=636166e9\n", network(b"caf\xe9", Key::Open)).await;
}

#[tokio::test]
#[ignore = "needs mac80211_hwsim: run in the virtual Pi"]
async fn through_the_control_socket() {
    let air = Air::new(WPA2);
    // Over the bus, so that our unit's wpa_supplicant has the interface.
    let (_bus, supplicant, _) = open().await;
    let (sender, mut signals) = mpsc::channel(64);
    let control = socket::Interface::open(&places::places(&interface()), sender).await.unwrap();
    control.join(&[network(b"home", passphrase("wrong horse"))], ALL).await.unwrap();
    until(&mut signals, |signal| *signal == Signal::PskMismatch).await;
    control.join(&[network(b"home", passphrase("correct horse"))], ALL).await.unwrap();
    until(&mut signals, connected).await;
    let (by_socket, by_bus) = (control.state().await.unwrap(), supplicant.state().await.unwrap());
    assert_eq!((&by_socket.state, &by_socket.ssid, &by_socket.bssid), (&by_bus.state, &by_bus.ssid, &by_bus.bssid));
    let joined = by_bus.bss.iter().find(|bss| bss.ssid.is_some() && bss.ssid == by_bus.ssid).unwrap();
    let same = by_socket.bss.iter().find(|bss| bss.bssid == joined.bssid && bss.ssid == joined.ssid).unwrap();
    assert_eq!((&same.ssid, &same.key_mgmt, same.frequency), (&joined.ssid, &joined.key_mgmt, joined.frequency));
    assert_eq!(joined.key_mgmt, ["wpa-psk"]);
    drop(air);
    until(&mut signals, |signal| matches!(signal, Signal::Disconnected(_))).await;
    supplicant.release().await.unwrap();
}

#[tokio::test]
#[ignore = "needs mac80211_hwsim: run in the virtual Pi"]
async fn networkd_asks_for_an_address_and_gets_one() {
    let _air = Air::new(WPA2);
    let (bus, supplicant, mut signals) = open().await;
    supplicant.join(&[network(b"home", passphrase("correct horse"))], ALL).await.unwrap();
    until(&mut signals, connected).await;
    let index: u32 = sh(&format!("cat /sys/class/net/{}/ifindex", interface())).parse().unwrap();
    let wait = async |wanted: fn(&Dhcp) -> bool| {
        let mut seen = Dhcp::Idle;
        for now in 0..300 {
            seen = services::dhcp(&bus, index, seen, now).await;
            if wanted(&seen) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("still {seen:?}");
    };
    // A lease of a run before this one outlives the air.
    wait(|dhcp| *dhcp != Dhcp::Idle).await;
    let access_point = sh("ip netns exec ap ls /sys/class/net | grep -v ^lo");
    sh(&format!("ip -n ap address replace 10.77.0.1/24 dev {access_point}"));
    let mut dnsmasq = Command::new("ip");
    dnsmasq.args(["netns", "exec", "ap", "dnsmasq", "-d", "-C", "/dev/null", "-p", "0", "-F", "10.77.0.10,10.77.0.20"]);
    let mut dnsmasq = dnsmasq.arg(format!("--interface={access_point}")).spawn().unwrap();
    services::reconfigure(&bus, index).await.unwrap();
    wait(|dhcp| *dhcp == Dhcp::Bound).await;
    services::renew(&bus, index).await.unwrap();
    dnsmasq.kill().unwrap();
    dnsmasq.wait().unwrap();
    let missing = services::start_unit(&bus, "no-such.service").await.unwrap_err().to_string();
    assert!(missing.contains("not found"), "{missing}");
    let failing = services::start_unit(&bus, "systemd-fsck@nothing.service").await.unwrap_err().to_string();
    assert!(failing.contains("failed"), "{failing}");
    let masked = services::systemd::unit_state(&bus, "no-such.service").await.unwrap();
    assert_eq!(masked.load, "not-found");
    let _ = services::resolvers(Some(&bus)).await;
    supplicant.release().await.unwrap();
}
