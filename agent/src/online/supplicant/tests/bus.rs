//! A bus of its own, and wpa_supplicant in a network namespace with a cable that leads nowhere.

use super::super::{Offer, Signal, Supplicant, SupplicantError, dbus, places::Place, socket};
use super::{network, passphrase, until};
use cygnet_protocol::online::settings::Key;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;
use zbus::Connection;

const ALL: Offer = Offer { sae: true, only_24ghz: true, interface_can_sae: true };

struct Rig {
    dir: tempfile::TempDir,
    children: Vec<Child>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Rig {
    async fn new() -> (Self, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}/bus", dir.path().display());
        let config = format!(
            "<busconfig><type>system</type><listen>{address}</listen><policy context='default'><allow user='*'/>\
             <allow own='*'/><allow send_destination='*'/><allow receive_sender='*'/></policy></busconfig>"
        );
        std::fs::write(dir.path().join("bus.conf"), config).unwrap();
        let mut bus = Command::new("dbus-daemon");
        bus.arg(format!("--config-file={}/bus.conf", dir.path().display())).args(["--nofork", "--nopidfile"]);
        let mut rig = Self { children: vec![bus.spawn().unwrap()], dir };
        let connection = loop {
            match zbus::connection::Builder::address(address.as_str()).build().await {
                Ok(connection) => break connection,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        rig.supplicant("-u");
        while crate::online::services::name_owner(&connection, dbus::NAME).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (rig, connection)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// wpa_supplicant with a cable that leads nowhere, in a network namespace.
    fn supplicant(&mut self, options: &str) {
        let script = format!(
            "ip link add wlan7 type veth peer name peer7 && ip link set wlan7 up && exec wpa_supplicant -O {}/control {options}",
            self.path().display()
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "sh", "-c", &script]).stdout(Stdio::null());
        unshare.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}/bus", self.path().display()));
        self.children.push(unshare.spawn().unwrap());
    }

    fn end_supplicant(&mut self) {
        let mut child = self.children.pop().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[tokio::test]
#[ignore = "needs root, dbus-daemon and wpa_supplicant"]
async fn an_interface_is_taken_told_and_released_over_the_bus() {
    let (mut rig, bus) = Rig::new().await;
    let bus = Some(&bus);
    let missing = Supplicant::open(bus, "wlan8", "wired").await.unwrap_err();
    assert!(matches!(&missing, SupplicantError::Refused { why, .. } if why.contains("couldn't grab")), "{missing}");

    let (supplicant, mut signals) = Supplicant::open(bus, "wlan7", "wired").await.unwrap();
    assert_eq!(supplicant.through(), "D-Bus");
    supplicant.configure(Some("DE"), 2, 1).await.unwrap();
    let networks = [
        network(b"caf\xe9", passphrase("say \"please\"")),
        network(b"pmk", Key::Pmk([7; 32])),
        network("🦢".as_bytes(), Key::Open),
    ];
    let joining = supplicant.join(&networks, ALL).await.unwrap();
    assert_eq!((joining.offered, joining.refused), (3, vec![]));
    let joining = supplicant.join(&[network(b"short", passphrase("short"))], ALL).await.unwrap();
    assert_eq!((joining.offered, joining.refused.len()), (0, 1));
    supplicant.join(&networks[..1], ALL).await.unwrap();
    let now = supplicant.state().await.unwrap();
    assert!(!now.state.is_empty() && now.bss.is_empty(), "{now:?}");
    let _ = supplicant.scan().await;

    // An agent that was killed comes again.
    drop(supplicant);
    let (supplicant, again) = Supplicant::open(bus, "wlan7", "wired").await.unwrap();
    while signals.recv().await.is_some() {}
    drop(again);
    supplicant.release().await.unwrap();

    let (supplicant, mut signals) = Supplicant::open(bus, "wlan7", "wired").await.unwrap();
    rig.end_supplicant();
    until(&mut signals, |signal| *signal == Signal::Gone).await;
    let gone = supplicant.state().await.unwrap_err();
    assert!(matches!(gone, SupplicantError::Gone { .. }), "{gone}");
    let absent = Supplicant::open(bus, "wlan7", "wired").await.unwrap_err();
    assert!(matches!(absent, SupplicantError::Absent { .. }), "{absent}");

    // One with networks of its own is somebody else's.
    let config = rig.path().join("own.conf");
    std::fs::write(&config, "network={\nssid=\"other\"\nkey_mgmt=NONE\n}\n").unwrap();
    rig.supplicant(&format!("-u -i wlan7 -D wired -c {}", config.display()));
    let taken = loop {
        match Supplicant::open(bus, "wlan7", "wired").await {
            Err(SupplicantError::Absent { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
            other => break other.map(drop),
        }
    };
    assert!(matches!(&taken, Err(SupplicantError::Taken { by }) if by.contains("wpa_supplicant")), "{taken:?}");
}

#[tokio::test]
#[ignore = "needs root, dbus-daemon and wpa_supplicant"]
async fn an_interface_is_told_through_the_control_socket() {
    let (mut rig, _bus) = Rig::new().await;
    rig.end_supplicant();
    rig.supplicant("-i wlan7 -D wired -C unused");
    let control = rig.path().join("control");
    let places = [Place { server: control.join("wlan7"), client: rig.path().into() }];
    let (sender, mut signals) = mpsc::channel(64);
    let interface = loop {
        match socket::Interface::open(&places, sender.clone()).await {
            Ok(interface) => break interface,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    interface.configure(Some("DE"), 2, 1).await.unwrap();
    let networks = [network(b"caf\xe9", passphrase("say \"please\"")), network(b"pmk", Key::Pmk([7; 32]))];
    let joining = interface.join(&networks, ALL).await.unwrap();
    assert_eq!((joining.offered, joining.refused), (2, vec![]));
    let joining = interface.join(&[network(b"short", passphrase("short"))], ALL).await.unwrap();
    assert_eq!((joining.offered, joining.refused.len()), (0, 1));
    assert!(!interface.state().await.unwrap().state.is_empty());
    let refused = interface.say("scanning", "FROB").await.unwrap_err();
    assert!(matches!(refused, SupplicantError::Refused { .. }), "{refused}");
    rig.end_supplicant();
    until(&mut signals, |signal| *signal == Signal::Gone).await;
    assert!(matches!(interface.state().await, Err(SupplicantError::Gone { .. })));
}
