//! Paths that the real Nix made, addressed and signed (`trust/signed.json`): each is believed as it is, and not when a single
//! thing of it is changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::nix_conf::DEFAULT_KEY;
use cygnet_protocol::store::{NixHash, PathInfo};
use cygnet_protocol::trust::address::{Address, BadAddress, Content, Modulo};
use cygnet_protocol::trust::keys::{fingerprint, storable};
use cygnet_protocol::trust::{Denial, Keys, Policy, Verdict, judge};
use sha2::{Digest, Sha256};

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Signed {
    public_key: String,
    paths: Vec<Path>,
}

#[derive(serde::Deserialize)]
struct Path {
    info: PathInfo,
    nar: String,
}

fn signed() -> Signed {
    serde_json::from_str(include_str!("trust/signed.json")).unwrap()
}

fn keys() -> Keys {
    Keys::parse([signed().public_key.as_str()]).unwrap()
}

/// The one that is addressed by nothing.
fn plain() -> PathInfo {
    signed().paths.into_iter().find(|path| path.info.ca.is_none()).unwrap().info
}

fn addressed(ca: &str, name: &str) -> Path {
    let such = |path: &Path| path.info.ca.as_ref().is_some_and(|text| text.starts_with(ca));
    signed().paths.into_iter().find(|path| such(path) && path.info.path.name() == name).unwrap()
}

#[test]
fn what_nix_signed_is_signed_and_nothing_else_is() {
    for path in signed().paths {
        let bare = PathInfo { ca: None, ..path.info };
        if bare.signatures.is_empty() {
            continue;
        }
        assert_eq!(judge(&bare, Policy::Signatures, &keys()), Ok(Verdict::Signed("test-1".into())));
        let turned = PathInfo { references: bare.references.iter().rev().cloned().collect(), ..bare.clone() };
        assert_eq!(keys().signer(&turned), Some("test-1".into()), "the order of the references is not signed");
        let mut changed = vec![
            PathInfo { nar_size: bare.nar_size + 1, ..bare.clone() },
            PathInfo { nar_hash: NixHash::Sha256([7; 32]), ..bare.clone() },
            PathInfo { references: vec![plain().path], ..bare.clone() },
            PathInfo { path: plain().path, ..bare.clone() },
            PathInfo { signatures: vec![], ..bare.clone() },
        ];
        for signature in [
            bare.signatures[0].replace("test-1", "test-2"),
            bare.signatures[0].replace("test-1:", ""),
            bare.signatures[0].replace('=', ""),
            format!("{}AAAA", bare.signatures[0].trim_end_matches('=')),
            "test-1:".into(),
            ":".into(),
        ] {
            changed.push(PathInfo { signatures: vec![signature], ..bare.clone() });
        }
        for info in changed.into_iter().filter(|info| *info != bare) {
            let denial = judge(&info, Policy::Signatures, &keys()).unwrap_err();
            assert_eq!(Fault::from(denial).code, FaultCode::Untrusted, "{info:?}");
            assert_eq!(judge(&info, Policy::Operator, &Keys::default()), Ok(Verdict::Operator));
        }
    }
}

#[test]
fn one_good_signature_among_bad_ones_is_enough() {
    let mut info = PathInfo { ca: None, ..addressed("fixed:r:sha256", "src").info };
    info.signatures.insert(0, "test-1:AAAA".into());
    info.signatures.insert(0, "not a signature".into());
    assert_eq!(keys().signer(&info), Some("test-1".into()));
    assert_eq!(storable(&info).len(), 2, "Nix has a blank between two");
    // Nobody makes the Pi check thousands.
    let many = std::iter::repeat_n("test-1:AAAA".to_owned(), 40).chain(info.signatures.clone()).collect();
    assert_eq!(keys().signer(&PathInfo { signatures: many, ..info }), None);
}

#[test]
fn a_fingerprint_is_that_of_nix() {
    let hash = "sha256:0klw9yrq61fx0n5rfp6a9q9p8n5x8fn3ky2wiycaz3b2zvl84lsm";
    let info = PathInfo {
        nar_hash: NixHash::parse(hash).unwrap(),
        nar_size: 4096,
        references: vec![plain().path, plain().path],
        ..plain()
    };
    let path = plain().path.to_absolute_path();
    assert_eq!(fingerprint(&info), format!("1;{path};{hash};4096;{path}"));
}

#[test]
fn the_refusal_names_path_keys_and_remedy() {
    let info = PathInfo { ca: None, ..addressed("fixed:r:sha256", "src").info };
    let refused = |info: &PathInfo, keys: &[&str]| {
        Fault::from(judge(info, Policy::Signatures, &Keys::parse(keys.iter().copied()).unwrap()).unwrap_err())
    };
    let fault = refused(&info, &[DEFAULT_KEY]);
    assert!(fault.what.contains(&info.path.to_absolute_path()), "{fault}");
    assert!(fault.cause.contains("signed with test-1") && fault.cause.contains("cache.nixos.org-1"), "{fault}");
    assert!(fault.remedy.contains("nix store sign") && fault.remedy.contains("--trust operator"), "{fault}");
    assert!(refused(&PathInfo { signatures: vec![], ..info.clone() }, &[DEFAULT_KEY]).cause.contains("no signature"));
    assert!(refused(&info, &[]).cause.contains("no key is trusted"));
    let forged = PathInfo { nar_size: 1, ..info };
    assert!(refused(&forged, &[&signed().public_key]).cause.contains("does not belong to this path"));
}

