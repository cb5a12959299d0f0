//! Numbers as people read them, and durations as they write them.

use cygnet_protocol::text;
use std::time::Duration;

/// Bytes in decimal units, three digits: `1.23 GB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Time as `640 ms`, `3.2 s`, `2 min 05 s` or `1 h 02 min`.
pub fn duration(time: Duration) -> String {
    let millis = time.as_millis();
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{:.1} s", time.as_secs_f64().min(59.9)),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Milliseconds as [`duration`] shows them.
pub fn millis(time: u64) -> String {
    duration(Duration::from_millis(time))
}

/// Reads `500ms`, `5s`, `15m` or `1h`; a number alone is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no time; write 30s, 15m or 1h"))?;
    let unit = match unit.trim() {
        "ms" => return Ok(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        other => return Err(format!("{other:?} is no unit of time; write ms, s, m or h")),
    };
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(|| format!("{text:?} is too long a time"))
}

/// Reads a size as disko writes it: `32G`, `500M`, `1T`, binary units (`32GiB` is the same); a number alone is bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no size; write 32G, 500M or 1T"))?;
    let shift = match unit.strip_suffix("iB").unwrap_or(unit) {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        _ => return Err(format!("{unit:?} is no unit of size; write K, M, G, T or P")),
    };
    match number.checked_mul(1 << shift) {
        Some(0) => Err("a disk of nothing holds nothing; write 32G, 500M or 1T".to_owned()),
        Some(size) if size <= i64::MAX as u64 => Ok(size),
        _ => Err(format!("{text:?} is too large a size")),
    }
}

/// A table with columns as wide as their widest cell, two blanks between; nothing after the last.
pub fn table(rows: &[Vec<String>]) -> String {
    // Of whoever's words a cell is made: it is one cell of one line.
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| text::line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut all = String::new();
    for row in &rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        all.push_str(line.join("  ").trim_end());
        all.push('\n');
    }
    all
}

/// Reads `NAME=DEVICE`. Whether there is such a disk is for the layout to say.
pub fn parse_disk(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, device)) if !name.is_empty() && !device.is_empty() => Ok((name.to_owned(), device.to_owned())),
        _ => Err("give it as NAME=DEVICE, such as main=/dev/disk/by-id/usb-Samsung_T7-0:0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_994, "9.99 kB"),
            (9_996, "10.0 kB"),
            (99_949, "99.9 kB"),
            (99_960, "100 kB"),
            (999_600, "1.00 MB"),
            (1_230_000_000, "1.23 GB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        assert!(bytes(u64::MAX).ends_with(" PB"));
    }

    #[test]
    fn times_are_short() {
        for (time, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (3_210, "3.2 s"),
            (59_990, "59.9 s"),
            (125_000, "2 min 05 s"),
            (3_725_000, "1 h 02 min"),
        ] {
            assert_eq!(millis(time), text);
        }
    }

    #[test]
    fn times_are_read_with_their_units() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "s", "-1s", "5 parsecs", "99999999999999999999s", "18446744073709551615h", "1.5m"] {
            assert!(parse_duration(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn sizes_are_binary_as_disko_s() {
        assert_eq!(parse_size("32G"), Ok(32 << 30));
        assert_eq!(parse_size("1TiB"), Ok(1 << 40));
        assert_eq!(parse_size("512"), Ok(512));
        for bad in ["", "0", "G", "-1G", "1.5G", "32X", "32g", "9999999P", "99999999999999999999"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [vec!["NAME".into(), "X".into()], vec!["a".into(), "long".into()], vec!["é".into()]];
        assert_eq!(table(&rows), "NAME  X\na     long\né\n");
    }
}
