//! Calls into the kernel that may never come back, each on a thread of its own and with a deadline.
//!
//! A driver that hangs leaves whoever calls into it in uninterruptible sleep (state D), and with it whoever wants the same
//! lock: rtnetlink's is one for the whole system. Such a thread cannot be ended; it is left behind, and what would queue up
//! behind it is refused instead.

use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// One kind of call; of each, one runs at a time.
#[derive(Debug, Clone)]
pub struct Lane {
    turn: Arc<Semaphore>,
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The deadline passed, with the call or one before it still in the kernel.
    #[error("{what} has not come back from the kernel within {seconds} s")]
    Overdue {
        /// A gerund: `unloading brcmfmac`.
        what: String,
        /// The deadline.
        seconds: u64,
    },
    /// There is no thread to be had.
    #[error("starting a thread for {what}: {source}")]
    Thread {
        /// A gerund.
        what: String,
        /// Why.
        source: io::Error,
    },
}

impl Default for Lane {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Lane {
    /// Does `work`, called `what` in errors, within `limit`, waiting for its turn included.
    pub async fn run<T: Send + 'static>(
        &self,
        what: &str,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LaneError> {
        let overdue = || LaneError::Overdue { what: what.to_owned(), seconds: limit.as_secs() };
        let all = async {
            // The semaphore is never closed.
            let permit = self.turn.clone().acquire_owned().await.map_err(|_| overdue())?;
            let (done, result) = oneshot::channel();
            std::thread::Builder::new()
                .name("kernel-call".into())
                .spawn(move || {
                    let result = work();
                    // The turn ends with the call, not with the wait for it.
                    drop(permit);
                    let _ = done.send(result);
                })
                .map_err(|source| LaneError::Thread { what: what.to_owned(), source })?;
            result.await.map_err(|_| overdue())
        };
        timeout(limit, all).await.unwrap_or_else(|_| Err(overdue()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test(flavor = "current_thread")]
    async fn a_call_that_hangs_is_left_behind_and_those_after_it_are_refused() {
        let lane = Lane::default();
        let limit = Duration::from_millis(200);
        assert_eq!(lane.run("adding", limit, || 1 + 1).await.unwrap(), 2);
        let (free, stuck) = mpsc::channel::<()>();
        let error = lane.run("hanging", limit, move || stuck.recv().is_ok()).await.unwrap_err();
        assert!(error.to_string().starts_with("hanging has not come back"), "{error}");
        assert!(matches!(lane.run("adding", limit, || 1 + 1).await, Err(LaneError::Overdue { .. })));
        free.send(()).unwrap();
        assert_eq!(lane.run("adding", Duration::from_secs(60), || 1 + 1).await.unwrap(), 2);
    }
}
