//! Frames that look back on a path of the card. The first byte says how long that path's file is, in units of 16 bytes; the file
//! comes next, then the frames.
#![no_main]

use cygnet_agent::fuzzing::patches;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

/// The most that is unpacked, bytes.
const MOST: u64 = 16 * 1024 * 1024;

thread_local! {
    static STORE: tempfile::TempDir =
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary directory can be made");
}

fuzz_target!(init: cygnet_fuzz::plant(&cygnet_fuzz::seeds::patch()), |bytes: &[u8]| {
    let Some((length, bytes)) = bytes.split_first() else { return };
    let (file, frames) = bytes.split_at(bytes.len().min(usize::from(*length) * 16));
    STORE.with(|store| {
        let base = Path::new(cygnet_fuzz::seeds::BASE).file_name().expect("it has a name");
        std::fs::write(store.path().join(base), file).expect("a file in memory can be written");
        let _ = patches(frames, store.path(), MOST);
    });
});
