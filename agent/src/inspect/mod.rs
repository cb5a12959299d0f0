//! What disks there are, what is on them and who uses them; and a layout compiled against that.
//!
//! [`lsblk`] is what util-linux and udev know, [`facts`] makes of it what the plan needs. Nothing here writes.

mod facts;
mod lsblk;

use crate::run::capture;
use cygnet_protocol::disko;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::plan::{self, DiskFacts, Options, Plan, Refusal};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Compiles a layout against the disks as they are now.
pub fn compile(layout: &serde_json::Value, closure_nar_size: Option<u64>) -> Result<Plan, Fault> {
    let devices = disko::parse(layout.to_string()).map_err(|error| {
        Fault::new(
            FaultCode::BadLayout,
            format!("The layout cannot be used: {}: {}", error.path, error.what),
            "It was cut short or edited by hand, or disko allows something that cygnet does not.",
            error.remedy.clone(),
        )
    })?;
    let disks = disks()?;
    let options = Options { closure_nar_size, ..Options::default() };
    plan::compile(&devices, &disks, &options).map_err(|refusal| refused(&refusal))
}

/// Every disk of the machine.
fn disks() -> Result<Vec<DiskFacts>, Fault> {
    // Events of a disk that was just plugged in or written to may still be under way; its links come with them.
    let _ = capture(&["udevadm", "settle", "--timeout=30"]);
    let text = capture(&lsblk::COMMAND).map_err(|e| e.fault(FaultCode::StepFailed, "Looking at the disks"))?;
    let devices = lsblk::parse(&text).map_err(|e| Fault::internal("The output of lsblk cannot be understood.", e))?;
    let pools = capture(&["zpool", "list", "-H", "-P", "-v"]).unwrap_or_default();
    let running = running_disks();
    let links = links(Path::new("/dev/disk"));
    let start = |name: &str| {
        fs::read_to_string(Path::new("/sys/class/block").join(name).join("start"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    };
    Ok(devices
        .iter()
        .filter(|device| facts::is_disk(device))
        .map(|device| facts::of(device, &links, &facts::imported(&pools), &running, &start))
        .collect())
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

/// Every disk that something of the running system is on: root, boot, store, and the agent itself.
fn running_disks() -> BTreeSet<String> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/"));
    let own = own.to_string_lossy().into_owned();
    ["/", "/boot", "/boot/firmware", "/nix", "/nix/store", "/nix/.ro-store", "/iso", &own]
        .iter()
        .filter_map(|path| facts::device_of(&mountinfo, path))
        .filter_map(|device| whole_disk(&device))
        .collect()
}

/// `8:1` → `/dev/sda`, by sysfs; through device mapper and md to the first disk below.
fn whole_disk(number: &str) -> Option<String> {
    let mut directory = fs::canonicalize(Path::new("/sys/dev/block").join(number)).ok()?;
    for _ in 0..8 {
        let below = fs::read_dir(directory.join("slaves")).ok().and_then(|mut slaves| slaves.next()?.ok());
        match below {
            Some(slave) => directory = fs::canonicalize(slave.path()).ok()?,
            None => break,
        }
    }
    if directory.join("partition").exists() {
        directory.pop();
    }
    Some(format!("/dev/{}", directory.file_name()?.to_string_lossy()))
}

fn refused(refusal: &Refusal) -> Fault {
    let code = match refusal {
        Refusal::UnknownDisk { .. } | Refusal::AmbiguousDisk { .. } => FaultCode::UnknownDisk,
        Refusal::RunningDisk { .. } => FaultCode::RunningDisk,
        Refusal::ReadOnly { .. } | Refusal::InUse { .. } | Refusal::KeepsContents { .. } => FaultCode::DiskBusy,
        Refusal::DiskTooSmall { .. } | Refusal::NoRoom { .. } | Refusal::ClosureTooBig { .. } => {
            FaultCode::DiskTooSmall
        }
        Refusal::SameDisk { .. }
        | Refusal::SectorSize { .. }
        | Refusal::LabelTaken { .. }
        | Refusal::PoolNameTaken { .. }
        | Refusal::NoRoot
        | Refusal::StoreInMemory { .. }
        | Refusal::KeyFromPrompt { .. }
        | Refusal::Layout { .. } => FaultCode::BadLayout,
    };
    Fault::new(code, refusal.what(), refusal.cause(), refusal.remedy())
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
