//! The virtual Pi and everything that is tested in it.
//!
//! [`demo`] and [`verify`] are what `cargo demo` and `cargo verify` run. Both begin in the [`workshop`], which builds the
//! programs; [`crates`] runs the tests of the crates; [`pi`] is the virtual Pi, [`closure`] what is installed on it, [`site`] the `cygnet` that does it from
//! outside, [`scenarios`] what is expected of it, [`host`] the machine that all of it runs on.

pub mod closure;
pub mod crates;
pub mod demo;
pub mod host;
pub mod pi;
pub mod scenarios;
pub mod site;
pub mod table;
pub mod verify;
pub mod workshop;
