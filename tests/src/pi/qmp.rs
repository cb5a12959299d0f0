//! QEMU's monitor protocol: JSON lines over a socket (QEMU's docs/interop/qmp-spec). It pulls cables and USB disks, saves and
//! restores states, and says how much was written to a disk.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::serial::Serial;
use crate::patience::{QEMU as PATIENCE, STATE};

/// Between two looks at what QEMU has no event for.
const TICK: Duration = Duration::from_millis(20);

/// A connection that has been greeted.
#[derive(Debug)]
pub struct Qmp {
    socket: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to QEMU's socket, which appears right after QEMU starts.
    ///
    /// # Errors
    /// If QEMU ends first, or there is no socket in time.
    pub fn connect(path: &Path, serial: &Serial) -> Result<Qmp> {
        let deadline = Instant::now() + PATIENCE;
        let socket = loop {
            match UnixStream::connect(path) {
                Ok(socket) => break socket,
                Err(error) if Instant::now() > deadline || serial.has_ended() => {
                    return Err(error).with_context(|| format!("connecting to {}", path.display()));
                }
                Err(_) => std::thread::sleep(TICK),
            }
        };
        socket.set_read_timeout(Some(PATIENCE)).context("setting a time limit")?;
        let mut qmp = Qmp { socket: BufReader::new(socket) };
        qmp.line().context("reading QEMU's greeting")?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Gives or takes a network backend's carrier.
    ///
    /// # Errors
    /// If QEMU refuses or is gone.
    pub fn set_link(&mut self, name: &str, up: bool) -> Result<()> {
        self.execute("set_link", json!({ "name": name, "up": up })).map(drop)
    }

    /// Says what a reboot of the guest does: the machine starts again by itself, or QEMU ends.
    ///
    /// # Errors
    /// If QEMU refuses or is gone.
    pub fn set_reboots(&mut self, by_itself: bool) -> Result<()> {
        let action = if by_itself { "reset" } else { "shutdown" };
        self.execute("set-action", json!({ "reboot": action })).map(drop)
    }

    /// Halts the guest; QEMU hands everything that is written to the host.
    ///
    /// # Errors
    /// If QEMU refuses or is gone.
    pub fn stop(&mut self) -> Result<()> {
        self.execute("stop", json!({})).map(drop)
    }

    /// Lets the guest run.
    ///
    /// # Errors
    /// If QEMU refuses or is gone.
    pub fn cont(&mut self) -> Result<()> {
        self.execute("cont", json!({})).map(drop)
    }

    /// Writes the state of the halted machine, but for its disks, to a file.
    ///
    /// # Errors
    /// If a device can't be saved, or there is no room.
    pub fn save(&mut self, to: &Path) -> Result<()> {
        // By default migration spares a network that isn't there.
        self.execute("migrate-set-parameters", json!({ "max-bandwidth": 8_u64 << 30 }))?;
        self.execute("migrate", json!({ "uri": format!("file:{}", to.display()) }))?;
        let deadline = Instant::now() + STATE;
        loop {
            let now = self.execute("query-migrate", json!({}))?;
            match now["status"].as_str().unwrap_or_default() {
                "completed" => return Ok(()),
                "failed" | "cancelled" => bail!("QEMU could not save its state: {now}"),
                _ => ensure!(Instant::now() < deadline, "QEMU did not save its state in time: {now}"),
            }
            std::thread::sleep(TICK);
        }
    }

    /// Waits until a machine that was started with `-incoming` has its state; it is halted then.
    ///
    /// # Errors
    /// If QEMU ends (it says why on stderr), or time is up.
    pub fn wait_restored(&mut self) -> Result<()> {
        let deadline = Instant::now() + STATE;
        loop {
            let now = self.execute("query-status", json!({}))?;
            if now["status"] != "inmigrate" {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "QEMU did not read its state in time");
            std::thread::sleep(TICK);
        }
    }

    /// How many times the guest has written to the disk with this serial number since QEMU was started.
    ///
    /// # Errors
    /// If there is no such disk.
    pub fn writes(&mut self, id: &str) -> Result<u64> {
        let all = self.execute("query-blockstats", json!({}))?;
        let is_it = |disk: &&Value| disk["device"] == id || disk["node-name"] == id;
        let disk = all.as_array().into_iter().flatten().find(is_it);
        let disk = disk.with_context(|| format!("QEMU knows no disk {id}: {all}"))?;
        disk["stats"]["wr_operations"].as_u64().context("QEMU does not count writes")
    }

    /// Pulls a device out.
    ///
    /// # Errors
    /// If there is no such device or the guest doesn't let go of it in time.
    pub fn unplug(&mut self, id: &str) -> Result<()> {
        self.execute("device_del", json!({ "id": id }))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.line().with_context(|| format!("waiting for {id} to be unplugged"))?;
            if line["event"] == "DEVICE_DELETED" && line["data"]["device"] == id {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{id} was not unplugged in time");
        }
    }

    /// Plugs a device in: QEMU's driver, its properties.
    ///
    /// # Errors
    /// If QEMU refuses.
    pub fn plug(&mut self, properties: &Value) -> Result<()> {
        // What was unplugged is let go of a moment after it is gone.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match self.execute("device_add", properties.clone()) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(TICK),
            }
        }
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.socket.get_mut().write_all(request.as_bytes()).with_context(|| format!("asking QEMU to {command}"))?;
        loop {
            let answer = self.line().with_context(|| format!("waiting for QEMU to {command}"))?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
            // Anything else is an event.
            if let Some(result) = answer.get("return") {
                return Ok(result.clone());
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.socket.read_line(&mut line)? == 0 {
            bail!("QEMU is gone");
        }
        serde_json::from_str(&line).with_context(|| format!("parsing {line:?}"))
    }
}
