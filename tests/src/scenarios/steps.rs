//! The agent killed after every step of a layout, in the worst moment: the step had its effect, and nobody noted it.
//!
//! In front of the real tools stand wrappers that run them and then kill the agent, once for each command they have not
//! seen yet. `cygnet install` comes back each time, and the layout is whole in the end. Of the layout with a pool that is
//! each command there is; of the others, those of the tools that the former does without.

use super::failures::is_free;
use super::{SMALL, SSD, Scenario, State, World};
use crate::closure::Variant;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "step-zfs",
        "the agent killed after each command of a layout with a pool, datasets and a volume",
        State::Waiting,
        zfs,
    )
    .thorough(),
    Scenario::new("step-luks-lvm", "the same with volumes in LUKS, after what is new in it", State::Waiting, luks_lvm)
        .thorough(),
    Scenario::new(
        "step-whole-disk",
        "the same with a second disk that has no partition table",
        State::Waiting,
        whole_disk,
    ),
    Scenario::new(
        "step-btrfs",
        "the same with subvolumes and a swap file, after what is new in it",
        State::Waiting,
        btrfs,
    )
    .thorough(),
];

/// How often `cygnet install` is given; it comes back by itself as long as the agent does.
const ATTEMPTS: usize = 12;
/// The key of the LUKS layout; /run keeps it out of everything that lasts.
pub const KEY: &str = "/run/cygnet-step.key";

/// The tools that change something on a disk, each with the words that do (all if there are none).
const TOOLS: &[(&str, &str)] = &[
    ("sgdisk", ""),
    ("wipefs", ""),
    ("mkfs.vfat", ""),
    ("mkfs.ext4", ""),
    ("mkfs.btrfs", ""),
    ("mkswap", ""),
    ("cryptsetup", ""),
    ("pvcreate", ""),
    ("vgcreate", ""),
    ("lvcreate", ""),
    ("vgchange", ""),
    ("btrfs", ""),
    ("mount", ""),
    ("swapon", ""),
    ("zpool", "create labelclear import"),
    ("zfs", "create set"),
];

/// Directory of the wrappers, of what they saw, and of what they did.
const WRAPPERS: &str = "/run/cygnet-killers";

const WRAPPER: &str = r#"#!/bin/sh
name=${0##*/}
tool=$(PATH=/usr/sbin:/usr/bin command -v "$name") || exit 127
"$tool" "$@"
code=$?
words=$(cat "/run/cygnet-killers/words/$name")
counts=yes
if [ -n "$words" ]; then
  counts=
  for word in $words; do [ "$word" = "$1" ] && counts=yes; done
fi
mark=/run/cygnet-killers/seen/$(echo "$name $*" | sha256sum | cut -c 1-20)
if [ "$counts" ] && [ -e /run/cygnet-killers/armed ] && [ ! -e "$mark" ]; then
  echo "$name $*" > "$mark"
  kill -9 "$(systemctl show --property MainPID --value cygnetd.service)"
fi
exit $code
"#;

/// When the agent is killed.
pub struct Killing<'a> {
    /// How the layout is installed.
    pub mode: &'a str,
    /// After commands of these tools only; of every tool if there are none.
    pub tools: &'a [&'a str],
    /// So often, at least.
    pub least: usize,
}

/// After every command, with everything made anew.
const fn always(least: usize) -> Killing<'static> {
    Killing { mode: "destroy,format,mount", tools: &[], least }
}

fn arm(world: &mut World, only: &[&str]) -> Result<()> {
    let mut script = format!(
        "set -e; rm -rf {WRAPPERS}; mkdir -p {WRAPPERS}/bin {WRAPPERS}/seen {WRAPPERS}/words\n\
         cat > {WRAPPERS}/wrapper <<'END'\n{WRAPPER}END\nchmod 0755 {WRAPPERS}/wrapper\n"
    );
    for (tool, words) in TOOLS.iter().filter(|(tool, _)| only.is_empty() || only.contains(tool)) {
        script.push_str(&format!("echo '{words}' > {WRAPPERS}/words/{tool}; ln -s ../wrapper {WRAPPERS}/bin/{tool}\n"));
    }
    let pi = world.pi()?;
    pi.sh(&script)?;
    let unit = "/run/systemd/system/cygnetd.service.d";
    pi.sh(&format!(
        "mkdir -p {unit}; printf '[Service]\\nEnvironment=PATH={WRAPPERS}/bin\\nRestartSec=100ms\\n' > {unit}/killers.conf; \
         systemctl daemon-reload; systemctl restart cygnetd.service; touch {WRAPPERS}/armed"
    ))?;
    Ok(())
}

fn disarm(world: &mut World) -> Result<()> {
    let pi = world.pi()?;
    pi.sh(&format!(
        "rm -rf {WRAPPERS} /run/systemd/system/cygnetd.service.d; systemctl daemon-reload; systemctl restart cygnetd.service"
    ))
    .map(drop)
}

