//! Making pools and datasets, and running the hooks of nodes.

use super::layers::Maker;
use super::parts::{HookTime, Stage, Vdev};
use super::refusal::Refusal;
use super::secret::SecretRef;
use super::step::Step;
use crate::disko::{Dataset, DatasetKind, Devices, Group, Hooks, Mode, Pool, Top, Topology, join};
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

/// Those that can be changed later. Where a key is, is left to who changed it since, as hooks of disko's users do.
pub(super) fn without_creation_only(properties: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut properties = properties.clone();
    properties.retain(|key, _| !CREATION_ONLY.contains(&key.as_str()) && key != "keylocation");
    properties
}

/// The hook of a node, unless it has none.
pub(super) fn hook(owner: &str, hooks: &Hooks, when: HookTime, stage: Stage) -> Option<Step> {
    let script = match when {
        HookTime::PreCreate => &hooks.pre_create,
        HookTime::PostCreate => &hooks.post_create,
        HookTime::PreMount => &hooks.pre_mount,
        HookTime::PostMount => &hooks.post_mount,
        HookTime::PreUnmount => &hooks.pre_unmount,
        HookTime::PostUnmount => &hooks.post_unmount,
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

/// The passphrase that somebody gives for a dataset.
fn passphrase(dataset: &str, options: &BTreeMap<String, String>) -> Option<SecretRef> {
    let location = options.get("keylocation").map_or("prompt", String::as_str);
    // Only an encryption root has a key format of its own.
    let asks = options.contains_key("keyformat") && location == "prompt";
    asks.then(|| SecretRef::Person { name: dataset.to_owned() })
}

impl Maker<'_> {
    fn zfs_passphrase(&self, dataset: &str, options: &BTreeMap<String, String>) -> Result<Option<SecretRef>, Refusal> {
        match passphrase(dataset, options) {
            Some(_) if !self.options.passphrases => Err(Refusal::KeyFromPrompt { dataset: dataset.to_owned() }),
            secret => Ok(secret),
        }
    }

    /// Makes a pool and its datasets.
    pub(super) fn pool(&self, key: &str, pool: &Pool) -> Result<Vec<Step>, Refusal> {
        let owner = join("zpool", key);
        let secret = self.zfs_passphrase(&pool.name, &pool.root_options)?;
        let mut steps: Vec<Step> = hook(&owner, &pool.hooks, HookTime::PreCreate, Stage::Format).into_iter().collect();
        steps.push(Step::CreatePool {
            pool: pool.name.clone(),
            properties: pool.options.clone(),
            root_properties: pool.root_options.clone(),
            vdevs: vdevs(pool, self.devices),
            secret,
        });
        for dataset in &pool.datasets {
            steps.extend(self.dataset(key, &owner, dataset)?);
        }
        steps.extend(hook(&owner, &pool.hooks, HookTime::PostCreate, Stage::Format));
        Ok(steps)
    }

    fn dataset(&self, key: &str, pool: &str, dataset: &Dataset) -> Result<Vec<Step>, Refusal> {
        let owner = join(&format!("{pool}.datasets"), &dataset.key);
        let name = dataset.name.clone();
        let mut steps: Vec<Step> =
            hook(&owner, &dataset.hooks, HookTime::PreCreate, Stage::Format).into_iter().collect();
        match &dataset.kind {
            DatasetKind::Filesystem { create, mountpoint, .. } => {
                let mut properties = dataset.options.clone();
                if let Some(at) = mountpoint {
                    properties.entry("mountpoint".to_owned()).or_insert_with(|| at.clone());
                }
                if *create {
                    let secret = self.zfs_passphrase(&name, &properties)?;
                    steps.push(Step::CreateDataset { dataset: name, properties, secret });
                } else {
                    properties.retain(|key, _| !CREATION_ONLY.contains(&key.as_str()));
                    if !properties.is_empty() {
                        steps.push(Step::SetProperties { dataset: name, properties });
                    }
                }
            }
            DatasetKind::Volume { size, arguments, .. } => {
                let secret = self.zfs_passphrase(&name, &dataset.options)?;
                let device = format!("/dev/zvol/{name}");
                steps.push(Step::CreateVolume {
                    dataset: name,
                    size: size.clone(),
                    properties: dataset.options.clone(),
                    arguments: arguments.clone(),
                    secret,
                });
                for placed in self.devices.outermost(Top::Pool(key)) {
                    if placed.device == device {
                        steps.push(Step::WaitForDevice { path: device.clone(), within: None, stage: Stage::Format });
                        steps.extend(self.fill(&placed)?);
                    }
                }
            }
        }
        steps.extend(hook(&owner, &dataset.hooks, HookTime::PostCreate, Stage::Format));
        Ok(steps)
    }
}

/// The groups of a pool, in the order disko gives them to zpool(8).
pub(super) fn vdevs(pool: &Pool, devices: &Devices) -> Vec<Vdev> {
    let members = devices.members(pool);
    let topology = match &pool.mode {
        Mode::Simple(mode) => {
            let members = members.iter().map(|member| member.placed.device.clone()).collect();
            return vec![Vdev { class: None, mode: mode.clone(), members }];
        }
        Mode::Topology(topology) => topology,
    };
    let path = |name: &String| match members.iter().find(|member| member.is(name)) {
        Some(member) => member.placed.device.clone(),
        None => name.clone(),
    };
    let mut vdevs = Vec::new();
    let Topology { vdev, spare, log, dedup, special, cache } = topology;
    let mut add = |class: Option<&str>, groups: &[Group]| {
        // disko means groups without a mode to come first, and by an inconsistent comparator reverses them, too.
        let plain = groups.iter().filter(|group| group.mode.is_none());
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
