//! What the agent tries by itself when the WiFi does not work: mildest first, each once in an outage.

use super::diagnose::candidate::{Candidate, candidate, sae_pwe, takes_psk, takes_sae};
use super::diagnosis::{Code, Diagnosis};
use super::observation::{Band, KeyKind, Observations};
use serde::{Deserialize, Serialize};

/// Something to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// Switch the radio on in software.
    Unblock,
    /// Power save off.
    PowerSaveOff,
    /// SAE both ways (SaePwe 2) and protected management frames where the other end can.
    SaeSettings,
    /// Offer WPA2 only, where the access point takes it.
    DropSae,
    /// Keep to 2.4 GHz.
    TwoGigahertz,
    /// Unload and load the driver.
    ReloadModule,
    /// Unbind the SDIO host controller and bind it again.
    RebindSdio,
    /// Nothing is left that software can do.
    PowerCycle,
}

/// Whether an installation runs, and over what it gets its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Installing {
    /// None runs.
    #[default]
    No,
    /// Over the WiFi that is to be healed.
    OverWifi,
    /// Over a cable: healing the WiFi can wait.
    OverCable,
}

impl Remedy {
    /// All of them, mildest first.
    pub const ALL: &'static [Remedy] = &[
        Remedy::Unblock,
        Remedy::PowerSaveOff,
        Remedy::SaeSettings,
        Remedy::DropSae,
        Remedy::TwoGigahertz,
        Remedy::ReloadModule,
        Remedy::RebindSdio,
        Remedy::PowerCycle,
    ];

    /// A few words for the list of what was tried.
    pub const fn title(self) -> &'static str {
        match self {
            Remedy::Unblock => "switched the radio on",
            Remedy::PowerSaveOff => "power save off",
            Remedy::SaeSettings => "WPA3 both ways (sae_pwe 2)",
            Remedy::DropSae => "WPA2 only",
            Remedy::TwoGigahertz => "2.4 GHz only",
            Remedy::ReloadModule => "reloaded the driver",
            Remedy::RebindSdio => "rebound the SDIO controller",
            Remedy::PowerCycle => "asked for a power cycle",
        }
    }
}

/// What to try next against `diagnosis`: the mildest remedy that can help with it, was not tried in this outage, makes
/// sense with what is seen, and breaks nothing of an installation. None if there is nothing but to go on trying.
///
/// The SDIO controller to rebind is the one that the WiFi chip is on, and never the one that the card with the running
/// system is on; whoever carries the remedy out must check that both differ.
pub fn next(o: &Observations, diagnosis: &Diagnosis, tried: &[Remedy], installing_over: Installing) -> Option<Remedy> {
    let applies = |remedy: &Remedy| makes_sense(o, *remedy) && harmless(o, *remedy, installing_over);
    remedies(diagnosis.code).iter().copied().filter(|remedy| !tried.contains(remedy)).find(applies)
}

/// What can help with a fault at all, mildest first.
pub const fn remedies(code: Code) -> &'static [Remedy] {
    use Remedy::{DropSae, PowerCycle, PowerSaveOff, RebindSdio, ReloadModule, SaeSettings, TwoGigahertz, Unblock};
    match code {
        Code::RfkillSoft => &[Unblock],
        Code::NoSdio | Code::SdioStuck => &[RebindSdio, PowerCycle],
        // The initrd may have loaded the driver before its files could be read.
        Code::NoVendorModule | Code::NotLoaded | Code::NoFirmware | Code::Nvram => &[ReloadModule],
        Code::FirmwareDead | Code::NoInterface | Code::ScanFailed => &[ReloadModule, RebindSdio, PowerCycle],
        // Once the voltage is right again, the chip may start.
        Code::UnderVoltage => &[ReloadModule],
        // Only if the radio hears nobody at all.
        Code::NotSeen | Code::ApVanished => &[ReloadModule, RebindSdio],
        Code::H2eOnly => &[SaeSettings],
        Code::NoAnswer | Code::HandshakeTimeout | Code::Deauthenticated => {
            &[PowerSaveOff, SaeSettings, DropSae, TwoGigahertz, ReloadModule, RebindSdio, PowerCycle]
        }
        // Broadcasts are what a chip that saves power misses first.
        Code::NoDhcp | Code::Isolated => &[PowerSaveOff],
        Code::GatewaySilent => &[PowerSaveOff, ReloadModule],
        Code::NoModule | Code::RfkillHard | Code::NoCountry | Code::NoRegulatoryDatabase => &[],
        Code::NoSupplicant | Code::InterfaceTaken | Code::NoNetworks | Code::WrongBand => &[],
        Code::SaeOnly | Code::NoSae | Code::KeyManagement | Code::WrongSaePassword => &[],
        Code::ApFull | Code::Refused | Code::WrongPassphrase => &[],
        Code::NoCarrier | Code::NoGateway | Code::NoResolver | Code::ClockBeforeBuild | Code::Unknown => &[],
    }
}

