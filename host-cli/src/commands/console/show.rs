//! What a Pi reports of itself, for a person.

use cygnet_protocol::online::diagnosis::without_counts;
use cygnet_protocol::online::line::ConsoleReport;
use cygnet_protocol::online::link::LinkState;
use cygnet_protocol::text::line;

/// In one row.
pub fn row(report: &ConsoleReport) -> String {
    let mut parts = vec![format!("{} {}", report.host, tail(&report.serial)), state(report)];
    parts.push(match (report.online, &report.via) {
        (true, Some(via)) => format!("online: {via}"),
        (true, None) => "online".into(),
        (false, _) => "offline".into(),
    });
    parts.extend(report.addresses.first().filter(|_| report.online).cloned());
    parts.extend(report.code.clone());
    line(&format!(" {}  (Ctrl-] quits)", parts.join(" | ")))
}

/// In as many lines as it takes, for a log.
pub fn text(report: &ConsoleReport) -> String {
    let mut text = row(report).replace("  (Ctrl-] quits)", "").trim_start().to_owned();
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("\n  {label:<9}{}", line(value)));
        }
    };
    let failing: Vec<&str> = report
        .links()
        .iter()
        .filter(|(_, state)| matches!(state, LinkState::Down | LinkState::Warning))
        .map(|(link, _)| link.title())
        .collect();
    line("fails", &failing.join(", "));
    line("what", &report.what);
    line("remedy", &report.remedy);
    line("next", &report.next);
    line("address", &report.addresses.join(" "));
    line("key", report.key.as_deref().unwrap_or_default());
    text
}

/// Whether nothing is different but numbers in the sentences, which count scans and seconds.
pub fn same(one: &ConsoleReport, other: &ConsoleReport) -> bool {
    let without_numbers = |report: &ConsoleReport| {
        let mut report = report.clone();
        for text in [&mut report.what, &mut report.next] {
            *text = without_counts(text);
        }
        report
    };
    without_numbers(one) == without_numbers(other)
}

fn state(report: &ConsoleReport) -> String {
    match (report.phase, report.percent) {
        (Some(phase), Some(percent)) => format!("{}: {} {percent} %", report.state, phase.name()),
        (Some(phase), None) => format!("{}: {}", report.state, phase.name()),
        (None, _) => report.state.clone(),
    }
}

fn tail(serial: &str) -> String {
    let skip = serial.chars().count().saturating_sub(8);
    serial.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::event::Phase;

    #[test]
    fn a_report_is_shown() {
        let mut report = ConsoleReport {
            serial: "10000000abcdef01".into(),
            host: "cygnet".into(),
            state: "receiving".into(),
            phase: Some(Phase::Receive),
            percent: Some(42),
            online: true,
            via: Some("wlan0 (“home”)".into()),
            addresses: vec!["192.0.2.7".into()],
            links: "uuuuuuuudpppppp".into(),
            ..ConsoleReport::default()
        };
        let shown = row(&report);
        assert_eq!(
            shown,
            " cygnet abcdef01 | receiving: receive 42 % | online: wlan0 (“home”) | 192.0.2.7  (Ctrl-] quits)"
        );
        let counted = ConsoleReport { what: "7 scans".into(), ..report.clone() };
        assert!(
            same(&counted, &ConsoleReport { what: "12 scans".into(), ..report.clone() }) && !same(&counted, &report)
        );
        report.what = "It is\u{1b}[2J bad.".into();
        report.online = false;
        let shown = text(&report);
        assert!(
            shown.starts_with("cygnet abcdef01 | receiving: receive 42 % | offline\n  fails    Association"),
            "{shown}"
        );
        assert!(shown.contains("  what     It is\u{fffd}[2J bad."), "{shown}");
    }
}
