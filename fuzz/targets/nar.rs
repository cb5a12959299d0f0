//! The import of one store path: any bytes as its archive. What is let in packs to the same bytes again; what is not leaves
//! nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: cygnet_fuzz::plant(&cygnet_fuzz::seeds::nar()), |bytes: &[u8]| {
    cygnet_fuzz::at_a_place(|place| {
        let imported = place.import(bytes);
        let names = std::fs::read_dir(place.store()).expect("the store can be listed").count();
        assert_eq!(names, usize::from(imported.is_ok()), "{imported:?}");
    });
});
