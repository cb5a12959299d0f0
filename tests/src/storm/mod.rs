//! `cargo storm`: power cuts at random moments, each from a saved state, and what must hold after every one of them.
//!
//! [`switch`] cuts between the arming of a trial and the confirmed system.

mod switch;

pub use switch::{Report, cuts};

use crate::scenarios::World;
use crate::workshop;
use anyhow::{Context, Result, bail};

/// For `--help`.
pub const HELP: &str = "\
Usage: cargo storm switch [--cuts N] [--seed S]

Cuts the power of a virtual Pi at N random moments (20) from the arming of a trial to the confirmed system, each from the same
saved state, and looks after each at the card's file system, at its switch, and at what U-Boot starts then. The same seed has the
same moments.
";

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// So many cuts.
    pub cuts: u32,
    /// Where the moments come from.
    pub seed: u64,
}

impl Request {
    /// Reads the words behind `storm`.
    ///
    /// # Errors
    /// What is wrong with the first word that is.
    pub fn parse(words: &[&str]) -> Result<Request, String> {
        let mut request = Request { cuts: 20, seed: 1 };
        let mut words = words.iter();
        if words.next() != Some(&"switch") {
            return Err("cargo storm knows one kind: switch".into());
        }
        while let Some(word) = words.next() {
            let value = words.next().ok_or(format!("{word} wants a number"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{word}: {value:?} is no number"));
            match *word {
                "--cuts" => request.cuts = u32::try_from(number()?).map_err(|_| "--cuts: too many".to_owned())?,
                "--seed" => request.seed = number()?,
                word => return Err(format!("cargo storm does not know {word}")),
            }
        }
        Ok(request)
    }
}

/// Runs it, and prints the report.
///
/// # Errors
/// If anything that must hold does not, after all cuts were made.
pub fn run(request: Request) -> Result<()> {
    let programs = workshop::programs(None)?;
    let (settings, parts) = workshop::parts()?;
    let world = World::new(programs, settings, parts);
    let report = cuts(&world, request).context("cutting the power")?;
    print!("{report}");
    match report.faults() {
        0 => Ok(()),
        faults => bail!("{faults} cuts ended where none may"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_kind_and_numbers() {
        assert_eq!(Request::parse(&["switch"]), Ok(Request { cuts: 20, seed: 1 }));
        assert_eq!(Request::parse(&["switch", "--cuts", "200", "--seed", "7"]), Ok(Request { cuts: 200, seed: 7 }));
        for bad in [&[][..], &["all"], &["switch", "--cuts"], &["switch", "--cuts", "x"], &["switch", "--hard", "1"]] {
            assert!(Request::parse(bad).is_err(), "{bad:?}");
        }
    }
}
