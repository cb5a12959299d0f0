//! Who gives addresses on a virtual network: dnsmasq, as healthy or as ill as a scenario wants it.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::net::HOST_ADDRESS;
use crate::host::run::{file_tail, tool, trace};

/// What dnsmasq says when it answers from now on.
const READY: &str = "DHCP, sockets bound exclusively to interface";

/// How long it takes at most to say so.
const START: Duration = crate::patience::SOON;

/// How the network gives addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dhcp {
    /// Whether anybody answers at all.
    pub answers: bool,
    /// How long an offer is held back; whole seconds.
    pub delay: Duration,
    /// Which gateway a lease names.
    pub router: Router,
    /// Which name server a lease names.
    pub dns: Dns,
}

/// The gateway in a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Router {
    /// This side, [`HOST_ADDRESS`], which answers ARP and pings.
    Us,
    /// A lease without a gateway.
    None,
    /// An address that nobody has to answer for.
    At(Ipv4Addr),
}

/// The name server in a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dns {
    /// A lease without a name server.
    None,
    /// This side, which gives its own address for every name.
    Us,
    /// This side, where nobody listens.
    Dead,
}

impl Default for Dhcp {
    fn default() -> Dhcp {
        Dhcp { answers: true, delay: Duration::ZERO, router: Router::Us, dns: Dns::None }
    }
}

impl Dhcp {
    /// Nobody answers.
    pub fn silent() -> Dhcp {
        Dhcp { answers: false, ..Dhcp::default() }
    }

    /// Every offer comes late.
    pub fn slow(delay: Duration) -> Dhcp {
        Dhcp { delay, ..Dhcp::default() }
    }

    /// dnsmasq(8)'s options for this.
    fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        match self.delay.as_secs() {
            // dnsmasq holds back offers only, and a rapid commit needs none.
            0 => options.push("--dhcp-rapid-commit".to_owned()),
            seconds => options.push(format!("--dhcp-reply-delay={seconds}")),
        }
        match self.router {
            Router::Us => options.push(format!("--dhcp-option=option:router,{HOST_ADDRESS}")),
            Router::None => options.push("--dhcp-option=option:router".to_owned()),
            Router::At(address) => options.push(format!("--dhcp-option=option:router,{address}")),
        }
        let server = format!("--dhcp-option=option:dns-server,{HOST_ADDRESS}");
        match self.dns {
            Dns::None => options.push("--port=0".to_owned()),
            Dns::Us => options.extend([server, "--no-resolv".to_owned(), format!("--address=/#/{HOST_ADDRESS}")]),
            Dns::Dead => options.extend(["--port=0".to_owned(), server]),
        }
        options
    }
}

/// The directory that dnsmasq watches for hosts.
pub(super) fn hosts(dir: &Path) -> PathBuf {
    dir.join("hosts")
}

/// Where dnsmasq's log is.
pub(super) fn log(dir: &Path) -> PathBuf {
    dir.join("dnsmasq.log")
}

/// dnsmasq in a network's namespace.
#[derive(Debug)]
pub(super) struct Server {
    namespace: String,
    dir: PathBuf,
    running: Option<Child>,
}

impl Server {
    /// Starts it, healthy.
    ///
    /// # Errors
    /// If it can't be started.
    pub(super) fn start(namespace: &str, dir: &Path) -> Result<Server> {
        let hosts = hosts(dir);
        fs::create_dir(&hosts).with_context(|| format!("creating {}", hosts.display()))?;
        let log = log(dir);
        File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut server = Server { namespace: namespace.to_owned(), dir: dir.to_owned(), running: None };
        server.spawn(&Dhcp::default())?;
        Ok(server)
    }

    /// Starts it anew, or only stops it, and waits until it answers as it should.
    ///
    /// # Errors
    /// If it can't be started.
    pub(super) fn set(&mut self, settings: &Dhcp) -> Result<()> {
        self.stop();
        if !settings.answers {
            return Ok(());
        }
        let log = log(&self.dir);
        let said = || Ok::<_, anyhow::Error>(fs::read_to_string(&log)?.matches(READY).count());
        let before = said()?;
        self.spawn(settings)?;
        let deadline = Instant::now() + START;
        while said()? == before {
            let ended = self.running.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                bail!("dnsmasq doesn't start:\n{}", file_tail(&log, 10));
            }
            // A log file has no other event for us.
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub(super) fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn spawn(&mut self, settings: &Dhcp) -> Result<()> {
        let log = log(&self.dir);
        let log_file = File::options().append(true).open(&log).with_context(|| format!("opening {}", log.display()))?;
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut command = tool("ip");
        command
            .args(["netns", "exec", &self.namespace, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"])
            .args(["--user=root", "--interface=lan0", "--except-interface=lo", "--bind-interfaces"])
            .args(["--dhcp-range=10.77.0.210,10.77.0.250,255.255.255.0,1h", "--dhcp-authoritative", "--no-ping"])
            .arg(format!("--dhcp-hostsdir={}", hosts(&self.dir).display()))
            .arg(format!("--dhcp-leasefile={}", path("leases")))
            .arg(format!("--pid-file={}", path("pid")))
            .args(["--log-dhcp", "--log-facility=-"])
            .args(settings.options())
            .stdout(Stdio::null())
            .stderr(log_file)
            .process_group(0);
        trace(&command);
        self.running = Some(command.spawn().context("starting dnsmasq")?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_server_makes_no_short_cut() {
        let slow = Dhcp::slow(Duration::from_secs(9)).options().join(" ");
        assert!(slow.contains("--dhcp-reply-delay=9"), "{slow}");
        assert!(!slow.contains("rapid"), "{slow}");
    }

    #[test]
    fn a_lease_without_a_gateway_says_so() {
        let settings = Dhcp { router: Router::None, ..Dhcp::default() };
        assert!(settings.options().contains(&"--dhcp-option=option:router".to_owned()));
    }
}
