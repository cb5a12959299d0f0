//! How it is found out whether what a step makes is there already: the question as data, the answer judged. Pure; the
//! agent asks.

use super::Plan;
use super::action::{Action, run};
use super::action_layers::top_of;
use super::format::without_creation_only;
use super::keep::same_filesystem;
use super::step::Step;

/// What is asked before something is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What `blkid --probe` sees on each of these devices.
    Signature {
        /// Devices.
        devices: Vec<String>,
        /// What it must be.
        wanted: Signature,
    },
    /// It is there if this command succeeds, and, where `speaks`, prints something.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Whether success without output means that it is not there.
        speaks: bool,
    },
    /// It is there if this path is, while the filesystem is mounted at [`super::WORKPLACE`].
    Path {
        /// Mounts it.
        mount: Action,
        /// Absolute path.
        path: String,
    },
}

/// What is looked for on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// This type, as blkid(8) calls it.
    Type(String),
    /// What `mkfs.<this>` makes.
    Filesystem(String),
    /// A member of this pool.
    Pool(String),
    /// A partition table.
    Table,
}

/// What blkid(8) sees on a device, if anything: `TYPE`, `LABEL` and `PTTYPE`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Such as `ext4`.
    pub fstype: Option<String>,
    /// Of a pool's member, the pool's name.
    pub label: Option<String>,
    /// Such as `gpt`.
    pub table: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It is there, and kept.
    There,
    /// Nothing is; it is made.
    Missing,
    /// Something else is, in words. It is left alone.
    Other(String),
}

impl Seen {
    /// From the output of `blkid --probe --output export`.
    #[must_use]
    pub fn parse(export: &str) -> Self {
        let value = |key: &str| {
            let line = export.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned)
        };
        Self { fstype: value("TYPE"), label: value("LABEL"), table: value("PTTYPE") }
    }

    fn words(&self) -> Option<String> {
        match (&self.fstype, &self.table) {
            (Some(fstype), _) => {
                Some(self.label.as_ref().map_or_else(|| fstype.clone(), |label| format!("{fstype} “{label}”")))
            }
            (None, Some(table)) => Some(format!("a {table} partition table")),
            (None, None) => None,
        }
    }
}

impl Signature {
    fn is(&self, seen: &Seen) -> bool {
        let fstype = seen.fstype.as_deref();
        match self {
            Self::Type(wanted) => fstype == Some(wanted),
            Self::Filesystem(format) => fstype.is_some_and(|fstype| same_filesystem(format, fstype)),
            Self::Pool(pool) => fstype == Some("zfs_member") && seen.label.as_ref().is_none_or(|label| label == pool),
            Self::Table => fstype.is_none() && seen.table.is_some(),
        }
    }

    /// Judges what was seen on each device.
    #[must_use]
    pub fn judge(&self, seen: &[(String, Seen)]) -> Presence {
        let other = seen.iter().find(|(_, seen)| !self.is(seen) && seen.words().is_some());
        if let Some((device, seen)) = other {
            return Presence::Other(format!("{} on {device}", seen.words().unwrap_or_default()));
        }
        let missing = seen.iter().find(|(_, seen)| !self.is(seen));
        match (missing, seen.iter().any(|(_, seen)| self.is(seen))) {
            (None, _) => Presence::There,
            (Some(_), false) => Presence::Missing,
            (Some((device, _)), true) => Presence::Other(format!("nothing on {device}, but a member on the others")),
        }
    }
}

fn command<const N: usize>(argv: [&str; N]) -> Question {
    Question::Command { argv: argv.map(str::to_owned).into(), speaks: false }
}

