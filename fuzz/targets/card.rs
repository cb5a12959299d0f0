//! The files with settings that are read from the card, and from a laptop: the first byte chooses the reader, the rest is the
//! file.
#![no_main]

use cygnet_protocol::card::fuzzing::{FILES, judge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cygnet_fuzz::plant(&cygnet_fuzz::seeds::card()), |bytes: &[u8]| {
    let Some((which, file)) = bytes.split_first() else { return };
    let (_, reader) = FILES[usize::from(*which) % FILES.len()];
    judge(file, reader);
});
