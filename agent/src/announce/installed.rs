//! What the installed system says: that it is installed, which system it is, and its ssh host key. Then it steps aside.
//!
//! There is no agent behind it: nothing that is announced here takes requests. It is `cygnetd announce --installed`, which
//! `cygnet-installed.service` runs for some minutes after each start.

use super::text::{cut, name};
use super::{AGAIN, IP_CHECK, goodbye, nudge, register};
use crate::identity::{self, Identity};
use cygnet_protocol::event::State;
use cygnet_protocol::message::PROTOCOL;
use mdns_sd::{DaemonEvent, ServiceDaemon};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// The longest that may be asked for: a day.
const MOST: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is looked whether there are other addresses or host keys than were said: both may come late.
const LOOK: Duration = Duration::from_secs(1);
/// Where sshd's host keys are.
const HOST_KEYS: &str = "/etc/ssh";

/// Reads `90s`, `10m`, `2h`: up to a day, but not nothing.
pub fn patience(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        _ => return None,
    };
    let number = number.bytes().all(|digit| digit.is_ascii_digit()).then(|| number.parse::<u64>().ok())??;
    let patience = Duration::from_secs(number.checked_mul(seconds)?);
    (!patience.is_zero() && patience <= MOST).then_some(patience)
}

/// Announces for so long, or until SIGTERM or SIGINT. `toplevel` is a link to the system that runs.
pub fn run(toplevel: &Path, patience: Duration) -> ExitCode {
    let result = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string());
    match result.and_then(|runtime| runtime.block_on(live(toplevel, patience)).map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::say::err(&format!("cygnetd: announcing that the system is installed: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn live(toplevel: &Path, patience: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let identity = Identity::read();
    let name = name(&identity.serial);
    let daemon = ServiceDaemon::new()?;
    daemon.set_ip_check_interval(IP_CHECK)?;
    daemon.set_multicast_loop_v4(false)?;
    daemon.set_multicast_loop_v6(false)?;
    let monitor = daemon.monitor()?;
    nudge(&daemon)?;
    let mut ends = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let end = tokio::time::Instant::now() + patience;
    let (mut said, mut next) = (None, Instant::now());
    loop {
        let on_trial = Path::new(crate::boot::trial::ON_TRIAL).exists();
        let text = text(&identity, &identity::host_keys(Path::new(HOST_KEYS)), hash(toplevel).as_deref(), on_trial);
        // mdns-sd, which looks by itself ([`IP_CHECK`]), has taken an address up, or let go of one. Only what is registered then
        // is announced with it.
        if monitor.try_iter().filter(|event| matches!(event, DaemonEvent::IpAdd(_) | DaemonEvent::IpDel(_))).count() > 0
        {
            next = Instant::now();
        }
        if said.as_ref() != Some(&text) || Instant::now() >= next {
            register(&daemon, &name, &text)?;
            said = Some(text);
            next = Instant::now() + AGAIN;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = tokio::time::sleep_until(end) => break,
            _ = ends.0.recv() => break,
            _ = ends.1.recv() => break,
        }
    }
    goodbye(&daemon, &name);
    Ok(())
}

/// The hash part of the store path that the link leads to: enough to know the system by, and short enough for a TXT record.
fn hash(link: &Path) -> Option<String> {
    let path: PathBuf = std::fs::read_link(link).ok()?;
    let name = path.file_name()?.to_str()?;
    let (hash, _) = name.split_once('-')?;
    (hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())).then(|| hash.to_owned())
}

/// The TXT record; the same keys as the agent's, `toplevel`, and `trial` while nobody has confirmed it.
fn text(
    identity: &Identity,
    host_keys: &[String],
    toplevel: Option<&str>,
    on_trial: bool,
) -> Vec<(&'static str, String)> {
    [
        ("proto", Some(PROTOCOL.to_string()), 8),
        ("version", Some(env!("CARGO_PKG_VERSION").to_owned()), 24),
        ("state", Some(State::Installed.name().to_owned()), 16),
        ("board", Some(identity.board.clone()), 48),
        ("serial", Some(identity.serial.clone()), 32),
        ("host", Some(identity.host_name.clone()), 63),
        ("key", host_keys.first().cloned(), 80),
        ("toplevel", toplevel.map(ToOwned::to_owned), 32),
        ("trial", on_trial.then(|| "yes".to_owned()), 3),
    ]
    .into_iter()
    .filter_map(|(key, value, most)| Some((key, cut(&value?, most))))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_long() {
        assert_eq!(patience("90s"), Some(Duration::from_secs(90)));
        assert_eq!(patience("10m"), Some(Duration::from_secs(600)));
        assert_eq!(patience("24h"), Some(MOST));
        for bad in ["", "m", "10", "0m", "25h", "-1m", "+1m", "1 m", "1d", "99999999999999999999h", "é"] {
            assert_eq!(patience(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_system_is_known_by_its_hash() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("current-system");
        assert_eq!(hash(&link), None);
        std::os::unix::fs::symlink("/nix/store/956qdm59yfw09wqyfcl1czijdr2qs9rk-nixos-system-pi-26.05", &link).unwrap();
        assert_eq!(hash(&link).as_deref(), Some("956qdm59yfw09wqyfcl1czijdr2qs9rk"));
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/nix/store/../etc-passwd", &link).unwrap();
        assert_eq!(hash(&link), None);
    }

    #[test]
    fn the_record_stays_small() {
        let long = || "é".repeat(300);
        let identity = Identity { host_name: long(), board: long(), serial: long(), system: String::new() };
        let text = text(&identity, &[long()], Some(&"9".repeat(32)), true);
        let size: usize = text.iter().map(|(key, value)| 2 + key.len() + value.len()).sum();
        assert!(size < 400, "{size}");
        assert!(text.contains(&("state", "installed".into())) && text.contains(&("trial", "yes".into())));
    }
}
