//! disko's types, field by field: partition tables.

use super::model::{Gpt, Hybrid, Partition, Table, TableEntry, TableFormat};
use super::names::numbered;
use super::node::Node;
use super::read::{Ground, content, expect_type, same_device};
use super::{DiskoError, names, size};

/// A GUID partition table.
pub(super) fn gpt(mut node: Node, ground: &Ground) -> Result<Gpt, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "gpt")?;
    same_device(&mut node, &ground.device)?;
    let efi_first = node.boolean("efiGptPartitionFirst")?;
    let mut sorted = Vec::new();
    for (key, mut member) in node.members("partitions")? {
        sorted.push((member.integer("priority")?, key, member));
    }
    // disko sorts by priority, then attribute name; the position is the partition's number.
    sorted.sort_by(|(a, key_a, _), (b, key_b, _)| (a, key_a).cmp(&(b, key_b)));
    if sorted.len() > 128 {
        return Err(node.error("partitions", "has more than 128 members", "a GPT holds 128 partitions"));
    }
    let partitions: Vec<Partition> = (1..)
        .zip(sorted)
        .map(|(number, (_, key, member))| partition(number, key, member, ground))
        .collect::<Result<_, _>>()?;
    if partitions.iter().filter(|partition| partition.hybrid.is_some()).count() > 3 {
        let what = "has more than 3 members with hybrid";
        return Err(node.error("partitions", what, "an MBR has 4 entries, and one protects the GPT"));
    }
    node.finish()?;
    Ok(Gpt { partitions, efi_first, hooks })
}

fn partition(number: u32, key: String, mut node: Node, ground: &Ground) -> Result<Partition, DiskoError> {
    node.ignore("name");
    let index = node.integer("_index")?;
    if index != i64::from(number) {
        let what = format!("is {index}, and by priority and name this is partition {number}");
        return Err(node.error("_index", what, "give every partition a name of its own, and do not edit disko's JSON"));
    }
    let hybrid = node.optional_child("hybrid")?.map(hybrid).transpose()?;
    let type_code = node.string("type")?;
    if !names::is_type_code(&type_code) {
        let what = format!("“{type_code}” is not a partition type sgdisk knows");
        return Err(node.error("type", what, "use 4 hex digits from `sgdisk --list-types`, such as 8300, or a GUID"));
    }
    let size = node.string("size")?;
    if !size::is_size(&size) {
        let what = format!("“{size}” is not a size disko accepts");
        return Err(node.error("size", what, "write a whole number and K, M, G, T or P, such as 10G; or 100%"));
    }
    let place = |node: &mut Node, field: &str| -> Result<String, DiskoError> {
        let text = node.string(field)?;
        if size::place(&text, 512).is_none() {
            let what = format!("“{text}” is not a position sgdisk reads");
            return Err(node.error(field, what, "write [+-], a whole number, and K, M, G, T, P or s, such as +10G"));
        }
        Ok(text)
    };
    let start = place(&mut node, "start")?;
    let end = place(&mut node, "end")?;
    let alignment = match u64::try_from(node.integer("alignment")?) {
        Ok(sectors) if sectors <= 65536 => sectors,
        _ => return Err(node.error("alignment", "is not from 0 to 65536", "leave it out")),
    };
    let mut attributes = Vec::new();
    for (path, bit) in node.list("attributes")? {
        match bit.as_u64().and_then(|bit| u8::try_from(bit).ok()) {
            Some(bit @ 0..=63) => attributes.push(bit),
            _ => {
                return Err(DiskoError::new(&path, "is not an attribute bit", "use whole numbers from 0 to 63"));
            }
        }
    }
    attributes.sort_unstable();
    attributes.dedup();
    let uuid = node.optional_string("uuid")?;
    if uuid.as_deref().is_some_and(|uuid| !names::is_guid(uuid)) {
        return Err(node.error("uuid", "is not a GUID", "write it as uuidgen(1) prints it, or leave it out"));
    }
    let label = node.string("label")?;
    if label.is_empty() || label.encode_utf16().count() > 36 || !label.is_ascii() {
        let remedy = "set label to 1 to 36 letters, digits, - or _ (a GPT holds no more, and disko takes ASCII only); \
                      a newer disko makes a short one by itself: nix flake update disko";
        return Err(node.error("label", format!("“{label}” cannot be a partition's name"), remedy));
    }
    let (device, disko_device) = match &ground.array {
        // A partition of an array has no by-partlabel link that disko trusts.
        Some(array) if uuid.is_none() => {
            let device = format!("/dev/disk/by-id/md-name-any:{array}-part{number}");
            (device.clone(), device)
        }
        _ => (names::partition_path(&label, uuid.as_deref()), names::disko_partition_path(&label, uuid.as_deref())),
    };
    let own = [disko_device, device.clone()];
    let disko_device = link(&mut node, own, &label, numbered(&ground.device, number))?;
    let content =
        node.optional_child("content")?.map(|node| content(node, &Ground::part(&disko_device))).transpose()?;
    node.finish()?;
    let uuid = uuid.map(|uuid| uuid.to_ascii_lowercase());
    Ok(Partition {
        key,
        number,
        label,
        type_code,
        attributes,
        start,
        end,
        alignment,
        uuid,
        device,
        disko_device,
        hybrid,
        content,
    })
}

