//! What a step runs: an argv for every tool, bash only for the user's own hooks.

use super::mounting::binds;
use super::parts::{Span, Vdev};
use super::secret::SecretRef;
use super::step::Step;
use crate::disko::Variable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// One thing the agent does for a step. Actions run in order; the first failure stops the installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Run a program with these arguments, standard input closed, never through a shell.
    Run {
        /// Program (looked up in PATH) and arguments.
        argv: Vec<String>,
        /// Whether a failure is noted and passed over.
        allow_failure: bool,
    },
    /// Run a program as above, with something on its standard input.
    RunWithInput {
        /// Program (looked up in PATH) and arguments.
        argv: Vec<String>,
        /// What it reads.
        input: Input,
    },
    /// Wait for a path to exist (up to [`DEVICE_PATIENCE`]).
    WaitForDevice {
        /// The path to appear.
        path: String,
        /// Kernel path of the disk it must resolve to a partition of.
        within: Option<String>,
    },
    /// Stop unless a disk is blank.
    ProveBlank {
        /// Whole disk.
        device: String,
        /// What must be zeros.
        spans: Vec<Span>,
    },
    /// Run `bash -c` on a hook of the user's.
    Script {
        /// The text.
        text: String,
        /// Added to the environment.
        environment: BTreeMap<String, String>,
    },
}

/// What a program reads from its standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Input {
    /// This.
    Text {
        /// All of it.
        text: String,
    },
    /// A secret, and nothing behind it.
    Secret {
        /// Which.
        secret: SecretRef,
    },
}

/// How long udev may take to make a device node or link, seconds. Pools with hundreds of volumes need most of it.
pub const DEVICE_PATIENCE: &str = "60";

impl Action {
    /// The command this comes down to. A secret is never in it.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Run { argv, .. } | Self::RunWithInput { argv, .. } => argv.clone(),
            Self::WaitForDevice { path, .. } => {
                ["udevadm", "wait", "--timeout", DEVICE_PATIENCE, path].map(str::to_owned).into()
            }
            Self::ProveBlank { device, .. } => ["blkid", "--probe", device].map(str::to_owned).into(),
            Self::Script { text, .. } => ["bash", "-c", text].map(str::to_owned).into(),
        }
    }
}

/// Collects an argv from pieces of different string types.
pub(super) fn run<I>(argv: I) -> Action
where
    I: IntoIterator,
    I::Item: Into<String>,
{
    Action::Run { argv: argv.into_iter().map(Into::into).collect(), allow_failure: false }
}

pub(super) fn tolerated(action: Action) -> Action {
    match action {
        Action::Run { argv, .. } => Action::Run { argv, allow_failure: true },
        other => other,
    }
}

/// Lets the kernel and udev see a changed table. disko tolerates a failing partprobe, because udev's own re-read may win.
pub(super) fn reread(device: &str) -> [Action; 3] {
    let [trigger, settle] = announce(device);
    [tolerated(run(["partprobe", device])), trigger, settle]
}

/// Lets udev look at a device and its partitions anew (udevadm(8): the name matches its children, too), and waits until it
/// has. Events of other disks would start arrays and volume groups that are nobody's business here.
pub(super) fn announce(device: &str) -> [Action; 2] {
    let name = format!("--name-match={device}");
    [run(["udevadm", "trigger", "--subsystem-match=block", &name]), run(["udevadm", "settle", "--timeout", "120"])]
}

/// Gives a program that asks for a secret what it asks for.
pub(super) fn asking(action: Action, secret: Option<&SecretRef>) -> Action {
    match (action, secret) {
        (Action::Run { argv, .. }, Some(secret)) => {
            Action::RunWithInput { argv, input: Input::Secret { secret: secret.clone() } }
        }
        (action, _) => action,
    }
}

fn with_flag<'a>(flag: &'a str, values: &'a [String]) -> impl Iterator<Item = String> + 'a {
    values.iter().flat_map(move |value| [flag.to_owned(), value.clone()])
}

fn properties<'a>(flag: &'a str, map: &'a BTreeMap<String, String>) -> impl Iterator<Item = String> + 'a {
    map.iter().flat_map(move |(key, value)| [flag.to_owned(), format!("{key}={value}")])
}

