//! What a disk says of its health: `smartctl --json`. Pure.

use cygnet_protocol::disks::{Health, Verdict};
use serde_json::Value;

/// What is run; the path goes to the end. It ends with a bit mask that says little about success (smartctl(8)).
pub const COMMAND: [&str; 4] = ["smartctl", "--json=c", "--health", "--attributes"];

/// Nobody could ask, and why.
pub fn unknown(why: impl Into<String>) -> Health {
    Health { why: Some(why.into()), ..Health::default() }
}

/// Reads the JSON that smartctl prints, whatever it ended with.
pub fn parse(text: &str) -> Health {
    let Ok(answer) = serde_json::from_str::<Value>(text) else {
        return unknown("smartctl said nothing that can be understood");
    };
    let number = |pointer: &str| answer.pointer(pointer).and_then(Value::as_u64);
    let mut health = Health {
        celsius: answer.pointer("/temperature/current").and_then(Value::as_i64),
        hours: number("/power_on_time/hours"),
        worn_percent: number("/nvme_smart_health_information_log/percentage_used"),
        ..Health::default()
    };
    match answer.pointer("/smart_status/passed").and_then(Value::as_bool) {
        Some(true) => health.verdict = Verdict::Passed,
        Some(false) => {
            health.verdict = Verdict::Failing;
            health.why = Some("the disk expects to fail soon".to_owned());
        }
        None => {
            let said = answer.pointer("/smartctl/messages/0/string").and_then(Value::as_str);
            health.why = Some(said.map_or("the disk, or its USB adapter, does not tell".to_owned(), printable));
        }
    }
    if number("/nvme_smart_health_information_log/critical_warning").is_some_and(|bits| bits != 0) {
        health.verdict = Verdict::Failing;
        health.why = Some("the disk warns that it is worn out, too hot, or read-only".to_owned());
    }
    health
}

fn printable(text: &str) -> String {
    crate::run::printable(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nvme_disk_tells_its_wear_and_what_it_warns_of() {
        let log = |warning: u64| {
            serde_json::json!({
                "smart_status": {"passed": true}, "temperature": {"current": 41}, "power_on_time": {"hours": 8123},
                "nvme_smart_health_information_log": {"critical_warning": warning, "percentage_used": 3},
            })
            .to_string()
        };
        let health = parse(&log(0));
        assert_eq!(health.verdict, Verdict::Passed);
        assert_eq!((health.celsius, health.hours, health.worn_percent), (Some(41), Some(8123), Some(3)));
        assert_eq!(parse(&log(4)).verdict, Verdict::Failing);
    }

    #[test]
    fn why_nothing_is_known_is_told() {
        let bridge = r#"{"smartctl":{"exit_status":1,"messages":[{"string":"/dev/sda: Unknown USB bridge [0x152d:0x0583 (0x209)]","severity":"error"}]}}"#;
        let health = parse(bridge);
        assert_eq!(health.verdict, Verdict::Unknown);
        assert!(health.why.unwrap().contains("Unknown USB bridge"));
        assert!(parse("{}").why.unwrap().contains("does not tell"));
        assert_eq!(parse("").verdict, Verdict::Unknown);
        assert_eq!(parse(r#"{"smart_status":{"passed":false}}"#).verdict, Verdict::Failing);
    }
}
