//! Which missing paths are sent as patches, and against which of those that the agent has offered. Pure.

use super::order;
use super::sender::Item;
use crate::nix::path_info::Known;
use anyhow::Result;
use cygnet_protocol::store::{Kin, PathInfo, StorePath};
use cygnet_protocol::stream::WORTH_A_PATCH;
use std::collections::HashMap;

/// Gives those paths a base that are worth one, and puts them together.
///
/// `kin` is what the agent has offered, `known` says what this machine's Nix knows of those paths.
pub fn choose<'a>(
    missing: Vec<Item<'a>>,
    kin: Vec<Kin>,
    known: impl FnOnce(&[StorePath]) -> Result<Vec<Known>>,
) -> Result<Vec<Item<'a>>> {
    let mut offers: HashMap<StorePath, Vec<Kin>> = HashMap::new();
    for kin in kin {
        offers.entry(kin.path.clone()).or_default().push(kin);
    }
    let offered: Vec<Vec<Kin>> = missing
        .iter()
        .map(|item| {
            let offers = offers.remove(&item.info.path).unwrap_or_default();
            offers.into_iter().filter(|kin| worth(item.info, kin)).collect()
        })
        .collect();
    let mut bases: Vec<StorePath> = offered.iter().flatten().map(|kin| kin.base.clone()).collect();
    bases.sort();
    bases.dedup();
    if bases.is_empty() {
        return Ok(missing);
    }
    let ours: HashMap<StorePath, PathInfo> = known(&bases)?
        .into_iter()
        .filter_map(|known| match known {
            Known::Valid(info) => Some((info.path.clone(), info)),
            Known::Missing(_) => None,
        })
        .collect();
    let same = |kin: &Kin| ours.get(&kin.base).is_some_and(|info| info.nar_hash == kin.nar_hash);
    let with_base = missing.into_iter().zip(offered);
    let items = with_base.map(|(item, offers)| Item { base: offers.into_iter().find(same), ..item }).collect();
    Ok(order::by_kind(items, |item| item.info, |item| item.base.is_some()))
}

/// Whether a patch may be shorter than the path packed by itself.
fn worth(info: &PathInfo, kin: &Kin) -> bool {
    info.nar_size >= WORTH_A_PATCH && kin.nar_size >= info.nar_size / 4 && kin.nar_size / 8 <= info.nar_size
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::store::{NixHash, parse_store_path};

    fn info(hash: char, name: &str, nar_size: u64) -> PathInfo {
        PathInfo {
            path: parse_store_path(&format!("/nix/store/{hash}c5b8vw40dy178xlpddw65q9gf1h2186-{name}")).unwrap(),
            nar_hash: NixHash::Sha256([nar_size as u8; 32]),
            nar_size,
            references: vec![],
            deriver: None,
            signatures: vec![],
            ca: None,
        }
    }

    fn offer(path: &PathInfo, base: &PathInfo) -> Kin {
        let (nar_hash, nar_size) = (base.nar_hash.clone(), base.nar_size);
        Kin { path: path.path.clone(), base: base.path.clone(), nar_hash, nar_size }
    }

    #[test]
    fn a_base_is_one_that_both_have_and_that_is_about_as_long() {
        let new = [info('1', "a", 100_000), info('1', "b", 100_001), info('1', "c", 9_000), info('1', "d", 100_002)];
        let old = [info('0', "a", 90_003), info('0', "b", 90_001), info('0', "c", 90_002), info('0', "d", 900_000_000)];
        let items = || new.iter().map(|info| Item { info, from: 0, base: None }).collect::<Vec<_>>();
        let kin: Vec<Kin> = new.iter().zip(&old).map(|(path, base)| offer(path, base)).collect();
        let chosen = choose(items(), kin.clone(), |asked| {
            assert_eq!(asked, [old[0].path.clone(), old[1].path.clone()]);
            // Of the first there is another build here; it has another hash.
            let other = PathInfo { nar_hash: NixHash::Sha256([1; 32]), ..old[0].clone() };
            Ok(vec![Known::Valid(other), Known::Valid(old[1].clone())])
        });
        let with: Vec<_> =
            chosen.unwrap().iter().map(|item| (item.info.path.name().to_owned(), item.base.clone())).collect();
        assert_eq!(with.iter().filter(|(_, base)| base.is_some()).count(), 1);
        assert!(with.contains(&("b".to_owned(), Some(kin[1].clone()))));
        let none = choose(items(), vec![], |_| panic!("there is nothing to ask")).unwrap();
        assert!(none.len() == 4 && none.iter().all(|item| item.base.is_none()));
        let gone = choose(items(), kin, |_| Ok(vec![Known::Missing("a".into())])).unwrap();
        assert!(gone.iter().all(|item| item.base.is_none()));
    }
}
