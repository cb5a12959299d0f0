//! The real sgdisk, run as the plan says on sparse images, puts partitions exactly where disko's are and where predicted.

use crate::fixtures::{DISK, NAMES, Partition, blank_disks, devices, fixture, options};
use cygnet_protocol::plan::{self, Action, Step};
use std::path::Path;
use std::process::Command;

const SGDISK: &str = "/usr/sbin/sgdisk";

fn sgdisk(arguments: &[String]) -> String {
    assert!(Path::new(SGDISK).exists(), "{SGDISK} is not installed; install the package gdisk");
    let output = Command::new(SGDISK).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "sgdisk {arguments:?}: {text}{stderr}");
    text
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

/// Runs the plan's sgdisk commands on an image in place of the disk, and reads the partitions back.
fn carry_out(steps: &[Step], device: &str, image: &str) -> Vec<(Partition, u64, u64)> {
    let mut made = Vec::new();
    for step in steps {
        for action in step.actions() {
            let Action::Run { argv, .. } = action else { continue };
            if argv[0] == "sgdisk" && argv.last().is_some_and(|last| last == device) {
                let mut arguments = argv[1..argv.len() - 1].to_vec();
                arguments.push(image.to_owned());
                sgdisk(&arguments);
            }
        }
        if let Step::CreatePartition { device: on, number, first_lba, last_lba, .. } = step
            && on == device
        {
            made.push((read_back(image, *number), *first_lba, *last_lba));
        }
    }
    made
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
        for name in NAMES {
            let fixture = fixture(name);
            let devices = devices(&fixture);
            let plan = plan::compile(&devices, &blank_disks(&devices), &options()).unwrap();
            for (i, (device, expected)) in fixture.partitions.into_iter().enumerate() {
                let steps = plan.steps.clone();
                threads.push(scope.spawn(move || {
                    let path = image(&format!("{name}{i}"), DISK);
                    let made = carry_out(&steps, &device, path.to_str().unwrap());
                    std::fs::remove_file(&path).unwrap();
                    for (partition, first, last) in &made {
                        let found = (partition.first_lba, partition.last_lba);
                        assert_eq!(found, (*first, *last), "{name} {device}: prediction");
                    }
                    let count = made.len();
                    let partitions: Vec<Partition> = made.into_iter().map(|(made, ..)| made).collect();
                    assert_eq!(partitions, expected, "{name} {device}");
                    count
                }));
            }
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert!(compared > 60, "only {compared} partitions compared");
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
                for (partition, first, last) in carry_out(&plan.steps, device, path.to_str().unwrap()) {
                    assert_eq!((partition.first_lba, partition.last_lba), (first, last), "{bytes} bytes");
                }
                std::fs::remove_file(&path).unwrap();
            });
        }
    });
}
