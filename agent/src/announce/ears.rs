//! Whether multicast of other machines reaches this one: where it does not, nobody hears our announcement either.

use super::air::Air;
use super::packet;
use crate::agent::Agent;
use crate::events::lock;
use std::sync::Weak;
use std::time::{Duration, Instant};

/// How often the sockets are looked at while nothing was heard…
const LISTEN: Duration = Duration::from_secs(1);
/// …and when something was.
const HEARING: Duration = Duration::from_secs(5);
/// How often it is asked whether anybody is there, as long as nobody is heard.
const ASK: Duration = Duration::from_secs(30);
/// What was heard longer ago than this is worth asking again.
const STALE: Duration = Duration::from_secs(300);

/// Listens as long as there is an agent.
pub fn listen(agent: &Weak<Agent>) {
    let mut air = Air::default();
    let (mut asked, mut heard) = (None::<Instant>, None::<Instant>);
    loop {
        let came = air.refresh();
        let Some(agent) = agent.upgrade() else { return };
        if air.heard() {
            heard = Some(Instant::now());
            lock(&agent.announce).heard = Some(agent.log.now());
        }
        let silent = heard.is_none_or(|heard| heard.elapsed() > STALE);
        // A new address may be in another network, where what was heard says nothing.
        let due = came || silent && asked.is_none_or(|asked| asked.elapsed() >= ASK);
        if due && air.send(&packet::question()) {
            asked = Some(Instant::now());
            lock(&agent.announce).asked = Some(agent.log.now());
        }
        drop(agent);
        let fresh = heard.is_some_and(|heard| asked.is_some_and(|asked| heard > asked));
        std::thread::sleep(if fresh { HEARING } else { LISTEN });
    }
}