fn makes_sense(o: &Observations, remedy: Remedy) -> bool {
    let network = candidate(o);
    let passphrase = network.as_ref().is_some_and(|c| c.network.key == KeyKind::Passphrase);
    let sees = |wanted: fn(&Candidate) -> bool| network.as_ref().is_some_and(wanted);
    match remedy {
        Remedy::Unblock => o.rfkill.soft && !o.rfkill.hard,
        Remedy::PowerSaveOff => o.radio.as_ref().is_some_and(|radio| radio.power_save != Some(false)),
        Remedy::SaeSettings => passphrase && sees(|c| c.seen.iter().any(|bss| takes_sae(bss))) && sae_pwe(o) != Some(2),
        Remedy::DropSae => passphrase && sees(|c| c.seen.iter().any(|bss| takes_sae(bss) && takes_psk(bss))),
        Remedy::TwoGigahertz => {
            let more = o.radio.as_ref().is_some_and(|radio| radio.bands.len() > 1);
            more && sees(|c| c.seen.iter().any(|bss| Band::of_frequency(bss.frequency) == Some(Band::Two)))
        }
        Remedy::ReloadModule => is_brcmfmac(o) && !radio_hears(o) && !o.hardware.under_voltage,
        Remedy::RebindSdio | Remedy::PowerCycle => is_brcmfmac(o) && !radio_hears(o) && o.hardware.expects_sdio,
    }
}

/// The chip of the Raspberry Pi, or none where there should be one: what is known to be healed by these means.
fn is_brcmfmac(o: &Observations) -> bool {
    match &o.radio {
        Some(radio) => radio.driver.starts_with("brcmfmac"),
        None => o.hardware.expects_sdio,
    }
}

/// A radio that hears others, of which none is ours, is in order.
fn radio_hears(o: &Observations) -> bool {
    let ours = candidate(o).is_some_and(|c| !c.seen.is_empty());
    o.radio.is_some() && !ours && !o.scan.seen.is_empty() && o.scan.done > 0
}

fn harmless(o: &Observations, remedy: Remedy, installing_over: Installing) -> bool {
    match remedy {
        Remedy::Unblock | Remedy::PowerSaveOff => true,
        // They make the supplicant join again, which only the WiFi's own traffic feels.
        Remedy::SaeSettings | Remedy::DropSae | Remedy::TwoGigahertz => match installing_over {
            Installing::No | Installing::OverCable => true,
            Installing::OverWifi => o.attempt.connected.is_none(),
        },
        Remedy::ReloadModule => match installing_over {
            Installing::No => true,
            Installing::OverWifi => o.attempt.connected.is_none(),
            Installing::OverCable => false,
        },
        // Nobody is asked to pull the plug on a disk that is being written to.
        Remedy::RebindSdio | Remedy::PowerCycle => match installing_over {
            Installing::No => true,
            Installing::OverWifi | Installing::OverCable => false,
        },
    }
}
