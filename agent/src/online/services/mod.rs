//! The services on the system bus that getting online needs, and who is there.
//!
//! [`bus`] connects; [`name_owner`] tells who is on it; [`systemd`] starts units; [`networkd`] has the
//! DHCP client; [`resolvers`] knows who is asked for names. Nobody is started by being looked at: the bus would do that
//! for any call to a well-known name, so calls go to the name's owner, if there is one.

pub mod networkd;
pub mod resolvers;
pub mod systemd;

pub use networkd::{dhcp, reconfigure, renew};
pub use resolvers::resolvers;
pub use systemd::start_unit;

use std::time::Duration;
use zbus::{Connection, Message, OwnedVariant, fdo};

/// What wpa_supplicant is called on the bus.
pub const WPA_SUPPLICANT: &str = "fi.w1.wpa_supplicant1";
/// Programs that would want the wireless interface for themselves.
pub const RIVALS: &[(&str, &str)] =
    &[("org.freedesktop.NetworkManager", "NetworkManager"), ("net.connman.iwd", "iwd"), ("net.connman", "ConnMan")];

/// A service that hangs must not hang us. Starting a unit is not waited for in a call.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where systemd listens for the bus. The D-Bus specification says /var/run, which is not /run everywhere.
const SOCKET: &str = "unix:path=/run/dbus/system_bus_socket";

const BUS: &str = "org.freedesktop.DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What went wrong with a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The bus.
    #[error("the system bus does not answer: {0}")]
    Bus(String),
    /// Nobody has that name.
    #[error("{0} is not on the system bus")]
    NotThere(&'static str),
    /// It answered with an error.
    #[error("{doing}: {why}")]
    Refused {
        /// In the gerund.
        doing: String,
        /// In its words.
        why: String,
    },
    /// The unit was started and failed.
    #[error("{unit} failed: {why}")]
    UnitFailed {
        /// `cygnet-supplicant.service`.
        unit: String,
        /// What systemd knows of it.
        why: String,
    },
}

/// Connects to the system bus. It belongs to the runtime that it was made on.
///
/// A connection that has broken stays so: when [`Connection::closed`] returns, or calls give [`ServiceError::Bus`], make
/// another, and open whatever was on the old one again. At boot the bus may come after us; try again.
///
/// # Errors
/// If there is no bus, or it refuses us.
pub async fn bus() -> Result<Connection, ServiceError> {
    let builder = match std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS") {
        Some(_) => zbus::connection::Builder::system(),
        None => zbus::connection::Builder::address(SOCKET),
    };
    let connecting = builder.method_timeout(PATIENCE).build();
    match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(connected) => connected.map_err(|error| ServiceError::Bus(error.to_string())),
        Err(_) => Err(ServiceError::Bus(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// The unique name of who owns `name`, if anybody does.
///
/// # Errors
/// If the bus fails.
pub async fn name_owner(bus: &Connection, name: &str) -> zbus::Result<Option<String>> {
    match bus.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "GetNameOwner", &name).await {
        Ok(reply) => reply.body().deserialize().map(Some),
        Err(zbus::Error::FDO(error)) if matches!(*error, fdo::Error::NameHasNoOwner(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The systemd unit of who has that name: `wpa_supplicant.service`.
pub async fn unit_of(bus: &Connection, name: &str) -> Option<String> {
    let asked =
        bus.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "GetConnectionUnixProcessID", &name).await;
    let process: u32 = asked.ok()?.body().deserialize().ok()?;
    unit_in(&std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?)
}

/// The last unit on the way to a control group (cgroups(7), /proc/PID/cgroup).
fn unit_in(cgroup: &str) -> Option<String> {
    let groups = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).flat_map(|path| path.rsplit('/'));
    groups.into_iter().find(|part| part.ends_with(".service") || part.ends_with(".scope")).map(str::to_owned)
}

/// An object of a service that is there.
#[derive(Clone)]
struct Object<'a> {
    bus: &'a Connection,
    owner: String,
    path: String,
}

impl<'a> Object<'a> {
    async fn find(bus: &'a Connection, name: &'static str, path: &str) -> Result<Object<'a>, ServiceError> {
        match name_owner(bus, name).await {
            Ok(Some(owner)) => Ok(Object { bus, owner, path: path.to_owned() }),
            Ok(None) => Err(ServiceError::NotThere(name)),
            Err(error) => Err(ServiceError::Bus(error.to_string())),
        }
    }

    fn at(&self, path: &str) -> Object<'a> {
        Object { bus: self.bus, owner: self.owner.clone(), path: path.to_owned() }
    }

    async fn call<B: serde::Serialize + zbus::DynamicType>(
        &self,
        doing: &str,
        interface: &'static str,
        method: &'static str,
        body: &B,
    ) -> Result<Message, ServiceError> {
        let reply = self.bus.call_method(Some(&*self.owner), &*self.path, Some(interface), method, body).await;
        reply.map_err(|error| refused(doing, &error))
    }

    async fn get(&self, interface: &'static str, property: &'static str) -> Result<OwnedVariant, ServiceError> {
        let reply = self.call(property, PROPERTIES, "Get", &(interface, property)).await?;
        reply.body().deserialize().map_err(|error| refused(property, &error))
    }

    async fn text(&self, interface: &'static str, property: &'static str) -> String {
        self.get(interface, property).await.ok().and_then(|value| String::try_from(value).ok()).unwrap_or_default()
    }
}

fn refused(doing: &str, error: &zbus::Error) -> ServiceError {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            ServiceError::Refused { doing: doing.into(), why: text.clone().unwrap_or_else(|| name.to_string()) }
        }
        zbus::Error::FDO(error) => ServiceError::Refused { doing: doing.into(), why: error.to_string() },
        other => ServiceError::Bus(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_found_by_its_control_group() {
        for (cgroup, unit) in [
            ("0::/system.slice/cygnet-supplicant.service\n", Some("cygnet-supplicant.service")),
            ("0::/system.slice/wpa_supplicant.service/payload\n", Some("wpa_supplicant.service")),
            ("12:pids:/user.slice/session-1.scope\n0::/x\n", Some("session-1.scope")),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit_in(cgroup).as_deref(), unit, "{cgroup}");
        }
    }
}
