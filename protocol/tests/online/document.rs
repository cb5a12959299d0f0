//! docs/diagnoses.md is made from the codes, the words that the classifier finds for the specimens, and the ladder.

use crate::specimens::{all_said, specimen};
use cygnet_protocol::boot::trial::Cause;
use cygnet_protocol::online::diagnose::told;
use cygnet_protocol::online::diagnosis::Code;
use cygnet_protocol::online::ladder::remedies;
use cygnet_protocol::online::link::Link;
use std::fmt::Write;
use std::path::Path;

fn document() -> String {
    let mut text = String::from(HEAD);
    for link in Link::ALL {
        let codes: Vec<Code> = Code::ALL.iter().copied().filter(|code| code.link() == *link).collect();
        if codes.is_empty() {
            continue;
        }
        let _ = write!(text, "\n## {} (LED: {})\n", link.title(), blinks(link.group()));
        codes.into_iter().for_each(|code| entry(&mut text, code));
    }
    text.push_str(BOOT);
    for cause in Cause::ALL.iter().copied() {
        let _ = write!(text, "\n### {}\n\n{}\n\n- **What to do:** {}\n", cause.name(), cause.summary(), cause.remedy());
    }
    text
}

fn blinks(group: u8) -> String {
    if group == 1 { "1 blink".into() } else { format!("{group} blinks") }
}

fn entry(text: &mut String, code: Code) {
    let said = all_said(&specimen(code)).remove(0);
    let tried: Vec<&str> = remedies(code).iter().map(|remedy| remedy.title()).collect();
    let tried = if tried.is_empty() {
        "nothing but to join again and again, every 30 s at most".into()
    } else {
        tried.join(", then ")
    };
    let _ = write!(
        text,
        "\n### {}\n\n{}\n\n- **Told by:** {}\n- **For example:** {}\n- **Likely cause:** {}\n- **What to do:** {}\n- **Tried by itself:** {tried}.\n",
        code.name(),
        code.summary(),
        told::apart(code),
        said.what,
        said.cause,
        said.remedy
    );
}

const BOOT: &str = "
## After an installation: the card runs again

The card stays in, and its switch lets the new system start once. What follows is why the card runs although the SSD was to; the
cause in the Pi's own words has the last unit that failed and a line of its log. `cygnet install` ends with exit 51 then.
";

const HEAD: &str = "\
# Diagnoses

What can keep a Pi from getting online, in the order of the chain: each link needs those before it. The Pi says the code on
its serial console and screen, in `cygnet discover`, in `cygnet status` and in REPORT.TXT on the card, and its ACT LED
blinks in groups, as many times as the heading says. The codes never change their meaning.

A fault ends the chain. Low voltage, the country, the gateway, names, the clock and unheard announcements are warnings if the
Pi can be reached all the same. Nothing is called a fault as long as it may yet come by itself: 12 s for an address, say.

What the agent tries, it tries in that order, each once in an outage, only if it makes sense with what is seen (WPA2 only if
the access point takes WPA2, the driver only if it is brcmfmac and the radio hears nobody but our own access point), and never so that it harms an installation: while one runs
over a cable the driver is left alone, over WiFi it is reloaded only when the connection is lost anyway.

This file is generated: `UPDATE_GOLDEN=1 cargo test -p cygnet-protocol --test online document`.
";

#[test]
fn the_documentation_is_that_of_the_source() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/diagnoses.md");
    let text = document();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "docs/diagnoses.md is old; run again with UPDATE_GOLDEN=1");
}
