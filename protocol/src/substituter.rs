//! Binary caches (nix-store's HTTP binary cache store): which URLs are asked, and what an answer is worth. Pure.
//!
//! Nothing that a cache says is believed: the record must be of the path that was asked for, and signed or addressed by its
//! content; what it points to is hashed while it comes.

use crate::store::{NixHash, PathInfo, STORE_DIR, StorePath};
use crate::trust::{Keys, Policy, Verdict, judge};
use nix_derivation::StoreDir;
pub use nix_narinfo::Compression;
use nix_narinfo::NarInfo;
use std::fmt;

/// The longest record that is read, bytes. One with 1000 references has 60 000.
pub const MAX_NARINFO: usize = 256 * 1024;

/// The longest URL, bytes.
const MAX_URL: usize = 1024;

/// A binary cache that is reached by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substituter(String);

impl Substituter {
    /// Parses a URL as nix.conf(5) has it in `substituters`; parameters of Nix's store (`?priority=10`) are left out.
    ///
    /// # Errors
    /// Why it can't be asked: another scheme, a password in it, or characters that a URL has not.
    pub fn parse(text: &str) -> Result<Self, String> {
        let base = text.split('?').next().unwrap_or_default().trim_end_matches('/');
        let rest = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://"));
        let Some(rest) = rest else {
            return Err(format!("{:?} is no cache that is reached by http or https", shown(base)));
        };
        let host = rest.split('/').next().unwrap_or_default();
        if host.contains('@') {
            return Err(
                "a user or password does not belong into the URL of a cache; netrc(5) of the Pi is for that".into()
            );
        }
        if host.is_empty() || base.len() > MAX_URL || !rest.chars().all(is_plain) {
            return Err(format!("{:?} is no URL", shown(base)));
        }
        Ok(Self(base.to_owned()))
    }

    /// Where the record of a path is.
    pub fn narinfo(&self, path: &StorePath) -> String {
        let name = path.to_basename();
        let hash = name.split('-').next().unwrap_or_default();
        format!("{}/{hash}.narinfo", self.0)
    }

    /// Where a file of the cache is, by the URL in a record; `None` if it leads elsewhere.
    fn file(&self, url: &str) -> Option<String> {
        let parts = url.split('/');
        let inside = parts.clone().all(|part| !part.is_empty() && part != "." && part != "..");
        let plain = url.len() <= MAX_URL && url.chars().all(|c| is_plain(c) && !"%:".contains(c));
        (inside && plain).then(|| format!("{}/{url}", self.0))
    }
}

impl fmt::Display for Substituter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Of RFC 3986 what needs no quoting in a curl configuration, and in nothing else.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~:/%[]+=@,".contains(c)
}

fn shown(text: &str) -> String {
    crate::text::line(text).chars().take(120).collect()
}

/// A store path that a cache has, as far as it can be believed before it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What will have to be true of it.
    pub info: PathInfo,
    /// Where the packed NAR is.
    pub url: String,
    /// How it is packed.
    pub packing: Packing,
    /// The hash of the file as it is packed, where the record has one.
    pub file_hash: Option<NixHash>,
    /// Its length, bytes, where the record has one.
    pub file_size: Option<u64>,
}

/// How a NAR is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    None,
    /// zstd (RFC 8878).
    Zstd,
    /// xz (LZMA2).
    Xz,
}

/// Why an answer is worth nothing; a person is told once for each cache and cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Worthless {
    /// It is no record.
    #[error("what it says of a path is no narinfo ({0})")]
    Malformed(String),
    /// It is of another path.
    #[error("what it says is of another path")]
    OtherPath,
    /// The file is elsewhere.
    #[error("the file that it names is not below its own URL")]
    Elsewhere,
    /// It is packed in a way that isn't unpacked here.
    #[error("its files are packed with {0}, which is not unpacked here; xz, zstd and none are")]
    Packing(String),
    /// Nobody who is trusted has signed it.
    #[error("{0}")]
    Untrusted(String),
}

