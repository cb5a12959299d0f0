//! How much of a layout is made, in disko's words.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is done to disks that are not blank; disko's `--mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Everything on them is destroyed, and all is made anew.
    #[default]
    #[serde(rename = "destroy,format,mount")]
    Destroy,
    /// What is there and is what the layout asks for is kept, what is missing is made; nothing is destroyed.
    #[serde(rename = "format,mount")]
    Format,
    /// Everything is there, and only mounted.
    #[serde(rename = "mount")]
    Mount,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Destroy, Self::Format, Self::Mount];

    /// As disko and `--mode` call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Destroy => "destroy,format,mount",
            Self::Format => "format,mount",
            Self::Mount => "mount",
        }
    }

    /// Whether what is on the disks stays.
    #[must_use]
    pub const fn keeps(self) -> bool {
        match self {
            Self::Destroy => false,
            Self::Format | Self::Mount => true,
        }
    }

    /// Whether this is what is done if nothing is said; such plans and requests do not mention it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|mode| mode.name() == text);
        known.ok_or_else(|| format!("it is none of {}", Self::ALL.map(Self::name).join(" ; ")))
    }
}