impl Step {
    /// What to run, in order.
    #[must_use]
    pub fn actions(&self) -> Vec<Action> {
        match self {
            Self::Deactivate { device } => vec![tolerated(run(["swapoff", device]))],
            // These fail where they find nothing of theirs, such as a label that belongs to a larger device. Whether anything
            // is left is for the proof to say.
            Self::ClearPoolLabel { device } => vec![tolerated(run(["zpool", "labelclear", "-f", device]))],
            Self::ClearArrayMember { device } => {
                vec![tolerated(run(["mdadm", "--zero-superblock", "--force", device]))]
            }
            Self::RemovePhysicalVolume { device } => {
                vec![tolerated(run(["pvremove", "--force", "--force", "--yes", device]))]
            }
            Self::EraseLabels { device, spans } => {
                let zero = |span: &Span| {
                    let (offset, length) = (span.offset.to_string(), span.length.to_string());
                    run(["blkdiscard", "--zeroout", "--offset", &offset, "--length", &length, device])
                };
                spans.iter().map(zero).chain(reread(device)).collect()
            }
            Self::ProveBlank { device, spans } => {
                vec![Action::ProveBlank { device: device.clone(), spans: spans.clone() }]
            }
            Self::WipeSignatures { device, .. } => {
                vec![run(["wipefs", "--all", "--force", device])]
            }
            Self::ZapTable { device } => {
                // It ends with 2 where it finds a damaged table, which it removes all the same.
                let mut actions = vec![tolerated(run(["sgdisk", "--zap-all", device]))];
                actions.extend(reread(device));
                actions
            }
            Self::ClearTable { device, .. } => vec![run(["sgdisk", "--clear", device])],
            Self::CreatePartition { .. } => self.create_partition(),
            Self::WaitForDevice { path, within, .. } => {
                vec![Action::WaitForDevice { path: path.clone(), within: within.clone() }]
            }
            Self::MakeFilesystem { device, format, arguments } => {
                let mut argv = vec![format!("mkfs.{format}")];
                argv.extend_from_slice(arguments);
                argv.push(device.clone());
                vec![run(argv)]
            }
            Self::MakeSwap { device, arguments } => {
                let mut argv = vec!["mkswap".to_owned()];
                argv.extend_from_slice(arguments);
                argv.push(device.clone());
                vec![run(argv)]
            }
            Self::CreatePool { pool, properties, root_properties, vdevs, secret } => {
                let mut actions = create_pool(pool, properties, root_properties, vdevs);
                if !actions.is_empty() {
                    let create = actions.remove(0);
                    actions.insert(0, asking(create, secret.as_ref()));
                }
                actions
            }
            Self::SetProperties { dataset, properties } => {
                let mut argv: Vec<String> = ["zfs", "set", "-u"].map(Into::into).into();
                argv.extend(properties.iter().map(|(key, value)| format!("{key}={value}")));
                argv.push(dataset.clone());
                vec![run(argv)]
            }
            Self::CreateDataset { dataset, properties: map, secret } => {
                let mut argv: Vec<String> = ["zfs", "create", "-up", dataset].map(Into::into).into();
                argv.extend(properties("-o", map));
                vec![asking(run(argv), secret.as_ref())]
            }
            Self::CreateVolume { dataset, size, properties: map, arguments, secret } => {
                let mut argv: Vec<String> = ["zfs", "create", dataset].map(Into::into).into();
                argv.extend(properties("-o", map));
                argv.extend(["-V".to_owned(), size.clone()]);
                argv.extend_from_slice(arguments);
                vec![
                    asking(run(argv), secret.as_ref()),
                    run(["zvol_wait"]),
                    tolerated(run(["partprobe".to_owned(), format!("/dev/zvol/{dataset}")])),
                    run(["udevadm", "trigger", "--subsystem-match=block"]),
                    run(["udevadm", "settle", "--timeout=120"]),
                ]
            }
            Self::Hook { script, variables, .. } => vec![hook(script, variables)],
            Self::Mount { source, target, fstype, options } => {
                let mut argv: Vec<String> = ["mount", source, target, "-t", fstype].map(Into::into).into();
                argv.extend(with_flag("-o", options));
                argv.extend(["-o", "X-mount.mkdir"].map(Into::into));
                // A new file system does not have the directory yet that is to be seen elsewhere, too. Where a file is
                // meant, there is one, or the mount says that there is none.
                let bound = binds(options) && Path::new(source).starts_with(super::TARGET);
                let directory = bound.then(|| tolerated(run(["mkdir", "-p", source])));
                directory.into_iter().chain([run(argv)]).collect()
            }
            Self::SwapOn { device, discard, priority, options } => {
                let mut argv = vec!["swapon".to_owned()];
                match discard.as_deref() {
                    None => {}
                    Some("both") => argv.push("--discard".to_owned()),
                    Some(policy) => argv.push(format!("--discard={policy}")),
                }
                argv.extend(priority.map(|priority| format!("--priority={priority}")));
                if !options.is_empty() {
                    argv.push(format!("--options={}", options.join(",")));
                }
                argv.push(device.clone());
                vec![run(argv)]
            }
            Self::ImportPool { pool, search } => {
                let mut argv: Vec<String> = ["zpool", "import", "-f", "-N", "-R", super::TARGET].map(Into::into).into();
                argv.extend(with_flag("-d", search));
                argv.push(pool.clone());
                vec![run(argv)]
            }
            Self::LoadKey { dataset, location } => {
                let secret = SecretRef::Person { name: dataset.clone() };
                let asked = (location == "prompt").then_some(&secret);
                vec![asking(run(["zfs", "load-key", "-L", location, dataset]), asked)]
            }
            Self::Unmount { target } => vec![run(["umount", target])],
            Self::SwapOff { device } => vec![run(["swapoff", device])],
            Self::ExportPool { pool } => vec![run(["zpool", "export", pool])],
            Self::ClearAway { step } => step.rests(),
            Self::Ensure { step } => step.actions(),
            Self::MarkBootable { .. }
            | Self::MakeHybridMbr { .. }
            | Self::CreateTable { .. }
            | Self::CreateTablePartition { .. }
            | Self::FormatLuks { .. }
            | Self::OpenLuks { .. }
            | Self::AddLuksKey { .. }
            | Self::CreateArray { .. }
            | Self::CreatePhysicalVolume { .. }
            | Self::CreateVolumeGroup { .. }
            | Self::CreateLogicalVolume { .. }
            | Self::MakeBtrfs { .. }
            | Self::CreateSubvolume { .. }
            | Self::CreateSwapFiles { .. }
            | Self::MakeBcachefs { .. }
            | Self::UnlockBcachefs { .. }
            | Self::CreateBcachefsSubvolume { .. }
            | Self::AssembleArray { .. }
            | Self::ReadTable { .. }
            | Self::ActivateVolumeGroup { .. }
            | Self::StopArray { .. }
            | Self::DeactivateVolumeGroup { .. }
            | Self::CloseLuks { .. }
            | Self::RemovePartitions { .. } => self.layer_actions(),
        }
    }