#[test]
fn keys_are_public_ones_and_a_secret_one_is_not_repeated() {
    assert_eq!(Keys::parse([DEFAULT_KEY, DEFAULT_KEY]).unwrap().names().len(), 1);
    let secret = format!("mine-1:{}", STANDARD.encode([7; 64]));
    for bad in ["", "x", ":AAAA", "mine-1:", "mine-1:AAAA", "mine-1:!", &secret] {
        let fault = Keys::parse([bad]).unwrap_err();
        assert_eq!(fault.code, FaultCode::BadRequest, "{bad}");
        assert!(!fault.to_string().contains(&STANDARD.encode([7; 60])), "{fault}");
    }
}

/// What the agent does with the content.
fn hash(address: &Address, path: &Path) -> Vec<NixHash> {
    let nar = STANDARD.decode(&path.nar).unwrap();
    match address.content() {
        Content::Nar => vec![NixHash::Sha256(Sha256::digest(&nar).into())],
        Content::File(algorithm) => {
            // nix-archive-1, (, type, regular, contents, length: of one file only the end is its own.
            let length = u64::from_le_bytes(nar[88..96].try_into().unwrap()) as usize;
            vec![nix_derivation::hash_bytes(*algorithm, &nar[96..96 + length])]
        }
        Content::NarModulo(algorithm) => {
            let whole = {
                let mut modulo = Modulo::new(*algorithm, &path.info.path);
                modulo.update(&nar);
                modulo.finish()
            };
            for size in [1, 7, 31, 32, 33, 64] {
                let mut modulo = Modulo::new(*algorithm, &path.info.path);
                nar.chunks(size).for_each(|chunk| modulo.update(chunk));
                assert_eq!(modulo.finish(), whole, "in pieces of {size}");
            }
            whole.into()
        }
    }
}

#[test]
fn what_nix_addressed_is_addressed_by_its_content() {
    let mut kinds = Vec::new();
    for path in signed().paths.iter().filter(|path| path.info.ca.is_some()) {
        // Nobody has to have signed it, and nobody's word is needed.
        let bare = PathInfo { signatures: vec![], ..path.info.clone() };
        let Ok(Verdict::Addressed(address)) = judge(&bare, Policy::Signatures, &Keys::default()) else {
            panic!("{bare:?}");
        };
        assert_eq!(address.check(&hash(&address, path)), Ok(()), "{bare:?}");
        assert_eq!(Some(address.to_nix_string()), bare.ca);
        assert!(matches!(address.check(&[NixHash::Sha256([1; 32])]), Err(BadAddress::OtherContent { .. })));
        kinds.push(match address.content() {
            Content::Nar => "nar".to_owned(),
            Content::File(algorithm) => format!("file {algorithm}"),
            Content::NarModulo(algorithm) => format!("modulo {algorithm}"),
        });
    }
    for kind in ["nar", "file sha256", "file sha1", "modulo sha256", "modulo sha512"] {
        assert!(kinds.iter().any(|known| known == kind), "there is no {kind} in {kinds:?}");
    }
}

#[test]
fn a_content_address_that_is_not_its_own_is_refused_from_everybody() {
    let (nar, text) = (addressed("fixed:r:sha256", "src").info, addressed("text:", "note").info);
    let wrong = [
        PathInfo { ca: text.ca.clone(), ..nar.clone() },
        PathInfo { ca: nar.ca.clone(), path: text.path.clone(), ..nar.clone() },
        PathInfo { references: vec![], ..text.clone() },
        PathInfo { references: vec![text.path.clone()], ..text.clone() },
        PathInfo { nar_hash: NixHash::Sha256([1; 32]), ..nar.clone() },
        PathInfo { ca: nar.ca.as_ref().map(|ca| ca.replace("fixed:r:", "fixed:")), ..nar.clone() },
        PathInfo { ca: Some(String::new()), ..nar.clone() },
        PathInfo { ca: Some("fixed:r:sha256:".into()), ..nar.clone() },
        PathInfo { ca: Some("x".repeat(10_000)), ..nar },
    ];
    for info in wrong {
        for policy in Policy::ALL {
            match judge(&info, policy, &keys()) {
                Err(denial @ Denial::Address { .. }) => {
                    let fault = Fault::from(denial);
                    assert!(fault.what.contains(&info.path.to_absolute_path()) && fault.what.len() < 500, "{fault}");
                }
                other => panic!("{policy}: {other:?} for {info:?}"),
            }
        }
    }
}

#[test]
fn a_git_tree_needs_a_signature() {
    let git = format!("fixed:git:sha1:{}", "0".repeat(40));
    let path = nix_derivation::store_path::build_ca_path("tree", &git.parse().unwrap(), [], false).unwrap();
    let info = PathInfo { path, ca: Some(git), references: vec![], ..plain() };
    assert_eq!(judge(&info, Policy::Operator, &keys()), Ok(Verdict::Operator));
    assert!(matches!(judge(&info, Policy::Signatures, &keys()), Err(Denial::NotSigned { .. })));
}
