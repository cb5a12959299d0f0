//! The virtual Pi and everything that is tested in it.
//!
//! [`demo`], [`verify`] and [`bench`] are what `cargo demo`, `cargo verify` and `cargo bench-push` run. All begin in the
//! [`workshop`], which builds the programs; [`crates`] runs the tests of the crates; [`pi`] is the virtual Pi, [`closure`] what
//! is installed on it, [`site`] the `cygnet` that does it from outside, [`scenarios`] what is expected of it, [`host`] the
//! machine that all of it runs on, [`patience`] how long anything may take. [`play`] is `cargo pi`, [`fuzz`] `cargo fuzz-all`,
//! [`storm`] `cargo storm`.

pub mod bench;
pub mod closure;
pub mod crates;
pub mod demo;
pub mod fuzz;
pub mod host;
pub mod patience;
pub mod pi;
pub mod play;
pub mod scenarios;
pub mod site;
pub mod storm;
pub mod table;
pub mod verify;
pub mod workshop;
