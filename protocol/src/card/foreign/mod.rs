//! Files of other programs that say the same things: those of other installers on the same FAT partition, used for what
//! `cygnet.toml` does not say, and those in which a laptop keeps its networks. Parsed as those programs do, never run or sourced.
//!
//! Each reader gives what is good of a file, and each key that is not used with its line; never a value. Nothing is silent
//! but comments, and what means the same with cygnet or nothing elsewhere.

pub mod cloud_init;
pub mod custom_toml;
pub mod dietpi;
pub mod iwd;
pub mod networkmanager;
pub mod rpi_preseed;
pub mod wpa_supplicant;

#[cfg(test)]
mod field;
mod found;
mod imager;
mod keyfile;
#[cfg(test)]
mod silent;
mod yaml;

use super::config::CardConfig;
use super::read::{Fault, MAX_FAULTS, Reading};

/// A reader of a kind of file.
pub type Reader = fn(&[u8]) -> Reading;

/// Which file on a card is read how, besides `cygnet.toml`; what two of them say is taken from the first. A name that begins
/// with `*` is any that ends so.
pub const ON_CARD: &[(&str, Reader)] = &[
    ("rpi-preseed.toml", rpi_preseed::read),
    ("network-config", cloud_init::network_config),
    ("user-data", cloud_init::user_data),
    ("custom.toml", custom_toml::read),
    ("dietpi-wifi.txt", dietpi::read),
    ("dietpi.txt", dietpi::read),
    ("wpa_supplicant.conf", wpa_supplicant::read),
    ("*.nmconnection", networkmanager::read),
];

/// The reader of the file with this name in the root directory of a card's FAT partition, `cygnet.toml` among them, and its
/// rank: the lowest goes first.
pub fn reader_of(name: &str) -> Option<(usize, Reader)> {
    // FAT has no case, and macOS writes a second file `._NAME` beside each.
    let name = name.to_ascii_lowercase();
    let fits = |pattern: &str| match pattern.strip_prefix('*') {
        Some(end) => name.ends_with(end) && !name.starts_with('.'),
        None => name == pattern,
    };
    let all = std::iter::once((super::FILE, super::read as Reader)).chain(ON_CARD.iter().copied());
    all.enumerate().find(|(_, (pattern, _))| fits(pattern)).map(|(rank, (_, reader))| (rank, reader))
}

/// Files of text with lines: a byte order mark and CR LF are as good as none; the rest may be any bytes.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .zip(1..)
        .map(|(l, n)| (n, l))
}

fn fault(line: usize, key: impl Into<String>, why: impl Into<String>) -> Fault {
    // A key may be any text that stands before a `=`.
    let key: String = key.into().chars().filter(|c| !c.is_control()).take(60).collect();
    Fault { line, key, why: why.into() }
}

/// Nothing, because the file as a whole is none.
fn refused(why: impl Into<String>) -> Reading {
    Reading { faults: vec![fault(1, "", why)], ..Reading::default() }
}

/// What was found, with as many faults as anybody reads, by line.
fn reading(config: CardConfig, mut faults: Vec<Fault>) -> Reading {
    faults.sort();
    faults.truncate(MAX_FAULTS);
    Reading { config, faults }
}

/// A file that is too long is not looked at.
fn too_long(bytes: &[u8]) -> Option<Reading> {
    (bytes.len() > super::LIMIT).then(|| refused(format!("it has more than {} kB", super::LIMIT / 1024)))
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::online::settings::{Key, Network};
    use crate::online::ssid::Ssid;

    /// Numbers that look random and are the same each time (xorshift64*, Vigna 2016).
    pub struct Numbers(u64);

    impl Numbers {
        pub fn new(seed: u64) -> Self {
            Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
        }

        pub fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
        }

        fn byte(&mut self) -> u8 {
            self.below(256) as u8
        }

        /// Names of all kinds: text, text that looks like something else, UTF-8, any octets.
        pub fn ssid(&mut self) -> Ssid {
            const ODD: &[&str] = &[
                "72;101;",
                "=636166",
                "a;b\\;c",
                "\"q\"",
                "#no comment",
                " lead",
                "trail ",
                "P\"x\"",
                "caf\u{e9} 🦢",
                "1234",
                "a=b",
            ];
            if self.below(3) == 0 {
                return Ssid::new(ODD[self.below(ODD.len())]).unwrap();
            }
            let (length, plain) = (1 + self.below(32), self.below(2) == 0);
            let octets: Vec<u8> =
                (0..length).map(|_| if plain { b' ' + self.byte() % 95 } else { self.byte() }).collect();
            Ssid::new(octets).unwrap()
        }

        pub fn key(&mut self) -> Key {
            match self.below(3) {
                0 => Key::Open,
                1 => Key::Pmk(std::array::from_fn(|_| self.byte())),
                _ => {
                    let length = 8 + self.below(56);
                    Key::Passphrase((0..length).map(|_| char::from(b' ' + self.byte() % 95)).collect())
                }
            }
        }

        pub fn network(&mut self) -> Network {
            let priority = self.below(200) as i32 - 50;
            Network { ssid: self.ssid(), key: self.key(), hidden: self.below(2) == 0, priority }
        }

        /// What is left of bytes that somebody has damaged.
        pub fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
            let mut bytes = bytes.to_vec();
            for _ in 0..=self.below(4) {
                if bytes.is_empty() {
                    break;
                }
                let at = self.below(bytes.len());
                match self.below(3) {
                    0 => bytes[at] = self.byte(),
                    1 => bytes.truncate(at),
                    _ => bytes.insert(at, self.byte()),
                }
            }
            bytes
        }
    }

    pub fn hex(octets: &[u8]) -> String {
        octets.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
