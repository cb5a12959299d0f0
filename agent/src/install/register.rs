//! Enters the received paths into the target's Nix database, and makes the system profile point at the new system.

use super::{Installation, Outcome, carry, extra, provenance};
use crate::identity;
use crate::journal::Journal;
use crate::run::command;
use crate::store::database;
use cygnet_protocol::event::{EventKind, Phase};
use cygnet_protocol::fault::{Fault, FaultCode};
use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Feeds `nix-store --load-db`, which knows the schema, with a record a path, in the order they came.
pub fn register(installation: &Installation<'_>) -> Result<Outcome, Fault> {
    let agent = installation.agent;
    let target = &agent.places.target;
    for directory in OURS {
        no_link(&target.join(directory))
            .map_err(|e| installation.io_fault("looking at the target's directories", &e))?;
    }
    let known = already(installation)?;
    let (mut reader, mut writer) = io::pipe().map_err(|e| installation.io_fault("making a pipe", &e))?;
    let mut nix = command("nix-store");
    nix.args(["--load-db", "--store"]).arg(database::store(target));
    let state = agent.places.state.clone();
    let written = std::thread::spawn(move || {
        Journal::paths(&state, |info| match known.contains(&database::key(&info)) {
            true => Ok(()),
            false => writer.write_all(info.registration().as_bytes()),
        })
    });
    installation
        .runner(Phase::Register)
        .drive(nix, Some(&mut reader))
        .map_err(|error| error.fault(FaultCode::StepFailed, "Registering the store paths"))?;
    drop(reader);
    match written.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(installation.io_fault("reading the journal", &error)),
        Err(_) => {
            return Err(Fault::internal("Registering the store paths failed.", "the reader of the journal stopped"));
        }
    }
    provenance::keep(installation);
    profile(target, &installation.job.closure.toplevel)
        .map_err(|e| installation.io_fault("linking the system profile", &e))?;
    skeleton(target).map_err(|e| installation.io_fault("preparing the target's root", &e))?;
    if installation.job.options.keep_host_key {
        give_host_key(installation)?;
    }
    if installation.job.options.carry_networks {
        carry::give_networks(installation)?;
    }
    // Last, so that they win over what we have put there.
    extra::lay(installation)?;
    Ok(Outcome::Done)
}

/// What need not be registered again, by [`database::key`].
///
/// A system that is kept keeps its database, with its generations; `--load-db` adds to it in one transaction (SQLite), so
/// an abort leaves it as it was. Otherwise the journal has every path, and a database that an abort or a power cut left
/// half-made is made anew.
fn already(installation: &Installation<'_>) -> Result<HashSet<[u8; 32]>, Fault> {
    let agent = installation.agent;
    let target = &agent.places.target;
    let mut known = HashSet::new();
    if installation.job.plan.mode.keeps() && database::is_there(target) {
        database::registered(target, &agent.cancel, &mut |info| {
            known.insert(database::key(&info));
        })?;
        return Ok(known);
    }
    let directory = database::directory(target);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(installation.io_fault(&format!("removing {}", directory.display()), &error))
        }
        _ => Ok(known),
    }
}

/// Gives the card's ssh host keys to the new system, unless a system that is kept has its own: they cannot be had again.
///
/// Then the client hears which they are: it pins the card's otherwise.
fn give_host_key(installation: &Installation<'_>) -> Result<(), Fault> {
    let from = Path::new("/etc/ssh");
    let to = installation.agent.places.target.join("etc/ssh");
    let own = match installation.job.plan.mode.keeps() {
        true => has_host_keys(&to).map_err(|e| installation.io_fault("looking for ssh host keys", &e))?,
        false => false,
    };
    if !own {
        let kept = host_keys(from, &to).map_err(|e| installation.io_fault("copying the ssh host keys", &e))?;
        installation.task(format!("{kept} ssh host key file(s) of the card given to the new system"));
        return Ok(());
    }
    let keys = public_keys(&to);
    if !keys.is_empty() && keys == public_keys(from) {
        installation.task("The system on the disks has the card's ssh host keys already");
        return Ok(());
    }
    let names = match identity::host_keys(&to) {
        none if none.is_empty() => "its public keys cannot be read".to_owned(),
        names => names.join(", "),
    };
    installation.warn(format!(
        "The system on the disks has ssh host keys of its own ({names}). They stay, so the new system answers with those \
         and not with the card's; `ssh-keygen -R HOST` makes your ssh forget the card's."
    ));
    installation.agent.log.emit(Some(Phase::Register), EventKind::HostKeys { keys });
    Ok(())
}

