//! A store that is on the disk already: a second system comes beside the first, and only what is new is sent.

use super::failures::{is_free, verify_store};
use super::{SSD, Scenario, State, World};
use crate::closure::{Closure, Variant};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "keep-store",
        "a second system beside the first: what is whole is not sent again, what is damaged is",
        State::Waiting,
        store,
    ),
    Scenario::new(
        "keep-host-key",
        "a kept system's own ssh host keys stay, and the client hears which they are",
        State::Installed,
        host_key,
    ),
];

/// The comment tells it from the card's.
const OWN_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

/// Installs it in this mode and gives all that was said, one JSON value a line.
fn install(world: &mut World, closure: &Closure, mode: &str) -> Result<Vec<Value>> {
    let (toplevel, disko) = (closure.toplevel.display().to_string(), closure.disko.display().to_string());
    let host = world.host()?;
    let digest = world.digest_of(&disko, mode)?;
    let said = world.expect(
        &[
            "install",
            &host,
            "--closure",
            &toplevel,
            "--disko",
            &disko,
            "--mode",
            mode,
            "--yes",
            &digest,
            "--no-reboot",
            "--json",
        ],
        0,
        &[],
    )?;
    world.expect_state("installed")?;
    is_free(world)?;
    said.lines().map(|line| serde_json::from_str(line).context("parsing what install says")).collect()
}

fn sent(said: &[Value]) -> Result<(u64, u64, u64)> {
    let sent = &said.iter().find(|value| value["type"] == "summary").context("there is no summary")?["sent"];
    let number = |name: &str| sent[name].as_u64().with_context(|| format!("there is no {name}: {sent}"));
    Ok((number("paths-sent")?, number("paths-skipped")?, number("nar-bytes")?))
}

/// Runs a script with the installed system mounted at /mnt.
pub fn inside(world: &mut World, script: &str) -> Result<String> {
    let pi = world.pi()?;
    pi.sh(
        "zpool import -N -R /mnt rpool && mount -t zfs rpool/local/root /mnt && mount -t zfs rpool/local/nix /mnt/nix",
    )?;
    let said = pi.sh(script);
    pi.sh("umount -R /mnt && zpool export rpool")?;
    said
}

fn generations(world: &mut World) -> Result<String> {
    inside(
        world,
        "cd /mnt/nix/var/nix/profiles; readlink system; for l in system-*-link; do echo $l $(readlink $l); done",
    )
}

fn store(world: &mut World) -> Result<()> {
    let first = world.closure(Variant::Tiny)?;
    let other = world.own_closure("pi-second")?;
    let (paths, _, bytes) = sent(&install(world, &first, "destroy,format,mount")?)?;
    ensure!(paths == first.paths as u64, "{paths} paths of {} were sent", first.paths);
    // A signature, which must not get lost.
    let sign = "nix-store --generate-binary-cache-key rig-1 /run/rig.key /run/rig.pub && \
                nix --extra-experimental-features nix-command store sign --store 'local?root=/mnt' -k /run/rig.key";
    inside(world, &format!("{sign} {}", first.toplevel.display()))?;

    let said = install(world, &other, "mount")?;
    let (paths, skipped, less) = sent(&said)?;
    ensure!(paths + skipped == other.paths as u64, "{paths} sent and {skipped} skipped are not {}", other.paths);
    ensure!(skipped > paths && less < bytes / 2, "{paths} paths, {less} of {bytes} bytes were sent again");
    let told = said.iter().any(|event| event["text"].as_str().is_some_and(|text| text.contains("are whole")));
    ensure!(told, "nobody said that something is kept");
    verify_store(world)?;
    let systems = generations(world)?;
    for line in [
        "system-2-link".to_owned(),
        format!("system-1-link {}", first.toplevel.display()),
        format!("system-2-link {}", other.toplevel.display()),
    ] {
        ensure!(systems.lines().any(|given| given == line), "{line} is not in the profile:\n{systems}");
    }
    for toplevel in [&first.toplevel, &other.toplevel] {
        inside(world, &format!("nix-store --store 'local?root=/mnt' --query --requisites {}", toplevel.display()))
            .with_context(|| format!("{} is not registered", toplevel.display()))?;
    }
    let signed = inside(
        world,
        &format!(
            "nix --extra-experimental-features nix-command path-info --sigs --store 'local?root=/mnt' {}",
            first.toplevel.display()
        ),
    )?;
    ensure!(signed.contains("rig-1:"), "the signature is lost: {signed}");

    // One bit of one file of the first system, behind Nix's back.
    let file = format!("/mnt{}/nixos-version", first.toplevel.display());
    inside(
        world,
        &format!(
            "chmod u+w {file} && printf X | dd of={file} bs=1 count=1 conv=notrunc && chmod a-w {file} && sync {file}"
        ),
    )?;
    let said = install(world, &first, "mount")?;
    let (paths, skipped, _) = sent(&said)?;
    ensure!(paths == 1 && skipped == first.paths as u64 - 1, "{paths} paths were sent, {skipped} were not");
    let warned = said.iter().any(|event| {
        event["event"] == "warning" && event["text"].as_str().is_some_and(|text| text.contains("not what its database"))
    });
    ensure!(warned, "nobody said that a path is damaged");
    verify_store(world)?;
    let systems = generations(world)?;
    ensure!(systems.starts_with("system-3-link\n"), "the third generation is not the present one:\n{systems}");
    Ok(())
}

/// Beside the system that is on the disk.
fn host_key(world: &mut World) -> Result<()> {
    let first = world.closure(Variant::Tiny)?;
    let own = inside(
        world,
        &format!(
            "rm -f /mnt/etc/ssh/ssh_host_* && ssh-keygen -q -t ed25519 -N '' -C own -f /mnt{OWN_KEY} && \
             cat /mnt{OWN_KEY}.pub"
        ),
    )
    .context("looking for the system on the SSD")?;
    let said = install(world, &first, "mount")?;
    let told = said.iter().find(|event| event["event"] == "host-keys").context("there is no event with the keys")?;
    let key = told["keys"][0].as_str().context("the event has no key")?;
    ensure!(own.starts_with(key), "the key that is told is {key}, not {own}");
    let kept = inside(world, &format!("cat /mnt{OWN_KEY}.pub; ls /mnt/etc/ssh"))?;
    ensure!(kept.starts_with(own.trim()), "the key on {SSD} is another one: {kept}");
    ensure!(!kept.contains("rsa") && !kept.contains("ecdsa"), "keys of the card were added: {kept}");
    Ok(())
}
