//! A control group that limits memory, in whichever hierarchy this machine has (cgroups(7)).

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The two interfaces of the kernel (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interface {
    V1,
    V2,
}

impl Interface {
    fn limit(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }

    fn peak(self) -> &'static str {
        match self {
            Self::V1 => "memory.max_usage_in_bytes",
            Self::V2 => "memory.peak",
        }
    }

    /// Where the kernel counts the processes that it killed for memory.
    fn kills(self) -> &'static str {
        match self {
            Self::V1 => "memory.oom_control",
            Self::V2 => "memory.events",
        }
    }
}

/// A group of its own; dropping it removes it, if nothing is in it any more.
#[derive(Debug)]
pub struct Cgroup {
    at: PathBuf,
    interface: Interface,
}

impl Cgroup {
    /// Makes one in which all memory together, page cache included, is at most `limit` bytes.
    ///
    /// # Errors
    /// If this machine lets nobody limit memory, which has to be mended: without a limit nothing is seen.
    pub fn new(name: &str, limit: u64) -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let interface = match (root.join("cgroup.controllers").is_file(), root.join("memory").is_dir()) {
            (true, _) => Interface::V2,
            (false, true) => Interface::V1,
            (false, false) => bail!(
                "neither /sys/fs/cgroup/cgroup.controllers nor /sys/fs/cgroup/memory is there: no memory can be limited. \
                 Mount cgroup2 at /sys/fs/cgroup, or run this where it is mounted"
            ),
        };
        let parent = match interface {
            Interface::V1 => root.join("memory"),
            Interface::V2 => {
                // With systemd it is so already; else only who may write there can have it so.
                let handed_on = root.join("cgroup.subtree_control");
                let controllers = fs::read_to_string(&handed_on).unwrap_or_default();
                if !controllers.split_whitespace().any(|controller| controller == "memory") {
                    fs::write(&handed_on, "+memory").context("having the kernel limit memory (run this as root)")?;
                }
                root.to_owned()
            }
        };
        let at = parent.join(format!("cygnet-{name}-{}", std::process::id()));
        fs::create_dir(&at).with_context(|| format!("creating {} (run this as root)", at.display()))?;
        let group = Self { at, interface };
        fs::write(group.at.join(interface.limit()), limit.to_string()).context("limiting the group's memory")?;
        if interface == Interface::V2 {
            // What is swapped out is in memory all the same; without swap the file may be missing.
            let _ = fs::write(group.at.join("memory.swap.max"), "0");
        }
        let set = group.number(interface.limit())?;
        if set > limit {
            bail!("the kernel limits the group to {set} bytes instead of {limit}");
        }
        Ok(group)
    }

    /// The file through which a process joins.
    pub fn door(&self) -> PathBuf {
        self.at.join("cgroup.procs")
    }

    /// The most that all memory together was, page cache included, bytes; none where the kernel does not tell (before 5.19).
    pub fn peak(&self) -> Option<u64> {
        self.number(self.interface.peak()).ok()
    }

    /// How many processes the kernel has killed in it for want of memory.
    pub fn kills(&self) -> Result<u64> {
        let text = fs::read_to_string(self.at.join(self.interface.kills())).context("reading how many were killed")?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        // Before Linux 4.13 it is not counted; then the daemon's end shows it.
        count.map_or(Ok(0), |count| count.trim().parse().context("parsing how many were killed"))
    }

    fn number(&self, file: &str) -> Result<u64> {
        let text = fs::read_to_string(self.at.join(file)).with_context(|| format!("reading {file}"))?;
        text.trim().parse().with_context(|| format!("parsing {file}: {text:?}"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel takes a moment to see that the last process is gone.
        for _ in 0..50 {
            if fs::remove_dir(&self.at).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