/// The host keys of which the public half is a plain file here, without comments, sorted.
pub(super) fn public_keys(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    let public = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        is_host_key(&name) && name.ends_with(".pub") && entry.file_type().is_ok_and(|kind| kind.is_file())
    };
    let mut keys: Vec<String> = names
        .filter(public)
        .filter_map(|entry| {
            let mut text = String::new();
            fs::File::open(entry.path()).ok()?.take(MAX_KEY).read_to_string(&mut text).ok()?;
            let mut words = text.split_whitespace();
            Some(format!("{} {}", words.next()?, words.next()?))
        })
        .collect();
    keys.sort();
    keys
}

/// The longest public key that is read, bytes; RSA with 16384 bits has less than 3000.
const MAX_KEY: u64 = 8192;

/// Where this phase writes, parents first.
const OURS: [&str; 7] = ["etc", "etc/ssh", "tmp", "nix", "nix/var", "nix/var/nix", "nix/var/nix/profiles"];

/// A link that an earlier activation made would lead, seen from here, into the card's own file system.
pub(super) fn no_link(directory: &Path) -> io::Result<()> {
    match fs::symlink_metadata(directory) {
        Ok(meta) if meta.is_symlink() => {
            Err(io::Error::other(format!("{} is a link, which may lead out of the target", directory.display())))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `system` → `system-N-link` → toplevel, as `nix-env --set` leaves it (nix-env(1), profiles).
fn profile(target: &Path, toplevel: &str) -> io::Result<()> {
    let profiles = target.join("nix/var/nix/profiles");
    fs::create_dir_all(&profiles)?;
    let mut latest = None;
    for entry in fs::read_dir(&profiles)? {
        latest = latest.max(generation(&entry?.file_name().to_string_lossy()));
    }
    let number = match latest {
        None => 1,
        Some(n)
            if fs::read_link(profiles.join(format!("system-{n}-link"))).is_ok_and(|to| to == Path::new(toplevel)) =>
        {
            n
        }
        Some(n) => n + 1,
    };
    let link = format!("system-{number}-link");
    replace_link(toplevel, &profiles.join(&link))?;
    replace_link(&link, &profiles.join("system"))
}

/// The number of a generation; older ones may be gone, and a number is not used twice (libstore/profiles.cc).
fn generation(name: &str) -> Option<u64> {
    let number = name.strip_prefix("system-")?.strip_suffix("-link")?;
    number.parse::<u32>().ok().map(u64::from)
}

fn replace_link(to: &str, at: &Path) -> io::Result<()> {
    let mut fresh = at.as_os_str().to_owned();
    fresh.push(".new");
    match fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    symlink(to, &fresh)?;
    fs::rename(&fresh, at)
}

/// What `nixos-install` leaves in a new root (nixos-install.sh): the marker, mtab, a /tmp for all.
fn skeleton(target: &Path) -> io::Result<()> {
    let etc = target.join("etc");
    fs::create_dir_all(&etc)?;
    fs::set_permissions(&etc, fs::Permissions::from_mode(0o755))?;
    fs::OpenOptions::new().create(true).append(true).open(etc.join("NIXOS"))?;
    replace_link("/proc/mounts", &etc.join("mtab"))?;
    let tmp = target.join("tmp");
    fs::create_dir_all(&tmp)?;
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777))
}

/// Whether a file of this name is an ssh host key, private or public.
pub(super) fn is_host_key(name: &str) -> bool {
    name.starts_with("ssh_host_") && (name.ends_with("_key") || name.ends_with("_key.pub"))
}

/// Whether there are host keys; links to them count, wherever they lead in the new system.
fn has_host_keys(directory: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if is_host_key(&name.to_string_lossy()) && name.to_string_lossy().ends_with("_key") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Copies sshd's host keys, so that the key the user has pinned stays right; returns how many files.
fn host_keys(from: &Path, to: &Path) -> io::Result<usize> {
    let mut kept = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if !is_host_key(&text) {
            continue;
        }
        fs::create_dir_all(to)?;
        let copy = to.join(&name);
        let secret = text.ends_with("_key");
        let mut file = fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut file, if secret { 0o600 } else { 0o644 });
        match fs::remove_file(&copy) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = file.create_new(true).write(true).open(&copy)?;
        file.write_all(&fs::read(entry.path())?)?;
        file.sync_all()?;
        kept += 1;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-a";
    const B: &str = "/nix/store/1c5b8vw40dy178xlpddw65q9gf1h2186-b";

    #[test]
    fn a_second_system_gets_the_next_generation() {
        let root = tempfile::tempdir().unwrap();
        let link = |name: &str| fs::read_link(root.path().join("nix/var/nix/profiles").join(name)).unwrap();
        profile(root.path(), A).unwrap();
        profile(root.path(), A).unwrap();
        assert_eq!((link("system"), link("system-1-link")), ("system-1-link".into(), A.into()));
        profile(root.path(), B).unwrap();
        assert_eq!((link("system"), link("system-2-link")), ("system-2-link".into(), B.into()));
    }

    #[test]
    fn old_generations_stay_and_no_number_is_used_twice() {
        let root = tempfile::tempdir().unwrap();
        let profiles = root.path().join("nix/var/nix/profiles");
        fs::create_dir_all(profiles.join("per-user/root")).unwrap();
        for name in ["system-7-link", "system-9-link", "system-99999999999999999999-link", "other-12-link"] {
            symlink(A, profiles.join(name)).unwrap();
        }
        symlink("system-7-link", profiles.join("system")).unwrap();
        profile(root.path(), B).unwrap();
        let link = |name: &str| fs::read_link(profiles.join(name)).unwrap();
        assert_eq!((link("system"), link("system-10-link")), ("system-10-link".into(), B.into()));
        assert_eq!((link("system-7-link"), link("system-9-link")), (A.into(), A.into()));
        // As after a power cut, and after an older one was chosen.
        profile(root.path(), B).unwrap();
        profile(root.path(), A).unwrap();
        assert_eq!((link("system"), link("system-11-link")), ("system-11-link".into(), A.into()));
    }

    #[test]
    fn a_kept_system_is_known_by_its_private_keys() {
        let root = tempfile::tempdir().unwrap();
        assert!(!has_host_keys(&root.path().join("none")).unwrap());
        fs::write(root.path().join("ssh_host_ed25519_key.pub"), "").unwrap();
        fs::write(root.path().join("ssh_config"), "").unwrap();
        assert!(!has_host_keys(root.path()).unwrap());
        symlink("/persist/key", root.path().join("ssh_host_rsa_key")).unwrap();
        symlink("/persist/key.pub", root.path().join("ssh_host_rsa_key.pub")).unwrap();
        fs::write(root.path().join("ssh_host_ecdsa_key.pub"), "ecdsa AAAA root@old\n").unwrap();
        assert_eq!(public_keys(root.path()), ["ecdsa AAAA"]);
        assert!(has_host_keys(root.path()).unwrap());
    }

    #[test]
    fn a_link_out_of_the_target_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        symlink("/etc/ssh", root.path().join("etc/ssh")).unwrap();
        assert!(no_link(&root.path().join("etc")).is_ok() && no_link(&root.path().join("tmp")).is_ok());
        assert!(no_link(&root.path().join("etc/ssh")).is_err());
    }

    #[test]
    fn host_keys_are_copied_with_their_modes_and_nothing_else_is() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir(&from).unwrap();
        for name in ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub", "sshd_config"] {
            fs::write(from.join(name), name).unwrap();
        }
        assert_eq!(host_keys(&from, &to).unwrap(), 2);
        assert_eq!(host_keys(&from, &to).unwrap(), 2);
        let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("ssh_host_ed25519_key"), mode("ssh_host_ed25519_key.pub")), (0o600, 0o644));
        assert!(!to.join("sshd_config").exists());
        skeleton(root.path()).unwrap();
        assert!(root.path().join("etc/NIXOS").exists());
    }
}
