//! What mdadm(8) and lvm(8) say of members of arrays and volume groups. Pure.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// What a member of an md array knows of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Raid {
    /// `nas:0`: home host and name.
    pub name: Option<String>,
    /// `raid1`.
    pub level: Option<String>,
    /// Number of members.
    pub devices: Option<u64>,
}

impl Raid {
    /// Parses `mdadm --examine --export`, which prints nothing for what is no member.
    pub fn parse(text: &str) -> Option<Self> {
        let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let field = |name: &str| fields.get(name).map(|value| (*value).to_owned());
        fields.contains_key("MD_UUID").then(|| Self {
            name: field("MD_NAME").or_else(|| field("MD_DEVNAME")),
            level: field("MD_LEVEL"),
            devices: fields.get("MD_DEVICES").and_then(|count| count.parse().ok()),
        })
    }
}

/// What is run for [`Lvm::parse`]. `--readonly` takes no locks and waits for nobody.
pub const PVS: [&str; 6] = ["pvs", "--readonly", "--reportformat", "json", "-o", "pv_name,pv_uuid,vg_name,vg_uuid"];
/// As [`PVS`], for volume groups.
pub const VGS: [&str; 6] = ["vgs", "--readonly", "--reportformat", "json", "-o", "vg_name,vg_uuid,lv_count"];

/// Physical volumes and volume groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lvm {
    volumes: Vec<Physical>,
    groups: Vec<Group>,
}

/// A physical volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Physical {
    #[serde(rename = "pv_name")]
    path: String,
    #[serde(rename = "pv_uuid")]
    uuid: String,
    #[serde(rename = "vg_name")]
    group: String,
    #[serde(rename = "vg_uuid", default)]
    group_uuid: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Group {
    #[serde(rename = "vg_uuid")]
    uuid: String,
    /// Versions differ in whether numbers are numbers.
    lv_count: serde_json::Value,
}

/// The volume group of a physical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The group's name; none for a volume that is in no group.
    pub group: Option<String>,
    /// Its logical volumes.
    pub volumes: Option<u64>,
    /// Its other physical volumes: their paths, `[unknown]` for those that are missing.
    pub others: Vec<String>,
}

impl Lvm {
    /// From what [`PVS`] and [`VGS`] print; nothing can be said of what cannot be read.
    pub fn parse(pvs: &str, vgs: &str) -> Self {
        Self { volumes: rows(pvs, "pv"), groups: rows(vgs, "vg") }
    }

    /// What the physical volume with this UUID belongs to.
    pub fn of(&self, uuid: &str) -> Option<Membership> {
        let own = self.volumes.iter().find(|volume| volume.uuid == uuid)?;
        if own.group.is_empty() {
            return Some(Membership { group: None, volumes: None, others: Vec::new() });
        }
        let same = |volume: &&Physical| volume.uuid != own.uuid && volume.group_uuid == own.group_uuid;
        let group = self.groups.iter().find(|group| group.uuid == own.group_uuid);
        let count = group.and_then(|group| match &group.lv_count {
            serde_json::Value::Number(number) => number.as_u64(),
            serde_json::Value::String(text) => text.trim().parse().ok(),
            _ => None,
        });
        let others = self.volumes.iter().filter(same).map(|volume| volume.path.clone()).collect();
        Some(Membership { group: Some(own.group.clone()), volumes: count, others })
    }
}

/// The rows of a report in lvm's JSON.
fn rows<T: DeserializeOwned>(text: &str, kind: &str) -> Vec<T> {
    #[derive(Deserialize)]
    struct Report {
        report: Vec<BTreeMap<String, serde_json::Value>>,
    }
    let Ok(report) = serde_json::from_str::<Report>(text) else { return Vec::new() };
    let tables = report.report.into_iter().filter_map(|mut tables| tables.remove(kind));
    let rows = tables.filter_map(|table| serde_json::from_value::<Vec<serde_json::Value>>(table).ok()).flatten();
    rows.filter_map(|row| serde_json::from_value(row).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_an_array_names_it() {
        let raid = Raid::parse(include_str!("recorded/mdadm-examine.txt")).unwrap();
        assert_eq!(raid.name.as_deref(), Some("nas:y"));
        assert_eq!((raid.level.as_deref(), raid.devices), (Some("raid1"), Some(2)));
        assert_eq!(Raid::parse(""), None);
        assert_eq!(Raid::parse("MD_UUID=x\nMD_DEVICES=many\n"), Some(Raid::default()));
    }

    #[test]
    fn a_physical_volume_belongs_to_a_group_with_its_volumes() {
        let lvm = Lvm::parse(include_str!("recorded/pvs.json"), include_str!("recorded/vgs.json"));
        let own = lvm.of("9vPMcY-13hJ-bOvY-T6iS-5BBX-fsS3-xlz0fX").unwrap();
        assert_eq!((own.group.as_deref(), own.volumes), (Some("vg0"), Some(2)));
        assert!(own.others.is_empty());
        assert_eq!(lvm.of("nobody"), None);
        let mut two = lvm.clone();
        two.volumes.push(Physical { path: "/dev/sdb1".into(), uuid: "u".into(), ..two.volumes[0].clone() });
        assert_eq!(two.of("9vPMcY-13hJ-bOvY-T6iS-5BBX-fsS3-xlz0fX").unwrap().others, ["/dev/sdb1"]);
        assert_eq!(Lvm::parse("", "{}"), Lvm::default());
        assert_eq!(Lvm::parse(r#"{"report":[{"pv":[{"pv_name":1}]}]}"#, r#"{"report":[{"vg":7}]}"#), Lvm::default());
    }
}
