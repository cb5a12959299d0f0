//! What the radio can do and is allowed to: nl80211 (include/uapi/linux/nl80211.h).
//!
//! The crate that speaks nl80211 has neither power save nor setting the country, and links a second netlink-proto, so the
//! five requests that we need are made here, over [`netlink`].

mod netlink;

use super::remedy::deadline::{Lane, LaneError};
use cygnet_protocol::online::observation::Band;
use netlink::{Ask, Generic, Message, attributes, flag, number, text};
use rtnetlink::packet_core::DefaultNla;
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

const GET_WIPHY: u8 = 1;
const REQ_SET_REG: u8 = 27;
const GET_REG: u8 = 31;
const SET_POWER_SAVE: u8 = 61;
const GET_POWER_SAVE: u8 = 62;

const ATTR_WIPHY_NAME: u16 = 2;
const ATTR_IFINDEX: u16 = 3;
const ATTR_WIPHY_BANDS: u16 = 22;
const ATTR_REG_ALPHA2: u16 = 33;
const ATTR_PS_STATE: u16 = 93;
const ATTR_FEATURE_FLAGS: u16 = 143;
const ATTR_SPLIT_WIPHY_DUMP: u16 = 174;
const ATTR_EXT_FEATURES: u16 = 217;

/// NL80211_FEATURE_SAE: it leaves SAE to wpa_supplicant.
const FEATURE_SAE: u32 = 1 << 5;
/// NL80211_EXT_FEATURE_SAE_OFFLOAD: its firmware does SAE, as that of brcmfmac.
const EXT_FEATURE_SAE_OFFLOAD: usize = 38;

