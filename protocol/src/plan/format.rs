//! Destroying, partitioning and formatting.

use super::facts::DiskFacts;
use super::gpt::Extent;
use super::refusal::Refusal;
use super::step::{HookTime, Stage, Step, Vdev};
use crate::disko::{Content, Dataset, DatasetKind, Devices, Disk, Group, Hooks, Mode, Pool, Topology, join};
use std::collections::BTreeMap;

/// Properties that can only be given when a dataset is created; disko leaves them out of `zfs set`.
const CREATION_ONLY: [&str; 8] = [
    "encryption",
    "casesensitivity",
    "utf8only",
    "normalization",
    "volblocksize",
    "pbkdf2iters",
    "pbkdf2salt",
    "keyformat",
];

/// The hook of a node, unless it has none.
pub(super) fn hook(owner: &str, hooks: &Hooks, when: HookTime, stage: Stage) -> Option<Step> {
    let script = match when {
        HookTime::PreCreate => &hooks.pre_create,
        HookTime::PostCreate => &hooks.post_create,
        HookTime::PreMount => &hooks.pre_mount,
        HookTime::PostMount => &hooks.post_mount,
    };
    if script.trim().is_empty() {
        return None;
    }
    Some(Step::Hook {
        owner: owner.to_owned(),
        when,
        stage,
        script: script.clone(),
        variables: hooks.variables.clone(),
    })
}

/// Removes what is on a disk, innermost first.
pub(super) fn destroy(disk: &Disk, facts: &DiskFacts) -> Vec<Step> {
    let mut steps = Vec::new();
    if !disk.destroy {
        return steps;
    }
    let mut wipe = |device: &str, fstype: Option<&str>| {
        let device = device.to_owned();
        match fstype {
            Some("swap") => steps.push(Step::Deactivate { device: device.clone() }),
            Some("zfs_member") => steps.push(Step::ClearPoolLabel { device: device.clone() }),
            _ => {}
        }
        steps.push(Step::WipeSignatures { device, stage: Stage::Destroy });
    };
    for partition in &facts.fingerprint.partitions {
        wipe(&partition.path, partition.fstype.as_deref());
    }
    wipe(&disk.device, facts.fingerprint.fstype.as_deref());
    steps.push(Step::ZapTable { device: disk.device.clone() });
    steps
}

/// Writes the partition table.
pub(super) fn partition(name: &str, disk: &Disk, facts: &DiskFacts, extents: &[Extent]) -> Vec<Step> {
    let owner = join("disk", name);
    let stage = Stage::Partition;
    let mut steps: Vec<Step> = hook(&owner, &disk.hooks, HookTime::PreCreate, stage).into_iter().collect();
    let Content::Gpt(gpt) = &disk.content else {
        return steps;
    };
    steps.extend(hook(&format!("{owner}.content"), &gpt.hooks, HookTime::PreCreate, stage));
    steps.push(Step::ClearTable { device: disk.device.clone() });
    for (partition, extent) in gpt.partitions.iter().zip(extents) {
        steps.push(Step::CreatePartition {
            device: disk.device.clone(),
            number: partition.number,
            label: partition.label.clone(),
            type_code: partition.type_code.clone(),
            attributes: partition.attributes.clone(),
            start: partition.start.clone(),
            end: partition.end.clone(),
            alignment: partition.alignment,
            uuid: partition.uuid.clone(),
            first_lba: extent.first,
            last_lba: extent.last,
            sector_bytes: facts.logical_sector_bytes,
        });
    }
    let within = Some(facts.kernel_path.clone());
    steps.extend(gpt.partitions.iter().map(|partition| Step::WaitForDevice {
        path: partition.device.clone(),
        within: within.clone(),
        stage,
    }));
    steps
}

/// Fills a disk's partitions, or the disk itself.
pub(super) fn fill(name: &str, disk: &Disk) -> Vec<Step> {
    let owner = join("disk", name);
    let inside = format!("{owner}.content");
    let mut steps = Vec::new();
    match &disk.content {
        Content::Gpt(gpt) => {
            for partition in &gpt.partitions {
                if let Some(content) = &partition.content {
                    // A signature of something older may lie exactly here, now that the disk is divided anew.
                    steps.push(Step::WipeSignatures { device: partition.device.clone(), stage: Stage::Format });
                    let owner = format!("{}.content", join(&format!("{inside}.partitions"), &partition.key));
                    steps.extend(make(&owner, content, &partition.device));
                }
            }
            steps.extend(hook(&inside, &gpt.hooks, HookTime::PostCreate, Stage::Format));
        }
        content => steps.extend(make(&inside, content, &disk.device)),
    }
    steps.extend(hook(&owner, &disk.hooks, HookTime::PostCreate, Stage::Format));
    steps
}

