//! A `cygnetd` of this machine that only receives, in a control group, and a sender beside it.

use crate::cgroup::Cgroup;
use crate::closures::Tree;
use anyhow::{Context, Result, bail, ensure};
use cygnet_protocol::frame::{self, PATHS_PER_QUERY};
use cygnet_protocol::message::{Hello, Reply, Request};
use cygnet_protocol::store::PathInfo;
use cygnet_protocol::stream::{DataHello, DataReply, MAX_WINDOW, Record};
use cygnet_protocol::trust::Trust;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use zstd::stream::raw::CParameter;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// The running daemon; dropping it ends it.
pub struct Daemon {
    child: Child,
    program: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts it in `group`, with its own files in `room`; it receives into `target`.
    pub fn start(program: &Path, group: &Cgroup, room: &Path, target: &Path) -> Result<Self> {
        let (socket, log) = (room.join("agent.sock"), room.join("agent.log"));
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(group.door()).arg(program);
        command.args(["daemon", "--receive-only", "--socket"]).arg(&socket);
        command.arg("--state").arg(room.join("state")).arg("--target").arg(target);
        command.arg("--card").arg(room.join("no-card"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).env_remove("NOTIFY_SOCKET");
        let child = command.spawn().context("starting cygnetd")?;
        let mut daemon = Self { child, program: program.to_owned(), socket, log };
        let begin = Instant::now();
        while !daemon.socket.exists() {
            ensure!(begin.elapsed() < PATIENCE, "cygnetd does not listen; it said:\n{}", daemon.said());
            daemon.must_live()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// Sends a closure as `cygnet push` does: asks what is missing, then packs it with the longest window there is.
    pub fn push(&mut self, closure: &[(PathInfo, Tree)]) -> Result<()> {
        self.ask(closure)?;
        let mut data = self.bridge("data")?;
        let reply = BufReader::new(data.stdout.take().context("taking the bridge's output")?);
        let answer = std::thread::spawn(move || frame::receive::<DataReply>(&mut { reply }));
        let sent = send(BufWriter::new(data.stdin.take().context("taking the bridge's input")?), closure);
        let answer = match answer.join() {
            Ok(answer) => answer,
            Err(_) => bail!("the thread that waits for the answer has panicked"),
        };
        data.wait().context("waiting for the bridge")?;
        match (sent, answer) {
            (Ok(()), Ok(DataReply::Received { paths, .. })) if paths == closure.len() as u64 => Ok(()),
            (sent, answer) => bail!("sending: {sent:?}; the agent answers {answer:?}; it said:\n{}", self.said()),
        }
    }

    /// Which of the closure's paths are there: none. All are asked for, because that takes memory, too.
    fn ask(&self, closure: &[(PathInfo, Tree)]) -> Result<()> {
        let mut control = self.bridge("control")?;
        let mut input = control.stdin.take().context("taking the bridge's input")?;
        let mut output = BufReader::new(control.stdout.take().context("taking the bridge's output")?);
        frame::send(&mut input, &Hello::ours("memory check"))?;
        frame::receive::<Hello>(&mut output)?;
        for batch in closure.chunks(PATHS_PER_QUERY) {
            let paths = batch.iter().map(|(info, _)| info.path.clone()).collect();
            frame::send(&mut input, &Request::QueryValid { paths })?;
            match frame::receive::<Reply>(&mut output)? {
                Reply::Valid { paths, .. } if paths.is_empty() => {}
                other => bail!("the agent answers {other:?}"),
            }
        }
        drop(input);
        control.wait().context("waiting for the bridge").map(drop)
    }

    /// The most memory that the daemon had (VmHWM of proc_pid_status(5)), bytes.
    pub fn peak(&mut self) -> Result<u64> {
        self.must_live()?;
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).context("reading its status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("finding VmHWM")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().context("parsing VmHWM")?;
        Ok(kilobytes * 1024)
    }

    fn must_live(&mut self) -> Result<()> {
        match self.child.try_wait().context("looking at cygnetd")? {
            None => Ok(()),
            Some(status) => bail!("cygnetd ended with {status}; it said:\n{}", self.said()),
        }
    }

    fn bridge(&self, channel: &str) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(["bridge", "--socket"]).arg(&self.socket).arg(channel).env_remove("SSH_ORIGINAL_COMMAND");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting a bridge")
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(mut output: impl Write, closure: &[(PathInfo, Tree)]) -> Result<()> {
    frame::send(
        &mut output,
        &DataHello { protocol: 1, compression: "zstd".into(), trust: Trust::default(), code: false },
    )?;
    let mut packed = zstd::stream::write::Encoder::new(output, 1).context("starting to pack")?;
    packed.window_log(MAX_WINDOW.ilog2())?;
    packed.long_distance_matching(true)?;
    packed.set_parameter(CParameter::NbWorkers(2))?;
    packed.set_parameter(CParameter::JobSize(8 << 20))?;
    let mut plain = BufWriter::with_capacity(1 << 18, packed);
    for (info, tree) in closure {
        line(&mut plain, &Record::Nar(info.clone()))?;
        tree.write(&mut plain)?;
    }
    line(&mut plain, &Record::End { paths: closure.len() as u64 })?;
    let packed = plain.into_inner().map_err(|error| error.into_error())?;
    packed.finish()?.flush()?;
    Ok(())
}

/// A record without the flush that would end a block.
fn line(output: &mut impl Write, record: &Record) -> Result<()> {
    let mut text = Vec::new();
    frame::send(&mut text, record)?;
    Ok(output.write_all(&text)?)
}
