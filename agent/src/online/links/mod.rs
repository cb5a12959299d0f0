//! Interfaces, addresses, the way out and whether it answers: rtnetlink(7).
//!
//! [`view`] makes a [`Snapshot`] of the kernel's answers. Asking goes through a thread with a deadline, because all of
//! rtnetlink is under one lock, and a driver that hangs may hold it. Listening needs no lock.

mod view;

use super::hardware::Sys;
use super::remedy::deadline::{Lane, LaneError};
use crate::events::lock;
use cygnet_protocol::online::observation::{Address, Gateway};
use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// What may change without us.
const GROUPS: &[MulticastGroup] = &[
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Neigh,
];
/// How long the kernel may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Before listening again after the socket failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The port that discards what it gets, where anybody listens there at all (RFC 863).
const DISCARD: u16 = 9;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// The kernel's number of it.
    pub index: u32,
    /// `end0`.
    pub name: String,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether somebody is at the other end; never if it is not up.
    pub carrier: bool,
    /// Its MAC address, `dc:a6:32:…`; empty if it has none.
    pub mac: String,
    /// Whether it is a radio's.
    pub wireless: bool,
    /// Whether it is Ethernet with hardware behind it: no bridge, no tunnel, no loopback.
    pub physical: bool,
}

/// A default route with a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// To whom.
    pub gateway: Gateway,
    /// Through what.
    pub interface: String,
    /// Its number.
    pub index: u32,
    /// The lower, the better.
    pub metric: u32,
}

/// What the kernel's tables say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// All interfaces but loopback.
    pub interfaces: Vec<Interface>,
    /// Addresses on them that are in use: no tentative, deprecated or duplicate ones.
    pub addresses: Vec<Address>,
    /// All default routes, best first.
    pub ways: Vec<Way>,
    /// The gateway of the best one.
    pub gateway: Option<Gateway>,
}

impl Snapshot {
    /// The interface of that name.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }
}

/// Why the kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// No socket.
    #[error("opening a netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// It said no.
    #[error("rtnetlink: {0}")]
    Refused(String),
    /// It hangs.
    #[error(transparent)]
    Hangs(#[from] LaneError),
}

impl From<rtnetlink::Error> for LinksError {
    fn from(error: rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => LinksError::Refused(message.to_io().to_string()),
            other => LinksError::Refused(other.to_string()),
        }
    }
}

/// rtnetlink.
#[derive(Debug)]
pub struct Links {
    lane: Lane,
    last: Arc<Mutex<Snapshot>>,
}

impl Links {
    /// Begins to listen. The receiver says that something changed; several changes that nobody asked for yet are one. Needs
    /// tokio's reactor, and listens until the receiver is dropped.
    pub fn open() -> io::Result<(Self, mpsc::Receiver<()>)> {
        let (tick, ticks) = mpsc::channel(1);
        let links = Self { lane: Lane::default(), last: Arc::default() };
        // What can't be had now at all is said now.
        let first = listen()?;
        tokio::spawn(relay(first, links.last.clone(), tick));
        Ok((links, ticks))
    }

    /// What the kernel's tables say. If it does not answer, that is logged, and what it said last is told again.
    pub async fn snapshot(&self) -> Snapshot {
        match self.read().await {
            Ok(snapshot) => {
                lock(&self.last).clone_from(&snapshot);
                snapshot
            }
            Err(error) => {
                tracing::warn!("interfaces and addresses may be out of date: {error}");
                lock(&self.last).clone()
            }
        }
    }

    /// The same, with the error.
    pub async fn read(&self) -> Result<Snapshot, LinksError> {
        let work = || on_a_runtime(async |handle| read(&handle).await);
        self.lane.run("reading interfaces and addresses", DEADLINE, work).await?
    }

    /// Switches an interface on.
    #[cfg_attr(not(test), expect(dead_code, reason = "systemd-networkd and wpa_supplicant do it where they run"))]
    pub async fn set_up(&self, index: u32) -> Result<(), LinksError> {
        let work = move || {
            on_a_runtime(async |handle| {
                handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await?;
                Ok(())
            })
        };
        self.lane.run("switching an interface on", DEADLINE, work).await?
    }
}

fn on_a_runtime<T>(work: impl AsyncFnOnce(Handle) -> Result<T, LinksError>) -> Result<T, LinksError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        work(handle).await
    })
}

async fn read(handle: &Handle) -> Result<Snapshot, LinksError> {
    let links: Vec<_> = handle.link().get().execute().try_collect().await?;
    let addresses: Vec<_> = handle.address().get().execute().try_collect().await?;
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    let mut routes: Vec<_> = handle.route().get(v4).execute().try_collect().await?;
    // A kernel without IPv6 answers otherwise than with an empty list.
    routes.extend(handle.route().get(v6).execute().try_collect::<Vec<_>>().await.unwrap_or_default());
    let neighbours: Vec<_> = handle.neighbours().get().execute().try_collect().await?;
    Ok(view::snapshot(&Sys::default(), &links, &addresses, &routes, &neighbours))
}

type Messages = futures_util::stream::BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>;

fn listen() -> io::Result<Messages> {
    let (connection, _, messages) = rtnetlink::new_multicast_connection(GROUPS)?;
    tokio::spawn(connection);
    Ok(messages.map(|(message, _)| message).boxed())
}

async fn relay(first: Messages, last: Arc<Mutex<Snapshot>>, tick: mpsc::Sender<()>) {
    let mut messages = Some(first);
    loop {
        if let Some(mut messages) = messages.take() {
            loop {
                let message = tokio::select! {
                    message = messages.next() => message,
                    () = tick.closed() => return,
                };
                let Some(message) = message else { break };
                if matters(&message, &lock(&last)) {
                    // One that waits already says the same.
                    let _ = tick.try_send(());
                }
            }
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = tick.closed() => return,
        }
        messages = listen().ok();
        let _ = tick.try_send(());
    }
}

/// Neighbours come and go all the time; only gateways are of interest.
fn matters(message: &NetlinkMessage<RouteNetlinkMessage>, last: &Snapshot) -> bool {
    use RouteNetlinkMessage::{DelNeighbour, NewNeighbour};
    match &message.payload {
        NetlinkPayload::InnerMessage(NewNeighbour(entry) | DelNeighbour(entry)) => {
            let ip = view::neighbour(entry);
            last.ways.iter().any(|way| way.index == entry.header.ifindex && Some(way.gateway.ip) == ip)
        }
        _ => true,
    }
}

/// Makes the kernel find out whether a neighbour answers, by sending it something that it throws away. Whether that worked
/// is seen in the next snapshot. An IPv6 address of the link is tried on every link that has one.
pub fn poke(ip: IpAddr) {
    let (any, links): (IpAddr, Vec<u32>) = match ip {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), vec![0]),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => (Ipv6Addr::UNSPECIFIED.into(), link_local_links()),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), vec![0]),
    };
    for link in links {
        let to = match ip {
            IpAddr::V4(v4) => SocketAddr::from((v4, DISCARD)),
            IpAddr::V6(v6) => SocketAddrV6::new(v6, DISCARD, 0, link).into(),
        };
        // Why it could not be sent is no news: no route, no carrier.
        let _ = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to(&[0], to)
        });
    }
}

/// Interfaces with an address of fe80::/10. `/proc/net/if_inet6`: address, then in hex index, prefix, scope (20 is link),
/// flags, and the name.
fn link_local_links() -> Vec<u32> {
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let index = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, index, _, "20", ..] => u32::from_str_radix(index, 16).ok(),
            _ => None,
        }
    };
    table.lines().filter_map(index).collect()
}

#[cfg(test)]
mod tests;
