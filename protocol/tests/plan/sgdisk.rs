//! The real sgdisk, sfdisk and parted, run as the plan says on sparse images, put partitions exactly where disko's are and
//! where predicted.

use crate::fixtures::{
    BROKEN_BY_DISKO, DISK, MbrEntry, NAMES, Partition, blank_disks, devices, fixture, options, plan,
};
use cygnet_protocol::plan::{self, Action, Step};
use std::io::Read;
use std::path::Path;
use std::process::Command;

const TOOLS: [&str; 3] = ["sgdisk", "sfdisk", "parted"];

fn tool(name: &str, arguments: &[String]) -> String {
    let program = format!("/usr/sbin/{name}");
    assert!(Path::new(&program).exists(), "{program} is not installed; install gdisk, fdisk and parted");
    let output = Command::new(&program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {text}{stderr}");
    text
}

fn sgdisk(arguments: &[String]) -> String {
    tool("sgdisk", arguments)
}

fn field<'a>(info: &'a str, name: &str) -> &'a str {
    let line = info.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{name} in {info}")).trim()
}

fn read_back(image: &str, number: u32) -> Partition {
    let info = sgdisk(&[format!("--info={number}"), image.to_owned()]);
    let word = |name: &str| field(&info, name).split_whitespace().next().unwrap_or_default().to_owned();
    Partition {
        number,
        first_lba: word("First sector:").parse().unwrap(),
        last_lba: word("Last sector:").parse().unwrap(),
        name: field(&info, "Partition name:").trim_matches('\'').to_owned(),
        type_guid: word("Partition GUID code:"),
        attributes: word("Attribute flags:"),
    }
}

/// What the image of one device became.
struct Made {
    partitions: Vec<Partition>,
    /// First and last sector of each, where the plan knows.
    predicted: Vec<Option<(u64, u64)>>,
    mbr: Vec<MbrEntry>,
}

fn mbr(image: &Path) -> Vec<MbrEntry> {
    let mut sector = [0; 512];
    std::fs::File::open(image).unwrap().read_exact(&mut sector).unwrap();
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let entries = sector[446..510].chunks(16).filter(|entry| entry[4] != 0);
    let read = |entry: &[u8]| MbrEntry {
        boot: entry[0],
        kind: format!("0x{:02x}", entry[4]),
        first_lba: number(&entry[8..12]),
        sectors: number(&entry[12..16]),
    };
    entries.map(read).collect()
}

/// Runs the plan's partitioning commands on an image in place of the device, and reads the partitions back.
fn carry_out(steps: &[Step], device: &str, image: &Path) -> Made {
    let mut numbers = Vec::new();
    for step in steps {
        for action in step.actions() {
            let Action::Run { argv, .. } = action else { continue };
            if TOOLS.contains(&argv[0].as_str()) && argv.iter().any(|word| word == device) {
                let place =
                    |word: &String| if word == device { image.to_str().unwrap().to_owned() } else { word.clone() };
                tool(&argv[0], &argv[1..].iter().map(place).collect::<Vec<_>>());
            }
        }
        match step {
            Step::CreatePartition { device: on, number, first_lba, last_lba, .. } if on == device => {
                numbers.push((*number, first_lba.zip(*last_lba)));
            }
            Step::CreateTablePartition { device: on, number, .. } if on == device => numbers.push((*number, None)),
            _ => {}
        }
    }
    Made {
        partitions: numbers.iter().map(|(number, _)| read_back(image.to_str().unwrap(), *number)).collect(),
        predicted: numbers.into_iter().map(|(_, extent)| extent).collect(),
        mbr: mbr(image),
    }
}

fn as_predicted(name: &str, made: &Made) {
    for (partition, predicted) in made.partitions.iter().zip(&made.predicted) {
        let found = (partition.first_lba, partition.last_lba);
        assert_eq!(found, predicted.unwrap_or(found), "{name}: prediction for {}", partition.name);
    }
}

fn image(name: &str, bytes: u64) -> std::path::PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.img", std::process::id()));
    std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

