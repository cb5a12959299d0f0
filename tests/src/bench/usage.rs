//! What processes use: CPU time and memory, by proc(5) and time(1).
//!
//! What receives is started under time(1), which knows it to the end. sshd's sessions can't be, so they are looked at
//! while they live; so is a daemon of ours, which is asked at its end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// GNU time.
const TIME: &str = "/usr/bin/time";
/// Clock ticks of proc(5) in a second: USER_HZ, 100 on every architecture that Debian has.
const TICKS: u64 = 100;
/// How often sshd's sessions are looked at.
const EVERY: Duration = Duration::from_millis(100);
/// How long receivers may take to end once the client has.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one process has used, with those that it waited for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Used {
    /// Its name.
    pub name: String,
    /// User and system time, seconds.
    pub cpu_seconds: f64,
    /// The most memory it had, bytes.
    pub peak_rss: u64,
}

/// Makes commands that leave what they used in a file.
#[derive(Debug, Clone)]
pub struct Meter {
    dir: PathBuf,
}

impl Meter {
    /// With its files in `dir`.
    ///
    /// # Errors
    /// If time(1) is missing.
    pub fn new(dir: &Path) -> Result<Meter> {
        ensure!(Path::new(TIME).exists(), "{TIME} is missing; install the package time");
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(Meter { dir: dir.to_owned() })
    }

    /// Writes a script called `name` that starts `words`, and its own arguments, with `environment`.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn script(&self, name: &str, environment: &[(&str, PathBuf)], words: &[String]) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let at = self.dir.display();
        let exports: String = environment
            .iter()
            .map(|(key, value)| format!("export {key}={}\n", quoted(&value.display().to_string())))
            .collect();
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let text = format!(
            "#!/bin/sh\n{exports}echo {name} >> {at}/started\n\
             exec {TIME} -q -a -o {at}/ended -f '{name} %U %S %M' {} \"$@\"\n",
            words.join(" ")
        );
        let file = self.dir.join(name);
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&file, mode).with_context(|| format!("making {} executable", file.display()))?;
        Ok(file)
    }

    /// Waits until all that were started have ended; returns what they used.
    ///
    /// # Errors
    /// If one doesn't end, or nothing was started.
    pub fn read(&self) -> Result<Vec<Used>> {
        let text = |name: &str| fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        let begin = Instant::now();
        loop {
            let (started, ended) = (text("started"), text("ended"));
            ensure!(!started.is_empty(), "nothing was started at the receiving side");
            if ended.lines().count() >= started.lines().count() {
                return ended.lines().map(line).collect();
            }
            ensure!(begin.elapsed() < PATIENCE, "of\n{started}only these ended:\n{ended}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// `NAME USER SYSTEM MAXRSS`: seconds, and KiB.
fn line(text: &str) -> Result<Used> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [name, user, system, memory] = words[..] else {
        anyhow::bail!("time(1) wrote {text:?}");
    };
    let number = |word: &str| word.parse::<f64>().with_context(|| format!("time(1) wrote {text:?}"));
    let peak_rss = memory.parse::<u64>().with_context(|| format!("time(1) wrote {text:?}"))? * 1024;
    Ok(Used { name: name.into(), cpu_seconds: number(user)? + number(system)?, peak_rss })
}

/// For sh(1).
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What a process has used so far, with the children that it waited for.
///
/// # Errors
/// If there is no such process.
pub fn of_process(name: &str, pid: u32) -> Result<Used> {
    let stat = stat(pid).with_context(|| format!("reading what {name} has used"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("reading a process's memory")?;
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(|rest| rest.split_whitespace().next());
    let peak_rss = peak.and_then(|word| word.parse::<u64>().ok()).context("finding a process's peak memory")? * 1024;
    let cpu = stat.own + stat.children;
    Ok(Used { name: name.into(), cpu_seconds: cpu.as_secs_f64(), peak_rss })
}

/// Does the process have children?
pub fn has_children(pid: u32) -> bool {
    !children(pid).is_empty()
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

struct Stat {
    name: String,
    own: Duration,
    children: Duration,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5): the name is in parentheses and may hold anything; `utime` is the twelfth word behind it.
fn parse_stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let words: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| words.get(at)?.parse::<u64>().ok();
    let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS);
    Some(Stat { name, own: time(ticks(11)? + ticks(12)?), children: time(ticks(13)? + ticks(14)?) })
}

/// Looks at an sshd and its sessions as long as they live.
#[derive(Debug)]
pub struct Sshd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Duration>>,
}

impl Sshd {
    /// Begins.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn watch(pid: u32) -> Result<Sshd> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::Builder::new().name("sshd-usage".into()).spawn(move || {
            let mut seen = BTreeMap::new();
            loop {
                let last = told.load(Ordering::Acquire);
                look(pid, &mut seen);
                if last {
                    return seen.into_values().sum();
                }
                std::thread::sleep(EVERY);
            }
        });
        Ok(Sshd { stop, thread: Some(thread.context("starting a thread that looks at sshd")?) })
    }

    /// Ends, and says how much CPU time was seen.
    pub fn stop(&mut self) -> Duration {
        self.stop.store(true, Ordering::Release);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Notes the process's own time, and that of its descendants that are sshd as well.
fn look(pid: u32, seen: &mut BTreeMap<u32, Duration>) {
    match stat(pid) {
        Some(stat) if stat.name.starts_with("sshd") => seen.insert(pid, stat.own),
        _ => return,
    };
    for child in children(pid) {
        look(child, seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let text = "12 (a ) b) S 1 12 12 0 -1 4194560 1 2 0 0 150 50 7 3 20 0 1 0 9 0 0";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.name.as_str(), stat.own), ("a ) b", Duration::from_secs(2)));
        assert_eq!(stat.children, Duration::from_millis(100));
        assert!(parse_stat("12 (x").is_none());
    }

    #[test]
    fn a_script_leaves_what_it_used() {
        let dir = tempfile::tempdir().unwrap();
        let meter = Meter::new(dir.path()).unwrap();
        let words = ["sh", "-c", "test \"$IT\" = \"a'b\" && test $0 = x"].map(str::to_owned);
        let script = meter.script("tool", &[("IT", "a'b".into())], &words).unwrap();
        assert!(std::process::Command::new(script).arg("x").status().unwrap().success());
        let used = meter.read().unwrap();
        assert_eq!(used[0].name, "tool");
        assert!(used[0].peak_rss > 100_000 && used[0].cpu_seconds < 5.0);
        assert!(line("tool 0.1 0.2").is_err());
    }

    #[test]
    fn this_process_uses_something() {
        let used = of_process("this", std::process::id()).unwrap();
        assert!(used.peak_rss > 100_000);
    }
}
