//! Observations put together at random from all specimens: whatever is seen, an answer comes out, and it is consistent.

use crate::specimens::*;
use cygnet_protocol::online::chain::links;
use cygnet_protocol::online::diagnose::{diagnose, is_online, via, warnings};
use cygnet_protocol::online::diagnosis::Code;
use cygnet_protocol::online::ladder::{Installing, next};
use cygnet_protocol::online::link::{Link, LinkState};
use cygnet_protocol::online::observation::Observations;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Xorshift: the same sequence in each run, so that a failure can be looked at.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn whatever_is_seen_the_answers_agree() {
    let mut parts: Vec<Map<String, Value>> = Vec::new();
    let all = Code::ALL.iter().map(|code| specimen(*code));
    let cabled = Code::ALL.iter().map(|code| by_cable(specimen(*code)));
    for o in all.chain(cabled).chain([well(), Observations::default()]) {
        let Value::Object(object) = serde_json::to_value(&o).unwrap() else { panic!() };
        assert_eq!(serde_json::from_value::<Observations>(Value::Object(object.clone())).unwrap(), o);
        parts.push(object);
    }
    let keys: Vec<String> = parts[0].keys().cloned().collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut seen = BTreeSet::new();
    for _ in 0..4000 {
        let mut mixed = Map::new();
        for key in &keys {
            let part = &parts[random.below(parts.len())];
            mixed.extend(part.get(key).map(|value| (key.clone(), value.clone())));
        }
        let mut o: Observations = serde_json::from_value(Value::Object(mixed)).unwrap();
        o.now = [0, 4_000, 13_000, 40_000, NOW, u64::MAX][random.below(6)];
        check(&o, &mut seen);
    }
    // The mixture is worth something only if it shows most of the faults.
    assert!(seen.len() > 30, "{seen:?}");
}

fn check(o: &Observations, seen: &mut BTreeSet<Code>) {
    let (diagnosis, warnings, links) = (diagnose(o), warnings(o), links(o));
    assert_eq!(links.iter().map(|report| report.link).collect::<Vec<_>>(), Link::ALL);
    let down = links.iter().find(|report| report.state == LinkState::Down).map(|report| report.link);
    assert_eq!(down, diagnosis.as_ref().map(|d| d.link), "{o:?}");
    assert_eq!(is_online(o), via(o).is_some());
    let address = &links[Link::ALL.iter().position(|link| *link == Link::Address).unwrap()];
    assert!(!is_online(o) || address.state != LinkState::Down);
    let codes: Vec<Code> = diagnosis.iter().chain(&warnings).map(|d| d.code).collect();
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len(), "said twice: {codes:?}");
    for installing in [Installing::No, Installing::OverWifi, Installing::OverCable] {
        let remedy = diagnosis.as_ref().and_then(|d| next(o, d, &[], installing));
        assert!(
            remedy.is_none_or(|remedy| next(o, &diagnosis.clone().unwrap(), &[remedy], installing) != Some(remedy))
        );
    }
    seen.extend(codes);
}
