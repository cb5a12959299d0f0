//! Gives the networks and the country that the agent has to the new system, whose module `nixosModules.installed` may use
//! them. They are in a file for root only; no secret of it is in any message.

use super::{Installation, register::no_link};
use crate::card::replace;
use crate::online::settings::{CARD_AND_TYPED, SETTINGS, read};
use cygnet_protocol::fault::Fault;
use cygnet_protocol::online::settings::Settings;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

/// Where, below the target's root.
const CARRIED: &str = "var/lib/cygnet/carried.json";
/// What leads there.
const PARENTS: [(&str, u32); 3] = [("var", 0o755), ("var/lib", 0o755), ("var/lib/cygnet", 0o700)];

/// Does it. A system that is kept keeps what it has, unless ours was given later.
pub fn give_networks(installation: &Installation<'_>) -> Result<(), Fault> {
    let places = &installation.agent.places;
    let file = places.card.join(SETTINGS.trim_start_matches('/'));
    let settings = read(&file, &places.state).settings;
    let sources = std::iter::once(file).chain(CARD_AND_TYPED.iter().map(|name| places.state.join(name)));
    let given = sources.filter_map(|path| fs::metadata(path).ok()?.modified().ok()).max();
    let keeps = installation.job.plan.mode.keeps();
    match give(&places.target, settings, given, keeps) {
        Ok(None) => {}
        Ok(Some(text)) => drop(installation.task(text)),
        Err(error) => {
            return Err(installation.io_fault(&format!("writing {CARRIED} on the target"), &error));
        }
    }
    Ok(())
}

fn give(target: &Path, settings: Settings, given: Option<SystemTime>, keeps: bool) -> io::Result<Option<String>> {
    let settings = Settings { country: settings.country, networks: settings.networks, ..Settings::default() };
    if settings == Settings::default() {
        return Ok(None);
    }
    for (directory, mode) in PARENTS {
        let directory = target.join(directory);
        no_link(&directory)?;
        if !directory.is_dir() {
            fs::create_dir(&directory)?;
            // The umask would shut everybody out of /var.
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode))?;
        }
    }
    let path = target.join(CARRIED);
    let there = fs::symlink_metadata(&path).and_then(|meta| meta.modified()).ok();
    if let Some(there) = there
        && keeps
        && given.is_none_or(|given| given <= there)
    {
        return Ok(Some("The system on the disks keeps the networks that it was given before".into()));
    }
    replace(&path, &serde_json::to_vec_pretty(&settings)?, 0o600)?;
    let country = settings.country.map(|country| format!(" and the country {country}")).unwrap_or_default();
    Ok(Some(format!(
        "{} network(s){country} of the card given to the new system, in /{CARRIED}",
        settings.networks.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    fn settings() -> Settings {
        Settings::parse(
            br#"{"country":"DE","networks":[{"ssid":"a","passphrase":"correct horse"}],"console":{"shell":true}}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_networks_are_given_and_never_told() {
        let target = tempfile::tempdir().unwrap();
        assert_eq!(give(target.path(), Settings::default(), None, false).unwrap(), None);
        let told = give(target.path(), settings(), None, false).unwrap().unwrap();
        assert!(told.starts_with("1 network(s) and the country DE") && !told.contains("horse"), "{told}");
        let path = target.path().join(CARRIED);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let carried = Settings::parse(&fs::read(&path).unwrap()).unwrap();
        assert!(carried.networks.len() == 1 && !carried.console.shell);
    }

    #[test]
    fn a_kept_system_keeps_what_is_newer() {
        let target = tempfile::tempdir().unwrap();
        give(target.path(), settings(), None, false).unwrap();
        let path = target.path().join(CARRIED);
        fs::write(&path, "theirs").unwrap();
        let then = fs::metadata(&path).unwrap().modified().unwrap();
        give(target.path(), settings(), Some(then - Duration::from_secs(9)), true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        give(target.path(), settings(), Some(then + Duration::from_secs(9)), true).unwrap();
        assert_ne!(fs::read(&path).unwrap(), b"theirs");
    }

    #[test]
    fn a_link_is_not_followed() {
        let target = tempfile::tempdir().unwrap();
        fs::create_dir(target.path().join("var")).unwrap();
        symlink("/var/lib", target.path().join("var/lib")).unwrap();
        assert!(give(target.path(), settings(), None, false).is_err());
    }
}
