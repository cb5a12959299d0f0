//! In which order filesystems are mounted: `fsBefore` of NixOS, sorted as disko does.

/// Whether a filesystem mounted at `at` must be there before one mounted at `other_at` from `other_device`.
pub(super) fn mounted_before(at: &str, other_at: &str, other_device: &str) -> bool {
    let slashed = |path: &str| {
        if path.ends_with('/') { path.to_owned() } else { format!("{path}/") }
    };
    let at = slashed(at);
    slashed(other_at).starts_with(&at) || slashed(other_device).starts_with(&at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disko::toposort;

    fn sort(mounts: &[(&str, &str)]) -> Option<Vec<String>> {
        let sorted = toposort(mounts.to_vec(), |a, b| mounted_before(a.0, b.0, b.1))?;
        Some(sorted.into_iter().map(|(at, _)| at.to_owned()).collect())
    }

    #[test]
    fn parents_and_bind_sources_come_first() {
        let sorted = sort(&[
            ("/", "tmpfs"),
            ("/a", "/nix/bound"),
            ("/net", "host:/export"),
            ("/nix", "/persist/nix"),
            ("/persist", "/dev/vda1"),
        ]);
        assert_eq!(sorted.unwrap(), ["/", "/persist", "/nix", "/a", "/net"]);
    }

    #[test]
    fn a_name_that_is_a_prefix_is_no_parent() {
        assert_eq!(sort(&[("/var-log", "x"), ("/var", "y")]).unwrap(), ["/var-log", "/var"]);
    }

    #[test]
    fn a_circle_is_noticed() {
        assert_eq!(sort(&[("/a", "/b"), ("/b", "/a")]), None);
    }
}
