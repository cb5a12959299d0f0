//! What disks there are, what is on them and who uses them; and a layout compiled against that.
//!
//! [`lsblk`] is what util-linux and udev know, [`facts`] makes of it what the plan needs,
//! and [`surroundings`] looks at what else a plan depends on: names, key files, tools. [`survey`] tells people more than a
//! plan's digest covers, from [`labels`] (ZFS), [`layers`] (md, LVM), [`usage`] and [`health`]; [`list`] is the answer to
//! `cygnet disks`. Nothing here writes.

mod facts;
mod health;
mod labels;
mod layers;
mod list;
mod lsblk;
mod surroundings;
mod survey;
mod usage;

pub use list::list;

use crate::run::capture;
use cygnet_protocol::disko;
use cygnet_protocol::fault::{Fault, FaultCode, sentence};
use cygnet_protocol::plan::{self, DiskFacts, Options, Plan, PlannedDisk};
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Others look at a disk for moments, too. How often, and how long apart, we ask whether it is held.
const HELD_ATTEMPTS: u32 = 5;
const HELD_PAUSE: Duration = Duration::from_millis(200);

/// Compiles a layout against the disks as they are now, for the board that it is to boot.
pub fn compile(
    layout: &serde_json::Value,
    closure_nar_size: Option<u64>,
    board: &str,
    mode: plan::Mode,
    from_card: bool,
) -> Result<Plan, Fault> {
    let devices = disko::parse(layout.to_string()).map_err(|error| {
        Fault::new(
            FaultCode::BadLayout,
            sentence(&format!("The layout cannot be used: {}: {}", error.path, error.what)),
            "It was cut short or edited by hand, or disko allows something that cygnet does not.",
            sentence(&error.remedy),
        )
    })?;
    let seen = look(&held)?;
    let board = Some(board.to_owned());
    let options = Options { closure_nar_size, board, passphrases: true, mode, from_card, ..Options::default() };
    let mut plan = plan::compile(&devices, &seen.facts, &options).map_err(|refusal| Fault::from(&refusal))?;
    surroundings::check(&plan).map_err(|refusal| Fault::from(&refusal))?;
    plan.warnings.extend(surroundings::missing_tools(&plan).map(|tools| {
        format!("the image on the card has no {tools}; the installation will stop before it touches anything")
    }));
    list::losses(&mut plan, &seen);
    Ok(plan)
}

/// Whether all tools that a plan needs are there; to be asked before anything is touched.
pub fn tools_are_there(plan: &Plan) -> Result<(), Fault> {
    match surroundings::missing_tools(plan) {
        None => Ok(()),
        Some(tools) => Err(Fault::new(
            FaultCode::StepFailed,
            format!("The plan needs {tools}, which the image on the card does not have."),
            "The layout has something for which the image was not made.",
            "Add the tools to the image, or take what needs them out of the layout. Nothing was touched.",
        )),
    }
}

/// What there was to see at one moment.
struct Seen {
    /// As lsblk(8) tells.
    devices: Vec<lsblk::Device>,
    /// Links below /dev/disk and what they lead to.
    links: Vec<(String, String)>,
    /// Pools in use by member.
    pools: BTreeMap<String, String>,
    /// The facts of every disk.
    facts: Vec<DiskFacts>,
}

/// Every disk of the machine.
fn disks() -> Result<Vec<DiskFacts>, Fault> {
    look(&held).map(|seen| seen.facts)
}

