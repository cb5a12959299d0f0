use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_default()
}

/// Release, kind of node, fields, as the tags themselves have them.
type Recorded = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn recorded() -> Vec<(Release, BTreeMap<String, BTreeSet<String>>)> {
    let all: Recorded = serde_json::from_str(&file("tests/fixtures/disko/releases/fields.json")).unwrap();
    let release = |text: &str| {
        let (major, minor) = text.split_once('.').unwrap();
        Release(major.parse().unwrap(), minor.parse().unwrap())
    };
    all.into_iter().map(|(text, kinds)| (release(&text), kinds)).collect()
}

#[test]
fn the_table_has_the_fields_of_every_release() {
    let recorded = recorded();
    let minors: BTreeSet<u16> = recorded.iter().map(|(release, _)| release.1).collect();
    assert_eq!(minors, (OLDEST.1..=NEWEST.1).collect());
    let mut seen = BTreeSet::new();
    for (release, kinds) in recorded {
        for kind in Kind::ALL {
            let hooks = HOOKS.iter().filter(|_| kind.has_hooks());
            let there = |field: &&Field| field.since <= release && field.until.is_none_or(|until| until >= release);
            let expected: BTreeSet<String> =
                kind.fields().iter().chain(hooks).filter(there).map(|field| field.name.to_owned()).collect();
            let Some(found) = kinds.get(kind.name()) else { continue };
            assert_eq!(found, &expected, "{} of disko {release}", kind.name());
            seen.insert(kind.name());
        }
    }
    assert_eq!(seen.len(), Kind::ALL.len(), "{seen:?}");
}

#[test]
fn what_came_later_has_a_meaning_where_it_is_absent() {
    for kind in Kind::ALL {
        let born = kind.fields().iter().map(|field| field.since).min().unwrap();
        for field in kind.fields() {
            let later = field.since > born && field.since > OLDEST;
            assert_eq!(later, field.absent != Absent::Reader && field.since > OLDEST, "{} {}", kind.name(), field.name);
        }
    }
}

fn document() -> String {
    let mut text = format!(
        "# Which layouts are understood\n\n\
         cygnet reads what any disko from {OLDEST} (September 2023) to {NEWEST} (what was merged after 1.13, spring 2026) makes\n\
         of a layout: `config.disko.devices`, the whole of `config.disko`, or `{{ disko.devices = …; }}`, as JSON. Forks that have\n\
         some of these fields and lack others are read in the same way. The commands that are run are those of the newest\n\
         release, whichever evaluated the layout.\n\n\
         A field that a release does not have means what that release did. Before 1.3 a pool has no dataset `__root`: the pool's\n\
         `mountpoint`, `mountOptions` and `rootFsOptions` mean the same. A field that is not in these tables is passed over with a\n\
         warning in the plan if it says nothing (`null`, `false`, `\"\"`, `[]`, `{{}}`); otherwise the layout is refused with the\n\
         field's path, as nobody can tell whether it destroys something.\n\n\
         This file is made from the table that the reader works by, and the table is compared with the fields of each tag\n\
         (`UPDATE_GOLDEN=1 cargo test -p cygnet-protocol`).\n\n\
         ## Fields that not every release has\n\n\
         | node | field | since | until | absent means |\n|---|---|---|---|---|\n"
    );
    let row = |node: &str, field: &Field| {
        let until = field.until.map(|until| until.to_string()).unwrap_or_default();
        let meaning = match (field.until, field.only) {
            (Some(_), _) => {
                "that the layout is not too old; one that has it is refused, with the advice to update disko".to_owned()
            }
            (None, Some((why, instead))) => format!("{}; anything else {why}: {instead}", field.absent.meaning()),
            (None, None) => field.absent.meaning().to_owned(),
        };
        format!("| {node} | `{}` | {} | {until} | {meaning} |\n", field.name, field.since)
    };
    for kind in Kind::ALL {
        for field in kind.fields().iter().filter(|field| field.until.is_some() || field.absent != Absent::Reader) {
            text += &row(kind.name(), field);
        }
    }
    for field in HOOKS.iter().filter(|field| field.since > OLDEST) {
        text += &format!("| every node with hooks | `{}` | {} | | no script |\n", field.name, field.since);
    }
    text += "\n## All fields\n\n| node | since | fields |\n|---|---|---|\n";
    for kind in Kind::ALL {
        let names = kind.fields().iter().filter(|field| field.until.is_none());
        let names: Vec<String> = names.map(|field| format!("`{}`", field.name)).collect();
        let hooks = if kind.has_hooks() { ", the six hooks" } else { "" };
        let born = kind.fields().iter().map(|field| field.since).min().unwrap().max(OLDEST);
        text += &format!("| {} | {born} | {}{hooks} |\n", kind.name(), names.join(", "));
    }
    text
}

#[test]
fn the_document_is_the_table() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/disko-fields.md"), document()).unwrap();
    }
    let kept = file("../docs/disko-fields.md");
    assert_eq!(document(), kept, "the table changed; if that is meant, run again with UPDATE_GOLDEN=1");
}
