//! What the agent tries by itself when the WiFi does not work: mildest first, each once in an outage.

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
