//! How long anything may take before it counts as hanging. Each is generous: an emulated Pi on a machine that others want too is
//! ten times as slow as on a quiet one, and that is no fault. What is slow is seen by the times that `cargo verify` prints.

use std::time::Duration;

/// From power to a login, half a minute on two quiet cores.
pub const BOOT: Duration = Duration::from_secs(900);
/// A push, an installation, the end of a program: a minute or two.
pub const WORK: Duration = Duration::from_secs(1800);
/// A login on a Pi that runs: a second or two.
pub const LOGIN: Duration = Duration::from_secs(300);
/// From a fault to its name on the console, half a minute of the Pi's own deadlines.
pub const NAMED: Duration = Duration::from_secs(480);
/// From the end of a fault to a Pi that is online: association, lease and login.
pub const HEALED: Duration = Duration::from_secs(600);
/// From a key on the console to what it brings, or anything else that comes at once.
pub const SOON: Duration = Duration::from_secs(120);
/// One command in the Pi over the test rig's line.
pub const COMMAND: Duration = Duration::from_secs(300);
/// QEMU's main loop, which waits for the guest's.
pub const QEMU: Duration = Duration::from_secs(120);
/// A machine's state to be written or read: a second.
pub const STATE: Duration = Duration::from_secs(300);

/// As `cygnet --timeout` takes it.
pub fn option(patience: Duration) -> String {
    format!("{}s", patience.as_secs())
}
