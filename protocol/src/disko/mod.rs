//! The layout a user wrote with disko, as `config.disko.devices` evaluates to JSON.
//!
//! Read in this order: [`json`](self) turns bytes into a value and refuses what is not plain JSON; `node` walks that value
//! and always knows the path it is at; `read` knows disko's types; [`model`](Devices) is what comes out; `check` finds what
//! disko accepts although it cannot work; `names` and `size` hold the small languages disko uses inside strings.
//!
//! The rule throughout: what is not understood is refused with its path, never ignored, because the next thing done with
//! it destroys data. Types disko has and we have not (luks, lvm, mdadm, btrfs, bcachefs, table, hybrid MBR) say so.

pub(crate) use check::normal;
pub(crate) use node::join;

mod check;
mod error;
mod json;
mod model;
pub(crate) mod names;
mod node;
mod read;
mod read_pool;
pub(crate) mod size;

pub use error::DiskoError;
pub use model::{
    Content, Dataset, DatasetKind, Devices, Disk, Filesystem, Gpt, Group, Hooks, Mode, Nodev, Partition, Pool, Swap,
    Topology, Variable, ZfsMember,
};
pub use names::partition_path;

/// Reads and checks a layout.
///
/// # Errors
/// [`DiskoError`] with the path of the first thing that is truncated, of a wrong type, unknown, not supported yet, or
/// accepted by disko although it could not be carried out.
pub fn parse(json: impl AsRef<[u8]>) -> Result<Devices, DiskoError> {
    let value = json::value(json.as_ref())?;
    let devices = read::devices(value)?;
    check::check(&devices)?;
    Ok(devices)
}
