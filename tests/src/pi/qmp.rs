//! QEMU's monitor protocol, as much as it takes to pull a cable: JSON lines over a socket (QEMU's docs/interop/qmp-spec).

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::serial::Serial;

/// QEMU answers at once, however busy its guest is.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that has been greeted.
#[derive(Debug)]
pub struct Qmp {
    socket: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to QEMU's socket, which appears right after QEMU starts.
    ///
    /// # Errors
    /// If there is none soon, or it doesn't speak the protocol.
    pub fn connect(path: &Path, serial: &Serial) -> Result<Qmp> {
        let deadline = Instant::now() + PATIENCE;
        let socket = loop {
            match UnixStream::connect(path) {
                Ok(socket) => break socket,
                Err(error) if Instant::now() > deadline || serial.has_ended() => {
                    return Err(error).with_context(|| format!("connecting to {}", path.display()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
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
