//! Which step to take next: a pure decision from what is seen and what was done.
//!
//! Steps are what every bring-up needs, in the order of the chain. What is only tried when something is wrong is on the
//! ladder of remedies in the protocol crate.

use cygnet_protocol::online::observation::{ModuleState, Observations, Supplicant};

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Load the driver, and the vendor's part of it, which nothing else asks for in time.
    LoadDriver,
    /// Start our wpa_supplicant.
    StartSupplicant,
    /// Switch power save off: it makes a Pi miss what is sent to it, multicast above all.
    PowerSaveOff,
    /// Give wpa_supplicant the interface.
    TakeInterface,
    /// Tell it the networks.
    Join,
}

/// What was done with the interface as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    /// systemd was told to start the supplicant, and it is on the bus.
    pub supplicant_runs: bool,
    /// It has the interface that there is.
    pub interface_taken: bool,
    /// It has the networks as they are in the settings, offered as the remedies want it.
    pub joined: bool,
    /// The driver would not have power save switched off; it is not asked again.
    pub power_save_refused: bool,
}

/// The first step that is due, or none: then there is nothing to do but to wait for something to happen.
pub fn next(seen: &Observations, done: Done) -> Option<Step> {
    if !seen.wants_wifi {
        return None;
    }
    // Before there is an interface, so that the time it takes is not lost.
    if !done.supplicant_runs && !matches!(seen.supplicant, Supplicant::Taken { .. }) {
        return Some(Step::StartSupplicant);
    }
    let Some(radio) = &seen.radio else {
        let loadable = seen.hardware.driver == ModuleState::Available;
        return (loadable && !seen.hardware.sdio.is_empty()).then_some(Step::LoadDriver);
    };
    if radio.power_save == Some(true) && !done.power_save_refused {
        return Some(Step::PowerSaveOff);
    }
    match seen.supplicant {
        Supplicant::Taken { .. } => None,
        _ if !done.supplicant_runs => None,
        _ if !done.interface_taken => Some(Step::TakeInterface),
        // Without networks it scans when somebody asks.
        _ if !done.joined && !seen.networks.is_empty() => Some(Step::Join),
        Supplicant::Unasked | Supplicant::Absent { .. } | Supplicant::Ready { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::online::observation::{KeyKind, KnownNetwork, Radio};
    use cygnet_protocol::online::ssid::Ssid;

    fn pi() -> Observations {
        let network = KnownNetwork { ssid: Ssid::new("home").unwrap(), key: KeyKind::Passphrase, hidden: false };
        let mut seen = Observations { wants_wifi: true, networks: vec![network], ..Observations::default() };
        seen.hardware.sdio.push("0x02d0:0xa9a6".into());
        seen.hardware.driver = ModuleState::Available;
        seen
    }

    #[test]
    fn each_step_makes_the_next_one_due() {
        let (mut seen, mut done) = (pi(), Done::default());
        assert_eq!(next(&seen, done), Some(Step::StartSupplicant));
        done.supplicant_runs = true;
        assert_eq!(next(&seen, done), Some(Step::LoadDriver));
        seen.hardware.driver = ModuleState::Loaded;
        assert_eq!(next(&seen, done), None);
        seen.radio = Some(Radio { power_save: Some(true), ..Radio::default() });
        assert_eq!(next(&seen, done), Some(Step::PowerSaveOff));
        done.power_save_refused = true;
        assert_eq!(next(&seen, done), Some(Step::TakeInterface));
        done.interface_taken = true;
        assert_eq!(next(&seen, done), Some(Step::Join));
        done.joined = true;
        assert_eq!(next(&seen, done), None);
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        assert_eq!(next(&Observations::default(), Done::default()), None);
        let taken = Supplicant::Taken { by: "NetworkManager".into() };
        let seen = Observations { supplicant: taken, radio: Some(Radio::default()), ..pi() };
        assert_eq!(next(&seen, Done::default()), None);
    }
}
