//! Builds every closure, checks its hashes, and prints what came out and how long it took; then the same by a flake.

use std::time::Instant;

use anyhow::{Result, ensure};
use cygnet_tests::closure::nix::Nix;
use cygnet_tests::closure::{self, Settings, Variant};
use cygnet_tests::host::run::stdout_of;
use cygnet_tests::pi::cache;

fn main() -> Result<()> {
    let cache = cache::default_dir()?;
    let nix = Nix::new(&cache)?;
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRlc3Q example";
    for variant in Variant::ALL {
        let settings = Settings::new(key, variant);
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
    let settings = Settings::new(key, Variant::Tiny);
    let flake = closure::flake(&cache, &settings)?;
    let attribute = format!("path:{}#nixosConfigurations.pi.config.system.build.toplevel", flake.display());
    let evaluated = stdout_of(nix.command("nix").args(["eval", "--raw", &attribute]))?;
    let built = closure::build(&cache, &settings)?.toplevel;
    ensure!(built.as_os_str() == evaluated.as_str(), "the flake is {evaluated}, not {}", built.display());
    println!("the flake {} gives the same toplevel", flake.display());
    Ok(())
}