/// How long the driver may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why the radio could not be asked, or did not do it.
#[derive(Debug, thiserror::Error)]
pub enum RadioError {
    /// cfg80211 is not loaded: no driver of a radio is.
    #[error("the kernel knows nothing of radios: no WiFi driver is loaded")]
    NoWireless,
    /// The driver or the kernel said no.
    #[error("{what}: {source}")]
    Refused {
        /// A gerund.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// It hangs.
    #[error(transparent)]
    Hangs(#[from] LaneError),
}

/// nl80211.
#[derive(Debug, Clone, Default)]
pub struct Radio80211 {
    lane: Lane,
}

impl Radio80211 {
    /// Looks whether the kernel has it.
    pub async fn open() -> Result<Self, RadioError> {
        let radio = Self::default();
        let result = radio.lane.run("looking for nl80211", DEADLINE, || Generic::open()?.family("nl80211")).await?;
        match result {
            Ok(_) => Ok(radio),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(RadioError::NoWireless),
            Err(source) => Err(RadioError::Refused { what: "looking for nl80211", source }),
        }
    }

    /// Whether power save is on for an interface; none if its driver does not tell.
    pub async fn power_save(&self, interface: u32) -> Option<bool> {
        let request = vec![number(ATTR_IFINDEX, interface)];
        let answers = self.call("reading power save", GET_POWER_SAVE, request, Ask::One).await.ok()?;
        answers.iter().find_map(|answer| answer.number(ATTR_PS_STATE)).map(|state| state != 0)
    }

    /// Switches power save.
    pub async fn set_power_save(&self, interface: u32, on: bool) -> Result<(), RadioError> {
        let request = vec![number(ATTR_IFINDEX, interface), number(ATTR_PS_STATE, on.into())];
        self.call("setting power save", SET_POWER_SAVE, request, Ask::One).await.map(drop)
    }

    /// The country that counts for all radios but those that know better (REGULATORY_WIPHY_SELF_MANAGED), which brcmfmac's
    /// does not: two letters, `00` for the world, `98` for what several
    /// countries have in common.
    pub async fn regdomain(&self) -> Option<String> {
        let answers = self.call("reading the country", GET_REG, Vec::new(), Ask::One).await.ok()?;
        answers.iter().find_map(|answer| answer.text(ATTR_REG_ALPHA2))
    }

    /// Asks for a country's rules. The kernel takes them later, when it has read its database.
    #[cfg_attr(not(test), expect(dead_code, reason = "wpa_supplicant does it where it runs"))]
    pub async fn set_regdomain(&self, country: &str) -> Result<(), RadioError> {
        let request = vec![text(ATTR_REG_ALPHA2, country)];
        self.call("setting the country", REQ_SET_REG, request, Ask::One).await.map(drop)
    }

    /// What a radio can do, `phy0`; nothing if there is no such radio.
    pub async fn abilities(&self, phy: &str) -> Abilities {
        let request = vec![flag(ATTR_SPLIT_WIPHY_DUMP)];
        let answers =
            self.call("reading what the radio can do", GET_WIPHY, request, Ask::All).await.unwrap_or_default();
        Abilities { bands: bands(&answers, phy), sae: sae(&answers, phy) }
    }

    async fn call(
        &self,
        what: &'static str,
        command: u8,
        request: Vec<DefaultNla>,
        ask: Ask,
    ) -> Result<Vec<Message>, RadioError> {
        // The family's number changes when cfg80211 is loaded again.
        let call = move || {
            let mut generic = Generic::open()?;
            let family = generic.family("nl80211")?;
            generic.call(Message::new(family, command, &request), ask)
        };
        self.lane.run(what, DEADLINE, call).await?.map_err(|source| RadioError::Refused { what, source })
    }
}

/// What a radio can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Abilities {
    /// Its bands.
    pub bands: Vec<Band>,
    /// Whether it can be used for SAE at all; wpa_supplicant 2.10 does not tell it of a radio that leaves it SAE.
    pub sae: bool,
}

fn of<'a>(answers: &'a [Message], phy: &'a str) -> impl Iterator<Item = &'a Message> {
    answers.iter().filter(move |answer| answer.text(ATTR_WIPHY_NAME).as_deref() == Some(phy))
}

fn sae(answers: &[Message], phy: &str) -> bool {
    of(answers, phy).any(|answer| {
        let offloaded =
            answer.attribute(ATTR_EXT_FEATURES).and_then(|bits| bits.get(EXT_FEATURE_SAE_OFFLOAD / 8).copied());
        answer.number(ATTR_FEATURE_FLAGS).is_some_and(|flags| flags & FEATURE_SAE != 0)
            || offloaded.is_some_and(|bits| bits & (1 << (EXT_FEATURE_SAE_OFFLOAD % 8)) != 0)
    })
}

/// Of an answer in many messages (NL80211_ATTR_SPLIT_WIPHY_DUMP), each of which names its radio. A band may come in several.
fn bands(answers: &[Message], phy: &str) -> Vec<Band> {
    let found: BTreeSet<Band> = of(answers, phy)
        .filter_map(|answer| answer.attribute(ATTR_WIPHY_BANDS))
        .flat_map(attributes)
        .filter_map(|(band, _)| match band {
            // enum nl80211_band
            0 => Some(Band::Two),
            1 => Some(Band::Five),
            3 => Some(Band::Six),
            _ => None,
        })
        .collect();
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::hardware::{self, Sys};
    use super::*;
    use rtnetlink::packet_core::Emitable;

    fn nested(kind: u16, bands: &[u16]) -> DefaultNla {
        let mut value = Vec::new();
        for band in bands {
            let band = flag(*band);
            let mut octets = vec![0; band.buffer_len()];
            band.emit(&mut octets);
            value.extend(octets);
        }
        DefaultNla::new(kind, value)
    }

    #[test]
    fn bands_are_put_together_from_the_messages_of_one_radio() {
        let answers = [
            Message::new(32, 3, &[text(ATTR_WIPHY_NAME, "phy0"), nested(ATTR_WIPHY_BANDS, &[1])]),
            Message::new(32, 3, &[text(ATTR_WIPHY_NAME, "phy0"), nested(ATTR_WIPHY_BANDS, &[0, 2])]),
            Message::new(32, 3, &[text(ATTR_WIPHY_NAME, "phy1"), nested(ATTR_WIPHY_BANDS, &[3])]),
            Message::new(32, 3, &[text(ATTR_WIPHY_NAME, "phy0")]),
        ];
        assert_eq!(bands(&answers, "phy0"), [Band::Two, Band::Five]);
        assert_eq!(bands(&answers, "phy1"), [Band::Six]);
        assert_eq!(bands(&answers, "phy2"), []);
    }

    #[test]
    fn sae_is_a_feature_of_the_driver_or_of_the_firmware() {
        let name = || text(ATTR_WIPHY_NAME, "phy0");
        let answer = |more| [Message::new(32, 3, &[name()]), Message::new(32, 3, &[name(), more])];
        assert!(sae(&answer(number(ATTR_FEATURE_FLAGS, FEATURE_SAE | 1)), "phy0"));
        assert!(sae(&answer(DefaultNla::new(ATTR_EXT_FEATURES, vec![0, 0, 0, 0, 0x40])), "phy0"));
        assert!(!sae(&answer(DefaultNla::new(ATTR_EXT_FEATURES, vec![0xff; 4])), "phy0"));
        assert!(!sae(&answer(number(ATTR_FEATURE_FLAGS, 1)), "phy0"));
        assert!(!sae(&answer(number(ATTR_FEATURE_FLAGS, FEATURE_SAE)), "phy1"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_kernel_without_radios_says_so() {
        if std::fs::exists("/sys/class/ieee80211").unwrap() {
            return eprintln!("not tested: this machine has radios");
        }
        assert!(matches!(Radio80211::open().await, Err(RadioError::NoWireless)));
        assert_eq!(Radio80211::default().regdomain().await, None);
    }

    #[tokio::test(flavor = "current_thread")]
    #[ignore = "needs mac80211_hwsim: run in the virtual Pi"]
    async fn a_radio_is_asked_and_told() {
        let look = hardware::look(&Sys::default());
        let found = look.radio.clone().unwrap();
        assert_eq!(found.driver, "mac80211_hwsim");
        let index: u32 =
            Sys::default().text(format!("sys/class/net/{}/ifindex", found.interface)).unwrap().parse().unwrap();
        let radio = Radio80211::open().await.unwrap();
        let Abilities { bands, sae } = radio.abilities(&found.phy).await;
        assert!(sae);
        eprintln!("{look:?}\nbands {bands:?}, country {:?}", radio.regdomain().await);
        assert!(bands.contains(&Band::Two) && bands.contains(&Band::Five), "{bands:?}");

        for on in [true, false, true, false] {
            radio.set_power_save(index, on).await.unwrap();
            assert_eq!(radio.power_save(index).await, Some(on));
        }
        let error = radio.set_power_save(u32::MAX, false).await.unwrap_err().to_string();
        assert!(error.starts_with("setting power save: "), "{error}");
        assert_eq!(radio.power_save(1).await, None, "loopback has no radio");

        for country in ["DE", "US"] {
            radio.set_regdomain(country).await.unwrap();
            let changed = async {
                while radio.regdomain().await.as_deref() != Some(country) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), changed).await.unwrap();
        }
        assert!(radio.set_regdomain("nowhere").await.is_err());
    }
}
