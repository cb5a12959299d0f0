//! A small FAT32 as `fatfs` can read it.
//!
//! Linux (fs/fat/inode.c), macOS and the firmware know FAT32 by the boot sector: a FAT16 has the length of its tables in
//! another field. `mkfs.vfat -F 32` makes such ones on 30 MiB, as NixOS's images have had them. `fatfs` goes by the number of
//! clusters, as Microsoft's fatgen103 has it, and refuses what has fewer than 65525. So it is shown a larger one here: with the
//! clusters that are there, and as many as are wanting marked as bad, which nobody writes to.

use super::blocks::Shared;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// The fewest clusters of a FAT32 in Microsoft's words.
const LEAST: u64 = 65_525;
/// An entry of a cluster that is not to be used.
const BAD: [u8; 4] = 0x0fff_fff7_u32.to_le_bytes();
/// So many bytes of the boot sector are others.
const HEAD: usize = 40;

/// What is where, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Map {
    /// The beginning of the boot sector, as it is shown.
    head: [u8; HEAD],
    /// Where the first table begins.
    reserved: u64,
    /// How many tables there are.
    fats: u64,
    /// How long one is.
    fat: u64,
    /// How long one is shown.
    shown_fat: u64,
    /// So much of it says something of clusters that are there.
    used: u64,
    /// How long the file system is shown.
    shown: u64,
}

impl Map {
    /// Of the first bytes; nothing if it is none of these.
    fn of(boot: &[u8; 512]) -> Option<Self> {
        let short = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let long = |at: usize| u64::from(u32::from_le_bytes([boot[at], boot[at + 1], boot[at + 2], boot[at + 3]]));
        let (sector, cluster, reserved, fats) = (short(11), u64::from(boot[13]), short(14), u64::from(boot[16]));
        let (entries, total, fat16, fat32) = (short(17), short(19).max(long(32)), short(22), long(36));
        let is_sound = matches!(sector, 512 | 1024 | 2048 | 4096)
            && cluster.is_power_of_two()
            && reserved > 0
            && matches!(fats, 1 | 2);
        if !is_sound || boot[510..] != [0x55, 0xaa] || entries != 0 || fat16 != 0 || fat32 == 0 {
            return None;
        }
        let clusters = total.checked_sub(reserved + fats * fat32)? / cluster;
        if clusters == 0 || clusters >= LEAST {
            return None;
        }
        let shown_fat = ((LEAST + 2) * 4).div_ceil(sector);
        let shown = reserved + fats * shown_fat + LEAST * cluster;
        let mut head = [0; HEAD];
        head.copy_from_slice(&boot[..HEAD]);
        head[19..21].fill(0);
        head[32..36].copy_from_slice(&u32::try_from(shown).ok()?.to_le_bytes());
        head[36..40].copy_from_slice(&u32::try_from(shown_fat).ok()?.to_le_bytes());
        Some(Self {
            head,
            reserved: reserved * sector,
            fats,
            fat: fat32 * sector,
            shown_fat: shown_fat * sector,
            used: ((clusters + 2) * 4).min(fat32 * sector),
            shown: shown * sector,
        })
    }

    /// What is at a position, and how many bytes it goes on like that.
    fn at(&self, position: u64) -> (Place, u64) {
        let tables = self.reserved + self.fats * self.shown_fat;
        if position < HEAD as u64 {
            return (Place::Head, HEAD as u64 - position);
        }
        if position < self.reserved {
            return (Place::There(position), self.reserved - position);
        }
        if position >= tables {
            let data = self.reserved + self.fats * self.fat;
            return (Place::There(position - tables + data), self.shown.saturating_sub(position));
        }
        let (table, inside) =
            ((position - self.reserved) / self.shown_fat, (position - self.reserved) % self.shown_fat);
        match self.used.checked_sub(inside).filter(|left| *left > 0) {
            Some(left) => (Place::There(self.reserved + table * self.fat + inside), left),
            None => (Place::Bad, self.shown_fat - inside),
        }
    }
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The changed beginning of the boot sector.
    Head,
    /// What is there, at this position.
    There(u64),
    /// Entries of clusters that are not there.
    Bad,
}

/// The stream: as it is, unless it is a small FAT32.
#[derive(Debug)]
pub struct Wide {
    inner: Shared,
    position: u64,
    map: Option<Map>,
}

impl Wide {
    /// Looks at the boot sector.
    pub fn new(mut inner: Shared) -> Self {
        let mut boot = [0; 512];
        let read = inner.seek(SeekFrom::Start(0)).and_then(|_| inner.read_exact(&mut boot));
        let map = read.ok().and_then(|()| Map::of(&boot));
        // fatfs takes it for granted that it begins at the beginning.
        let _ = inner.seek(SeekFrom::Start(0));
        Self { inner, position: 0, map }
    }

    /// What is at the position of a widened one, and how much of `wanted` goes on like that.
    fn place(&self, wanted: usize) -> Option<(Place, usize)> {
        let (place, left) = self.map.as_ref()?.at(self.position);
        Some((place, wanted.min(usize::try_from(left).unwrap_or(usize::MAX))))
    }
}

