//! Nix's worker protocol: a whole conversation from bytes, at an agent that waits for store paths.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cygnet_fuzz::plant(&cygnet_fuzz::seeds::worker()), |bytes: &[u8]| {
    cygnet_fuzz::at_a_place(|place| drop(place.worker(bytes)));
});
