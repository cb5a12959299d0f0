//! Where wpa_supplicant's control sockets are, and where ours must be for it to answer.

use std::path::PathBuf;

/// A control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// wpa_supplicant's.
    pub server: PathBuf,
    /// The directory for ours. wpa_supplicant answers to the path that our socket is bound to, so it must see it too: with
    /// its own `/tmp` or root directory it never answers to one elsewhere.
    pub client: PathBuf,
}

/// Candidates, best first.
pub(super) fn places(interface: &str) -> Vec<Place> {
    let place =
        |server: &str, client: &str| Place { server: PathBuf::from(server).join(interface), client: client.into() };
    vec![
        // Our own unit's.
        place("/run/cygnet-supplicant", "/run/cygnet-supplicant"),
        // NixOS since 26.05: an unprivileged wpa_supplicant with /run/wpa_supplicant as its root.
        place("/run/wpa_supplicant/control", "/run/wpa_supplicant/client"),
        // Debian, NixOS before that, and almost everybody.
        place("/run/wpa_supplicant", "/run"),
        place("/var/run/wpa_supplicant", "/run"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nixos_has_a_place_for_clients() {
        let places = places("wlan0");
        let nixos = places.iter().find(|place| place.server.ends_with("control/wlan0")).unwrap();
        assert_eq!(nixos.client, PathBuf::from("/run/wpa_supplicant/client"));
    }
}