/// Looks at all disks. `held` tells whether the kernel lends a disk to nobody else.
fn look(held: &dyn Fn(&str) -> bool) -> Result<Seen, Fault> {
    // Events of a disk that was just plugged in or written to may still be under way; its links come with them.
    let _ = capture(&["udevadm", "settle", "--timeout=30"]);
    let text = capture(&lsblk::COMMAND).map_err(|e| e.fault(FaultCode::StepFailed, "Looking at the disks"))?;
    let devices = lsblk::parse(&text).map_err(|e| Fault::internal("The output of lsblk cannot be understood.", e))?;
    let pools = imported();
    let running = running_disks();
    let links = links(Path::new("/dev/disk"));
    let start = |name: &str| {
        fs::read_to_string(Path::new("/sys/class/block").join(name).join("start"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    };
    let whole = devices.iter().filter(|device| facts::is_disk(device));
    let facts = whole.map(|device| facts::of(device, &links, &pools, &running, &start, held)).collect();
    Ok(Seen { devices, links, pools, facts })
}

/// Members of the imported pools. No zpool, no pools; those that it cannot tell of are [`held`].
fn imported() -> BTreeMap<String, String> {
    facts::imported(&capture(&["zpool", "list", "-H", "-P", "-v"]).unwrap_or_default())
}

/// Whether the kernel lends a disk to nobody else: open(2), O_EXCL on block devices. Whatever is on it counts, too.
fn held(disk: &str) -> bool {
    for attempt in 0..HELD_ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(HELD_PAUSE);
        }
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::open(disk, flags, Mode::empty()) {
            Err(rustix::io::Errno::BUSY) => {}
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

/// Whether the disks of a plan are what they were when it was confirmed; to be asked right before they are written to.
/// With `formatted`, whether they are still the same disks, to be asked before they are gone on with.
pub fn unchanged(plan: &Plan, formatted: bool) -> Result<(), Fault> {
    match facts::changed(&plan.disks, &disks()?, formatted) {
        None => Ok(()),
        Some(change) => Err(Fault::new(
            FaultCode::DiskChanged,
            format!("A disk is not what it was when the plan {} was confirmed: {change}.", plan.digest.short()),
            "It was unplugged, another disk was plugged in, or something wrote to it or began to use it.",
            if formatted {
                "Plug in the disk on which the installation began; or, to begin anew on another, change the layout's device."
            } else {
                "Nothing was written. Look at the plan again and confirm the new one: `cygnet plan HOST …`."
            },
        )),
    }
}

/// Adds to a fault who holds a disk of the plan now: udev may have assembled an array or a volume group on it meanwhile.
pub fn with_holders(mut fault: Fault, plan: &Plan) -> Fault {
    let now = look(&|_| false).map(|seen| seen.facts).unwrap_or_default();
    let ours = |facts: &&DiskFacts| plan.disks.iter().any(|disk| disk.facts.kernel_path == facts.kernel_path);
    let holders: Vec<String> = now.iter().filter(ours).flat_map(|facts| facts.in_use.clone()).collect();
    if !holders.is_empty() {
        fault.cause = format!("{} In use now: {}.", fault.cause, holders.join("; "));
    }
    fault
}

/// The UUIDs of the partition tables on a plan's disks, by their names in the layout. Read from the disks: what udev knows
/// may be a moment old.
pub fn tables(plan: &Plan) -> Result<BTreeMap<String, String>, Fault> {
    let table = |device: &str| {
        // It exits with 2 where there is none.
        let probed = capture(&["blkid", "--probe", "--match-tag", "PTUUID", "--output", "value", device]);
        Some(probed.ok()?.trim().to_owned()).filter(|uuid| !uuid.is_empty())
    };
    Ok(plan.disks.iter().filter_map(|disk| Some((disk.name.clone(), table(&disk.device)?))).collect())
}

/// Whether the disks of an interrupted plan that have no partition table of ours yet, hold nothing but what they held when
/// it was confirmed; `done` steps were done, and may have filled some as a whole.
pub fn only_rests(plan: &Plan, written: &BTreeMap<String, String>, done: usize) -> Result<(), Fault> {
    let disks = disks()?;
    let now = |disk: &PlannedDisk| {
        let node = fs::canonicalize(&disk.device).ok()?;
        disks.iter().find(|facts| Path::new(&facts.kernel_path) == node)
    };
    let is_rest =
        |disk: &&PlannedDisk| now(disk).is_some_and(|now| now.fingerprint.is_rest_of(&disk.facts.fingerprint));
    let filled = plan.filled_whole(done);
    let is_known = |disk: &PlannedDisk| written.contains_key(&disk.name) || filled.contains(&disk.name.as_str());
    let mut unknown = plan.disks.iter().filter(|disk| !is_known(disk));
    match unknown.find(|disk| !is_rest(disk)) {
        None => Ok(()),
        Some(disk) => Err(Fault::new(
            FaultCode::DiskChanged,
            format!("Disk {} holds something that was not there when the plan was confirmed.", disk.name),
            "Another disk of the same make is plugged in, or somebody wrote to it since. Some USB adapters give every disk the same serial number.",
            "Plug in the disk on which the installation began; or begin anew: `cygnet install --fresh …`.",
        )),
    }
}

/// Whether the disks still have the partition tables that the installation wrote; to be asked before they are gone on with.
pub fn same_tables(plan: &Plan, written: &BTreeMap<String, String>) -> Result<(), Fault> {
    let now = tables(plan)?;
    match written.iter().find(|(disk, table)| now.get(*disk) != Some(table)) {
        None => Ok(()),
        Some((disk, _)) => Err(Fault::new(
            FaultCode::DiskChanged,
            format!("Disk {disk} does not have the partition table that the interrupted installation wrote."),
            "Another disk of the same make is plugged in, or somebody partitioned it anew. Some USB adapters give every disk the same serial number.",
            "Plug in the disk on which the installation began; or begin anew: `cygnet install --fresh …`.",
        )),
    }
}

/// The links below /dev/disk and what they lead to, sorted.
fn links(directory: &Path) -> Vec<(String, String)> {
    let mut links: Vec<(String, String)> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        // by-diskseq counts how often something was plugged in, which is no property of the disk.
        .filter(|kind| kind.file_name() != "by-diskseq")
        .flat_map(|kind| fs::read_dir(kind.path()).into_iter().flatten().flatten())
        .filter_map(|entry| {
            let to = fs::canonicalize(entry.path()).ok()?;
            Some((entry.path().to_string_lossy().into_owned(), to.to_string_lossy().into_owned()))
        })
        .collect();
    links.sort();
    links
}

/// The disk the Pi runs from, for the status.
pub fn running_disk() -> Option<String> {
    running_disks().into_iter().next()
}

/// All disks that the Pi runs from.
pub fn running_disk_set() -> BTreeSet<String> {
    running_disks()
}

/// Every disk that something of the running system is on: root, boot, store, and the agent itself.
fn running_disks() -> BTreeSet<String> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/"));
    let own = own.to_string_lossy().into_owned();
    let mut disks = BTreeSet::new();
    for path in ["/", "/boot", "/boot/firmware", "/nix", "/nix/store", "/nix/.ro-store", "/iso", &own] {
        let Some(mount) = facts::mount_of(&mountinfo, path) else { continue };
        if !mount.number.starts_with("0:") {
            whole_disks(&Path::new("/sys/dev/block").join(&mount.number), &mut disks, 0);
            continue;
        }
        for node in mount.nodes(&imported) {
            if let Some(name) = fs::canonicalize(&node).ok().and_then(|node| node.file_name().map(PathBuf::from)) {
                whole_disks(&Path::new("/sys/class/block").join(name), &mut disks, 0);
            }
        }
    }
    disks
}

/// The whole disks (`/dev/sda`) that a device lies on, through device mapper and md; none if there is no such device.
pub fn disks_below(device: &Path) -> BTreeSet<String> {
    let mut disks = BTreeSet::new();
    if let Some(name) = fs::canonicalize(device).ok().and_then(|node| node.file_name().map(PathBuf::from)) {
        whole_disks(&Path::new("/sys/class/block").join(name), &mut disks, 0);
    }
    disks
}

/// `…/block/8:1` → `/dev/sda`, by sysfs; through device mapper and md to every disk below.
fn whole_disks(device: &Path, disks: &mut BTreeSet<String>, depth: u8) {
    let Ok(mut directory) = fs::canonicalize(device) else { return };
    let mut lies_on_others = false;
    for slave in fs::read_dir(directory.join("slaves")).into_iter().flatten().flatten() {
        lies_on_others = true;
        if depth < 8 {
            whole_disks(&slave.path(), disks, depth + 1);
        }
    }
    if lies_on_others {
        return;
    }
    if directory.join("partition").exists() {
        directory.pop();
    }
    if let Some(name) = directory.file_name() {
        disks.insert(format!("/dev/{}", name.to_string_lossy()));
    }
}

/// What is different between the plan that was shown and the present one, in words.
pub fn difference(shown: &Plan, now: &Plan) -> String {
    let mut words = Vec::new();
    for disk in &now.disks {
        match shown.disks.iter().find(|other| other.name == disk.name) {
            None => words.push(format!("disk {} is new", disk.name)),
            Some(other) if other.facts == disk.facts => {}
            Some(other) => words.push(facts::difference(&disk.name, &other.facts, &disk.facts)),
        }
    }
    for disk in shown.disks.iter().filter(|disk| now.disks.iter().all(|other| other.name != disk.name)) {
        words.push(format!("disk {} is gone", disk.name));
    }
    if words.is_empty() { "the layout is another".into() } else { words.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_every_other_fault() {
        let (disk, device) = ("ssd".to_owned(), "/dev/sda".to_owned());
        let fault = Fault::from(&plan::Refusal::RunningDisk { disk, device });
        assert_eq!(fault.code, FaultCode::RunningDisk);
        assert_eq!(fault.what, "Disk “ssd”: /dev/sda is the disk this system runs from.");
        assert_eq!(fault.remedy, "Set disko.devices.disk.ssd.device to the disk you mean to install on.");
        assert_eq!(sentence("disk.ssd.content is null"), "disk.ssd.content is null.");
        assert_eq!(sentence("/nix/store is in memory."), "/nix/store is in memory.");
        assert_eq!(sentence(""), ".");
    }

    #[test]
    fn a_device_that_lies_on_others_is_all_of_them() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for name in ["sda/sda2", "sdb", "md0/slaves", "dm-0/slaves", "empty/slaves"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("sda/sda2/partition"), "2").unwrap();
        for (from, to) in [("md0/slaves/sda2", "sda/sda2"), ("md0/slaves/sdb", "sdb"), ("dm-0/slaves/md0", "md0")] {
            std::os::unix::fs::symlink(at(to), at(from)).unwrap();
        }
        let below = |name: &str| {
            let mut disks = BTreeSet::new();
            whole_disks(&at(name), &mut disks, 0);
            disks.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(below("dm-0"), ["/dev/sda", "/dev/sdb"]);
        assert_eq!(below("sda/sda2"), ["/dev/sda"]);
        assert_eq!(below("empty"), ["/dev/empty"]);
        assert!(below("gone").is_empty() && !held("/nowhere"));
    }
}