/// The link by which the layout finds the partition: disko's `own`, or another that it is known to have once it is made.
fn link(node: &mut Node, own: [String; 2], label: &str, by_number: Option<String>) -> Result<String, DiskoError> {
    let device = node.string("device")?;
    let [expected, _] = &own;
    // Before 1.9 disko did not escape labels.
    let by_label = [
        format!("/dev/disk/by-partlabel/{label}"),
        names::disko_partition_path(label, None),
        names::partition_path(label, None),
    ];
    if own.iter().chain(&by_label).chain(&by_number).any(|link| *link == device) {
        return Ok(device);
    }
    let what = format!("is {device}, which is not known to lead to this partition once it is made; {expected} does");
    Err(node.error("device", what, "leave device out of the partition, and set it on the disk only"))
}

fn hybrid(mut node: Node) -> Result<Hybrid, DiskoError> {
    let mbr_type = node.optional_string("mbrPartitionType")?;
    if mbr_type.as_deref().is_some_and(|code| !names::is_mbr_type(code)) {
        return Err(node.error(
            "mbrPartitionType",
            "is not an MBR type",
            "write it as sfdisk(8) reads it, such as 0x0c",
        ));
    }
    let bootable = node.boolean("mbrBootableFlag")?;
    node.finish()?;
    Ok(Hybrid { mbr_type, bootable })
}

/// A table written with parted.
pub(super) fn table(mut node: Node, ground: &Ground) -> Result<Table, DiskoError> {
    let hooks = node.hooks()?;
    expect_type(&mut node, "table")?;
    // Releases differ in whether a table repeats its device.
    if node.peek_str("device").is_some() {
        same_device(&mut node, &ground.device)?;
    }
    let format = node.string("format")?;
    let format = match format.as_str() {
        "gpt" => TableFormat::Gpt,
        "msdos" => TableFormat::Msdos,
        _ => return Err(node.error("format", format!("“{format}” is not a table disko knows"), "use gpt or msdos")),
    };
    let (mut partitions, mut logical, mut primary) = (Vec::new(), 4, 0);
    for (index, member) in (1_u32..).zip(node.children_list("partitions")?) {
        let is_logical = format == TableFormat::Msdos && member.peek_str("part-type") == Some("logical");
        let count = if is_logical { &mut logical } else { &mut primary };
        *count += 1;
        let number = *count;
        if format == TableFormat::Msdos && !is_logical && number > 4 {
            let remedy = "an MBR holds 4 primary and extended partitions; use logical ones, or gpt";
            return Err(DiskoError::new(member.path(), "is the fifth primary partition", remedy));
        }
        partitions.push(entry(index, number, format, member, ground)?);
    }
    node.finish()?;
    Ok(Table { format, partitions, hooks })
}

fn entry(
    index: u32,
    number: u32,
    format: TableFormat,
    mut node: Node,
    ground: &Ground,
) -> Result<TableEntry, DiskoError> {
    let found = node.integer("_index")?;
    if found != i64::from(index) {
        return Err(node.error(
            "_index",
            format!("is {found}, and this is number {index}"),
            "do not edit disko's JSON",
        ));
    }
    let name = node.optional_string("name")?;
    let part_type = node.string("part-type")?;
    if !matches!(part_type.as_str(), "primary" | "logical" | "extended") {
        let what = format!("“{part_type}” is not a kind of partition");
        return Err(node.error("part-type", what, "use primary, logical or extended"));
    }
    let first_word = match (format, name) {
        (TableFormat::Msdos, _) => part_type,
        (TableFormat::Gpt, Some(name)) if !name.is_empty() => names::disko_escaped(&name),
        (TableFormat::Gpt, _) => return Err(node.error("name", "is empty", "a partition of a GPT needs a name")),
    };
    let word = |text: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"._%()+-".contains(&c))
    };
    let fs_type = node.optional_string("fs-type")?;
    if fs_type.as_deref().is_some_and(|text| !word(text)) {
        return Err(node.error("fs-type", "is not a type parted knows", "see parted(8), mkpart; or leave it out"));
    }
    let (start, end) = (node.string("start")?, node.string("end")?);
    for (field, text) in [("start", &start), ("end", &end)] {
        if !size::is_parted_position(text) {
            let what = format!("“{text}” is not a position parted reads");
            return Err(node.error(field, what, "write a number and a unit, such as 1MiB, 500M or 100%"));
        }
    }
    let flags = node.strings("flags")?;
    if let Some(i) = flags.iter().position(|flag| !word(flag)) {
        return Err(node.error_in("flags", i, "is not a flag parted knows", "see parted(8), set"));
    }
    let bootable = node.boolean("bootable")?;
    let content = match node.optional_child("content")? {
        None => None,
        Some(inner) => {
            let Some(device) = names::numbered(&ground.device, index) else {
                let what = format!("nobody knows how the kernel calls partitions of {}", ground.device);
                let remedy = "use a path that disko knows, such as /dev/sda or one in /dev/disk/by-id; or use gpt";
                return Err(DiskoError::new(inner.path(), what, remedy));
            };
            if number != index {
                let what = format!("is on partition {number}, and disko would look for it on partition {index}");
                let remedy = "list four primary and extended partitions before the first logical one, or use gpt";
                return Err(DiskoError::new(inner.path(), what, remedy));
            }
            Some(self::content(inner, &Ground::part(device))?)
        }
    };
    node.finish()?;
    Ok(TableEntry { number, first_word, fs_type, start, end, flags, bootable, content })
}
