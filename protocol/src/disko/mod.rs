//! The layout a user wrote with disko, as `config.disko.devices` evaluates to JSON.
//!
//! Read in this order: [`json`](self) turns bytes into a value and refuses what is not plain JSON; `fields` is the table of
//! what each release of disko has, by which `complete` makes a layout of any release one of the newest; `node` walks that
//! and always knows the path it is at; `read`, `read_table`, `read_layers` and `read_pool` know disko's types, `properties` what zpool(8) and zfs(8) take;
//! [`model`](Devices) is what comes out; `walk` finds every content in it, `order` what must be made first; `check` finds
//! what disko accepts although it cannot work, `at_boot` what ZFS would mount only then; `retarget` puts a disk onto another device beforehand; `names` and `size` hold the small languages disko uses inside strings.
//!
//! The rule throughout: what says something that is not understood is refused with its path, never ignored, because the
//! next thing done with it destroys data. A field that says nothing is passed over with a note.

pub(crate) use check::normal;
pub(crate) use node::join;
pub(crate) use order::toposort;
pub(crate) use walk::{Around, Origin, Placed, Top};

mod at_boot;
mod check;
mod complete;
mod error;
mod fields;
mod json;
mod model;
mod model_layers;
pub(crate) mod names;
mod node;
mod order;
mod properties;
mod read;
mod read_layers;
mod read_pool;
mod read_table;
mod retarget;
pub(crate) mod size;
mod walk;

pub use complete::devices_of;
pub use error::DiskoError;
pub use model::{
    Array, ArrayMember, BcachefsFilesystem, BcachefsMember, BcachefsSubvolume, Btrfs, BtrfsSubvolume, Content, Dataset,
    DatasetKind, Devices, Disk, Filesystem, Gpt, Group, Hooks, Hybrid, LogicalVolume, Luks, LuksKey, Mode, Nodev,
    Partition, PhysicalVolume, Pool, Swap, SwapFile, Table, TableEntry, TableFormat, Topology, Variable, VolumeGroup,
    ZfsMember,
};
pub use names::{numbered, partition_path};
pub use retarget::retarget;

/// Reads and checks a layout that any release of disko since 1.1 evaluated.
///
/// # Errors
/// [`DiskoError`] with the path of the first thing that is truncated, of a wrong type, unknown, not supported yet, or
/// accepted by disko although it could not be carried out.
pub fn parse(json: impl AsRef<[u8]>) -> Result<Devices, DiskoError> {
    let value = devices_of(json::value(json.as_ref())?);
    let complete::Completed { layout, notes, unknown } = complete::complete(value)?;
    let devices = Devices { notes, ..read::devices(layout)? };
    if let Some(error) = unknown {
        return Err(error);
    }
    check::check(&devices)?;
    Ok(devices)
}
