//! Debian packages for the virtual Pi: resolved and downloaded by apt itself, in a root of its own.
//!
//! The host's apt decides which mirror is used and by which proxy; its installed packages, pins and hooks play no part.
//! Each architecture has an apt root of its own with an empty dpkg status, so "install" means "with all dependencies".

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::control::{clauses, describe, field};
use crate::host::run::{run, stdout_of, tool};

/// The Debian release that the card, the kernel and the cross compiler come from.
pub const RELEASE: &str = "trixie";

/// Package lists older than this are fetched again before anything is resolved.
const LISTS_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// apt locks nothing in our roots (two harnesses may share a cache), so at least our own threads take turns.
static APT: Mutex<()> = Mutex::new(());

/// An architecture that packages are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// The Pi's.
    Arm64,
    /// The builder's: the cross compiler runs here.
    Amd64,
}

impl Arch {
    /// Debian's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Arm64 => "arm64",
            Arch::Amd64 => "amd64",
        }
    }
}

/// One downloaded package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deb {
    /// The package's name.
    pub name: String,
    /// Its full Debian version.
    pub version: String,
    /// Where the .deb is, in the cache.
    pub file: PathBuf,
    /// Names of the packages of the same set that it depends on (Depends and Pre-Depends, one alternative chosen).
    pub depends: Vec<String>,
}

impl Deb {
    /// Unpacks the package's files over `root`, as `dpkg -x` would, but keeping symlinked directories
    /// (`/lib` → `usr/lib`) and leaving out paths that match one of `excludes` (tar patterns such as `./usr/share/doc/*`).
    ///
    /// # Errors
    /// If the archive is damaged or `root` can't be written.
    pub fn unpack(&self, root: &Path, excludes: &[&str]) -> Result<()> {
        let mut archive = tool("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(&self.file)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .context("starting dpkg-deb")?;
        let pipe = archive.stdout.take().context("taking the output of dpkg-deb")?;
        let mut unpack = tool("tar");
        unpack.args(["-x", "--keep-directory-symlink", "--numeric-owner", "-p"]).arg("-C").arg(root);
        for pattern in excludes {
            unpack.arg(format!("--exclude={pattern}"));
        }
        let unpacked = run(unpack.stdin(pipe)).with_context(|| format!("unpacking {}", self.file.display()));
        let status = archive.wait().context("waiting for dpkg-deb")?;
        unpacked?;
        if !status.success() {
            bail!(
                "dpkg-deb can't read {} ({status}): the download is damaged; delete the file and run again",
                self.file.display()
            );
        }
        Ok(())
    }
}

/// Resolves and downloads Debian arm64 packages with everything they depend on, in an order that puts dependencies first
/// where apt could.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_arm64(cache: &Path, want: &[&str]) -> Result<Vec<Deb>> {
    resolve(cache, Arch::Arm64, want)
}

/// Resolves and downloads packages with everything they depend on, without recommended packages.
///
/// # Errors
/// If the host's apt has no Debian source, a package doesn't exist, dependencies conflict, or the mirror can't be reached
/// and the packages aren't in the cache yet.
pub fn resolve(cache: &Path, arch: Arch, want: &[&str]) -> Result<Vec<Deb>> {
    resolve_of(cache, RELEASE, arch, want)
}

/// As [`resolve`], of another Debian release than [`RELEASE`].
///
/// # Errors
/// As [`resolve`], and if the mirror has no such release.
pub fn resolve_of(cache: &Path, release: &str, arch: Arch, want: &[&str]) -> Result<Vec<Deb>> {
    let _turn = APT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let apt = Apt::open(cache, release, arch)?;
    let files = apt.fetch("install", want)?;
    describe(files)
}

/// Downloads exactly the named packages, without their dependencies.
///
/// # Errors
/// As [`resolve`].
pub fn download(cache: &Path, arch: Arch, names: &[&str]) -> Result<Vec<Deb>> {
    let _turn = APT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let apt = Apt::open(cache, RELEASE, arch)?;
    let files = apt.fetch("download", names)?;
    describe(files)
}

