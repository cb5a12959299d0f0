//! Which bits switch off which of brcmfmac's features.
//!
//! The parameter `feature_disable` is a mask, and which bit is which differs between kernels. But the driver tells: in
//! `features` in its debugfs directory there are the mask of the features that it has and their names, in the order of the
//! bits (brcmf_feat_debugfs_read in drivers/net/wireless/broadcom/brcm80211/brcmfmac/feature.c).

/// What the firmware does itself and often does badly: the 4-way handshake, SAE, and scans for other networks' access points.
pub const TROUBLE: &[&str] = &["FWSUP", "SAE", "SAE_EXT", "DUMP_OBSS"];

/// The mask of those of `names` that the chip has; none if the text is not what we think it is.
pub fn mask(text: &str, names: &[&str]) -> Option<u32> {
    let mut lines = text.lines();
    let bits = lines.next()?.strip_prefix("Features:")?.trim();
    let bits = u32::from_str_radix(bits, 16).ok()?;
    let told: Vec<&str> = lines.map_while(|line| line.strip_prefix('\t')).map(str::trim).collect();
    let set = (0..u32::BITS).filter(|bit| bits >> bit & 1 == 1);
    // Without as many names as bits nobody knows which is which.
    if told.len() != set.clone().count() {
        return None;
    }
    Some(set.zip(told).filter(|(_, name)| names.contains(name)).fold(0, |mask, (bit, _)| mask | 1 << bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Features: 00282081\n\tMBSS\n\tMFP\n\tFWSUP\n\tSAE\n\tDUMP_OBSS\n\nQuirks:   00000000\n";

    #[test]
    fn bits_are_found_by_their_names() {
        assert_eq!(mask(TEXT, &["FWSUP"]), Some(1 << 13));
        assert_eq!(mask(TEXT, TROUBLE), Some(1 << 13 | 1 << 19 | 1 << 21));
        // The same name elsewhere in another kernel.
        assert_eq!(mask("Features: 02000000\n\tSAE_EXT\n\nQuirks:   00000000\n", TROUBLE), Some(1 << 25));
        assert_eq!(mask(TEXT, &["NAN"]), Some(0));
        assert_eq!(mask("Features: 00000000\n\nQuirks:   00000001\n\tX\n", TROUBLE), Some(0));
    }

    #[test]
    fn what_is_not_understood_is_no_mask() {
        for text in ["", "Features: ?\n", "Features: 00000003\n\tMBSS\n", "Features: 1\n\tMBSS\n\tSAE\n", "SAE\n"] {
            assert_eq!(mask(text, TROUBLE), None, "{text:?}");
        }
    }
}
