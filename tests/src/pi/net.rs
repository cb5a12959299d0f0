//! A network of their own for virtual Pis: a namespace with a bridge, an address for this side, and DHCP.
//!
//! Nothing on it reaches the host's network, and programs under test are started inside it. A guardian process holds the
//! namespace: when the harness ends, however it ends, the guardian's input closes and it removes the namespace with all
//! that runs in it.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use super::dhcp::{self, Dhcp, Server};
use crate::host::run::{run, stdout_of, tool, try_output};

/// The prefix of the namespaces' names; the harness's process number and a counter follow.
const PREFIX: &str = "cygnet-";

/// This side's address, with the network's prefix length of 24 bits.
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// This side's MAC address.
const HOST_MAC: &str = "02:63:79:ff:00:01";

/// Namespaces made by this process.
static NAMESPACES: AtomicU32 = AtomicU32::new(0);

/// What the guardian does once its input ends.
const GUARDIAN: &str = r#"
trap '' INT TERM HUP
read -r line
for round in 1 2 3; do
  for pid in $(ip netns pids "$1"); do kill -9 "$pid"; done
  sleep 0.1
done
ip netns delete "$1"
rm -rf "$2"
"#;

/// A local network with room for several Pis.
#[derive(Debug)]
pub struct Lan {
    name: String,
    guardian: Child,
    dhcp: Mutex<Server>,
    dir: PathBuf,
    ports: AtomicU32,
}

/// A place on a network for one network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The tap device's name inside the namespace.
    pub tap: String,
    /// The network card's MAC address.
    pub mac: String,
    /// The MAC address that the Pi's radio has, if it has one: its way to the same port is through the air.
    pub station_mac: String,
    /// The address that DHCP gives to either MAC address.
    pub address: Ipv4Addr,
}

impl Lan {
    /// Makes a network and removes those that killed harnesses left behind.
    ///
    /// # Errors
    /// If this isn't root or the kernel has no network namespaces, bridges or tap devices.
    pub fn new() -> Result<Lan> {
        remove_stale();
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        run(tool("ip").args(["netns", "add", &name]))
            .context("making a network namespace; this needs root and, in a container, the right to make namespaces")?;
        let dir = tempfile::Builder::new()
            .prefix("cygnet-lan-")
            .tempdir()
            .inspect_err(|_| delete(&name))
            .context("creating the network's directory")?
            .keep();
        let mut guardian = tool("sh");
        guardian
            .args(["-c", GUARDIAN, "sh", &name])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: Ctrl-C is for the harness, the guardian cleans up after it.
            .process_group(0);
        let guardian = guardian.spawn().inspect_err(|_| delete(&name)).context("starting the namespace's guardian")?;
        let setup = || -> Result<Server> {
            // The same address on every network: a Pi that was restored on this one may know it from another.
            let bridge = format!("link add lan0 address {HOST_MAC} type bridge mcast_snooping 0");
            for arguments in ["link set lo up", &bridge, "link set lan0 up"] {
                in_namespace(&name, arguments)?;
            }
            in_namespace(&name, &format!("address add {HOST_ADDRESS}/24 dev lan0"))?;
            // Announcements must find their way out of this side's programs too.
            in_namespace(&name, "route add 224.0.0.0/4 dev lan0")?;
            Server::start(&name, &dir)
        };
        match setup() {
            Ok(server) => Ok(Lan { name, guardian, dhcp: Mutex::new(server), dir, ports: AtomicU32::new(0) }),
            Err(error) => {
                dismiss(guardian);
                Err(error)
            }
        }
    }

    /// The namespace's name, for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs `program` inside the network.
    pub fn command(&self, program: &str) -> Command {
        let mut command = tool("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Adds a tap device with a fixed address behind it.
    ///
    /// # Errors
    /// If the kernel has no tap devices or 200 ports are taken.
    pub fn port(&self) -> Result<Port> {
        let number = self.ports.fetch_add(1, Ordering::Relaxed);
        let host = u8::try_from(number + 10)
            .ok()
            .filter(|host| *host < 210)
            .context("a network has room for 200 network cards")?;
        let port = Port {
            tap: format!("tap{number}"),
            // 52:54:00 is QEMU's; the rest is ours.
            mac: format!("52:54:00:63:79:{host:02x}"),
            station_mac: format!("02:63:79:00:00:{host:02x}"),
            address: Ipv4Addr::new(10, 77, 0, host),
        };
        // dnsmasq watches this directory. `id:*`: the card's system and the installed one are the same machine to us.
        let lease = self.leases().join(&port.tap);
        fs::write(&lease, format!("{},{},id:*,{}\n", port.mac, port.station_mac, port.address))
            .with_context(|| format!("writing {}", lease.display()))?;
        in_namespace(&self.name, &format!("tuntap add {} mode tap", port.tap))?;
        in_namespace(&self.name, &format!("link set {} master lan0 up", port.tap))?;
        Ok(port)
    }

    /// Takes a port's cable out or plugs it in again.
    ///
    /// # Errors
    /// If the port isn't of this network.
    pub fn set_cable(&self, port: &Port, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        in_namespace(&self.name, &format!("link set {} {state}", port.tap))
    }

    /// A directory with a short path, for sockets; it goes when the network goes.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Changes how DHCP and DNS answer from now on; leases that were given stay known.
    ///
    /// # Errors
    /// If dnsmasq can't be started.
    pub fn set_dhcp(&self, settings: &Dhcp) -> Result<()> {
        self.dhcp.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).set(settings)
    }

    /// What DHCP and DNS said about their work so far: dnsmasq's log.
    ///
    /// # Errors
    /// If the log is gone.
    pub fn dhcp_log(&self) -> Result<String> {
        let log = dhcp::log(&self.dir);
        fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))
    }

    fn leases(&self) -> PathBuf {
        dhcp::hosts(&self.dir)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.dhcp.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).stop();
        // The guardian ends what else runs here and removes the namespace.
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}

fn in_namespace(name: &str, arguments: &str) -> Result<()> {
    run(tool("ip").args(["-n", name]).args(arguments.split(' ')))
        .with_context(|| format!("setting up the network namespace {name}"))
}

fn dismiss(mut guardian: Child) {
    if let Some(mut input) = guardian.stdin.take() {
        let _ = input.write_all(b"\n");
    }
    let _ = guardian.wait();
}

fn delete(name: &str) {
    let _ = try_output(tool("ip").args(["netns", "delete", name]));
}

/// Removes namespaces whose harness is gone, with what still runs in them.
fn remove_stale() {
    let Ok(listed) = stdout_of(tool("ip").args(["netns", "list"])) else {
        return;
    };
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        let Some(owner) = owner(name) else { continue };
        if !PathBuf::from(format!("/proc/{owner}")).exists() {
            let _ = try_output(tool("sh").args([
                "-c",
                r#"for pid in $(ip netns pids "$1"); do kill -9 "$pid"; done; ip netns delete "$1""#,
                "sh",
                name,
            ]));
        }
    }
}

/// The process number in a namespace's name, if it is one of ours.
fn owner(name: &str) -> Option<u32> {
    let (owner, number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    owner.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_namespaces_have_an_owner() {
        assert_eq!(owner("cygnet-12-0"), Some(12));
        assert_eq!(owner("cygnet-x-0"), None);
        assert_eq!(owner("cygnet-12"), None);
        assert_eq!(owner("docker-12-0"), None);
    }
}
