//! What we do otherwise than disko, each with its reason: the table behind `docs/disko-differences.md`.
//!
//! Each entry takes its difference out of the recorded commands, or out of ours. [`crate::trace`] wants nothing to remain,
//! every entry that can be seen in a command to be seen at least once, and the document to be what this table says.

use crate::fixtures::BROKEN_BY_DISKO;

type Argv = Vec<String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Format,
    Mount,
    Unmount,
}

/// The commands of both, which the differences make equal.
pub struct Sides {
    pub name: &'static str,
    pub phase: Phase,
    /// Devices that are whole disks.
    pub disks: Vec<String>,
    pub disko: Vec<Argv>,
    pub ours: Vec<Argv>,
}

pub struct Difference {
    pub title: &'static str,
    pub disko: &'static str,
    pub ours: &'static str,
    pub why: &'static str,
    /// Says whether there was anything to take out; none for what no command shows.
    pub apply: Option<fn(&mut Sides) -> bool>,
}

fn words(argv: &Argv) -> Vec<&str> {
    argv.iter().map(String::as_str).collect()
}

fn drop_if(side: &mut Vec<Argv>, unwanted: impl Fn(&[&str]) -> bool) -> bool {
    let before = side.len();
    side.retain(|argv| !unwanted(&words(argv)));
    side.len() != before
}

fn change(side: &mut [Argv], mut edit: impl FnMut(&mut Argv)) -> bool {
    let mut changed = false;
    for argv in side {
        let before = argv.clone();
        edit(argv);
        changed |= *argv != before;
    }
    changed
}

fn is_question(argv: &[&str]) -> bool {
    matches!(
        argv,
        ["blkid" | "findmnt" | "lvdisplay" | "vgdisplay", ..]
            | ["zpool", "import" | "list", ..]
            | ["zfs", "get" | "list", ..]
            | ["cryptsetup", "isLuks" | "status", ..]
            | ["btrfs", "subvolume", "show", ..]
            | ["bcachefs", "subvolume", "snapshot", ..]
            | ["swapon", "--show"]
    )
}

fn is_waiting(argv: &[&str]) -> bool {
    matches!(argv, ["udevadm" | "partprobe" | "zvol_wait", ..])
}

/// disko's by-partlabel paths with odd characters, as udev spells them.
fn as_udev_spells(word: &str) -> String {
    if !word.starts_with("/dev/disk/by-partlabel/") {
        return word.to_owned();
    }
    let mut parts = word.split("\\x");
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        path += &format!("\\x{}{rest}", hex.to_lowercase());
    }
    path
}

/// `mount`, source, target, type, and the sorted options.
fn sorted_mount(argv: &mut Argv) {
    if argv[0] != "mount" {
        return;
    }
    let (mut fstype, mut options, mut places) = (String::new(), Vec::new(), Vec::new());
    let mut rest = argv[1..].iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-t" => fstype = rest.next().unwrap().clone(),
            "-o" => options.extend(rest.next().unwrap().split(',').map(str::to_owned)),
            _ => places.push(word.clone()),
        }
    }
    options.sort();
    options.dedup();
    let mut sorted = vec!["mount".to_owned()];
    sorted.append(&mut places);
    sorted.push(format!("type={fstype}"));
    sorted.append(&mut options);
    *argv = sorted;
}

