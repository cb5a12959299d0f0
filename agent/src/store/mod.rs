//! Receiving a closure: [`frames`] unpacks the zstd stream, [`ahead`] does so in a thread of its own, [`unpack`] makes files
//! of a NAR's events, [`import`] puts one verified store path in its place, [`receive`] does that for all that comes on a data
//! channel, and [`sync`] brings it to the disk and keeps the journal; [`admission`] says what may come in. What the card has
//! is copied by [`local`], and what it has that is alike, found by [`kin`], is what patches look back on. If there was a store on the target before, [`database`] tells what is registered there, and
//! [`kept`] sees which of it need not be sent again.

pub mod admission;
pub mod ahead;
pub mod database;
pub mod frames;
#[cfg(test)]
mod hostile;
pub mod import;
pub mod kept;
pub mod kin;
pub mod local;
pub mod receive;
pub mod sync;
pub mod unpack;