impl Plan {
    /// How it is found out whether what this step makes is there; none if it cannot be.
    #[must_use]
    pub fn question(&self, step: &Step) -> Option<Question> {
        let signature = |devices: Vec<String>, wanted| Some(Question::Signature { devices, wanted });
        let on = |device: &String, wanted: &str| signature(vec![device.clone()], Signature::Type(wanted.to_owned()));
        match step.made() {
            Step::ClearTable { device, .. } | Step::CreateTable { device, .. } => {
                signature(vec![device.clone()], Signature::Table)
            }
            Step::CreatePartition { device, number, .. } | Step::CreateTablePartition { device, number, .. } => {
                let range = format!("{number}:{number}");
                let argv = ["partx", "--show", "--nr", &range, "--noheadings", "--output", "NR", device];
                Some(Question::Command { argv: argv.map(str::to_owned).into(), speaks: true })
            }
            Step::FormatLuks { device, .. } => on(device, "crypto_LUKS"),
            Step::AddLuksKey { device, path, .. } => {
                Some(command(["cryptsetup", "open", "--test-passphrase", "--key-file", path, device]))
            }
            Step::CreateArray { members, .. } => {
                signature(members.clone(), Signature::Type("linux_raid_member".to_owned()))
            }
            Step::CreatePhysicalVolume { device } => on(device, "LVM2_member"),
            Step::CreateVolumeGroup { group, members, .. } => {
                Some(command(["vgs", "--devices", &members.join(","), group]))
            }
            Step::CreateLogicalVolume { group, name, .. } => Some(command(["lvs", &format!("{group}/{name}")])),
            Step::MakeFilesystem { device, format, .. } => {
                signature(vec![device.clone()], Signature::Filesystem(format.clone()))
            }
            Step::MakeSwap { device, .. } => on(device, "swap"),
            Step::MakeBtrfs { device, .. } => on(device, "btrfs"),
            Step::CreateSubvolume { device, name, .. } => {
                Some(Question::Path { mount: top_of(device), path: format!("{}/{name}", super::WORKPLACE) })
            }
            Step::CreateSwapFiles { device, files } => {
                let path = format!("{}/{}", super::WORKPLACE, files.first()?.path);
                Some(Question::Path { mount: top_of(device), path })
            }
            Step::MakeBcachefs { devices, .. } => {
                let devices = devices.iter().map(|member| member.device.clone()).collect();
                signature(devices, Signature::Type("bcachefs".to_owned()))
            }
            Step::CreateBcachefsSubvolume { uuid, name } => {
                let device = format!("/dev/disk/by-uuid/{uuid}");
                let mount = run(["mount", "-t", "bcachefs", "-o", "X-mount.mkdir", &device, super::WORKPLACE]);
                Some(Question::Path { mount, path: format!("{}/{name}", super::WORKPLACE) })
            }
            Step::CreatePool { pool, vdevs, .. } => {
                let members = vdevs.iter().flat_map(|vdev| &vdev.members);
                signature(members.map(|member| self.searched(member)).collect(), Signature::Pool(pool.clone()))
            }
            Step::CreateDataset { dataset, .. } | Step::CreateVolume { dataset, .. } => {
                Some(command(["zfs", "list", "-H", "-o", "name", dataset]))
            }
            _ => None,
        }
    }

    /// What is done instead of making what is there: it is opened, and a dataset gets the properties that can be changed.
    #[must_use]
    pub fn instead(&self, step: &Step) -> Vec<Step> {
        let mut steps = self.opening(step.made());
        if let Step::CreateDataset { dataset, properties, .. } = step.made() {
            let properties = without_creation_only(properties);
            if !properties.is_empty() {
                steps.push(Step::SetProperties { dataset: dataset.clone(), properties });
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(export: &str) -> Vec<(String, Seen)> {
        let devices = ["/dev/a", "/dev/b"].into_iter().map(str::to_owned);
        devices.zip(export.split("--\n").map(Seen::parse)).collect()
    }

    #[test]
    fn what_is_there_is_kept_and_what_is_something_else_is_named() {
        let pool = Signature::Pool("tank".to_owned());
        let member = "DEVNAME=/dev/a\nLABEL=tank\nTYPE=zfs_member\nUSAGE=raid\n";
        assert_eq!(pool.judge(&seen(&format!("{member}--\n{member}"))), Presence::There);
        assert_eq!(pool.judge(&seen("")), Presence::Missing);
        assert_eq!(pool.judge(&seen("--\n")), Presence::Missing);
        let Presence::Other(words) = pool.judge(&seen(&format!("{member}--\n"))) else { panic!("half a pool") };
        assert!(words.contains("/dev/b"), "{words}");
        let Presence::Other(words) = pool.judge(&seen("LABEL=other\nTYPE=zfs_member\n")) else {
            panic!("another pool")
        };
        assert_eq!(words, "zfs_member “other” on /dev/a");
        let ext4 = Signature::Filesystem("ext4".to_owned());
        assert_eq!(ext4.judge(&seen("TYPE=ext2\n")), Presence::There);
        assert_eq!(ext4.judge(&seen("TYPE=ntfs\n")), Presence::Other("ntfs on /dev/a".to_owned()));
        assert_eq!(ext4.judge(&seen("PTTYPE=gpt\n")), Presence::Other("a gpt partition table on /dev/a".to_owned()));
        assert_eq!(Signature::Table.judge(&seen("PTTYPE=dos\nPTUUID=1\n")), Presence::There);
        assert_eq!(Signature::Table.judge(&seen("TYPE=ext4\n")), Presence::Other("ext4 on /dev/a".to_owned()));
    }
}