    fn create_partition(&self) -> Vec<Action> {
        let Self::CreatePartition {
            device, number: n, label, type_code, attributes, start, end, alignment, uuid, ..
        } = self
        else {
            return Vec::new();
        };
        let mut argv: Vec<String> = ["sgdisk", "--align-end"].map(Into::into).into();
        if *alignment != 0 {
            argv.push(format!("--set-alignment={alignment}"));
        }
        argv.push(format!("--new={n}:{start}:{end}"));
        argv.push(format!("--partition-guid={n}:{}", uuid.as_deref().unwrap_or("R")));
        argv.push(format!("--change-name={n}:{label}"));
        argv.push(format!("--typecode={n}:{type_code}"));
        argv.push(format!("--attributes={n}:=:0"));
        argv.extend(attributes.iter().map(|bit| format!("--attributes={n}:set:{bit}")));
        argv.push(device.clone());
        let mut actions = vec![run(argv)];
        actions.extend(reread(device));
        actions
    }
}

fn create_pool(
    pool: &str,
    pool_properties: &BTreeMap<String, String>,
    root_properties: &BTreeMap<String, String>,
    vdevs: &[Vdev],
) -> Vec<Action> {
    let root = |key: &str| root_properties.get(key).map(String::as_str);
    let mut argv: Vec<String> = ["zpool", "create", "-f", pool, "-R", super::TARGET].map(Into::into).into();
    if root("canmount") == Some("off") {
        argv.extend(["-m", "none"].map(Into::into));
    }
    argv.extend(properties("-o", pool_properties));
    argv.extend(properties("-O", root_properties));
    let mut class = None;
    for vdev in vdevs {
        // The keyword of a class stands once, before its first group.
        if vdev.class != class {
            argv.extend(vdev.class.clone());
            class.clone_from(&vdev.class);
        }
        argv.extend(vdev.mode.clone());
        argv.extend_from_slice(&vdev.members);
    }
    let mut actions = vec![run(argv)];
    // zpool-create(8) mounts the root dataset unless told otherwise; disko asks `zfs get mounted` and unmounts it.
    let stays_unmounted =
        matches!(root("canmount"), Some("off" | "noauto")) || matches!(root("mountpoint"), Some("none" | "legacy"));
    if !stays_unmounted {
        actions.push(tolerated(run(["zfs", "unmount", pool])));
    }
    actions
}

/// disko runs hooks under `set -efu`, with the node's options as shell variables. Scalars go through the environment, so
/// that no quoting of ours stands between the plan and what runs; bash cannot receive arrays that way.
fn hook(script: &str, variables: &BTreeMap<String, Variable>) -> Action {
    let mut text = String::from("set -efu\n");
    let mut environment = BTreeMap::new();
    for (name, value) in variables {
        match value {
            Variable::Text(value) => {
                environment.insert(name.clone(), value.clone());
            }
            Variable::List(values) => {
                let words: Vec<String> = values.iter().map(|value| quoted(value)).collect();
                // Writing to a String cannot fail.
                let _ = writeln!(text, "declare -a {name}=({})", words.join(" "));
            }
            Variable::Map(map) => {
                let words: Vec<String> =
                    map.iter().map(|(key, value)| format!("[{}]={}", quoted(key), quoted(value))).collect();
                let _ = writeln!(text, "declare -A {name}=({})", words.join(" "));
            }
        }
    }
    text.push_str(script);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Action::Script { text, environment }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
