//! Archives with programs in them, there and back. The first byte says where in an archive it begins, the second in how long
//! pieces it comes.
#![no_main]

use cygnet_protocol::code::{Filter, Way};
use libfuzzer_sys::fuzz_target;

/// The most that may wait for what comes next, bytes.
const WAITING: usize = 1500;

fuzz_target!(init: cygnet_fuzz::plant(&cygnet_fuzz::seeds::code()), |bytes: &[u8]| {
    let [at, stride, bytes @ ..] = bytes else { return };
    let (at, stride) = (u64::from(*at), usize::from(*stride) + 1);
    for (way, other) in [(Way::There, Way::Back), (Way::Back, Way::There)] {
        let changed = pass(way, bytes, at, stride);
        assert!(changed == pass(way, bytes, at, bytes.len().max(1)), "it depends on the pieces");
        assert!(pass(other, &changed, at, stride) == bytes, "it did not come back");
    }
});

fn pass(way: Way, bytes: &[u8], at: u64, stride: usize) -> Vec<u8> {
    let mut filter = Filter::new(way, at);
    let (mut held, mut out) = (Vec::new(), Vec::with_capacity(bytes.len()));
    for piece in bytes.chunks(stride) {
        held.extend_from_slice(piece);
        let done = filter.pass(&mut held);
        out.extend(held.drain(..done));
        assert!(held.len() < WAITING, "{} bytes wait", held.len());
    }
    out.extend(held);
    out
}
