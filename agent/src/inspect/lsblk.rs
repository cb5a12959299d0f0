//! The output of lsblk(8).

use serde::{Deserialize, Deserializer};

/// What is run. All columns are known to util-linux 2.38 and newer.
pub const COMMAND: [&str; 5] = [
    "lsblk",
    "--json",
    "--bytes",
    "--output",
    "NAME,PATH,TYPE,SIZE,RO,RM,MODEL,SERIAL,WWN,TRAN,FSTYPE,FSVER,LABEL,UUID,PTTYPE,PTUUID,PARTUUID,PARTLABEL,MOUNTPOINTS,LOG-SEC,PHY-SEC",
];

/// A block device and what lies on it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Device {
    /// Kernel name.
    pub name: String,
    /// Device node.
    pub path: String,
    /// `disk`, `part`, `crypt`, `loop`, `rom`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes.
    #[serde(deserialize_with = "number")]
    pub size: u64,
    #[serde(default, deserialize_with = "flag")]
    pub ro: bool,
    #[serde(default, deserialize_with = "flag")]
    pub rm: bool,
    pub model: Option<String>,
    pub serial: Option<String>,
    pub wwn: Option<String>,
    pub tran: Option<String>,
    pub fstype: Option<String>,
    pub fsver: Option<String>,
    pub label: Option<String>,
    pub uuid: Option<String>,
    pub pttype: Option<String>,
    pub ptuuid: Option<String>,
    pub partuuid: Option<String>,
    pub partlabel: Option<String>,
    #[serde(default)]
    pub mountpoints: Vec<Option<String>>,
    /// Logical sector size, bytes.
    #[serde(rename = "log-sec", deserialize_with = "number")]
    pub sector: u64,
    /// Physical sector size, bytes.
    #[serde(rename = "phy-sec", default, deserialize_with = "number")]
    pub physical_sector: u64,
    #[serde(default)]
    pub children: Vec<Device>,
}

/// Parses `lsblk --json`.
pub fn parse(text: &str) -> serde_json::Result<Vec<Device>> {
    #[derive(Deserialize)]
    struct Output {
        blockdevices: Vec<Device>,
    }
    // Without any block device lsblk prints nothing at all.
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str::<Output>(text).map(|output| output.blockdevices)
}

/// Versions differ in whether numbers and flags come as such or as strings.
#[derive(Deserialize)]
#[serde(untagged)]
enum Loose {
    Number(u64),
    Flag(bool),
    Text(String),
    Nothing(()),
}

fn number<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    match Loose::deserialize(d)? {
        Loose::Number(number) => Ok(number),
        Loose::Text(text) => text.trim().parse().map_err(serde::de::Error::custom),
        Loose::Flag(_) | Loose::Nothing(()) => Ok(0),
    }
}

fn flag<'de, D: Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    Ok(match Loose::deserialize(d)? {
        Loose::Flag(flag) => flag,
        Loose::Number(number) => number != 0,
        Loose::Text(text) => text.trim() == "1",
        Loose::Nothing(()) => false,
    })
}
