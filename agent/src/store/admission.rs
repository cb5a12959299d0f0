//! Which store paths are let in: what the installation asks for, and what a channel asks for beside that.
//!
//! `cygnet_protocol::trust` decides; here are the keys, and what of the decision waits for the content.

use crate::agent::Agent;
use crate::store::import::remove;
use cygnet_protocol::event::EventKind;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::nix_conf::NixConf;
use cygnet_protocol::store::{HashAlgorithm, NixHash, NixHasher, PathInfo};
use cygnet_protocol::trust::address::{Content, Modulo};
use cygnet_protocol::trust::{Address, Denial, Keys, Policy, Trust, judge};
use nix_archive::nar::{CaseHack, encode_path};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The longest nix.conf that is read, bytes.
const MAX_CONF: u64 = 1024 * 1024;
/// How much of a file is read at once, bytes.
const STRIDE: usize = 64 * 1024;

/// Decides about one store path after the other.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// Each has to agree: a channel can ask for more than the installation does, never for less.
    demands: Vec<(Policy, Keys)>,
}

impl Admission {
    /// By what the present installation asks for and, beside that, what a channel asks for.
    pub fn new(agent: &Agent, beside: &Trust) -> Result<Self, Fault> {
        let own = agent.trust();
        let mut demands = Vec::new();
        for trust in [&own, beside] {
            let mut keys = Keys::parse(trust.public_keys.iter().map(String::as_str))?;
            if trust.policy == Policy::Signatures {
                keys.add(keys_of_the_card(agent));
            }
            demands.push((trust.policy, keys));
        }
        Ok(Self { demands })
    }

    /// Whether a path may come in, by what is known of it before its content is there.
    pub fn policy(&self, info: &PathInfo) -> Result<(), Fault> {
        self.demands.iter().try_for_each(|(policy, keys)| judge(info, *policy, keys).map(drop)).map_err(Fault::from)
    }
}

/// Whether the content of a path that was let in is what its content address says, if it has one; call it before the path
/// is noted as valid. What is not, is removed.
pub fn check_content(info: &PathInfo, at: &Path) -> Result<(), Fault> {
    let denied = |bad| Fault::from(Denial::Address { path: info.path.to_absolute_path(), bad });
    let Some(address) = Address::of(info).map_err(denied)? else { return Ok(()) };
    let name = info.path.to_basename();
    let result = hashes(&address, info, at)
        .map_err(|error| {
            Fault::new(
                FaultCode::StepFailed,
                format!("Reading back {name} from the target store failed: {error}."),
                "The target disk, its cable or its power supply may be faulty; or the path is not the single plain file that \
                 its content address is of.",
                "Look for I/O errors in the kernel's log with `cygnet logs HOST` and `dmesg`.",
            )
        })
        .and_then(|actual| address.check(&actual).map_err(denied));
    if result.is_err() {
        // It is in no journal; a later one of this name takes its place.
        let _ = remove(at);
    }
    result
}

fn hashes(address: &Address, info: &PathInfo, at: &Path) -> io::Result<Vec<NixHash>> {
    match address.content() {
        // The import has seen to it.
        Content::Nar => Ok(vec![info.nar_hash.clone()]),
        Content::File(algorithm) => hash_file(*algorithm, at).map(|hash| vec![hash]),
        Content::NarModulo(algorithm) => {
            let mut modulo = Hashing(Modulo::new(*algorithm, &info.path));
            encode_path(&mut modulo, at, CaseHack::Disabled).map_err(io::Error::other)?;
            Ok(modulo.0.finish().into())
        }
    }
}

/// A path with such an address is one file, not executable (libstore/build, “should be a non-executable regular file”).
fn hash_file(algorithm: HashAlgorithm, at: &Path) -> io::Result<NixHash> {
    let none = || io::Error::other("it is no plain file, or executable");
    // Nothing but a plain file may be opened, a FIFO never would be; what is a link is not followed.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(at, flags, Mode::empty()).map_err(|error| match error {
        Errno::LOOP => none(),
        error => error.into(),
    })?);
    let meta = file.metadata()?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 != 0 {
        return Err(none());
    }
    let mut hasher = NixHasher::new(algorithm);
    // Most are small.
    let mut buffer = vec![0; usize::try_from(meta.len()).unwrap_or(STRIDE).clamp(1, STRIDE)];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