impl Worthless {
    /// What two of the same cause have in common.
    pub fn cause(&self) -> &'static str {
        match self {
            Worthless::Malformed(_) => "malformed",
            Worthless::OtherPath => "other-path",
            Worthless::Elsewhere => "elsewhere",
            Worthless::Packing(_) => "packing",
            Worthless::Untrusted(_) => "untrusted",
        }
    }
}

/// What the record that `cache` has sent for `wanted` is worth. A signature of one of `keys` is needed, or a content address
/// from which the path follows, whatever the installation asks for.
///
/// # Errors
/// If nothing.
pub fn read(cache: &Substituter, wanted: &StorePath, record: &[u8], keys: &Keys) -> Result<Offer, Worthless> {
    let malformed = |error: &dyn fmt::Display| Worthless::Malformed(shown(&error.to_string()));
    let store = StoreDir::new(STORE_DIR).map_err(|error| malformed(&error))?;
    let narinfo = NarInfo::parse_in(&store, record).map_err(|error| malformed(&error))?;
    if narinfo.store_path() != wanted {
        return Err(Worthless::OtherPath);
    }
    let info = PathInfo {
        path: wanted.clone(),
        nar_hash: match narinfo.nar_hash() {
            hash @ NixHash::Sha256(_) => hash.clone(),
            _ => return Err(Worthless::Malformed("its NarHash is no SHA-256".into())),
        },
        nar_size: narinfo.nar_size(),
        references: narinfo.references().iter().cloned().collect(),
        deriver: narinfo.deriver().cloned(),
        signatures: narinfo.signatures().iter().map(ToString::to_string).collect(),
        ca: narinfo.content_address().map(ToString::to_string),
    };
    match judge(&info, Policy::Signatures, keys) {
        Ok(Verdict::Signed(_) | Verdict::Addressed(_) | Verdict::Operator) => {}
        Err(denial) => {
            let fault = crate::fault::Fault::from(denial);
            return Err(Worthless::Untrusted(format!("{} {}", fault.what, fault.cause)));
        }
    }
    let packing = match narinfo.compression() {
        Compression::None => Packing::None,
        Compression::Zstd => Packing::Zstd,
        Compression::Xz => Packing::Xz,
        other => return Err(Worthless::Packing(shown(other.as_str()))),
    };
    let url = cache.file(narinfo.url()).ok_or(Worthless::Elsewhere)?;
    Ok(Offer { info, url, packing, file_hash: narinfo.file_hash().cloned(), file_size: narinfo.file_size() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix_conf::DEFAULT_KEY;
    use crate::store::parse_store_path;

    fn cache() -> Substituter {
        Substituter::parse("http://cache.test:8080/nix/?priority=10").unwrap()
    }

    #[test]
    fn only_plain_urls_are_caches() {
        assert_eq!(cache().to_string(), "http://cache.test:8080/nix");
        assert!(Substituter::parse("https://[::1]:80").is_ok());
        for bad in [
            "",
            "daemon",
            "s3://bucket",
            "file:///x",
            "ssh://host",
            "https://",
            "https:///x",
            "https://u:p@host",
            "https://h/\"\noutput = /etc/passwd",
            "https://h/a b",
            "https://h/a\\b",
            "http://h/{a,b}",
            "http://h/$x",
            "http://h/ä",
        ] {
            let why = Substituter::parse(bad).expect_err(bad);
            assert!(!why.contains(":p"), "{why}");
        }
        assert!(Substituter::parse(&format!("http://h/{}", "x".repeat(2000))).is_err());
    }

    /// As the real Nix writes it with `nix copy --to file://`.
    const RECORD: &str = "\
StorePath: /nix/store/184as4ansdrqycvrial4bzlpkc3942wi-src
URL: nar/1f0i6x.nar.xz
Compression: xz
FileHash: sha256:0klw9yrq61fx0n5rfp6a9q9p8n5x8fn3ky2wiycaz3b2zvl84lsm
FileSize: 224
NarHash: sha256:0addczm9fjxkwraq3rf9z66ndy1w8scg7pi05xdyf4rjpl2h73gj
NarSize: 288
References: 
Sig: test-1:ImicdKPZC841aWkHQ/QcyNVBdinl88y9clrN2jwTWQRoDoaSYwtjDFPwd1fWsd2C9wnd7oowSyg0esYdypcjDA==
";
    const KEY: &str = "test-1:wG9VDRQ4d8PjuUxvpAz97sRVPpZkgr9zydzn8dID60s=";

    fn wanted() -> StorePath {
        parse_store_path("/nix/store/184as4ansdrqycvrial4bzlpkc3942wi-src").unwrap()
    }

    fn told(record: &str) -> Result<Offer, Worthless> {
        read(&cache(), &wanted(), record.as_bytes(), &Keys::parse([KEY]).unwrap())
    }

    #[test]
    fn a_signed_record_is_an_offer() {
        let offer = told(RECORD).unwrap();
        assert_eq!(cache().narinfo(&wanted()), "http://cache.test:8080/nix/184as4ansdrqycvrial4bzlpkc3942wi.narinfo");
        assert_eq!((offer.url.as_str(), offer.packing), ("http://cache.test:8080/nix/nar/1f0i6x.nar.xz", Packing::Xz));
        assert_eq!((offer.file_size, offer.info.nar_size, offer.info.signatures.len()), (Some(224), 288, 1));
        let unsigned = RECORD.lines().filter(|line| !line.starts_with("Sig")).collect::<Vec<_>>().join("\n");
        let addressed =
            format!("{unsigned}\nCA: fixed:r:sha256:0addczm9fjxkwraq3rf9z66ndy1w8scg7pi05xdyf4rjpl2h73gj\n");
        assert!(told(&addressed).is_ok());
        assert_eq!(told(&unsigned).unwrap_err().cause(), "untrusted");
    }

    #[test]
    fn a_cache_that_lies_is_worth_nothing() {
        let stranger = read(&cache(), &wanted(), RECORD.as_bytes(), &Keys::parse([DEFAULT_KEY]).unwrap()).unwrap_err();
        assert!(matches!(&stranger, Worthless::Untrusted(why) if why.contains("test-1")), "{stranger}");
        for (from, to, cause) in [
            ("184as4ansdrqycvrial4bzlpkc3942wi-src", "1p9q0bz6f22dyxh4lw8xs08p4201vyq4-f", "other-path"),
            ("NarSize: 288", "NarSize: 289", "untrusted"),
            ("NarSize: 288", "NarSize: 99999999999999999999", "malformed"),
            ("NarSize: 288", "NarSize: -1", "malformed"),
            ("NarHash: sha256:0addc", "NarHash: sha256:1addc", "untrusted"),
            ("References: ", "References: ../../etc", "malformed"),
            ("Compression: xz", "Compression: br", "packing"),
            ("Compression: xz", "Compression: bzip2", "packing"),
            ("URL: nar/", "URL: ../../nar/", "elsewhere"),
            ("URL: nar/", "URL: http://evil.test/", "elsewhere"),
            ("URL: nar/", "URL: /nar/", "elsewhere"),
            ("URL: nar/", "URL: nar/\"", "elsewhere"),
            ("Sig: ", "Sig: x", "untrusted"),
            ("StorePath", "StorePth", "malformed"),
        ] {
            assert_eq!(told(&RECORD.replace(from, to)).map_err(|why| why.cause()), Err(cause), "{from} -> {to}");
        }
        for garbage in ["", "<html>not found</html>", "\0", "StorePath: x"] {
            assert_eq!(told(garbage).unwrap_err().cause(), "malformed");
        }
        for length in 0..RECORD.len() - 20 {
            assert!(told(&RECORD[..length]).is_err(), "cut after {length}");
        }
    }
}
