//! What the announcement says. Pure.
//!
//! A TXT record is multicast to everybody, again and again, so it is kept under
//! 400 bytes (RFC 6763, section 6.2).

use cygnet_protocol::message::{PROTOCOL, Status};

/// The instance's name, which is the host's name in `.local` too: unique by the board's serial number.
///
/// In lower case, because mdns-sd repeats an announcement only if the name is.
pub fn name(serial: &str) -> String {
    let plain: Vec<char> = serial.chars().filter(char::is_ascii_alphanumeric).collect();
    let tail: String = plain.iter().skip(plain.len().saturating_sub(8)).collect();
    format!("cygnet-{}", if tail.is_empty() { "unknown".into() } else { tail.to_ascii_lowercase() })
}

/// The keys and values of the TXT record. Always in the same order: another order would be another record.
pub fn text(status: &Status) -> Vec<(&'static str, String)> {
    let network = status.network.as_ref();
    let diagnosis = network.and_then(|network| network.diagnosis.as_ref());
    let mut record: Vec<(&'static str, String)> = [
        ("proto", Some(PROTOCOL.to_string()), 8),
        ("version", Some(status.version.clone()), 24),
        ("state", Some(status.state.name().to_owned()), 16),
        ("online", network.map(|network| if network.online { "yes" } else { "no" }.to_owned()), 3),
        ("code", diagnosis.map(|diagnosis| diagnosis.code.name().to_owned()), 24),
        ("board", Some(status.board.clone()), 48),
        ("serial", Some(status.serial.clone()), 32),
        ("host", Some(status.host_name.clone()), 63),
        ("key", status.host_keys.first().cloned(), 80),
        ("job", status.job.as_ref().map(|job| job.digest.clone()), 12),
    ]
    .into_iter()
    .filter_map(|(key, value, most)| Some((key, cut(&value?, most))))
    .collect();
    // Words of a person's, so only if there is room for all of them.
    if let Some(claim) = &status.claim {
        let claim = ("claim", cut(claim, 63));
        if size(&record) + size(std::slice::from_ref(&claim)) <= LIMIT {
            record.push(claim);
        }
    }
    record
}

/// The most bytes of the record.
const LIMIT: usize = 400;

/// The bytes that a record of these takes.
fn size(text: &[(&str, String)]) -> usize {
    text.iter().map(|(key, value)| 1 + key.len() + 1 + value.len()).sum()
}

/// The beginning of `value`, `most` bytes at most.
pub fn cut(value: &str, most: usize) -> String {
    let mut kept = String::new();
    for c in value.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > most {
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::event::{JobStatus, Phase, State};
    use cygnet_protocol::online::diagnosis::{Code, Diagnosis};
    use cygnet_protocol::online::link::NetworkReport;

    fn status() -> Status {
        serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "host-name": "pi", "board": "Raspberry Pi 4 Model B Rev 1.5",
            "serial": "10000000A1B2C3D4", "system": "aarch64-linux", "state": {"state": "waiting"},
            "running-disk": null, "uptime-seconds": 1, "memory-total": 1, "memory-available": 1,
            "agent-peak-memory": 1,
        }))
        .unwrap()
    }

    #[test]
    fn the_name_is_of_the_serials_end() {
        assert_eq!(name("10000000A1B2C3D4"), "cygnet-a1b2c3d4");
        assert_eq!(name("ab"), "cygnet-ab");
        assert_eq!(name("../é.\0"), "cygnet-unknown");
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let keys: Vec<_> = text(&status()).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["proto", "version", "state", "board", "serial", "host"]);
    }

    #[test]
    fn the_diagnosis_is_said_by_its_code() {
        let mut status = status();
        let diagnosis = Diagnosis {
            link: Code::Isolated.link(),
            code: Code::Isolated,
            what: String::new(),
            cause: String::new(),
            remedy: String::new(),
            next: String::new(),
        };
        status.network = Some(NetworkReport { online: true, diagnosis: Some(diagnosis), ..NetworkReport::default() });
        let text = text(&status);
        assert!(text.contains(&("code", "W13-ISOLATED".into())) && text.contains(&("online", "yes".into())));
    }

    #[test]
    fn the_record_stays_small_whatever_the_board_is_called() {
        let mut status = status();
        status.version = "9".repeat(300);
        status.board = "é".repeat(300);
        status.serial = "s".repeat(300);
        status.host_name = "h".repeat(300);
        status.host_keys = vec!["k".repeat(300)];
        status.claim = Some("c".repeat(63));
        status.state = State::Interrupted { phase: Phase::Verify };
        status.job = Some(JobStatus {
            digest: "d".repeat(64),
            layout: String::new(),
            toplevel: String::new(),
            phase: Phase::Verify,
            resumable: true,
            paths_done: 0,
            bytes_done: 0,
            secrets: Vec::new(),
            extra_files: None,
        });
        let mut longest = 0;
        for code in Code::ALL {
            let diagnosis = serde_json::from_value(serde_json::json!({
                "link": "sdio", "code": code.name(), "what": "", "cause": "", "remedy": "", "next": ""
            }));
            status.network = Some(NetworkReport { diagnosis: Some(diagnosis.unwrap()), ..NetworkReport::default() });
            let text = text(&status);
            assert!(text.iter().any(|(_, value)| value == code.name()), "{} is cut", code.name());
            longest = longest.max(size(&text));
        }
        assert!(longest < LIMIT, "{longest}");
    }

    #[test]
    fn a_claim_is_said_where_there_is_room() {
        let mut status = status();
        status.claim = Some("mine".into());
        assert_eq!(text(&status).last(), Some(&("claim", "mine".into())));
    }

    #[test]
    fn no_control_character_is_sent() {
        assert_eq!(cut("a\x1b[2J\0é", 6), "a[2Jé");
        assert_eq!(cut("aé", 2), "a");
    }
}