fn make(owner: &str, content: &Content, device: &str) -> Vec<Step> {
    let device = device.to_owned();
    let (hooks, step) = match content {
        Content::Filesystem(filesystem) => (
            &filesystem.hooks,
            Some(Step::MakeFilesystem {
                device,
                format: filesystem.format.clone(),
                arguments: filesystem.arguments.clone(),
            }),
        ),
        Content::Swap(swap) => (&swap.hooks, Some(Step::MakeSwap { device, arguments: swap.arguments.clone() })),
        // Made with its pool.
        Content::Zfs(member) => (&member.hooks, None),
        // Not inside anything: refused when the layout was read.
        Content::Gpt(gpt) => (&gpt.hooks, None),
    };
    [
        hook(owner, hooks, HookTime::PreCreate, Stage::Format),
        step,
        hook(owner, hooks, HookTime::PostCreate, Stage::Format),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Makes a pool and its datasets.
pub(super) fn pool(key: &str, pool: &Pool, devices: &Devices) -> Result<Vec<Step>, Refusal> {
    let owner = join("zpool", key);
    no_prompt(&pool.name, &pool.root_options)?;
    let mut steps: Vec<Step> = hook(&owner, &pool.hooks, HookTime::PreCreate, Stage::Format).into_iter().collect();
    steps.push(Step::CreatePool {
        pool: pool.name.clone(),
        properties: pool.options.clone(),
        root_properties: pool.root_options.clone(),
        vdevs: vdevs(pool, devices),
    });
    for dataset in &pool.datasets {
        steps.extend(self::dataset(&owner, dataset)?);
    }
    steps.extend(hook(&owner, &pool.hooks, HookTime::PostCreate, Stage::Format));
    Ok(steps)
}

fn no_prompt(dataset: &str, options: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let location = options.get("keylocation").map_or("prompt", String::as_str);
    // Only an encryption root has a key format of its own.
    if options.contains_key("keyformat") && location == "prompt" {
        return Err(Refusal::KeyFromPrompt { dataset: dataset.to_owned() });
    }
    Ok(())
}

fn dataset(pool: &str, dataset: &Dataset) -> Result<Vec<Step>, Refusal> {
    let owner = join(&format!("{pool}.datasets"), &dataset.key);
    let name = dataset.name.clone();
    let mut steps: Vec<Step> = hook(&owner, &dataset.hooks, HookTime::PreCreate, Stage::Format).into_iter().collect();
    match &dataset.kind {
        DatasetKind::Filesystem { create, mountpoint, .. } => {
            let mut properties = dataset.options.clone();
            if let Some(at) = mountpoint {
                properties.entry("mountpoint".to_owned()).or_insert_with(|| at.clone());
            }
            if *create {
                no_prompt(&name, &properties)?;
                steps.push(Step::CreateDataset { dataset: name, properties });
            } else {
                properties.retain(|key, _| !CREATION_ONLY.contains(&key.as_str()));
                if !properties.is_empty() {
                    steps.push(Step::SetProperties { dataset: name, properties });
                }
            }
        }
        DatasetKind::Volume { size, arguments, content } => {
            no_prompt(&name, &dataset.options)?;
            let device = format!("/dev/zvol/{name}");
            steps.push(Step::CreateVolume {
                dataset: name,
                size: size.clone(),
                properties: dataset.options.clone(),
                arguments: arguments.clone(),
            });
            if let Some(content) = content {
                steps.push(Step::WaitForDevice { path: device.clone(), within: None, stage: Stage::Format });
                steps.extend(make(&format!("{owner}.content"), content, &device));
            }
        }
    }
    steps.extend(hook(&owner, &dataset.hooks, HookTime::PostCreate, Stage::Format));
    Ok(steps)
}

/// The groups of a pool, in the order disko gives them to zpool(8).
pub(super) fn vdevs(pool: &Pool, devices: &Devices) -> Vec<Vdev> {
    let members = devices.members(&pool.name);
    let topology = match &pool.mode {
        Mode::Simple(mode) => {
            let members = members.iter().map(|member| member.device.to_owned()).collect();
            return vec![Vdev { class: None, mode: mode.clone(), members }];
        }
        Mode::Topology(topology) => topology,
    };
    let path = |name: &String| match members.iter().find(|member| member.is(name)) {
        Some(member) => member.device.to_owned(),
        None => name.clone(),
    };
    let mut vdevs = Vec::new();
    let Topology { vdev, spare, log, dedup, special, cache } = topology;
    let mut add = |class: Option<&str>, groups: &[Group]| {
        // disko sorts with a comparator that is not one: groups without a mode come first, and reversed.
        let plain = groups.iter().rev().filter(|group| group.mode.is_none());
        for group in plain.chain(groups.iter().filter(|group| group.mode.is_some())) {
            vdevs.push(Vdev {
                class: class.map(str::to_owned),
                mode: group.mode.clone(),
                members: group.members.iter().map(path).collect(),
            });
        }
    };
    let single = |members: &[String]| match members {
        [] => Vec::new(),
        members => vec![Group { mode: None, members: members.to_vec() }],
    };
    add(None, vdev);
    add(Some("spare"), &single(spare));
    add(Some("log"), log);
    add(Some("dedup"), dedup);
    add(Some("special"), special);
    add(Some("cache"), &single(cache));
    vdevs
}
