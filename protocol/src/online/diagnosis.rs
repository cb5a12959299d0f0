//! What can be wrong with getting online: one stable code for each, and what a person reads.

use super::link::Link;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is wrong, why most likely, what to do, and what the agent does next by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Diagnosis {
    /// The link that fails.
    pub link: Link,
    /// Which fault; scripts and searches go by it.
    pub code: Code,
    /// What is the case, one sentence, with names and numbers.
    pub what: String,
    /// The likely cause, one sentence.
    pub cause: String,
    /// What the person can do.
    pub remedy: String,
    /// What the agent does next, and when: `tries again within 30 s`.
    pub next: String,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}\n  cause:  {}\n  remedy: {}\n  next:   {}",
            self.code.name(),
            self.what,
            self.cause,
            self.remedy,
            self.next
        )
    }
}

macro_rules! codes {
    ($($variant:ident = $name:literal, $link:ident, $summary:literal;)+) => {
        /// Every fault on the way online. The names are an interface: they never change meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = $summary] #[serde(rename = $name)] $variant,)+
            /// A code this program does not know: the other end is newer.
            #[serde(other, rename = "W00-UNKNOWN")] Unknown,
        }

        impl Code {
            /// All codes, in the order of the chain.
            pub const ALL: &'static [Code] = &[$(Code::$variant),+];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)+ Code::Unknown => "W00-UNKNOWN" }
            }

            /// The link that fails with it.
            pub const fn link(self) -> Link {
                match self { $(Code::$variant => Link::$link,)+ Code::Unknown => Link::Interface }
            }

            /// One sentence for the documentation.
            pub const fn summary(self) -> &'static str {
                match self { $(Code::$variant => $summary,)+ Code::Unknown => "A code this program does not know." }
            }
        }
    };
}

codes! {
    NoSdio = "W01-NO-SDIO", Sdio, "The WiFi chip does not answer on the SDIO bus.";
    SdioStuck = "W01-SDIO-STUCK", Sdio, "The SDIO controller or the chip hangs; only taking the power away helps.";
    UnderVoltage = "W01-UNDER-VOLTAGE", Sdio, "The supply voltage is too low for the chip to work.";
    NoModule = "W02-NO-MODULE", Driver, "The image has no driver for the chip.";
    NoVendorModule = "W02-NO-VENDOR-MODULE", Driver, "The image has the driver, but not the vendor's part of it.";
    NotLoaded = "W02-NOT-LOADED", Driver, "The driver is in the image, but was not loaded.";
    NoFirmware = "W03-NO-FIRMWARE", Firmware, "A firmware file that the chip needs is not in the image.";
    Nvram = "W03-NVRAM", Firmware, "The NVRAM or CLM file does not belong to the firmware or the board.";
    FirmwareDead = "W03-FIRMWARE-DEAD", Firmware, "The chip's firmware did not start, or has crashed.";
    NoInterface = "W04-NO-INTERFACE", Interface, "The driver is loaded, but made no wireless interface.";
    RfkillSoft = "W05-RFKILL-SOFT", Rfkill, "The radio is switched off by software.";
    RfkillHard = "W05-RFKILL-HARD", Rfkill, "The radio is switched off by a switch or a pin.";
    NoCountry = "W06-NO-COUNTRY", Regdomain, "No country is set, so some channels must not be used.";
    NoRegulatoryDatabase = "W06-NO-REGDB", Regdomain, "The kernel found no regulatory database, so the country has no effect.";
    NoSupplicant = "W07-NO-SUPPLICANT", Supplicant, "wpa_supplicant cannot be had.";
    InterfaceTaken = "W07-INTERFACE-TAKEN", Supplicant, "Another program has the wireless interface.";
    NoNetworks = "W08-NO-NETWORKS", Scan, "No network was given to join.";
    NotSeen = "W08-NOT-SEEN", Scan, "None of the given networks is in the air here.";
    WrongBand = "W08-WRONG-BAND", Scan, "The network is only on a band that this chip does not have.";
    ScanFailed = "W08-SCAN-FAILED", Scan, "The radio does not scan.";
    SaeOnly = "W09-SAE-ONLY", Association, "The access point takes WPA3 only, and all we have is a pre-shared key.";
    NoSae = "W09-NO-SAE", Association, "The access point takes WPA3 only, which this chip or supplicant cannot do.";
    H2eOnly = "W09-H2E-ONLY", Association, "The access point takes SAE by hash-to-element only, and we did not offer it.";
    KeyManagement = "W09-KEY-MANAGEMENT", Association, "The access point wants another kind of key than was given.";
    WrongSaePassword = "W09-WRONG-SAE-PASSWORD", Association, "The access point refused the passphrase (WPA3).";
    ApFull = "W09-AP-FULL", Association, "The access point has as many stations as it takes.";
    Refused = "W09-MAC-FILTER", Association, "The access point refuses this station, whatever its key.";
    NoAnswer = "W09-NO-ANSWER", Association, "The access point does not answer.";
    ApVanished = "W09-AP-VANISHED", Association, "The access point was there and is gone.";
    Deauthenticated = "W09-DEAUTHENTICATED", Association, "The access point sent us away.";
    WrongPassphrase = "W10-WRONG-PASSPHRASE", Handshake, "The access point refused the passphrase or pre-shared key (WPA2).";
    HandshakeTimeout = "W10-HANDSHAKE", Handshake, "The 4-way handshake does not end, and not for a wrong passphrase.";
    NoCarrier = "W11-NO-CABLE", Address, "No WiFi is wanted, and no cable is plugged in.";
    NoDhcp = "W11-NO-DHCP", Address, "Connected, but nobody gives an address.";
    NoGateway = "W11-NO-GATEWAY", Gateway, "There is an address, but no way out of the network.";
    GatewaySilent = "W11-GATEWAY-SILENT", Gateway, "There is a gateway, but it does not answer.";
    NoResolver = "W12-NO-DNS", Dns, "No resolver is known, so names mean nothing.";
    ClockBeforeBuild = "W12-CLOCK", Clock, "The clock is earlier than this program's making.";
    Isolated = "W13-ISOLATED", Announce, "Nothing of other machines' multicast is heard: announcements may not get through.";
}

/// A sentence without the numbers in it, which count seconds and scans and change all the time. Those within “ ” are part
/// of a name, and stay: to compare what is told with what was told before.
#[must_use]
pub fn without_counts(sentence: &str) -> String {
    let mut quoted = false;
    let keep = |c: &char| {
        match c {
            '“' => quoted = true,
            '”' => quoted = false,
            _ => {}
        }
        quoted || !c.is_ascii_digit()
    };
    sentence.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_in_the_order_of_the_chain() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.windows(2).all(|w| w[0].link() <= w[1].link()));
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
            assert!(code.name().len() <= 24);
        }
        assert_eq!(serde_json::from_str::<Code>("\"W99-GREMLINS\"").unwrap(), Code::Unknown);
    }

    #[test]
    fn counts_do_not_count_and_names_do() {
        assert_eq!(without_counts("“shed 2” is gone since 16 s."), without_counts("“shed 2” is gone since 9 s."));
        assert_ne!(without_counts("“shed 2” is gone since 16 s."), without_counts("“shed 3” is gone since 16 s."));
    }
}
