//! What a change can touch: by the paths that differ from the main branch, which scenarios and whether the crates' tests.

use crate::host::run::{stdout_of, tool};
use crate::workshop::repository;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fmt;

/// What paths below a place can touch.
enum Reach {
    /// Every scenario.
    All,
    /// The scenarios whose names begin with one of these words, and the crates' tests.
    Scenarios(&'static [&'static str]),
    /// The crates' tests alone.
    Crates,
    /// Nothing that is run.
    Nothing,
}

/// The longest place that a path begins with counts. What is in no place touches everything.
const PLACES: &[(&str, Reach)] = &[
    ("docs/", Reach::Crates),
    ("README.md", Reach::Nothing),
    ("ARCHITECTURE.md", Reach::Nothing),
    ("CHANGELOG.md", Reach::Nothing),
    ("LICENSE", Reach::Nothing),
    ("deny.toml", Reach::Nothing),
    ("rustfmt.toml", Reach::Nothing),
    ("fuzz/", Reach::Nothing),
    ("flake.nix", Reach::Crates),
    ("nix-module/", Reach::Crates),
    ("protocol/tests/", Reach::Crates),
    ("protocol/src/online/", Reach::Scenarios(&["wifi-", "whole-"])),
    ("protocol/src/card/", Reach::Scenarios(&["card-", "whole-", "wifi-"])),
    ("protocol/src/disko/", Reach::Scenarios(&["refuse", "layout-", "step-", "mode-", "secret-", "whole-", "pi3"])),
    ("agent/tests/", Reach::Crates),
    ("agent/src/online/", Reach::Scenarios(&["wifi-", "whole-", "card-"])),
    ("agent/src/console/", Reach::Scenarios(&["wifi-", "card-"])),
    ("agent/src/announce/", Reach::Scenarios(&["wifi-", "whole-", "pi3"])),
    ("agent/src/led.rs", Reach::Scenarios(&["wifi-"])),
    ("agent/src/report", Reach::Scenarios(&["wifi-"])),
    ("agent/src/card/", Reach::Scenarios(&["card-", "whole-"])),
    ("agent/src/carried/", Reach::Scenarios(&["whole-"])),
    ("agent/src/substitute/", Reach::Scenarios(&["push-"])),
    ("agent/src/worker/", Reach::Scenarios(&["push-"])),
    ("host-cli/tests/", Reach::Crates),
    ("host-cli/src/card/", Reach::Scenarios(&["whole-"])),
    ("host-cli/src/discover/", Reach::Scenarios(&["wifi-", "whole-", "pi3"])),
    ("host-cli/src/image/", Reach::Crates),
    ("tests/tests/", Reach::Crates),
    ("tests/src/bench/", Reach::Crates),
    ("tests/src/fuzz.rs", Reach::Crates),
    ("tests/src/demo.rs", Reach::Crates),
    ("tests/src/scenarios/card.rs", Reach::Scenarios(&["card-"])),
    ("tests/src/scenarios/interruptions.rs", Reach::Scenarios(&["cut-"])),
    ("tests/src/scenarios/keep.rs", Reach::Scenarios(&["keep-", "push-"])),
    ("tests/src/scenarios/layouts/", Reach::Scenarios(&["layout-"])),
    ("tests/src/scenarios/modes.rs", Reach::Scenarios(&["mode-"])),
    ("tests/src/scenarios/nix_copy.rs", Reach::Scenarios(&["push-"])),
    ("tests/src/scenarios/pi3.rs", Reach::Scenarios(&["pi3"])),
    ("tests/src/scenarios/push.rs", Reach::Scenarios(&["push-"])),
    ("tests/src/scenarios/refusals.rs", Reach::Scenarios(&["refuse"])),
    ("tests/src/scenarios/secrets.rs", Reach::Scenarios(&["secret-"])),
    ("tests/src/scenarios/stale.rs", Reach::Scenarios(&["stale-"])),
    ("tests/src/scenarios/steps.rs", Reach::Scenarios(&["step-", "mode-"])),
    ("tests/src/scenarios/whole.rs", Reach::Scenarios(&["whole-"])),
    ("tests/src/scenarios/wifi/", Reach::Scenarios(&["wifi-"])),
    ("Cargo.lock", Reach::All),
];

