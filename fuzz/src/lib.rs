//! What the fuzz targets share: a place in memory to unpack to, and the seeds that each corpus begins with.

pub mod bytes;
pub mod seeds;

use cygnet_agent::fuzzing::Place;
use std::path::Path;

thread_local! {
    /// In memory, if there is such a directory: thousands of inputs a second are unpacked and synced there.
    static PLACE: (tempfile::TempDir, Place) = {
        let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let root = root.expect("a temporary directory can be made");
        let place = Place::new(root.path());
        (root, place)
    };
}

/// Does `say` in a place that is judged afterwards.
pub fn at_a_place(say: impl FnOnce(&Place)) {
    PLACE.with(|(_, place)| {
        say(place);
        place.judge();
    });
}

/// Writes the seeds into the corpus, which is the first directory on libFuzzer's command line, if there is one.
pub fn plant(seeds: &[(&str, Vec<u8>)]) {
    let corpus = std::env::args().skip(1).find(|word| !word.starts_with('-') && Path::new(word).is_dir());
    for (name, bytes) in seeds {
        if let Some(corpus) = &corpus {
            std::fs::write(Path::new(corpus).join(format!("seed-{name}")), bytes).expect("the corpus can be written");
        }
    }
}
