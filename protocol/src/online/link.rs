//! The links of the chain, and how each of them is.

use super::diagnosis::Diagnosis;
use serde::{Deserialize, Serialize};

/// One link; each needs those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// The chip answers on the SDIO bus.
    Sdio,
    /// Its driver is loaded, the vendor's part of it included.
    Driver,
    /// The chip runs its firmware.
    Firmware,
    /// There is a wireless interface.
    Interface,
    /// The radio is allowed to send.
    Rfkill,
    /// The regulatory domain is a country's.
    Regdomain,
    /// wpa_supplicant runs and has the interface.
    Supplicant,
    /// A configured network is in the air.
    Scan,
    /// The access point lets us in.
    Association,
    /// Both ends proved that they know the key.
    Handshake,
    /// There is an address to be reached at.
    Address,
    /// There is a way out of the network.
    Gateway,
    /// Names can be resolved.
    Dns,
    /// The clock is later than this program's making.
    Clock,
    /// The Pi announces itself, and is heard.
    Announce,
}

impl Link {
    /// All links, in order.
    pub const ALL: &'static [Link] = &[
        Link::Sdio,
        Link::Driver,
        Link::Firmware,
        Link::Interface,
        Link::Rfkill,
        Link::Regdomain,
        Link::Supplicant,
        Link::Scan,
        Link::Association,
        Link::Handshake,
        Link::Address,
        Link::Gateway,
        Link::Dns,
        Link::Clock,
        Link::Announce,
    ];

    /// The name as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Link::Sdio => "sdio",
            Link::Driver => "driver",
            Link::Firmware => "firmware",
            Link::Interface => "interface",
            Link::Rfkill => "rfkill",
            Link::Regdomain => "regdomain",
            Link::Supplicant => "supplicant",
            Link::Scan => "scan",
            Link::Association => "association",
            Link::Handshake => "handshake",
            Link::Address => "address",
            Link::Gateway => "gateway",
            Link::Dns => "dns",
            Link::Clock => "clock",
            Link::Announce => "announce",
        }
    }

    /// The name on the screen, at most 12 characters.
    pub const fn title(self) -> &'static str {
        match self {
            Link::Sdio => "WiFi chip",
            Link::Driver => "Driver",
            Link::Firmware => "Firmware",
            Link::Interface => "Interface",
            Link::Rfkill => "Radio switch",
            Link::Regdomain => "Country",
            Link::Supplicant => "Supplicant",
            Link::Scan => "Network seen",
            Link::Association => "Association",
            Link::Handshake => "Key accepted",
            Link::Address => "Address",
            Link::Gateway => "Gateway",
            Link::Dns => "Names (DNS)",
            Link::Clock => "Clock",
            Link::Announce => "Announced",
        }
    }

    /// Which of the LED's groups blinks when this link fails: 1 chip and driver, 2 radio, 3 network and access point,
    /// 4 key, 5 address and ways out, 6 clock and announcement.
    pub const fn group(self) -> u8 {
        match self {
            Link::Sdio | Link::Driver | Link::Firmware | Link::Interface => 1,
            Link::Rfkill | Link::Regdomain | Link::Supplicant => 2,
            Link::Scan | Link::Association => 3,
            Link::Handshake => 4,
            Link::Address | Link::Gateway | Link::Dns => 5,
            Link::Clock | Link::Announce => 6,
        }
    }
}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// As it should be.
    Up,
    /// Under way.
    Busy,
    /// Not as it should be, and the chain goes no further.
    Down,
    /// Not ideal, but the chain goes on.
    Warning,
    /// Waits for a link before it.
    Pending,
    /// Of no concern here: the Pi is online by cable, say.
    Unused,
}

/// One link as the screen shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LinkReport {
    /// Which.
    pub link: Link,
    /// How it is.
    pub state: LinkState,
    /// A few words: `brcmfmac43455-sdio`, `“home” at -52 dBm`; never a secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// When it came to be so, milliseconds since the agent started.
    #[serde(default)]
    pub since: u64,
}

/// The whole chain, as `status` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NetworkReport {
    /// Whether the Pi has an address that others can reach it at.
    pub online: bool,
    /// Through what: `end0 (cable)`, `wlan0 (“home”)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Every link, in order.
    #[serde(default)]
    pub links: Vec<LinkReport>,
    /// What keeps it from getting online, or what is wrong with the WiFi while a cable serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// What is not well although it is online.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Diagnosis>,
    /// What was tried in the present outage, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_in_json_and_fit_the_screen() {
        for link in Link::ALL {
            assert_eq!(serde_json::to_value(link).unwrap(), link.name());
            assert!(link.title().len() <= 12, "{}", link.title());
        }
        assert!(Link::ALL.windows(2).all(|w| w[0] < w[1] && w[0].group() <= w[1].group()));
    }
}
