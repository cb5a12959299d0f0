//! A data channel: its first line and zstd frames. An odd first byte: all as it comes; an even one: what comes is packed, so
//! that the fuzzer reaches the records (two more, and programs are changed), and comes on several channels, one after the other, wherever it says so.
//!
//! Patches are records of this stream; what decodes one is the target `patch`.
#![no_main]

use cygnet_agent::fuzzing::frames;
use cygnet_fuzz::bytes::{CUT, stored};
use libfuzzer_sys::fuzz_target;

/// The most that is unpacked of frames without records, bytes: a few of them can be many.
const MOST: u64 = 16 * 1024 * 1024;

/// The most channels that one input has.
const CHANNELS: usize = 3;

const HELLO: &[u8] = b"{\"type\":\"data\",\"protocol\":1,\"compression\":\"zstd\"}\n";
/// Programs come as `cygnet_protocol::code` makes them.
const CODE: &[u8] = b"{\"type\":\"data\",\"protocol\":1,\"compression\":\"zstd\",\"code\":true}\n";

fuzz_target!(init: cygnet_fuzz::plant(&cygnet_fuzz::seeds::stream()), |bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else { return };
    cygnet_fuzz::at_a_place(|place| {
        if how % 2 == 1 {
            let _ = frames(bytes, MOST);
            drop(place.data(bytes.to_vec()));
            return;
        }
        for part in split(bytes).into_iter().take(CHANNELS) {
            drop(place.data([if how % 4 == 2 { CODE } else { HELLO }, &stored(part)].concat()));
        }
    });
});

fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.windows(CUT.len()).position(|window| window == CUT) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + CUT.len()..];
    }
    parts.push(bytes);
    parts
}
