//! Files that this machine uses, and files that are the same by another name. Overwriting either is no way to make a card.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Says what uses a file, if anything that we can see does. On macOS nothing is seen.
pub fn by_this_machine(file: &Metadata, path: &Path) -> Option<String> {
    let lines = |name: &str| fs::read_to_string(name).unwrap_or_default();
    let same = |other: &Path| fs::metadata(other).is_ok_and(|other| is_same(file, &other));
    if let Some((device, _)) = loops().into_iter().find(|(_, backing)| same(backing)) {
        return Some(format!("the loop device {} is made of it", device.display()));
    }
    if swaps(&lines("/proc/swaps")).iter().any(|swap| same(swap)) {
        return Some("this machine swaps to it".to_owned());
    }
    let place = path.canonicalize().ok()?;
    mounted_at(&lines("/proc/self/mountinfo")).contains(&place).then(|| "it is mounted".to_owned())
}

/// The file that a loop device is made of.
pub fn behind_loop(device: &Path) -> Option<PathBuf> {
    loops().into_iter().find(|(name, _)| name == device).map(|(_, backing)| backing)
}

/// Whether both are one file, by whatever name (stat(2): device and inode).
pub fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Loop devices and their files, as the kernel tells (Documentation/ABI/testing/sysfs-block-loop).
fn loops() -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let backing = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
            Some((Path::new("/dev").join(entry.file_name()), PathBuf::from(backing.trim_end_matches('\n'))))
        })
        .collect()
}

/// The first column of /proc/swaps (swapon(8)).
fn swaps(text: &str) -> Vec<PathBuf> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(unescaped).collect()
}

/// The fifth column of mountinfo (proc_pid_mountinfo(5)).
fn mounted_at(text: &str) -> Vec<PathBuf> {
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped).collect()
}

/// Both files have blanks, tabs, line feeds and backslashes as three octal digits.
fn unescaped(word: &str) -> PathBuf {
    let mut rest = word;
    let mut bytes = Vec::new();
    while let Some((before, behind)) = rest.split_once('\\') {
        bytes.extend(before.as_bytes());
        match behind.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(b'\\');
                rest = behind;
            }
        }
    }
    bytes.extend(rest.as_bytes());
    PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_are_read() {
        let text = "Filename Type Size Used Priority\n/swap\\040file file 1 0 -2\n/dev/sda2 partition 1 0 -3\n";
        assert_eq!(swaps(text), [PathBuf::from("/swap file"), "/dev/sda2".into()]);
        let text =
            "36 35 98:0 /mnt1 /mnt\\0112\\134x rw,noatime - ext3 /dev/root rw\n37 35 0:1 / /run rw - tmpfs t rw\n";
        assert_eq!(mounted_at(text), [PathBuf::from("/mnt\t2\\x"), "/run".into()]);
    }

    #[test]
    fn links_lead_to_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link, hard, other) =
            (dir.path().join("f"), dir.path().join("l"), dir.path().join("h"), dir.path().join("o"));
        fs::write(&file, "x").unwrap();
        fs::write(&other, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        fs::hard_link(&file, &hard).unwrap();
        let of = |path: &Path| fs::metadata(path).unwrap();
        assert!(
            is_same(&of(&file), &of(&link)) && is_same(&of(&file), &of(&hard)) && !is_same(&of(&file), &of(&other))
        );
        assert_eq!(by_this_machine(&of(&file), &file), None);
    }
}