/// The packages that `name` depends on directly, by the newest version that apt knows, without downloading anything.
/// Metapackages such as `linux-image-arm64` are followed by this.
///
/// # Errors
/// If there is no such package.
pub fn direct_depends(cache: &Path, arch: Arch, name: &str) -> Result<Vec<String>> {
    let _turn = APT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let apt = Apt::open(cache, RELEASE, arch)?;
    let record = stdout_of(apt.command("apt-cache").args(["show", "--no-all-versions", name]))?;
    Ok(clauses(&field(&record, "Depends").unwrap_or_default())
        .into_iter()
        .filter_map(|alternatives| alternatives.into_iter().next())
        .collect())
}

/// An isolated apt root for one release and one architecture.
struct Apt {
    release: String,
    root: PathBuf,
    config: PathBuf,
}

impl Apt {
    fn open(cache: &Path, release: &str, arch: Arch) -> Result<Apt> {
        let root = cache.join("apt").join(release).join(arch.name());
        for part in [
            "etc/preferences.d",
            "etc/sources.list.d",
            "etc/trusted.gpg.d",
            "state/lists/partial",
            "archives/partial",
            "empty/partial",
        ] {
            let dir = root.join(part);
            fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        }
        let sources = sources_for(release, &host_repositories()?)?;
        let config = root.join("apt.conf");
        write_if_changed(&root.join("status"), "")?;
        let new_sources = write_if_changed(&root.join("etc/sources.list"), &sources)?;
        write_if_changed(&config, &configuration(&root, arch, &host_transport()?))?;
        let apt = Apt { release: release.to_owned(), root, config };
        apt.refresh(new_sources)?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = tool(program);
        command.env("APT_CONFIG", &self.config);
        command
    }

    /// Fetches the package lists if they are missing or old. Old lists are good enough when the mirror can't be reached.
    fn refresh(&self, forced: bool) -> Result<()> {
        let stamp = self.root.join("lists-fetched");
        let age = fs::metadata(&stamp)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|then| SystemTime::now().duration_since(then).ok());
        if !forced && age.is_some_and(|age| age < LISTS_MAX_AGE) {
            return Ok(());
        }
        match run(self.command("apt-get").args(["update", "-q", "--error-on=any"])) {
            Ok(()) => fs::write(&stamp, "").with_context(|| format!("writing {}", stamp.display())),
            Err(error) if age.is_some() && !forced => {
                eprintln!("virtual Pi: using package lists more than a day old, because: {error:#}");
                Ok(())
            }
            Err(error) => Err(error).context(format!(
                "fetching the package lists of Debian {} from the mirror that this host's apt uses",
                self.release
            )),
        }
    }

    /// Makes sure that what `apt-get VERB names` would fetch is in the archive directory, and says which files that is.
    fn fetch(&self, verb: &str, names: &[&str]) -> Result<Vec<PathBuf>> {
        match self.fetch_once(verb, names) {
            Ok(files) => Ok(files),
            // A mirror drops a package as soon as its successor is in: a list of this morning may name it still.
            Err(_) => {
                self.refresh(true)?;
                self.fetch_once(verb, names)
            }
        }
    }

    fn fetch_once(&self, verb: &str, names: &[&str]) -> Result<Vec<PathBuf>> {
        let archives = self.root.join("archives");
        // apt names only files that its archive directory lacks, and we want them all.
        let nothing = format!("Dir::Cache::archives={}", self.root.join("empty").display());
        let listed =
            stdout_of(self.command("apt-get").args([verb, "--print-uris", "-y", "-q", "-o", &nothing]).args(names))
                .with_context(|| format!("resolving {}", names.join(" ")))?;
        let wanted = uris(&listed);
        if wanted.is_empty() {
            bail!("apt named no file for {}", names.join(" "));
        }
        let there =
            |(name, size): &(String, u64)| fs::metadata(archives.join(name)).is_ok_and(|meta| meta.len() == *size);
        if !wanted.iter().all(there) {
            let mut fetch = self.command("apt-get");
            match verb {
                "install" => fetch.args([verb, "--download-only"]),
                _ => fetch.arg(verb),
            };
            run(fetch.args(["-y", "-q"]).args(names).current_dir(&archives))
                .with_context(|| format!("downloading {} packages", wanted.len()))?;
        }
        wanted
            .iter()
            .map(|file| {
                if !there(file) {
                    bail!("{} is not complete after its download", file.0);
                }
                Ok(archives.join(&file.0))
            })
            .collect()
    }
}

/// A package repository of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Repository {
    label: String,
    codename: String,
    uri: String,
}

