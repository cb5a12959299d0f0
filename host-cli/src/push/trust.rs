//! What of `--trust` and `--trusted-public-key` is asked of the agent.

use crate::cli;
use crate::control::Control;
use anyhow::Result;
use cygnet_protocol::fault::{Fault, FaultCode};
use cygnet_protocol::message::SIGNATURES;
use cygnet_protocol::store::PathInfo;
use cygnet_protocol::trust::{Denial, Keys, Policy, Trust, judge};

/// Reads the options; what is no public key is refused before anybody is asked for anything.
pub fn read(arguments: &cli::Trusted) -> Result<Trust, Fault> {
    Keys::parse(arguments.trusted_public_keys.iter().map(String::as_str))?;
    let caches = arguments.substitute || !arguments.substituters.is_empty();
    if arguments.trust == Policy::Operator && !caches && !arguments.trusted_public_keys.is_empty() {
        return Err(Fault::new(
            FaultCode::BadRequest,
            "--trusted-public-key is of no use here.",
            "Nobody's signature is asked for, because the operator is trusted and no cache is asked.",
            "Add --trust signatures or --substitute, or leave the key out.",
        ));
    }
    // A key that is given for caches only is no matter of what is sent.
    let keys = if arguments.trust == Policy::Signatures { arguments.trusted_public_keys.clone() } else { Vec::new() };
    Ok(Trust { policy: arguments.trust, public_keys: keys })
}

/// An agent that knows nothing of it would let everything in without a word.
pub fn must_be_known(control: &Control, trust: &Trust) -> Result<()> {
    if trust.is_default() { Ok(()) } else { control.must_have(SIGNATURES) }
}

/// Refuses, before anything is touched, what the agent is going to refuse; only it knows the keys of its card.
///
/// What may come signed from a cache is not looked at.
pub fn look_ahead(trust: &Trust, paths: &[PathInfo], caches: bool) -> Result<(), Fault> {
    let keys = Keys::parse(trust.public_keys.iter().map(String::as_str))?;
    for info in paths {
        match judge(info, trust.policy, &keys) {
            Ok(_) => {}
            Err(denial @ Denial::Address { .. }) => return Err(denial.into()),
            Err(denial @ Denial::NotSigned { .. }) => {
                let Denial::NotSigned { signed, trusted, .. } = &denial else { continue };
                if !caches && signed.is_subset(trusted) {
                    return Err(denial.into());
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cygnet_protocol::nix_conf::DEFAULT_KEY;

    fn given(trust: Policy, keys: &[&str]) -> Result<Trust, Fault> {
        let trusted_public_keys = keys.iter().map(|key| (*key).to_owned()).collect();
        read(&cli::Trusted { trust, trusted_public_keys, substitute: false, substituters: vec![] })
    }

    #[test]
    fn what_nobody_has_signed_is_refused_before_anything_is_touched() {
        let info = |signatures: &[&str], ca: Option<&str>| -> PathInfo {
            serde_json::from_value(serde_json::json!({
                "path": "/nix/store/184as4ansdrqycvrial4bzlpkc3942wi-src",
                "nar-hash": "sha256-8o0DBb0yE+dbLyDe85hGPPhmjfnJ5YFV5rNLl+pnrSk=",
                "nar-size": 288, "signatures": signatures, "ca": ca,
            }))
            .unwrap()
        };
        let (unsigned, signed) = (info(&[], None), info(&["other-1:AAAA"], None));
        let wrong = info(&[], Some("fixed:sha256:0addczm9fjxkwraq3rf9z66ndy1w8scg7pi05xdyf4rjpl2h73gj"));
        let all = Trust { policy: Policy::Signatures, public_keys: vec![DEFAULT_KEY.into()] };
        let ahead = |trust: &Trust, info: &PathInfo, caches| look_ahead(trust, std::slice::from_ref(info), caches);
        assert_eq!(ahead(&all, &unsigned, false).unwrap_err().code, FaultCode::Untrusted);
        // The card's nix.conf may trust it.
        assert!(ahead(&all, &signed, false).is_ok() && ahead(&all, &unsigned, true).is_ok());
        let forged = info(&["cache.nixos.org-1:AAAA"], None);
        assert!(ahead(&all, &forged, false).unwrap_err().cause.contains("does not belong to this path"));
        assert!(ahead(&Trust::default(), &unsigned, false).is_ok());
        assert!(ahead(&Trust::default(), &wrong, false).is_err());
    }

    #[test]
    fn what_would_have_no_effect_or_is_no_key_is_refused() {
        assert!(given(Policy::Operator, &[]).unwrap().is_default());
        assert_eq!(given(Policy::Signatures, &[DEFAULT_KEY]).unwrap().public_keys, [DEFAULT_KEY]);
        assert!(given(Policy::Operator, &[DEFAULT_KEY]).unwrap_err().remedy.contains("--trust signatures"));
        assert!(given(Policy::Signatures, &["x:AAAA"]).unwrap_err().what.contains("\"x\""));
    }
}
