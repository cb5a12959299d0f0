//! What a Debian package says about itself: deb-control(5), and which packages of a set its dependencies mean.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::packages::Deb;
use crate::host::run::{stdout_of, tool};

/// Reads each package's own control file, so that the answer is about the files and not about a list.
pub(super) fn describe(files: Vec<PathBuf>) -> Result<Vec<Deb>> {
    let mut controls = Vec::new();
    for file in files {
        let control = stdout_of(tool("dpkg-deb").arg("-f").arg(&file).args([
            "Package",
            "Version",
            "Provides",
            "Depends",
            "Pre-Depends",
        ]))
        .with_context(|| format!("reading {}", file.display()))?;
        controls.push((file, control));
    }
    let mut providers: BTreeMap<String, String> = BTreeMap::new();
    for (_, control) in &controls {
        let name = field(control, "Package").unwrap_or_default();
        for provided in clauses(&field(control, "Provides").unwrap_or_default()) {
            for virtual_name in provided {
                providers.entry(virtual_name).or_insert_with(|| name.clone());
            }
        }
    }
    for (_, control) in &controls {
        let name = field(control, "Package").unwrap_or_default();
        providers.insert(name.clone(), name);
    }
    controls
        .into_iter()
        .map(|(file, control)| {
            let name =
                field(&control, "Package").with_context(|| format!("{} has no Package field", file.display()))?;
            let version =
                field(&control, "Version").with_context(|| format!("{} has no Version field", file.display()))?;
            let depends = chosen(&control, &name, &providers);
            Ok(Deb { name, version, file, depends })
        })
        .collect()
}

/// For each dependency the first alternative that is in the set, by its own name or by a name it provides.
fn chosen(control: &str, name: &str, providers: &BTreeMap<String, String>) -> Vec<String> {
    let mut depends = BTreeSet::new();
    for key in ["Pre-Depends", "Depends"] {
        for alternatives in clauses(&field(control, key).unwrap_or_default()) {
            if let Some(provider) = alternatives.iter().find_map(|one| providers.get(one))
                && provider != name
            {
                depends.insert(provider.clone());
            }
        }
    }
    depends.into_iter().collect()
}

/// One field of a control file or of an apt record, with its continuation lines joined.
pub(super) fn field(record: &str, key: &str) -> Option<String> {
    let mut value: Option<String> = None;
    for line in record.lines() {
        match (&mut value, line.strip_prefix(' ')) {
            (Some(text), Some(more)) => {
                text.push(' ');
                text.push_str(more.trim());
            }
            (Some(_), None) => break,
            (None, _) => {
                if let Some((name, text)) = line.split_once(':')
                    && name == key
                {
                    value = Some(text.trim().to_owned());
                }
            }
        }
    }
    value
}

/// Splits a relationship field into clauses of alternatives, names only (deb-control(5), "RELATIONSHIP FIELDS").
pub(super) fn clauses(field: &str) -> Vec<Vec<String>> {
    field
        .split(',')
        .map(|clause| {
            clause
                .split('|')
                .filter_map(|one| one.split_whitespace().next())
                .map(|name| name.split([':', '(']).next().unwrap_or(name).to_owned())
                .collect::<Vec<_>>()
        })
        .filter(|alternatives| !alternatives.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relationships_keep_order_and_names() {
        assert_eq!(
            clauses("libc6 (>= 2.38), default-dbus | dbus:any (>> 1), python3:any"),
            vec![
                vec!["libc6".to_owned()],
                vec!["default-dbus".to_owned(), "dbus".to_owned()],
                vec!["python3".to_owned()]
            ]
        );
        assert!(clauses("").is_empty());
    }

    #[test]
    fn an_alternative_in_the_set_wins_over_one_outside() {
        let providers = BTreeMap::from([
            ("mawk".to_owned(), "mawk".to_owned()),
            ("awk".to_owned(), "mawk".to_owned()),
            ("tool".to_owned(), "tool".to_owned()),
        ]);
        let control = "Package: tool\nDepends: gawk | awk, tool\nPre-Depends: absent\n";
        assert_eq!(chosen(control, "tool", &providers), ["mawk"]);
    }

    #[test]
    fn fields_may_be_folded() {
        let record = "Package: a\nDepends: b,\n c\nVersion: 1:2\n";
        assert_eq!(field(record, "Depends").unwrap(), "b, c");
        assert_eq!(field(record, "Version").unwrap(), "1:2");
        assert_eq!(field(record, "Provides"), None);
    }
}