/// What the host's apt knows about Debian's own repositories.
fn host_repositories() -> Result<Vec<Repository>> {
    let format = "$(ORIGIN)|$(LABEL)|$(CODENAME)|$(REPO_URI)";
    let listed = stdout_of(tool("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))
        .context("asking apt for its sources")?;
    Ok(repositories(&listed))
}

fn repositories(listed: &str) -> Vec<Repository> {
    let mut found = Vec::new();
    for line in listed.lines() {
        let mut parts = line.splitn(4, '|');
        let (Some("Debian"), Some(label), Some(codename), Some(uri)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let repository = Repository { label: label.into(), codename: codename.into(), uri: uri.into() };
        if !found.contains(&repository) {
            found.push(repository);
        }
    }
    found
}

/// The same mirrors, but for `release`: a host with Debian 12 has the mirrors, only another release in mind.
fn sources_for(release: &str, repositories: &[Repository]) -> Result<String> {
    let mut lines = BTreeSet::new();
    let mut has_release = false;
    for repository in repositories {
        let suite = match (repository.label.as_str(), repository.codename.rsplit_once('-').map(|(_, suffix)| suffix)) {
            ("Debian-Security", _) => format!("{release}-security"),
            ("Debian", None) => {
                has_release = true;
                release.to_owned()
            }
            ("Debian", Some("updates")) => format!("{release}-updates"),
            _ => continue,
        };
        lines.insert(format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {} {suite} main contrib non-free-firmware\n",
            repository.uri
        ));
    }
    if !has_release {
        bail!(
            "this host's apt has no Debian repository whose lists were fetched; \
             the virtual Pi is made from Debian packages: run `apt-get update` on a Debian host and try again"
        );
    }
    Ok(lines.into_iter().collect())
}

/// How the host's apt reaches its mirrors: proxies and the like, as configuration lines.
fn host_transport() -> Result<String> {
    let dump = stdout_of(tool("apt-config").arg("dump")).context("reading apt's configuration")?;
    Ok(dump
        .lines()
        .filter(|line| {
            ["Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries"]
                .iter()
                .any(|prefix| line.starts_with(prefix))
        })
        .fold(String::new(), |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        }))
}

fn configuration(root: &Path, arch: Arch, transport: &str) -> String {
    let mut text = String::new();
    let root = root.display();
    let arch = arch.name();
    // Writing to a String can't fail.
    let _ = write!(
        text,
        r#"Dir "/";
Dir::Etc "{root}/etc";
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}";
Dir::Cache::archives "{root}/archives";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
{transport}"#
    );
    text
}

/// File names and sizes (bytes) out of `apt-get --print-uris`, whose lines are `'URI' NAME SIZE HASH`.
fn uris(listed: &str) -> Vec<(String, u64)> {
    listed
        .lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let name = words.next()?.to_owned();
            let size = words.next()?.parse().ok()?;
            Some((name, size))
        })
        .collect()
}

/// Writes a file unless it already holds that text; says whether it was written.
fn write_if_changed(path: &Path, text: &str) -> Result<bool> {
    if fs::read_to_string(path).is_ok_and(|now| now == text) {
        return Ok(false);
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_mirrors_serve_our_release() {
        let listed = "Debian|Debian|bookworm|http://mirror.example/debian/\n\
                      Debian|Debian|bookworm-updates|http://mirror.example/debian/\n\
                      Debian|Debian-Security|bookworm-security|http://mirror.example/security/\n\
                      Debian|Debian Backports|bookworm-backports|http://mirror.example/debian/\n\
                      Other|Other|stable|http://other.example/\n";
        let text = sources_for("trixie", &repositories(listed)).unwrap();
        let suites: Vec<&str> = text.lines().map(|line| line.split("example/").nth(1).unwrap()).collect();
        assert_eq!(
            suites,
            [
                "debian/ trixie main contrib non-free-firmware",
                "debian/ trixie-updates main contrib non-free-firmware",
                "security/ trixie-security main contrib non-free-firmware"
            ]
        );
        assert!(sources_for("trixie", &[]).is_err());
    }

    #[test]
    fn print_uris_is_read() {
        let listed = "Reading...\n'http://m.example/a%3a1.deb' a_1%3a1_arm64.deb 12 MD5Sum:00\n";
        assert_eq!(uris(listed), [("a_1%3a1_arm64.deb".to_owned(), 12)]);
    }
}
