//! Pis that announce themselves by mDNS (RFC 6762, RFC 6763).
//!
//! [`pi`] is one of them, read from an announcement that anybody could have sent; [`browse`] keeps the list of those
//! there are, [`known`] tells whether the host key that is announced is one that ssh knows, and [`multicast`] why
//! nothing may be heard on this machine at all.

pub mod browse;
pub mod known;
pub mod multicast;
pub mod pi;

pub use browse::{Browser, Change};
pub use pi::Pi;
