//! The order in which store paths travel: references before what refers to them. Pure.

use cygnet_protocol::store::{PathInfo, StorePath};
use std::collections::{BTreeSet, HashMap};

/// Sorts so that what was sent is a valid store at any time; paths that are free to go are taken in the order given.
///
/// A path that refers to itself is as good as one that doesn't. Nix has no other cycles; should there be one, its paths
/// come last, as they are.
pub fn references_first(infos: Vec<PathInfo>) -> Vec<PathInfo> {
    let index: HashMap<&StorePath, usize> = infos.iter().enumerate().map(|(i, info)| (&info.path, i)).collect();
    let mut waiting_for = vec![0_usize; infos.len()];
    let mut wanted_by: Vec<Vec<usize>> = vec![vec![]; infos.len()];
    for (i, info) in infos.iter().enumerate() {
        // A list may name a reference twice.
        let references: BTreeSet<usize> =
            info.references.iter().filter_map(|path| index.get(path).copied()).filter(|j| *j != i).collect();
        waiting_for[i] = references.len();
        for j in references {
            wanted_by[j].push(i);
        }
    }
    let mut free: BTreeSet<usize> = (0..infos.len()).filter(|i| waiting_for[*i] == 0).collect();
    let mut order = Vec::with_capacity(infos.len());
    while let Some(i) = free.pop_first() {
        order.push(i);
        for j in &wanted_by[i] {
            waiting_for[*j] -= 1;
            if waiting_for[*j] == 0 {
                free.insert(*j);
            }
        }
    }
    order.extend((0..infos.len()).filter(|i| waiting_for[*i] > 0));
    let mut infos: Vec<Option<PathInfo>> = infos.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| infos[i].take()).collect()
}

/// Puts the paths of one kind together as far as references allow: each change costs what the stream could look back on.
///
/// `paths` are in order, references first, and so is the result; a reference to anything else is no obstacle.
#[cfg(feature = "libzstd")]
pub fn by_kind<T>(paths: Vec<T>, info: impl Fn(&T) -> &PathInfo, kind: impl Fn(&T) -> bool) -> Vec<T> {
    let index: HashMap<&StorePath, usize> = paths.iter().enumerate().map(|(i, path)| (&info(path).path, i)).collect();
    let references: Vec<Vec<usize>> = paths
        .iter()
        .enumerate()
        .map(|(i, path)| {
            info(path).references.iter().filter_map(|path| index.get(path).copied()).filter(|j| *j < i).collect()
        })
        .collect();
    let mut sent = vec![false; paths.len()];
    let mut order = Vec::with_capacity(paths.len());
    let mut present = paths.first().is_some_and(&kind);
    while order.len() < paths.len() {
        // One pass finds all of a kind that can go, as references come first in the list.
        for (i, path) in paths.iter().enumerate() {
            if !sent[i] && kind(path) == present && references[i].iter().all(|j| sent[*j]) {
                sent[i] = true;
                order.push(i);
            }
        }
        present = !present;
    }
    let mut paths: Vec<Option<T>> = paths.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| paths[i].take()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::store::parse_store_path;

    /// `name: references`, names of one letter.
    fn closure(text: &[&str]) -> Vec<PathInfo> {
        let path =
            |name: &str| parse_store_path(&format!("/nix/store/0c5b8vw40dy178xlpddw65q9gf1h2186-{name}")).unwrap();
        text.iter()
            .map(|line| {
                let (name, references) = line.split_once(':').unwrap();
                PathInfo {
                    path: path(name),
                    nar_hash: cygnet_protocol::store::NixHash::Sha256([0; 32]),
                    nar_size: 0,
                    references: references.split_whitespace().map(path).collect(),
                    deriver: None,
                    signatures: vec![],
                    ca: None,
                }
            })
            .collect()
    }

    fn sorted(text: &[&str]) -> String {
        references_first(closure(text)).iter().map(|info| info.path.name().to_owned()).collect()
    }

    #[test]
    fn references_come_first() {
        assert_eq!(sorted(&["a: b c", "b: c", "c:"]), "cba");
        assert_eq!(sorted(&["a: d", "b: d", "c:", "d:"]), "cdab");
        assert_eq!(sorted(&[]), "");
    }

    #[test]
    fn self_references_doubles_and_strangers_are_no_obstacle() {
        assert_eq!(sorted(&["a: a b b z", "b: b"]), "ba");
    }

    #[test]
    fn a_cycle_does_not_hang_and_loses_nothing() {
        assert_eq!(sorted(&["a: b", "b: a", "c:"]), "cab");
    }

    #[test]
    fn kinds_come_together_but_never_before_what_they_refer_to() {
        let grouped = |text: &[&str]| -> String {
            let paths = references_first(closure(text));
            let upper = |info: &PathInfo| info.path.name().chars().all(char::is_uppercase);
            by_kind(paths, |info| info, upper).iter().map(|info| info.path.name().to_owned()).collect()
        };
        assert_eq!(grouped(&["a:", "B:", "c:", "D:"]), "acBD");
        assert_eq!(grouped(&["a:", "B: a", "c: B", "D: z", "E: c"]), "aBDcE");
        assert_eq!(grouped(&["X: y", "y: X"]).len(), 2);
        assert_eq!(grouped(&[]), "");
    }

    #[test]
    fn a_long_chain_is_sorted_without_recursion() {
        let lines: Vec<String> = (0..20_000).map(|i| format!("n{i}: n{}", i + 1)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let order = references_first(closure(&lines));
        assert_eq!(order.first().unwrap().path.name(), "n19999");
        assert_eq!(order.last().unwrap().path.name(), "n0");
    }
}
