//! Receiving a closure: [`frames`] unpacks the zstd stream, [`import`] puts one verified store path in its place,
//! [`receive`] does that for all that comes on a data channel and keeps the journal.

pub mod frames;
pub mod import;
pub mod receive;