impl Read for Wide {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((place, count)) = self.place(buffer.len()) else { return self.inner.read(buffer) };
        let buffer = &mut buffer[..count];
        let count = match (place, &self.map) {
            (Place::There(at), _) => {
                self.inner.seek(SeekFrom::Start(at))?;
                self.inner.read(buffer)?
            }
            (Place::Head, Some(map)) => {
                let at = usize::try_from(self.position).unwrap_or(HEAD);
                buffer.copy_from_slice(map.head.get(at..at + count).ok_or(io::ErrorKind::UnexpectedEof)?);
                count
            }
            (Place::Head | Place::Bad, _) => {
                for (byte, at) in buffer.iter_mut().zip(self.position..) {
                    *byte = BAD[usize::try_from(at % 4).unwrap_or_default()];
                }
                count
            }
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Wide {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let Some((place, count)) = self.place(buffer.len()) else { return self.inner.write(buffer) };
        let Place::There(at) = place else {
            return Err(io::Error::other("nothing is written to clusters that are not there"));
        };
        self.inner.seek(SeekFrom::Start(at))?;
        let count = self.inner.write(&buffer[..count])?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Seek for Wide {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let Some(map) = &self.map else { return self.inner.seek(to) };
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => map.shown.checked_add_signed(by),
        };
        self.position = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What `mkfs.vfat -F 32 -n LABEL` makes of so many sectors, fewer than 65536: one sector a cluster, two tables.
    pub fn small_fat32(sectors: u16, label: &[u8; 11]) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(sectors) * 512];
        let fat = u32::from(sectors).div_ceil(128);
        bytes[..3].copy_from_slice(&[0xeb, 0x58, 0x90]);
        bytes[3..11].copy_from_slice(b"mkfs.fat");
        bytes[11..13].copy_from_slice(&512_u16.to_le_bytes());
        (bytes[13], bytes[16], bytes[21]) = (1, 2, 0xf8);
        bytes[14..16].copy_from_slice(&32_u16.to_le_bytes());
        bytes[19..21].copy_from_slice(&sectors.to_le_bytes());
        bytes[36..40].copy_from_slice(&fat.to_le_bytes());
        (bytes[44], bytes[48], bytes[50], bytes[66]) = (2, 1, 6, 0x29);
        bytes[71..82].copy_from_slice(label);
        bytes[82..90].copy_from_slice(b"FAT32   ");
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        let boot = bytes[..512].to_vec();
        bytes[6 * 512..7 * 512].copy_from_slice(&boot);
        bytes[512..516].copy_from_slice(b"RRaA");
        bytes[996..1000].copy_from_slice(b"rrAa");
        bytes[1000..1008].fill(0xff);
        bytes[1022..1024].copy_from_slice(&[0x55, 0xaa]);
        for table in 0..2 {
            let at = (32 + table * fat as usize) * 512;
            bytes[at..at + 12]
                .copy_from_slice(&[0xf8, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f, 0xf8, 0xff, 0xff, 0x0f]);
        }
        let root = (32 + 2 * fat as usize) * 512;
        bytes[root..root + 11].copy_from_slice(label);
        bytes[root + 11] = 8;
        bytes
    }

    #[test]
    fn only_a_small_fat32_is_widened() {
        let head = |bytes: &[u8]| -> [u8; 512] { bytes[..512].try_into().unwrap() };
        let small = small_fat32(61_440, b"FIRMWARE   ");
        let map = Map::of(&head(&small)).unwrap();
        assert_eq!((map.reserved, map.fat, map.shown_fat), (32 * 512, 480 * 512, 512 * 512));
        // All clusters that are there, and none of those that are not.
        assert_eq!(map.used, (61_440 - 32 - 960 + 2) * 4);
        let first = map.at(map.reserved + map.used - 4);
        assert_eq!(first, (Place::There(32 * 512 + map.used - 4), 4));
        assert_eq!(map.at(map.reserved + map.used).0, Place::Bad);
        assert_eq!(map.at(map.reserved + map.shown_fat), (Place::There((32 + 480) * 512), map.used));
        assert_eq!(map.at(map.reserved + 2 * map.shown_fat).0, Place::There((32 + 960) * 512));
        assert!(Map::of(&[0; 512]).is_none() && Map::of(&[0xff; 512]).is_none());
        for (at, value) in [(13, 3), (16, 0), (16, 3), (17, 1), (22, 9), (510, 0), (13, 0), (14, 0)] {
            let mut other = small.clone();
            other[at] = value;
            if at == 14 {
                other[15] = 0;
            }
            assert!(Map::of(&head(&other)).is_none(), "{at}");
        }
        let mut large = small;
        large[19..21].fill(0);
        large[32..36].copy_from_slice(&100_000_u32.to_le_bytes());
        assert!(Map::of(&head(&large)).is_none());
    }
}
