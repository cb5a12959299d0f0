//! A machine that others want, too: nothing is lost but time.

use anyhow::{Context, Result};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use crate::host::run::tool;

/// One for each core of the machine that the tests are made for.
const CORES: usize = 2;

/// Loops that do nothing as fast as they can, for as long as this lives.
pub struct Loops(Vec<Child>);

impl Loops {
    /// Starts them.
    pub fn start() -> Result<Loops> {
        let one = || {
            tool("sh")
                .args(["-c", "while kill -0 $PPID; do for i in 1 2 3 4 5 6 7 8 9; do :; done; done"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .context("starting a busy loop")
        };
        (0..CORES).map(|_| one()).collect::<Result<_>>().map(Loops)
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
