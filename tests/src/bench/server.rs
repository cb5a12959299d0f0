//! A real sshd for one push: its own port, its own keys, nothing of the host's configuration.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::usage::{self, Sshd};
use crate::host::run::{file_tail, run, stdout_of, tool};

/// It must be started by its absolute path.
const SSHD: &str = "/usr/sbin/sshd";
/// Where sshd, as root, wants an empty directory (sshd(8), FILES).
const PRIVATE: &str = "/run/sshd";
/// How long it may take to listen, and its last session to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The keys of both ends, and who logs in.
#[derive(Debug, Clone)]
pub struct Keys {
    dir: PathBuf,
    /// Whoever runs this.
    pub user: String,
}

impl Keys {
    /// Makes them in `dir`.
    ///
    /// # Errors
    /// If ssh-keygen fails.
    pub fn make(dir: &Path) -> Result<Keys> {
        for name in ["host", "user"] {
            run(tool("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f"]).arg(dir.join(name)))?;
        }
        let user = stdout_of(tool("id").arg("-un"))?.trim().to_owned();
        Ok(Keys { dir: dir.to_owned(), user })
    }

    /// The client's key.
    pub fn identity(&self) -> PathBuf {
        self.dir.join("user")
    }

    /// Writes a known_hosts(5) for the server behind `port` of loopback.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn known_hosts(&self, port: u16) -> Result<PathBuf> {
        let key = fs::read_to_string(self.dir.join("host.pub")).context("reading the server's key")?;
        let file = self.dir.join(format!("known_hosts-{port}"));
        fs::write(&file, format!("[127.0.0.1]:{port} {key}")).context("writing known_hosts")?;
        Ok(file)
    }
}

/// A running sshd; dropping it stops it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    used: Sshd,
}

impl Server {
    /// Starts one, with its files in `room`.
    ///
    /// # Errors
    /// If it isn't installed, or doesn't listen in time; the error has the end of its log.
    pub fn start(room: &Path, keys: &Keys) -> Result<Server> {
        ensure!(Path::new(SSHD).exists(), "{SSHD} is missing; install the package openssh-server");
        if keys.user == "root" {
            fs::create_dir_all(PRIVATE).with_context(|| format!("creating {PRIVATE}"))?;
        }
        let address = free_port()?;
        let (file, log) = (room.join("sshd_config"), room.join("sshd.log"));
        fs::write(&file, configuration(address.port(), keys)).context("writing sshd's configuration")?;
        let errors = fs::File::create(&log).context("creating sshd's log")?;
        let child = mortal(SSHD).args(["-D", "-e", "-f"]).arg(&file).stderr(errors).stdout(Stdio::null()).spawn();
        let child = child.with_context(|| format!("starting {SSHD}"))?;
        let used = Sshd::watch(child.id())?;
        let mut server = Server { child, address, used };
        let begin = Instant::now();
        while !speaks(address) {
            if server.child.try_wait().context("looking at sshd")?.is_some() || begin.elapsed() > PATIENCE {
                bail!("sshd does not listen; it said:\n{}", file_tail(&log, 10));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the last session has ended; returns the CPU time of sshd itself, all its sessions together.
    ///
    /// # Errors
    /// If a session doesn't end.
    pub fn finish(mut self) -> Result<Duration> {
        let begin = Instant::now();
        while usage::has_children(self.child.id()) {
            ensure!(begin.elapsed() < PATIENCE, "a session of sshd does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self.used.stop())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server's sshd has by default, but for keys, port, and who may log in.
fn configuration(port: u16, keys: &Keys) -> String {
    let dir = keys.dir.display();
    // bash(1) reads ~/.bashrc for a command by ssh, too, unless it is a shell's shell: what somebody has there, some tenths of a
    // second for every channel, is not what is measured.
    format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/user.pub\n\
         PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPrintMotd no\nPrintLastLog no\nLogLevel ERROR\nSetEnv SHLVL=1\n"
    )
}

/// A command that ends with this process, however that ends (prctl(2), PR_SET_PDEATHSIG).
pub fn mortal(program: impl AsRef<OsStr>) -> Command {
    let mut command = tool("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// A port that was free a moment ago.
fn free_port() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    listener.local_addr().context("reading the free port")
}

fn speaks(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return false;
    };
    let mut banner = [0; 4];
    stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-"
}