/// Installs with the agent killed after each command; then the layout must pass `checks`, lines of shell with the new
/// system not mounted.
pub fn killed_after_each(world: &mut World, layout: &Value, killing: &Killing<'_>, checks: &[&str]) -> Result<()> {
    let Killing { mode, tools, least } = *killing;
    let disko = world.file("steps.json", &layout.to_string())?;
    let tiny = world.closure(Variant::Tiny)?.toplevel.display().to_string();
    let host = world.host()?;
    world.pi()?.sh(&format!("umask 077; printf 'cygnet and key' > {KEY}"))?;
    let digest = world.digest_of(&disko, mode)?;
    arm(world, tools)?;
    let install = ["install", &host, "--closure", &tiny, "--disko", &disko, "--yes", &digest, "--no-reboot", "--json"];
    let install = [&install[..], &["--mode", mode]].concat();
    let mut said = Vec::new();
    for _ in 0..ATTEMPTS {
        let output = world.cygnet(&install)?;
        if output.status.success() {
            break;
        }
        said.push(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    let seen = world.pi()?.sh(&format!("cat {WRAPPERS}/seen/*"))?;
    let kills = seen.lines().count();
    let state = world.status()?["state"].clone();
    if state["state"] != "installed" {
        bail!("it is not installed but {state}, after {kills} kills:\n{seen}\n{}", said.join("\n"));
    }
    eprintln!("the agent was killed {kills} times, `cygnet install` was given {} times", said.len() + 1);
    ensure!(kills >= least, "the agent was killed only {kills} times:\n{seen}");
    disarm(world)?;
    is_free(world)?;
    for check in checks {
        world.pi()?.sh(check).with_context(|| format!("checking the layout: {check}"))?;
    }
    Ok(())
}

/// A layout as disko evaluates it, from the fixtures, on our disk.
pub fn fixture(text: &str, device: &str) -> Result<Value> {
    let fixture: Value = serde_json::from_str(&text.replace(device, &format!("/dev/disk/by-id/virtio-{SSD}")))
        .context("parsing the fixture")?;
    Ok(fixture["devices"].clone())
}

fn zfs(world: &mut World) -> Result<()> {
    let layout = std::fs::read_to_string(crate::closure::layout()).context("reading the layout")?;
    killed_after_each(
        world,
        &serde_json::from_str(&layout).context("parsing the layout")?,
        &always(12),
        &[
            "zpool import -N -o readonly=on -R /mnt rpool",
            "test \"$(zfs list -H -o name -r rpool | xargs)\" = \
             'rpool rpool/local rpool/local/nix rpool/local/root rpool/safe rpool/safe/home rpool/swap'",
            "zfs list -H -t snapshot rpool/local/root@blank",
            "test \"$(zfs get -H -o value compression rpool/safe/home)\" = lz4",
            "zpool export rpool",
        ],
    )
}

fn luks_lvm(world: &mut World) -> Result<()> {
    let text = include_str!("../../../protocol/tests/fixtures/disko/luks-lvm.json");
    let mut layout = fixture(&text.replace("/tmp/secret.key", KEY), "/dev/vdb")?;
    let luks = &mut layout["disk"]["main"]["content"]["partitions"]["luks"]["content"];
    // The usual derivation takes as much memory as it finds, and a minute without KVM.
    luks["extraFormatArgs"] = json!(["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]);
    luks["additionalKeyFiles"] = json!([]);
    let tools = &["cryptsetup", "pvcreate", "vgcreate", "lvcreate", "vgchange", "mkfs.ext4"];
    killed_after_each(
        world,
        &layout,
        &Killing { tools, ..always(7) },
        &[
            &format!("cryptsetup open /dev/disk/by-partlabel/disk-main-luks look --key-file {KEY}"),
            "vgchange -a y pool && udevadm settle",
            "test \"$(lvs --noheadings -o lv_name pool | xargs)\" = 'home raw root'",
            "e2fsck -fn /dev/pool/root && e2fsck -fn /dev/pool/home",
            "vgchange -a n pool && cryptsetup close look",
        ],
    )
}

fn whole_disk(world: &mut World) -> Result<()> {
    let text = include_str!("../../../protocol/tests/fixtures/disko/simple-efi.json");
    let mut layout = fixture(text, "/dev/disk/by-id/some-disk-id")?;
    let small = format!("/dev/disk/by-id/virtio-{SMALL}");
    let mut data = layout["disk"]["main"].clone();
    data["content"] = layout["disk"]["main"]["content"]["partitions"]["root"]["content"].clone();
    data["content"]["mountpoint"] = "/data".into();
    for node in ["name", "imageName"] {
        data[node] = "data".into();
    }
    (data["device"], data["content"]["device"]) = (small.clone().into(), small.clone().into());
    layout["disk"]["data"] = data;
    let killing = Killing { tools: &["wipefs", "mkfs.ext4"], ..always(4) };
    killed_after_each(world, &layout, &killing, &[&format!("e2fsck -fn {small}")])
}

fn btrfs(world: &mut World) -> Result<()> {
    let text = include_str!("../../../protocol/tests/fixtures/disko/btrfs-subvolumes.json");
    killed_after_each(
        world,
        &fixture(text, "/dev/disk/by-diskseq/1")?,
        &Killing { tools: &["mkfs.btrfs", "btrfs", "mkswap", "swapon"], ..always(6) },
        &[
            "mkdir -p /run/look && mount -o ro,subvol=/ /dev/disk/by-partlabel/disk-main-root /run/look",
            "test \"$(btrfs subvolume list /run/look | sed 's/.* path //' | sort | xargs)\" = \
             'home home/user nix rootfs swap test'",
            "test -s /run/look/swap/swapfile && test -s /run/look/swapfile1 && test -d /run/look/nix/store",
            "umount /run/look && btrfs check --readonly /dev/disk/by-partlabel/disk-main-root",
        ],
    )
}
