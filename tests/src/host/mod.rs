//! The machine that the tests run on: what must be installed ([`packages`]) and how tools are run ([`run`]).

pub mod packages;
pub mod run;

pub use packages::{AGENT_TARGET, ensure_host_packages, ensure_package_lists, ensure_rust_target, ensure_ssh_server};