/// Every image at the same time: sgdisk sleeps for a second after each write.
#[test]
fn partitions_are_disko_s_sector_for_sector() {
    let compared = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for name in NAMES.into_iter().filter(|name| *name != BROKEN_BY_DISKO) {
            let (fixture, plan) = plan(name);
            for (i, (device, expected)) in fixture.partitions.into_iter().enumerate() {
                let steps = plan.steps.clone();
                let entries = fixture.mbr[&device].clone();
                threads.push(scope.spawn(move || {
                    let path = image(&format!("{name}{i}"), DISK);
                    let made = carry_out(&steps, &device, &path);
                    std::fs::remove_file(&path).unwrap();
                    as_predicted(name, &made);
                    assert_eq!(made.partitions, expected, "{name} {device}");
                    assert_eq!(made.mbr, entries, "{name} {device}");
                    made.partitions.len()
                }));
            }
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert!(compared > 100, "only {compared} partitions compared");
}

/// disko forgets a blank here, and leaves a disk without a valid GPT.
#[test]
fn a_hybrid_mbr_with_the_protective_entry_first_leaves_the_gpt_valid() {
    let (_, plan) = plan(BROKEN_BY_DISKO);
    let path = image("hybrid-first", DISK);
    let made = carry_out(&plan.steps, &plan.disks[0].device, &path);
    let verified = sgdisk(&["--verify".to_owned(), path.to_str().unwrap().to_owned()]);
    std::fs::remove_file(&path).unwrap();
    assert!(verified.contains("No problems found"), "{verified}");
    as_predicted(BROKEN_BY_DISKO, &made);
    let names: Vec<&str> = made.partitions.iter().map(|partition| partition.name.as_str()).collect();
    assert_eq!(names, ["disk-main-fw", "disk-main-root"]);
    let entry = |kind: &str, first_lba, sectors| MbrEntry { boot: 0, kind: kind.to_owned(), first_lba, sectors };
    assert_eq!(made.mbr, [entry("0xee", 1, 2047), entry("0x0c", 2048, 131_072)]);
}

/// sgdisk counts partitions of the GPT, sfdisk entries of the MBR, which the protective entry moves.
#[test]
fn entries_of_a_hybrid_mbr_are_counted_in_either_order() {
    for first in [true, false] {
        let mut fixture = fixture("hybrid-mbr");
        let table = &mut fixture.devices["disk"]["main"]["content"];
        table["efiGptPartitionFirst"] = first.into();
        table["partitions"]["ESP"]["hybrid"] = serde_json::json!({"mbrPartitionType": null, "mbrBootableFlag": true});
        let devices = devices(&fixture);
        let plan = plan::compile(&devices, &blank_disks(&devices), &options()).unwrap();
        let path = image(&format!("hybrid-{first}"), DISK);
        let made = carry_out(&plan.steps, &plan.disks[0].device, &path);
        std::fs::remove_file(&path).unwrap();
        let entries: Vec<(u8, &str, u32)> =
            made.mbr.iter().map(|entry| (entry.boot, entry.kind.as_str(), entry.first_lba)).collect();
        let mut expected = vec![(0, "0x0c", 2048), (128, "0xef", 67584)];
        expected.insert(if first { 0 } else { 2 }, (0, "0xee", 1));
        assert_eq!(entries, expected);
        as_predicted("hybrid", &made);
    }
}

/// Sizes at which gptfdisk's rules change, and odd ones; sectors of 512 bytes, as any image file has.
#[test]
fn predictions_hold_on_disks_of_other_sizes() {
    let fixture = fixture("x-gpt-priority-order");
    let devices = devices(&fixture);
    let (devices, sizes) =
        (&devices, [15_931_539_456, (32 << 30) + 512, 299_999_999_488, 300_000_000_512, 2_000_398_934_016]);
    std::thread::scope(|scope| {
        for bytes in sizes {
            scope.spawn(move || {
                let mut disks = blank_disks(devices);
                disks[0].size_bytes = bytes;
                let plan = plan::compile(devices, &disks, &options()).unwrap();
                let path = image(&format!("size{bytes}"), bytes);
                let device = &plan.disks[0].device;
                as_predicted(&format!("{bytes} bytes"), &carry_out(&plan.steps, device, &path));
                std::fs::remove_file(&path).unwrap();
            });
        }
    });
}
