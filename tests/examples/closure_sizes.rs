//! Builds every closure and its flake, and prints what came out and how long it took.

use std::time::Instant;

use anyhow::Result;
use cygnet_tests::closure::nix::Nix;
use cygnet_tests::closure::{self, Settings, Variant};
use cygnet_tests::pi::cache;

fn main() -> Result<()> {
    let cache = cache::default_dir()?;
    let nix = Nix::new(&cache)?;
    for variant in Variant::ALL {
        let settings = Settings::new("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRlc3Q example", variant);
        let started = Instant::now();
        let closure = closure::build(&cache, &settings)?;
        let built = started.elapsed();
        nix.verify(&closure.toplevel)?;
        println!(
            "{:24} {:4} paths {:>11} bytes {:6.1} s  {}",
            variant.attribute(),
            closure.paths,
            closure.nar_size,
            built.as_secs_f64(),
            closure.toplevel.display()
        );
    }
    Ok(())
}
