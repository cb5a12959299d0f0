//! What may be a host's name.

/// Whether it is one label as in RFC 1123 §2.1, lower case, of at most 63 characters: what NixOS's `networking.hostName`
/// takes, too.
///
/// # Errors
/// What is wrong with it.
pub fn check(name: &str) -> Result<(), &'static str> {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match name {
        "" => Err("it is empty"),
        _ if name.len() > 63 => Err("it has more than 63 characters"),
        _ if name.contains('.') => Err("it has a dot; only the first label of a name is wanted"),
        _ if !name.bytes().all(known) => Err("only a to z, 0 to 9 and - are allowed"),
        _ if name.starts_with('-') || name.ends_with('-') => Err("it begins or ends with -"),
        "localhost" => Err("localhost is every machine's own name"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_labels() {
        for good in ["pi", "pi-4", "4", "cygnet-a1b2c3d4"] {
            assert_eq!(super::check(good), Ok(()));
        }
        for bad in ["", "Pi", "pi.local", "-pi", "pi-", "p i", "pä", "localhost", &"a".repeat(64)] {
            assert!(super::check(bad).is_err(), "{bad}");
        }
    }
}
