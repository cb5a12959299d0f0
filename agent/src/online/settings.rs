//! What the user gave us: the settings file, what was on the card's FAT partition ([`crate::card`]), and the networks that
//! were typed on the console.
//!
//! All three files have the same form. What was given on the card is newer than what has the same name in the settings,
//! and what was typed on the console is newer still; so with the country.

use crate::card::{CARD, replace};
use cygnet_protocol::online::observation::{KeyKind, KnownNetwork};
use cygnet_protocol::online::settings::{Key, MAX_NETWORKS, Network, Settings};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The settings file.
pub const SETTINGS: &str = "/etc/cygnet/settings.json";
/// The networks typed on the console, in the agent's state directory.
pub const TYPED: &str = "networks.json";

/// The most bytes of such a file.
const LIMIT: u64 = 1024 * 1024;

/// What is wrong with a file, for a person. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What happened.
    pub what: String,
    /// The likely cause.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}", self.what, self.cause, self.remedy)
    }
}

impl std::error::Error for Problem {}

/// All that was given.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Given {
    /// All files in one; networks best first.
    pub settings: Settings,
    /// What could not be read. The rest is used all the same.
    pub problems: Vec<Problem>,
}

/// Reads the settings file and those in the agent's state directory. One that is not there is as good as an empty one.
pub fn read(settings: &Path, state: &Path) -> Given {
    let mut problems = Vec::new();
    let mut read = |path: &Path| {
        load(path).unwrap_or_else(|problem| {
            problems.push(problem);
            Settings::default()
        })
    };
    let (given, card, typed) = (read(settings), read(&state.join(CARD)), read(&state.join(TYPED)));
    Given { settings: merge(merge(given, card), typed), problems }
}

fn merge(mut settings: Settings, typed: Settings) -> Settings {
    settings.country = typed.country.or(settings.country);
    settings.networks.retain(|network| typed.networks.iter().all(|newer| newer.ssid != network.ssid));
    // Of the same priority, what was typed is tried first: it was given because the others did not do.
    settings.networks.splice(0..0, typed.networks);
    settings.networks.sort_by_key(|network| std::cmp::Reverse(network.priority));
    settings
}

/// Adds a network to those typed on the console, before all others, instead of one of the same name; and the country.
///
/// The file is replaced as a whole, and is on the disk when this returns.
///
/// # Errors
/// If it can't be written. A file that can't be read is replaced; it would be of no use to anybody.
pub fn remember(typed: &Path, network: Network, country: Option<&str>) -> Result<(), Problem> {
    let mut all = load(typed).unwrap_or_default();
    all.networks.retain(|known| known.ssid != network.ssid);
    all.networks.insert(0, network);
    all.networks.truncate(MAX_NETWORKS);
    if let Some(country) = country {
        all.country = Some(country.to_owned());
    }
    write(typed, &all).map_err(|error| Problem {
        what: format!("The network could not be saved in {}", typed.display()),
        cause: error.to_string(),
        remedy: "It is used until the next boot. See whether the card is full or write-protected.".into(),
    })
}

/// The networks without their keys.
pub fn known(networks: &[Network]) -> Vec<KnownNetwork> {
    let kind = |key: &Key| match key {
        Key::Open => KeyKind::Open,
        Key::Passphrase(_) => KeyKind::Passphrase,
        Key::Pmk(_) => KeyKind::Pmk,
    };
    let known = |network: &Network| KnownNetwork {
        ssid: network.ssid.clone(),
        key: kind(&network.key),
        hidden: network.hidden,
    };
    networks.iter().map(known).collect()
}

