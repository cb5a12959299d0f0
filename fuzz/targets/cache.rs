//! What binary caches and Nix's configuration say: the first byte chooses between a record, a file, a URL and a nix.conf.
#![no_main]

use cygnet_agent::fuzzing::cache_file;
use cygnet_fuzz::seeds::{CACHE, WANTED};
use cygnet_protocol::nix_conf::NixConf;
use cygnet_protocol::store::parse_store_path;
use cygnet_protocol::substituter::{self, Packing, Substituter};
use cygnet_protocol::trust::Keys;
use libfuzzer_sys::fuzz_target;

/// The most that is unpacked of a file, bytes.
const MOST: u64 = 4 * 1024 * 1024;

fuzz_target!(init: cygnet_fuzz::plant(&cygnet_fuzz::seeds::cache()), |bytes: &[u8]| {
    let Some((what, bytes)) = bytes.split_first() else { return };
    match what % 5 {
        0 => record(bytes),
        1 => drop(cache_file(bytes, Packing::Xz, MOST)),
        2 => drop(cache_file(bytes, Packing::Zstd, MOST)),
        3 => url(&String::from_utf8_lossy(bytes)),
        _ => conf(&String::from_utf8_lossy(bytes)),
    }
});

fn record(bytes: &[u8]) {
    let (cache, wanted) = (Substituter::parse(CACHE), parse_store_path(WANTED));
    let (Ok(cache), Ok(wanted)) = (cache, wanted) else { panic!("a cache and a path of ours") };
    let _ = substituter::read(&cache, &wanted, bytes, &Keys::default()).map(|offer| {
        assert_eq!(offer.info.path, wanted);
        assert!(offer.url.starts_with(CACHE), "{}", offer.url);
    });
}

fn url(text: &str) {
    // It becomes a line in curl's configuration.
    let fit = |text: &str| !text.contains(['"', '\\', '\n', '\r', '\0', ' ']) && text.starts_with("http");
    let _ = Substituter::parse(text).map(|cache| assert!(fit(&cache.to_string()), "{cache}"));
}

fn conf(text: &str) {
    // Each file includes itself.
    let conf = NixConf::read(text, |_| Some(text.to_owned()));
    let _ = Keys::parse(conf.trusted_public_keys.iter().map(String::as_str)).map_err(|fault| fault.to_string());
}
