//! Which country a radio is in.

/// The codes of ISO 3166-1 that the kernel's regulatory database (wireless-regdb of May 2026) has rules for. The kernel
/// ignores every other without a word.
#[rustfmt::skip]
const CODES: [&str; 180] = [
    "AD", "AE", "AF", "AI", "AL", "AM", "AR", "AS", "AT", "AU", "AW", "AZ", "BA", "BB", "BD", "BE", "BF", "BG", "BH", "BL",
    "BM", "BN", "BO", "BR", "BS", "BT", "BW", "BY", "BZ", "CA", "CF", "CH", "CI", "CL", "CN", "CO", "CR", "CU", "CX", "CY",
    "CZ", "DE", "DK", "DM", "DO", "DZ", "EC", "EE", "EG", "ES", "ET", "FI", "FM", "FO", "FR", "GB", "GD", "GE", "GF", "GH",
    "GI", "GL", "GP", "GR", "GT", "GU", "GY", "HK", "HN", "HR", "HT", "HU", "ID", "IE", "IL", "IM", "IN", "IR", "IS", "IT",
    "JM", "JO", "JP", "KE", "KH", "KN", "KP", "KR", "KW", "KY", "KZ", "LB", "LC", "LI", "LK", "LS", "LT", "LU", "LV", "MA",
    "MC", "MD", "ME", "MF", "MH", "MK", "MN", "MO", "MP", "MQ", "MR", "MT", "MU", "MV", "MW", "MX", "MY", "NA", "NG", "NI",
    "NL", "NO", "NP", "NZ", "OM", "PA", "PE", "PF", "PG", "PH", "PK", "PL", "PM", "PR", "PT", "PW", "PY", "QA", "RE", "RO",
    "RS", "RU", "RW", "SA", "SE", "SG", "SI", "SK", "SM", "SN", "SR", "SV", "SX", "SY", "TC", "TD", "TG", "TH", "TN", "TR",
    "TT", "TW", "TZ", "UA", "UG", "US", "UY", "UZ", "VA", "VC", "VE", "VI", "VN", "VU", "WF", "WS", "YE", "YT", "ZA", "ZW",
];

/// A country's code in capitals, from any case.
///
/// # Errors
/// Why the kernel would not know it. The text is never part of it: it may be a passphrase in the wrong place.
pub fn code(text: &str) -> Result<String, &'static str> {
    let code = text.trim().to_ascii_uppercase();
    match code.as_str() {
        known if CODES.binary_search(&known).is_ok() => Ok(code),
        // Reserved in ISO 3166-1 for other purposes, or not there at all.
        "UK" | "EN" => Err("the United Kingdom is GB (ISO 3166-1)"),
        other if other.len() == 2 && other.bytes().all(|c| c.is_ascii_uppercase()) => {
            Err("the kernel's regulatory database has no such country; two letters like DE are expected (ISO 3166-1)")
        }
        _ => Err("two letters like DE are expected (ISO 3166-1)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_are_those_that_the_kernel_has_rules_for() {
        assert!(CODES.is_sorted());
        for (text, known) in [("DE", "DE"), ("us", "US"), ("gB", "GB"), (" at\n", "AT")] {
            assert_eq!(code(text).as_deref(), Ok(known));
        }
        for text in ["UK", "uk", "EN"] {
            assert!(code(text).unwrap_err().contains("GB"), "{text}");
        }
        // Not assigned, of the user's own, the world's, gone since 2010, and without rules.
        for text in ["XX", "ZZ", "QQ", "AN", "AO"] {
            assert!(code(text).unwrap_err().contains("regulatory database"), "{text}");
        }
        for text in ["", "00", "D", "DEU", "Germany", "dé", "hunter2"] {
            assert_eq!(code(text), Err("two letters like DE are expected (ISO 3166-1)"), "{text}");
        }
    }
}
