//! Who sends store paths or reads them, and how long the installation waits for them.

use super::*;
use crate::run::tool::LOOK;
use std::net::Shutdown;
use std::sync::TryLockError;
use std::time::Instant;

/// How long a data channel may take to end after its bridge was told to.
const HANG_UP: Duration = Duration::from_secs(20);

/// How long one store path may take to be copied from the card. The largest are some GB.
const COPY: Duration = Duration::from_secs(600);

/// Somebody reads the target's store; until this is dropped, it is not unmounted.
pub struct Reading<'a> {
    agent: &'a Agent,
    number: u64,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        lock(&self.agent.desk).readers.remove(&self.number);
        self.agent.arrived.notify_all();
    }
}

impl Agent {
    /// Takes part in receiving; refused unless the installation waits for store paths.
    ///
    /// There is one channel at a time. A later one hangs up on the earlier one, which may be a client's whose connection
    /// was cut without sshd having noticed yet.
    pub fn open_channel(&self, bridge: &UnixStream) -> Result<(), Fault> {
        let own =
            bridge.try_clone().map_err(|error| Fault::internal("The data channel could not be opened.", error))?;
        let mut desk = lock(&self.desk);
        if desk.channel.is_some() {
            desk = self.hang_up(desk);
        }
        if desk.channel.is_some() {
            return Err(not_now("another client sends store paths.", "Wait for it, or stop it where it runs."));
        }
        if desk.state != State::Receiving || self.cancel.asked() {
            return Err(not_now(
                "no installation waits for store paths.",
                "Start one with `cygnet install HOST …`, which sends them by itself.",
            ));
        }
        desk.channel = Some(own);
        drop(desk);
        self.let_copies_end()
    }

    /// Whether store paths come by a channel. Then nothing is copied from the card: both would write the same paths.
    pub fn has_channel(&self) -> bool {
        lock(&self.desk).channel.is_some()
    }

    /// Waits until what is being copied from the card has its place. With the channel noted, no more begins.
    fn let_copies_end(&self) -> Result<(), Fault> {
        let begun = Instant::now();
        while matches!(self.copying.try_lock(), Err(TryLockError::WouldBlock)) {
            if self.cancel.asked() || begun.elapsed() >= COPY {
                self.close_channel();
                return Err(not_now(
                    "store paths are being copied from the card.",
                    "Give the same command again in a moment.",
                ));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Keeps the target mounted while somebody reads from its store; refused unless the installation receives paths.
    ///
    /// An installation that goes on does not wait: it hangs up on readers as on the channel.
    pub fn read_target(&self, bridge: &UnixStream) -> Result<Reading<'_>, Fault> {
        let own = bridge.try_clone().map_err(|error| Fault::internal("The store could not be opened.", error))?;
        let mut desk = lock(&self.desk);
        permit(&desk.state, &Request::QueryValid { paths: Vec::new() })?;
        let number = desk.readers.last_key_value().map_or(0, |(last, _)| last + 1);
        desk.readers.insert(number, own);
        Ok(Reading { agent: self, number })
    }

    /// Ends the open channel's bridge, and so the channel; waits until it is gone, [`HANG_UP`] at most.
    fn hang_up<'a>(&self, desk: MutexGuard<'a, Desk>) -> MutexGuard<'a, Desk> {
        if let Some(bridge) = &desk.channel {
            // Already gone is as good.
            let _ = bridge.shutdown(Shutdown::Both);
        }
        let (desk, _) = self
            .arrived
            .wait_timeout_while(desk, HANG_UP, |desk| desk.channel.is_some())
            .unwrap_or_else(PoisonError::into_inner);
        desk
    }

    /// Ends the bridges of those who read the target's store, once no more are let in; waits, [`HANG_UP`] at most.
    fn see_readers_off(&self, desk: MutexGuard<'_, Desk>) {
        for bridge in desk.readers.values() {
            // Already gone is as good.
            let _ = bridge.shutdown(Shutdown::Both);
        }
        let waited = self.arrived.wait_timeout_while(desk, HANG_UP, |desk| !desk.readers.is_empty());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The end of the data channel: whoever waits for the closure looks whether it is complete.
    pub fn close_channel(&self) {
        lock(&self.desk).channel = None;
        self.arrived.notify_all();
    }

    /// Waits until `toplevel` is in the target store and no channel is open, or an abort is asked for.
    ///
    /// A path is only accepted after all it refers to, so with the toplevel the closure is complete.
    /// Whatever the outcome, no channel is let in any more.
    pub fn wait_for_closure(&self, toplevel: &StorePath) -> Result<(), Fault> {
        let mut desk = lock(&self.desk);
        loop {
            if self.cancel.asked() {
                desk = self.hang_up(desk);
                // Before the clean-up takes the wish to stop back, or a new channel would be let in beside it.
                desk.state = State::Installing { phase: Phase::Receive };
                self.see_readers_off(desk);
                return Err(crate::run::aborted());
            }
            if desk.channel.is_none() && desk.valid.contains(toplevel) {
                // In one go with the look, so that no channel opens in between.
                desk.state = State::Installing { phase: Phase::Receive };
                self.see_readers_off(desk);
                return Ok(());
            }
            desk = self.arrived.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
