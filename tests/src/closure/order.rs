//! Packages in an order in which each comes after what it depends on, without the cycles that Debian allows and a Nix
//! store does not.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::pi::packages::Deb;

/// A package as the Nix expressions take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Package {
    /// The package's name.
    pub name: String,
    /// Its full Debian version.
    pub version: String,
    /// The .deb file: absolute, or relative to the flake it lies in.
    pub file: String,
    /// Names of packages earlier in the list.
    pub depends: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    Begun,
    Done,
}

/// Orders `debs` by their dependencies. Of each cycle the edge that closes it is dropped (of libc6 and libgcc-s1 one then
/// names the other, not both); so are dependencies on packages that are not in the list.
pub fn acyclic(debs: &[Deb]) -> Vec<Package> {
    let by_name: BTreeMap<&str, &Deb> = debs.iter().map(|deb| (deb.name.as_str(), deb)).collect();
    let mut visits = BTreeMap::new();
    let mut ordered = Vec::with_capacity(debs.len());
    // By name, not in the order given: the same set must always give the same store paths.
    for name in by_name.keys() {
        visit(name, &by_name, &mut visits, &mut ordered);
    }
    ordered
}

/// Depth first. Debian's chains are a few dozen packages long, far from what the stack can hold.
fn visit<'a>(
    name: &'a str,
    by_name: &BTreeMap<&'a str, &'a Deb>,
    visits: &mut BTreeMap<&'a str, Visit>,
    ordered: &mut Vec<Package>,
) {
    let Some(deb) = by_name.get(name) else {
        return;
    };
    if visits.contains_key(name) {
        return;
    }
    visits.insert(name, Visit::Begun);
    let mut wanted: Vec<&str> = deb.depends.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut depends = Vec::new();
    for dependency in wanted {
        visit(dependency, by_name, visits, ordered);
        if visits.get(dependency) == Some(&Visit::Done) {
            depends.push(dependency.to_owned());
        }
    }
    visits.insert(name, Visit::Done);
    ordered.push(Package {
        name: deb.name.clone(),
        version: deb.version.clone(),
        file: deb.file.display().to_string(),
        depends,
    });
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn deb(name: &str, depends: &[&str]) -> Deb {
        Deb {
            name: name.into(),
            version: "1".into(),
            file: PathBuf::from(format!("/{name}.deb")),
            depends: depends.iter().map(|&one| one.into()).collect(),
        }
    }

    fn shape(debs: &[Deb]) -> Vec<String> {
        acyclic(debs).iter().map(|package| format!("{}:{}", package.name, package.depends.join(","))).collect()
    }

    #[test]
    fn dependencies_come_first() {
        let debs = [deb("a", &["c", "b"]), deb("b", &["c"]), deb("c", &[])];
        assert_eq!(shape(&debs), ["c:", "b:c", "a:b,c"]);
    }

    #[test]
    fn a_cycle_loses_the_edge_that_closes_it() {
        let debs = [deb("libc6", &["libgcc-s1"]), deb("libgcc-s1", &["libc6"])];
        assert_eq!(shape(&debs), ["libgcc-s1:", "libc6:libgcc-s1"]);
        assert_eq!(shape(&[deb("self", &["self"])]), ["self:"]);
    }

    #[test]
    fn what_is_not_in_the_list_is_no_dependency() {
        assert_eq!(shape(&[deb("a", &["gone"])]), ["a:"]);
    }
}
