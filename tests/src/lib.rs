//! The virtual Pi and everything that is tested in it.

pub mod closure;
pub mod host;
pub mod pi;
