//! For how long what is not there yet is no fault, in milliseconds.
//!
//! The chip, the driver and the interface count from the beginning of the attempt ([`Attempt::began`], which is 0 until
//! something was connected): the kernel does not say when it began with them.
//!
//! [`Attempt::began`]: crate::online::observation::Attempt::began

use crate::online::observation::Observations;

/// The chip is on its bus.
pub const SDIO: u64 = 10_000;
/// The driver is loaded: udev does it within a second or two of a slow boot.
pub const DRIVER: u64 = 10_000;
/// The firmware said its version. It takes half a second on a Pi 4, two on a Zero.
pub const FIRMWARE: u64 = 10_000;
/// There is an interface.
pub const INTERFACE: u64 = 15_000;
/// A network that is there was seen, if a scan was finished at all. One scan of both bands takes about 3 s.
pub const SEEN: u64 = 12_000;
/// So many finished scans without it are as good: beacons are missed.
pub const SCANS: u32 = 2;
/// A first scan was finished.
pub const FIRST_SCAN: u64 = 30_000;
/// So many failed scans and no finished one are no bad luck any more.
pub const FAILED_SCANS: u32 = 3;
/// A lost connection came back by itself: most do within a second.
pub const RECONNECT: u64 = 5_000;
/// A lost access point was only left for another one of its name.
pub const ROAM: u64 = 2_000;
/// So many scans after a loss that still show the access point are its own beacons, and not the memory of them:
/// wpa_supplicant forgets after two (bss_expiration_scan_count).
pub const FRESH_SCANS: u32 = 3;
/// So many times to the handshake and no further are no bad luck any more.
pub const HANDSHAKES: u32 = 2;
/// So many unanswered frames are no bad luck any more.
pub const TIMEOUTS: u32 = 2;
/// A network that is seen and fits was joined, or a reason was said why not. Long enough for three tries.
pub const JOIN: u64 = 45_000;
/// Somebody gave an address. Slow servers take 3 to 8 s.
pub const DHCP: u64 = 12_000;
/// A router came with the address, or said so itself.
pub const GATEWAY: u64 = 15_000;
/// Somebody is seen at the other end of a cable: negotiating the speed takes 2 to 5 s.
pub const CARRIER: u64 = 10_000;
/// A cable that was plugged in before the agent started has its address.
pub const CABLE: u64 = 30_000;
/// The clock was set from somewhere.
pub const CLOCK: u64 = 30_000;
/// Somebody else's multicast was heard.
pub const ISOLATION: u64 = 120_000;

/// Milliseconds since `then`, 0 if that is yet to come.
pub(super) const fn since(o: &Observations, then: u64) -> u64 {
    o.now.saturating_sub(then)
}

/// Milliseconds since the attempt began.
pub(super) const fn waited(o: &Observations) -> u64 {
    since(o, o.attempt.began)
}