fn load(path: &Path) -> Result<Settings, Problem> {
    let json = match read_limited(path) {
        Ok(Some(json)) => json,
        Ok(None) => return Ok(Settings::default()),
        Err(error) => {
            return Err(Problem {
                what: format!("{} can't be read, so its networks are not used", path.display()),
                cause: error.to_string(),
                remedy: "Write it again, as a plain file of at most 1 MiB.".into(),
            });
        }
    };
    Settings::parse(&json).map_err(|error| Problem {
        what: format!("{} is not used", path.display()),
        cause: error.to_string(),
        remedy: "Correct that in the file and start this machine again, or enter the network on the console (key n)."
            .into(),
    })
}

fn read_limited(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Of something that is no file, reading might never end, nor opening.
    match fs::metadata(path) {
        Ok(about) if !about.is_file() => return Err(io::Error::other("it is not a plain file")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut json = Vec::new();
    File::open(path)?.take(LIMIT + 1).read_to_end(&mut json)?;
    if u64::try_from(json.len()).is_ok_and(|length| length > LIMIT) {
        return Err(io::Error::other("it has more than 1 MiB"));
    }
    Ok(Some(json))
}

fn write(path: &Path, settings: &Settings) -> io::Result<()> {
    replace(path, &serde_json::to_vec_pretty(settings)?, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::online::ssid::Ssid;
    use std::os::unix::fs::PermissionsExt;

    fn network(name: &str, passphrase: &str, priority: i32) -> Network {
        let ssid = Ssid::new(name).unwrap();
        Network { ssid, key: Key::Passphrase(passphrase.into()), hidden: false, priority }
    }

    #[test]
    fn what_was_typed_wins_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (settings, state) = (dir.path().join("settings.json"), dir.path().join("state"));
        let typed = state.join(TYPED);
        assert_eq!(read(&settings, &state), Given::default());
        let json = br#"{"country":"DE","networks":[{"ssid":"a","passphrase":"first one","priority":1},
            {"ssid":"b","passphrase":"second one","priority":9},{"ssid":"c","passphrase":"third one"}]}"#;
        fs::write(&settings, json).unwrap();
        remember(&typed, network("c", "typed before", 0), None).unwrap();
        remember(&typed, network("a", "typed later", 0), Some("FR")).unwrap();
        remember(&typed, network("c", "typed last", 0), None).unwrap();
        let card = br#"{"country":"AT","networks":[{"ssid":"b","passphrase":"of the card","priority":9},
            {"ssid":"c","passphrase":"typed anew anyway","priority":99}]}"#;
        fs::write(state.join(CARD), card).unwrap();
        let given = read(&settings, &state);
        assert_eq!(given.problems, []);
        assert_eq!(given.settings.country.as_deref(), Some("FR"));
        let expected = [network("b", "of the card", 9), network("c", "typed last", 0), network("a", "typed later", 0)];
        assert_eq!(given.settings.networks, expected);
        assert_eq!(fs::metadata(&typed).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(known(&given.settings.networks).iter().all(|known| known.key == KeyKind::Passphrase));
    }

    #[test]
    fn one_bad_file_does_not_take_the_other_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (settings, typed) = (dir.path().join("settings.json"), dir.path().join(TYPED));
        remember(&typed, network("a", "passphrase", 0), None).unwrap();
        for bad in [&br#"{"networks":[{"ssid":"x","passphrase":"hunter2"}]}"#[..], b"\xff", &vec![b' '; 1 << 21]] {
            fs::write(&settings, bad).unwrap();
            let given = read(&settings, dir.path());
            assert_eq!((given.settings.networks.len(), given.problems.len()), (1, 1));
            assert!(!given.problems[0].to_string().contains("hunter2"), "{}", given.problems[0]);
        }
        let given = read(dir.path(), dir.path());
        assert!(given.problems[0].cause.contains("plain file"), "{}", given.problems[0]);
    }

    #[test]
    fn what_can_not_be_saved_is_told() {
        let problem =
            remember(Path::new("/proc/nowhere/networks.json"), network("a", "passphrase", 0), None).unwrap_err();
        assert!(problem.to_string().contains("could not be saved") && !problem.to_string().contains("passphrase"));
    }
}