struct Hashing(Modulo);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The keys that Nix trusts on the card (nix.conf(5), `trusted-public-keys`; the environment variable is Nix's own).
pub fn keys_of_the_card(agent: &Agent) -> Keys {
    let directory = std::env::var_os("NIX_CONF_DIR").map_or_else(|| PathBuf::from("/etc/nix"), PathBuf::from);
    let (keys, complaints) = keys_in(&directory);
    for text in complaints {
        agent.log.emit(None, EventKind::Warning { text });
    }
    keys
}

fn keys_in(directory: &Path) -> (Keys, Vec<String>) {
    let text = read(&directory.join("nix.conf")).unwrap_or_default();
    let conf = NixConf::read(&text, |path| read(&directory.join(path)));
    let mut keys = Keys::default();
    let mut complaints = Vec::new();
    for text in &conf.trusted_public_keys {
        match Keys::parse([text.as_str()]) {
            Ok(key) => keys.add(key),
            Err(fault) => complaints.push(format!("In {}/nix.conf: {}", directory.display(), fault.what)),
        }
    }
    (keys, complaints)
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_CONF).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::store::parse_store_path;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// As `builtins.toFile "inner" "x"` makes it.
    fn inner() -> PathInfo {
        let mut nar = Vec::new();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("f"), "x").unwrap();
        encode_path(&mut nar, &directory.path().join("f"), CaseHack::Disabled).unwrap();
        PathInfo {
            path: parse_store_path("/nix/store/5vpafad049f76a8rjsma1c6d9058jkyn-inner").unwrap(),
            nar_hash: nar_hash(&nar),
            nar_size: nar.len() as u64,
            references: vec![],
            deriver: None,
            signatures: vec![],
            ca: Some("text:sha256:10a83a91g1r50bdw8g4hn47m7j7m6angpabwc80l9c16nx11cw9d".into()),
        }
    }

    fn nar_hash(nar: &[u8]) -> NixHash {
        let mut hasher = NixHasher::new(HashAlgorithm::Sha256);
        hasher.update(nar);
        hasher.finalize()
    }

    #[test]
    fn a_content_address_is_compared_with_the_content() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("inner");
        fs::write(&at, "x").unwrap();
        check_content(&inner(), &at).unwrap();
        assert!(at.exists());
        fs::write(&at, "y").unwrap();
        let fault = check_content(&inner(), &at).unwrap_err();
        assert!(fault.code == FaultCode::Untrusted && fault.what.contains("the content has text:sha256:"), "{fault}");
        assert!(!at.exists(), "what is not what it says is not kept");
    }

    #[test]
    fn one_that_is_no_plain_file_is_none_of_a_files_content() {
        let directory = tempfile::tempdir().unwrap();
        let (at, other) = (directory.path().join("inner"), directory.path().join("other"));
        fs::write(&other, "x").unwrap();
        symlink(&other, &at).unwrap();
        assert!(check_content(&inner(), &at).is_err());
        fs::create_dir(&at).unwrap();
        assert!(check_content(&inner(), &at).is_err());
        fs::write(&at, "x").unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(check_content(&inner(), &at).is_err());
        assert!(!at.exists() && other.exists());
    }

    #[test]
    fn the_cards_keys_are_those_of_its_nix_conf() {
        let directory = tempfile::tempdir().unwrap();
        let names = |text: &str| {
            fs::write(directory.path().join("nix.conf"), text).unwrap();
            let (keys, complaints) = keys_in(directory.path());
            (keys.names().into_iter().collect::<Vec<_>>().join(" "), complaints.len())
        };
        assert_eq!(keys_in(Path::new("/nowhere")).0.names().len(), 1, "Nix has a default");
        assert_eq!(names("sandbox = true\n"), ("cache.nixos.org-1".into(), 0));
        assert_eq!(names("trusted-public-keys =\n"), (String::new(), 0));
        let key = "mine-1:wG9VDRQ4d8PjuUxvpAz97sRVPpZkgr9zydzn8dID60s=";
        assert_eq!(
            names(&format!("extra-trusted-public-keys = {key} bad-1:AAAA\n")),
            ("cache.nixos.org-1 mine-1".into(), 1)
        );
        fs::write(directory.path().join("more.conf"), format!("trusted-public-keys = {key}\n")).unwrap();
        assert_eq!(names("!include more.conf\n"), ("mine-1".into(), 0));
    }
}
