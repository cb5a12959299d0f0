//! Sizes and positions in disko's and sgdisk's notation.

/// Where a partition starts or ends, in logical sectors, as sgdisk reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// `0`, `+0`, `-0`: sgdisk's default.
    Default,
    /// `n`.
    Absolute(u64),
    /// `+n`.
    Plus(u64),
    /// `-n`.
    Minus(u64),
}

/// disko's partition `size`: `[0-9]+[KMGTP]?` or `100%`.
pub(crate) fn is_size(text: &str) -> bool {
    text == "100%" || matches!(split(text), Some((_, "" | "K" | "M" | "G" | "T" | "P")))
}

/// A number and the letters behind it.
fn split(text: &str) -> Option<(u64, &str)> {
    let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    // `parse` alone would take a sign.
    let number = if digits.is_empty() { None } else { digits.parse().ok() };
    number.filter(|_| unit.bytes().all(|c| c.is_ascii_alphabetic())).map(|number| (number, unit))
}

/// How far a unit shifts a number of bytes; sectors are `None`. As in sgdisk (`IeeeToInt()` in support.cc of gptfdisk) the
/// first letter counts, in either case, and the others are passed over: `MiB` is `M`, and so is `MB`. Letters that sgdisk
/// takes for sectors because it does not know them are none here.
fn shift(unit: &str) -> Option<Option<u32>> {
    Some(match unit.bytes().next().map(|letter| letter.to_ascii_uppercase()) {
        None | Some(b'S') => None,
        Some(b'K') => Some(10),
        Some(b'M') => Some(20),
        Some(b'G') => Some(30),
        Some(b'T') => Some(40),
        Some(b'P') => Some(50),
        Some(b'E') => Some(60),
        Some(_) => return None,
    })
}

/// Reads `start` or `end`. `None` for another notation, a number beyond 2^63 bytes, or less than one sector.
pub(crate) fn place(text: &str, sector_bytes: u32) -> Option<Place> {
    let (sign, rest) = match text.strip_prefix('+') {
        Some(rest) => ('+', rest),
        None => text.strip_prefix('-').map_or((' ', text), |rest| ('-', rest)),
    };
    let (number, unit) = split(rest)?;
    let sectors = match shift(unit)? {
        None => number,
        Some(shift) => number.checked_mul(1 << shift)? / u64::from(sector_bytes.max(1)),
    };
    if sectors.checked_mul(u64::from(sector_bytes))? > i64::MAX as u64 {
        return None;
    }
    if number > 0 && sectors == 0 {
        return None;
    }
    Some(match (sign, sectors) {
        (_, 0) => Place::Default,
        ('+', n) => Place::Plus(n),
        ('-', n) => Place::Minus(n),
        (_, n) => Place::Absolute(n),
    })
}

/// A position as parted reads it: a number, perhaps negative or with a fraction, and a unit.
pub(crate) fn is_parted_position(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
    let unit = text.get(number.len()..).unwrap_or_default();
    const UNITS: [&str; 20] = [
        "", "%", "s", "b", "k", "m", "g", "t", "p", "kb", "mb", "gb", "tb", "pb", "kib", "mib", "gib", "tib", "pib",
        "cyl",
    ];
    let digits = |part: &str| !part.is_empty() && part.len() < 19 && part.bytes().all(|c| c.is_ascii_digit());
    let good = match number.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(number),
    };
    good && UNITS.contains(&unit.to_ascii_lowercase().as_str())
}

/// A size as lvcreate(8) and btrfs(8) read it, or a percentage that disko understands: `50%`, `100%FREE`, `30%VG`.
pub(crate) fn is_lvm_size(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.len() < 19 && part.bytes().all(|c| c.is_ascii_digit());
    if let Some((number, of)) = text.split_once('%') {
        let of = of.to_ascii_uppercase();
        return digits(number.strip_prefix('+').unwrap_or(number))
            && matches!(of.as_str(), "" | "FREE" | "VG" | "PVS" | "ORIGIN");
    }
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(number.len()..).unwrap_or_default();
    let good = match number.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(number),
    };
    good && (unit.is_empty() || unit.len() <= 3 && unit.starts_with(|c: char| "bBsSkKmMgGtTpPeE".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_binary_and_upper_case() {
        for good in ["0", "500", "500M", "1P", "100%", "007G"] {
            assert!(is_size(good), "{good}");
        }
        for bad in
            ["", "10GiB", "10.5G", "10g", "50%", "-1G", "+1G", "G", "1 G", "5s", "1MM", "١G", "99999999999999999999"]
        {
            assert!(!is_size(bad), "{bad}");
        }
    }

    #[test]
    fn parted_has_a_notation_of_its_own() {
        for good in ["1M", "500MiB", "100%", "-1s", "0%", "1.5GB", "2048s", "34"] {
            assert!(is_parted_position(good), "{good}");
        }
        for bad in ["", "-", "M", "1X", "1 M", "--1", "1.M", "100%%", "$(x)"] {
            assert!(!is_parted_position(bad), "{bad}");
        }
    }

    /// Each seen with sgdisk 1.0.9.
    #[test]
    fn the_first_letter_of_a_unit_counts() {
        for text in ["+512M", "+512m", "+512MiB", "+512MB", "+512mib", "+512Mega"] {
            assert_eq!(place(text, 512), Some(Place::Plus(1_048_576)), "{text}");
        }
        assert_eq!(place("-2kB", 512), Some(Place::Minus(4)));
        assert_eq!(place("1e", 512), Some(Place::Absolute(1 << 51)));
        assert_eq!(place("2048S", 512), Some(Place::Absolute(2048)));
        assert_eq!(place("2048sectors", 512), Some(Place::Absolute(2048)));
    }

    #[test]
    fn places_are_counted_in_sectors() {
        assert_eq!(place("+500M", 512), Some(Place::Plus(1_024_000)));
        assert_eq!(place("+500M", 4096), Some(Place::Plus(128_000)));
        assert_eq!(place("-0", 512), Some(Place::Default));
        assert_eq!(place("-1G", 512), Some(Place::Minus(2_097_152)));
        assert_eq!(place("128M", 512), Some(Place::Absolute(262_144)));
        assert_eq!(place("34s", 512), Some(Place::Absolute(34)));
        for bad in ["", "+", "+-1", "1X", "100%", "9999P9", "99999P", "18446744073709551615", "1 M", " 1M", "16E", "١M"]
        {
            assert_eq!(place(bad, 512), None, "{bad}");
        }
    }
}
