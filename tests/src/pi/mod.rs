//! The virtual Pi.

pub mod packages;