/// What was changed can touch this.
#[derive(Debug, Default)]
pub struct Touched {
    paths: usize,
    all: bool,
    crates: bool,
    words: BTreeSet<&'static str>,
}

impl Touched {
    /// Whether it can touch this scenario.
    pub fn scenario(&self, name: &str) -> bool {
        self.all || self.words.iter().any(|word| name.starts_with(word))
    }

    /// Whether it can touch the tests of the crates.
    pub fn crates(&self) -> bool {
        self.all || self.crates
    }

    fn by(paths: &[&str]) -> Touched {
        let mut touched = Touched { paths: paths.len(), ..Touched::default() };
        for path in paths {
            let places = PLACES.iter().filter(|(place, _)| path.starts_with(place));
            match places.max_by_key(|(place, _)| place.len()).map(|(_, reach)| reach) {
                Some(Reach::Nothing) => {}
                Some(Reach::Crates) => touched.crates = true,
                Some(Reach::Scenarios(words)) => {
                    touched.crates = true;
                    touched.words.extend(*words);
                }
                Some(Reach::All) | None => touched.all = true,
            }
        }
        touched
    }
}

impl fmt::Display for Touched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files; ", self.paths)?;
        match (self.all, self.crates, self.words.is_empty()) {
            (true, ..) => write!(f, "everything runs"),
            (false, false, true) => write!(f, "nothing that is run is touched"),
            (false, crates, _) => {
                let words: Vec<&str> = self.words.iter().copied().collect();
                let tests = if crates { "the crates' tests, and " } else { "" };
                write!(f, "{tests}the scenarios {}", if words.is_empty() { "none".into() } else { words.join(", ") })
            }
        }
    }
}

/// Asks git what differs from where this branch left the main branch, files that git does not know yet among it.
///
/// # Errors
/// If this is no git checkout, or has no main branch.
pub fn touched() -> Result<Touched> {
    let git = |words: &[&str]| {
        stdout_of(tool("git").args(["-c", "safe.directory=*", "-C"]).arg(repository()).args(words))
            .with_context(|| format!("asking git for {}", words.join(" ")))
    };
    // On the main branch itself, what is not pushed.
    let base = ["origin/main", "main"].iter().find_map(|main| git(&["merge-base", "HEAD", main]).ok());
    let base = base.context("finding the main branch; fetch it, or run `cargo verify` without --changed")?;
    let changed = git(&["diff", "--name-only", base.trim()])?;
    let new = git(&["ls-files", "--others", "--exclude-standard"])?;
    let paths: Vec<&str> = changed.lines().chain(new.lines()).collect();
    Ok(Touched::by(&paths))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;

    #[test]
    fn what_is_not_known_touches_everything() {
        let touched = Touched::by(&["agent/src/agent.rs"]);
        assert!(touched.scenario("wifi-full") && touched.crates());
        assert!(Touched::by(&["new/thing.rs"]).scenario("pi3"));
    }

    #[test]
    fn the_longest_place_counts() {
        let touched = Touched::by(&["agent/src/online/rfkill.rs", "README.md"]);
        assert!(touched.scenario("wifi-rfkill") && !touched.scenario("layout-msdos") && touched.crates());
        let nothing = Touched::by(&["README.md"]);
        assert!(!nothing.crates() && !nothing.scenario("wifi-rfkill"));
    }

    #[test]
    fn every_word_is_of_a_scenario_and_every_place_is_there() {
        let all = scenarios::all();
        for (place, reach) in PLACES {
            assert!(
                *place == "LICENSE" || *place == "agent/src/report" || repository().join(place).exists(),
                "{place}"
            );
            if let Reach::Scenarios(words) = reach {
                for word in *words {
                    assert!(all.iter().any(|scenario| scenario.name.starts_with(word)), "{word} of {place}");
                }
            }
        }
    }
}
