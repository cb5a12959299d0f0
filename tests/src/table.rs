//! The table at the end of the demo.

use serde_json::Value;

/// Renders the demo's report for a person.
pub fn render(report: &Value) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    for step in list(&report["host"]) {
        rows.push((text(&step["step"]), seconds(&step["millis"])));
    }
    for phase in list(&report["install"]["phases"]) {
        rows.push((format!("    {}", text(&phase["phase"])), seconds(&phase["took"])));
    }
    if !report["install"]["reboot-millis"].is_null() {
        rows.push(("    reboot until the new system answers".into(), seconds(&report["install"]["reboot-millis"])));
    }
    rows.push(("In all".into(), seconds(&report["total-millis"])));
    let sent = &report["install"]["sent"];
    rows.push(("Store paths sent".into(), sent["paths-sent"].to_string()));
    rows.push(("NAR bytes".into(), megabytes(&sent["nar-bytes"])));
    rows.push(("Bytes on the wire".into(), megabytes(&sent["wire-bytes"])));
    rows.push(("Agent, peak memory".into(), megabytes(&report["install"]["agent-peak-memory"])));
    rows.push(("Agent, size of the binary".into(), megabytes(&report["agent-binary-size"])));
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = "─".repeat(width + 14);
    let body: String = rows.iter().map(|(name, value)| format!("{name:<width$}  {value:>12}\n")).collect();
    format!("\n{line}\n{body}{line}\n")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

fn seconds(value: &Value) -> String {
    value.as_f64().map_or("?".into(), |millis| format!("{:.1} s", millis / 1000.0))
}

fn megabytes(value: &Value) -> String {
    value.as_f64().map_or("?".into(), |bytes| format!("{:.2} MB", bytes / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_said_to_be() {
        let report =
            json!({"host": [{"step": "Boot", "millis": 28_400}], "install": {"phases": []}, "total-millis": 60_000});
        let table = render(&report);
        assert!(table.contains("Boot") && table.contains("28.4 s") && table.contains("60.0 s") && table.contains('?'));
    }
}