/// The table. Those that come first make it easier for the others.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        title: "What is there is looked at once, before",
        disko: "asks before each command whether its work is done already (`blkid`, `findmnt`, `zpool list`, `vgdisplay`, …), and skips it, or adopts what it finds",
        ours: "plans for disks whose contents are known, destroys them, and creates everything",
        why: "an old signature made disko skip a pool (#576), and an importable pool of the same name on any attached disk is adopted",
        apply: Some(|sides| drop_if(&mut sides.disko, is_question)),
    },
    Difference {
        title: "Waiting for the very device",
        disko: "triggers and settles all of udev",
        ours: "lets udev look only at the disk that changed, and then waits for each link it needs, for a minute, and sees that it leads to the right disk",
        why: "links that come late (#739), or lead to another disk with the same label (#1124); events of other disks would start arrays and volume groups on them",
        apply: Some(|sides| {
            let disko = drop_if(&mut sides.disko, is_waiting);
            drop_if(&mut sides.ours, is_waiting) || disko
        }),
    },
    Difference {
        title: "Signatures under new partitions are removed",
        disko: "leaves them, and takes them for its own work",
        ours: "runs `wipefs` on every partition and array before it is filled",
        why: "a filesystem of an older layout may begin exactly where a new partition does (#1030, #734)",
        apply: Some(|sides| drop_if(&mut sides.ours, |argv| argv[0] == "wipefs")),
    },
    Difference {
        title: "What makes a disk bootable comes last",
        disko: "sets the legacy-boot attribute and parted's boot flags with each partition",
        ours: "sets them when the table is complete",
        why: "firmware that finds half of a table after a power cut must not boot from it",
        apply: Some(|sides| {
            let is_mark = |word: &str| word.starts_with("--attributes=") && word.ends_with(":set:2");
            let parted = |argv: &[&str]| matches!(argv, ["parted", .., "set", _, "boot" | "esp" | "legacy_boot", "on"]);
            let marks = |side: &[Argv]| -> Vec<String> {
                let of_sgdisk = side.iter().flatten().filter(|word| is_mark(word)).cloned();
                of_sgdisk.chain(side.iter().filter(|argv| parted(&words(argv))).map(|argv| argv.join(" "))).collect()
            };
            let (mut disko, mut ours) = (marks(&sides.disko), marks(&sides.ours));
            disko.sort();
            ours.sort();
            if disko != ours || disko.is_empty() {
                return false;
            }
            let forget = |argv: &mut Argv| argv.retain(|word| !is_mark(word));
            change(&mut sides.disko, forget);
            change(&mut sides.ours, forget);
            drop_if(&mut sides.disko, parted);
            drop_if(&mut sides.ours, |argv| {
                parted(argv) || matches!(argv, ["sgdisk", device] if !device.starts_with('-'))
            })
        }),
    },
    Difference {
        title: "Stage by stage",
        disko: "finishes one disk before the next",
        ours: "partitions all disks, then formats, then mounts",
        why: "a disk that turns out too small or faulty is noticed before any other is formatted",
        apply: Some(|sides| {
            let disks = sides.disks.clone();
            let before = sides.disko.clone();
            let partitions = |argv: &Argv| {
                matches!(argv[0].as_str(), "sgdisk" | "sfdisk" | "parted")
                    && argv
                        .iter()
                        .any(|word| disks.contains(word) || disks.iter().any(|disk| *word == format!("1{disk}")))
            };
            sides.disko.sort_by_key(|argv| !partitions(argv));
            sides.disko != before
        }),
    },
    Difference {
        title: "Hooks are scripts of their own",
        disko: "pastes them into one long script",
        ours: "runs each with `bash -c`, with the node's options as variables",
        why: "a hook that changes directory, options or variables does not change what comes after it",
        apply: Some(|sides| {
            drop_if(&mut sides.disko, |argv| {
                matches!(argv, ["zfs", "snapshot", ..] | ["zfs", "set", "keylocation=prompt", ..])
            })
        }),
    },
    Difference {
        title: "Hybrid MBR with the protective entry first",
        disko: "runs `sgdisk -h 1\"/dev/x\"`, with a blank missing, which does nothing; `sfdisk` then changes the protective entry, and no GPT is left",
        ours: "runs `sgdisk -h 1 /dev/x`, and counts the entries of the MBR from the second",
        why: "it is the default (`efiGptPartitionFirst = true`), and it destroys the table",
        apply: Some(|sides| {
            if sides.name != BROKEN_BY_DISKO {
                return false;
            }
            change(&mut sides.disko, |argv| match words(argv).as_slice() {
                ["sgdisk", "-h", joined] => {
                    let device = joined.strip_prefix('1').unwrap().to_owned();
                    *argv = vec!["sgdisk".into(), "-h".into(), "1".into(), device];
                }
                ["sfdisk", ..] => {
                    let at = argv.iter().position(|word| word == "1").unwrap();
                    argv[at] = "2".into();
                }
                _ => {}
            })
        }),
    },
    Difference {
        title: "Groups of a pool keep their order",
        disko: "sorts groups without a mode to the front with a comparator that is none, and so reverses them",
        ours: "puts them in front, in the order of the layout",
        why: "nobody asked for another order, and it changes with the version of Nix",
        apply: Some(|sides| {
            change(&mut sides.disko, |argv| {
                if sides.name == "x-zfs-topology-paths" && argv.starts_with(&["zpool".into(), "create".into()]) {
                    let at = argv.iter().position(|word| word.ends_with("-d6") || word.ends_with("disk-d6-zfs"));
                    if let Some(at) = at {
                        argv.swap(at, at + 1);
                    }
                }
            })
        }),
    },
    Difference {
        title: "Links are spelled as udev does",
        disko: "escapes odd characters of partition names with upper-case hex, and leaves `,` and `/` as they are",
        ours: "uses the link that udev makes, and warns that the installed system will look for disko's",
        why: "disko's link does not exist",
        apply: Some(|sides| {
            change(&mut sides.disko, |argv| argv.iter_mut().for_each(|word| *word = as_udev_spells(word)))
        }),
    },
    Difference {
        title: "Secrets come on standard input",
        disko: "gives `cryptsetup` a pipe in `/dev/fd`, made by a shell that holds the passphrase in a variable",
        ours: "gives it `--key-file -` and writes the secret there",
        why: "no shell, no variable, no process but the one that needs it",
        apply: Some(|sides| {
            change(&mut sides.disko, |argv| {
                argv.iter_mut().filter(|word| *word == "/dev/fd/N").for_each(|word| *word = "-".into());
            })
        }),
    },
    Difference {
        title: "A workplace of our own",
        disko: "mounts a filesystem in a temporary directory to make its subvolumes",
        ours: "mounts it at `/run/cygnet/workplace`, and makes directories above a subvolume only where there are any",
        why: "a place that is known can be cleaned up after a crash",
        apply: Some(|sides| {
            let made = drop_if(
                &mut sides.ours,
                |argv| matches!(argv, ["mkdir", "-p", at] if at.starts_with("/run/cygnet/workplace")),
            );
            let named = change(&mut sides.disko, |argv| {
                argv.iter_mut().for_each(|word| *word = word.replace("$TMPDIR/tmp.X", "/run/cygnet/workplace"));
            });
            made || named
        }),
    },
    Difference {
        title: "The root dataset of a new pool is unmounted",
        disko: "asks whether it is mounted, and unmounts it",
        ours: "unmounts it unless its properties say that it cannot be",
        why: "the answer is known",
        apply: Some(|sides| drop_if(&mut sides.ours, |argv| argv.starts_with(&["zfs", "unmount"]))),
    },
    Difference {
        title: "A volume group of nothing is not made",
        disko: "runs `vgcreate` without a device, which fails",
        ours: "makes no volume group that has neither members nor volumes, and says so; one that has volumes and no members is refused",
        why: "there is nothing to make it of",
        apply: Some(|sides| {
            let empty = "a-empty";
            if sides.name != "x-deps-order" {
                return false;
            }
            let modules = sides.disko.iter().position(|argv| argv[0] == "modprobe");
            let created = drop_if(&mut sides.disko, |argv| argv == ["vgcreate", empty]);
            if let (true, Some(at)) = (created, modules) {
                sides.disko.remove(at);
            }
            created
        }),
    },
    Difference {
        title: "A bcachefs is unlocked once",
        disko: "unlocks it before each mount, and makes the mountpoint with `mkdir`",
        ours: "unlocks it when it is made, for the session; `X-mount.mkdir` makes the mountpoint",
        why: "the key stays where it is",
        apply: Some(|sides| {
            let mut seen = sides.phase == Phase::Mount;
            let mut dropped = false;
            sides.disko.retain(|argv| {
                let unlocks = argv.starts_with(&["bcachefs".into(), "unlock".into()]);
                let again = unlocks && seen;
                seen |= unlocks;
                dropped |= again;
                !again
            });
            let made = drop_if(&mut sides.disko, |argv| matches!(argv, ["mkdir", "-p", at] if at.starts_with("/mnt")));
            dropped || made
        }),
    },
    Difference {
        title: "Options of a mount",
        disko: "lists them in one order for filesystems and in another for datasets; has `/mnt/` for the root; does not say that a btrfs is one",
        ours: "lists them in the layout's order, has `/mnt`, and says the type",
        why: "the same to `mount`, which would otherwise have to guess the type",
        apply: Some(|sides| {
            let ours = change(&mut sides.ours, sorted_mount);
            change(&mut sides.disko, |argv| {
                sorted_mount(argv);
                if argv[0] == "mount" || argv[0] == "umount" {
                    argv.iter_mut().filter(|word| *word == "/mnt/").for_each(|word| *word = "/mnt".into());
                }
                if argv[0] == "mount" && argv[2].starts_with("/mnt") && argv[3] == "type=" {
                    argv[3] = "type=btrfs".into();
                }
            }) || ours
        }),
    },
    Difference {
        title: "Options for fstab only",
        disko: "gives `mount` words such as `noauto`, `nofail` and `x-systemd.automount`",
        ours: "leaves them out",
        why: "they tell the installed system what to do at boot; here `nofail` would hide a failure",
        apply: Some(|sides| {
            change(&mut sides.disko, |argv| {
                if argv[0] == "mount" {
                    argv.retain(|word| !matches!(word.as_str(), "noauto" | "nofail") && !word.starts_with("x-"));
                }
            })
        }),
    },
    Difference {
        title: "Datasets with a blank in their name",
        disko: "forgets the quotes around the source of a mount",
        ours: "passes it as one word",
        why: "bash makes two words of it, and `mount` fails",
        apply: Some(|sides| {
            // What was never mounted is not unmounted.
            drop_if(&mut sides.ours, |argv| argv == ["umount", "/mnt/with space"]);
            change(&mut sides.disko, |argv| {
                if let Some(at) = argv.iter().position(|word| word == "rpool/with") {
                    argv.splice(at..at + 2, ["rpool/with space".to_owned()]);
                    argv.sort_by_key(|word| (word != "mount", word != "rpool/with space", !word.starts_with("/mnt")));
                }
            })
        }),
    },
    Difference {
        title: "Swap is used during the installation",
        disko: "has not done so since March 2026, though its script for unmounting still looks for it",
        ours: "runs `swapon` on swap of the layout, but not on swap with a random key, which has not been made yet",
        why: "a Pi with little memory needs it to build a boot loader",
        apply: Some(|sides| drop_if(&mut sides.ours, |argv| matches!(argv[0], "swapon" | "swapoff"))),
    },
    Difference {
        title: "Volume groups are active already",
        disko: "runs `vgchange -a y` and `vgchange -a n` on every volume group of the machine",
        ours: "activates those of the layout after a restart, and deactivates those of the layout only",
        why: "`lvcreate` has activated them, and those of other disks are none of our business",
        apply: Some(|sides| {
            let activated = drop_if(&mut sides.disko, |argv| argv == ["vgchange", "-a", "y"]);
            let mut kept = true;
            if sides.name == "x-deps-order" {
                // Two groups, of which one is not made.
                sides.disko.retain(|argv| words(argv) != ["vgchange", "-a", "n"] || std::mem::take(&mut kept));
            }
            let named = change(&mut sides.ours, |argv| {
                if argv.starts_with(&["vgchange".into(), "-a".into(), "n".into()]) {
                    argv.truncate(3);
                }
            });
            activated || named
        }),
    },
    Difference {
        title: "Unmounting is mounting in reverse",
        disko: "unmounts in reverse order of the names",
        ours: "unmounts in reverse order of mounting",
        why: "a bind mount may have a name before that of its source",
        apply: Some(|sides| {
            if sides.phase != Phase::Unmount {
                return false;
            }
            let before = sides.disko.clone();
            let by_name = |argv: &Argv| if argv[0] == "umount" { argv.clone() } else { Vec::new() };
            for side in [&mut sides.disko, &mut sides.ours] {
                let until = side.iter().position(|argv| argv[0] != "umount").unwrap_or(side.len());
                side[..until].sort_by_key(by_name);
            }
            sides.disko != before
        }),
    },
    Difference {
        title: "Keys are unloaded by the export",
        disko: "unloads the key of each dataset before; of volumes it forgets the pool's name, so that loading has no effect and unloading fails",
        ours: "exports the pool, which forgets its keys; after a restart keys are loaded by the full name",
        why: "`zfs unload-key enc` means another dataset, or none",
        apply: Some(|sides| drop_if(&mut sides.disko, |argv| argv.starts_with(&["zfs", "unload-key"]))),
    },
    Difference {
        title: "Everything that was opened is closed, innermost first",
        disko: "never stops an array; leaves partitions of a LUKS device mapped, so that it cannot be closed; closes what is on a volume of a pool by the order of kinds",
        ours: "takes swap off, unmounts, and then exports pools, closes LUKS devices, deactivates volume groups and stops arrays in the reverse order of their making",
        why: "what is closed for sure is found clean at the first boot",
        apply: Some(|sides| {
            drop_if(&mut sides.ours, |argv| matches!(argv, ["mdadm", "--stop", ..] | ["dmsetup", "remove", ..]))
        }),
    },
    Difference {
        title: "Destroying",
        disko: "runs `zpool destroy -f` on a pool that has a member on the disk, even if others are elsewhere; goes on after a failure, and does nothing, without an error, if no disk matches (#989, #1026)",
        ours: "touches the disks of the plan only, refuses those in use, removes what each tool knows, writes zeros where signatures of the disk, its old and its new partitions can be, and then stops unless these are read back and neither blkid nor zpool finds anything",
        why: "the other disks of the pool were not confirmed; wipefs and `zpool labelclear` leave labels that another table has hidden (#734, #1030), and these come back with the next partition at that place",
        apply: None,
    },
    Difference {
        title: "Layouts that cannot work are refused",
        disko: "accepts members of pools, arrays and volume groups that are not defined, two disks with one device, two partitions with one name, partitions after one that takes all the rest, pools without members, and two filesystems with one mountpoint, of which it mounts the last; a circle of arrays and volume groups ends in “cannot coerce a list to a string”",
        ours: "refuses each before anything is touched, with the place in the layout",
        why: "they fail half-way, or destroy something twice",
        apply: None,
    },
    Difference {
        title: "The source of a bind mount is made",
        disko: "binds a directory that a new file system does not have, which fails after everything was formatted",
        ours: "makes the directory first",
        why: "`/nix` as a bind mount of `/persist/nix` is what people mean",
        apply: Some(|sides| {
            drop_if(&mut sides.ours, |argv| matches!(argv, ["mkdir", "-p", source] if source.starts_with("/mnt/")))
        }),
    },
    Difference {
        title: "Layouts of older releases",
        disko: "runs the commands of the release that evaluated the layout",
        ours: "reads it as that release meant it, and runs those of the newest: existence is asked for nowhere, the properties of a pool's root dataset are set, its `mountpoint` included, volumes without a priority are made by name, those of `100%` last",
        why: "what an old release did worse needs no repetition",
        apply: None,
    },
    Difference {
        title: "Words for the shell",
        disko: "splits `extraArgs` of swap, btrfs, LUKS and LVM at blanks, and lets the shell expand them",
        ours: "splits them at blanks, and refuses what the shell would expand",
        why: "nobody knows what `$(…)` is when it is run",
        apply: None,
    },
    Difference {
        title: "Logical partitions of an MBR",
        disko: "counts them with the primary ones",
        ours: "knows that they begin at 5, and refuses a layout in which disko would look for the wrong one",
        why: "the installed system would mount another partition, or none",
        apply: None,
    },
    Difference {
        title: "Unmount hooks",
        disko: "runs them in its script for unmounting only, which an installation does not use",
        ours: "runs them when the disks are let go of at the end of an installation",
        why: "that is when unmounting happens here",
        apply: None,
    },
    Difference {
        title: "The modes that keep what is there",
        disko: "renames and retypes a partition that has the number of one of the layout's, and gives it another PARTUUID; adopts a pool of that name on any disk, and takes a file system for made if blkid sees any type; adds LUKS keys anew at each run; and assembles no arrays when it mounts",
        ours: "compares partition tables, names and signatures with the layout beforehand and refuses what differs, with its place; looks again before each thing is made; imports pools by their members only; and adds a key only if it does not open the device yet",
        why: "`format,mount` is chosen by who has something to lose",
        apply: None,
    },
];

/// `docs/disko-differences.md`.
pub fn document() -> String {
    let mut text = String::from(
        "# Where cygnet does otherwise than disko\n\n\
         cygnet reads disko's layouts and makes what they say, with the same commands. This is the complete list of what it\n\
         does otherwise. A test compares all commands with those that disko's own scripts ran on some fifty layouts, allows\n\
         exactly these differences, and writes this file (`UPDATE_GOLDEN=1 cargo test -p cygnet-protocol`). Numbers such as #576\n\
         are issues of disko.\n",
    );
    for (number, Difference { title, disko, ours, why, apply: _ }) in (1..).zip(DIFFERENCES) {
        text += &format!("\n## {number}. {title}\n\n- disko {disko}.\n- cygnet {ours}.\n- Because {why}.\n");
    }
    text
}
