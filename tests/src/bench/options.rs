//! What `cargo bench-push` is told.

use std::time::Duration;

use super::closures::Case;
use super::link::Shape;
use super::ways::Way;

/// For `--help`.
pub const HELP: &str = "\
cargo bench-push: pushes closures over a link by every way there is, and compares them with cygnet

Usage:
  cargo bench-push [-- [CASE…] [OPTIONS]]

Cases (all of them if none is named):
  A   230 Debian arm64 packages, a store path each, 990 MB of NARs; nothing is there beforehand
  B   the same; 75 % of the paths are on the card
  C   the same packages of the next Debian release; A is on the card
  D   10 000 small paths, 3.3 MB of NARs
  E   the packages of A rebuilt, so that only store hashes differ; A is on the card

Options:
  --link RATE     40 (Mbit/s, 10 ms round trip) or 1000 (0.3 ms); may be repeated; both if not given
  --way WAY       ssh-ng, ssh-ng-compressed, nixos-anywhere, export or cygnet; may be repeated; all if not given
  --json          print the measurements as JSON instead of a table

It needs what `cargo verify` needs, and openssh-server and time(1); root, through sudo, for the host's Nix store. All cases on both
links take about half an hour; nothing else should be at work on the machine then.

Examples:
  cargo bench-push -- A D --link 40
  cargo bench-push -- C --way cygnet --way export
";

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Which closures.
    pub cases: Vec<Case>,
    /// Over which links.
    pub links: Vec<Shape>,
    /// By which ways.
    pub ways: Vec<Way>,
    /// Print JSON.
    pub json: bool,
}

/// The slow link: WiFi through a wall.
const SLOW: Shape = Shape { bits_per_second: 40_000_000, round_trip: Duration::from_millis(10) };
/// The fast link: a cable.
const FAST: Shape = Shape { bits_per_second: 1_000_000_000, round_trip: Duration::from_micros(300) };

impl Options {
    /// Reads the words behind `bench-push`.
    ///
    /// # Errors
    /// What is wrong with them, for a person.
    pub fn parse(words: &[&str]) -> Result<Options, String> {
        let mut options = Options { cases: vec![], links: vec![], ways: vec![], json: false };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            match word {
                "--json" => options.json = true,
                "--link" => options.links.push(match words.next() {
                    Some(&"40") => SLOW,
                    Some(&"1000") => FAST,
                    other => return Err(format!("--link wants 40 or 1000, not {}", other.unwrap_or(&"nothing"))),
                }),
                "--way" => {
                    let name = words.next().unwrap_or(&"");
                    let way = Way::named(name).ok_or_else(|| {
                        format!("there is no way {name:?}; there are {}", Way::ALL.map(Way::name).join(", "))
                    })?;
                    options.ways.push(way);
                }
                other => options.cases.push(Case::named(other).ok_or_else(|| format!("there is no case {other:?}"))?),
            }
        }
        let or_all = |chosen: &mut Vec<Case>| {
            if chosen.is_empty() {
                chosen.extend(Case::ALL)
            }
        };
        or_all(&mut options.cases);
        if options.links.is_empty() {
            options.links = vec![SLOW, FAST];
        }
        if options.ways.is_empty() {
            options.ways = Way::ALL.to_vec();
        }
        // In the order of the table, each once.
        options.cases.sort_unstable();
        options.cases.dedup();
        options.ways.sort_unstable();
        options.ways.dedup();
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_everything() {
        let options = Options::parse(&[]).unwrap();
        assert_eq!((options.cases.len(), options.links.len(), options.ways.len()), (5, 2, 5));
    }

    #[test]
    fn what_is_named_is_taken_once() {
        let options = Options::parse(&["d", "A", "A", "--link", "40", "--way", "cygnet", "--json"]).unwrap();
        assert_eq!(options.cases, [Case::A, Case::D]);
        assert_eq!(options.ways, [Way::Ours]);
        assert!(options.json && options.links == [SLOW]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for bad in [&["F"][..], &["--link"], &["--link", "41"], &["--way", "pigeon"], &["--frob"]] {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }
}
