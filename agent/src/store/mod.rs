//! Receiving a closure: [`frames`] unpacks the zstd stream, [`import`] puts one verified store path in its place,
//! [`receive`] does that for all that comes on a data channel and keeps the journal. If there was a store on the target
//! before, [`database`] tells what is registered there, and [`kept`] sees which of it need not be sent again.

pub mod database;
pub mod frames;
pub mod import;
pub mod kept;
pub mod receive;
