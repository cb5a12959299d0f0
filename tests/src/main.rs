//! `cargo demo`, `cargo verify`, `cargo pi`, `cargo storm`, `cargo fuzz-all`, `cargo bench-online` and `cargo bench-push`.

use cygnet_tests::bench::options::{self, Options};
use cygnet_tests::{play, storm, verify};
use std::process::ExitCode;

const HELP: &str = "\
Usage:
  cargo demo              install a virtual Pi with the real programs, and show how it goes
  cargo demo -- --failing and then a system that does not come up
  cargo verify            run every test: unit, integration, and the scenarios in the virtual Pi
  cargo verify -- NAME…   run only the scenarios whose name contains NAME
  cargo verify -- --list  name the scenarios
  cargo verify -- --changed     run what the changes since the main branch can touch
  cargo verify -- --reverse     run in the reverse order
  cargo verify -- --one-by-one  run one scenario at a time
  cargo verify -- --all         run the long variants of scenarios, too
  cargo verify -- --build       only build what it runs
  cargo pi                a virtual Pi to play with; `-- --help` says more
  cargo storm switch      cut the power at random moments of a trial; `-- --help` says more
  cargo fuzz-all          run every fuzz target for a while; `-- --help` says more
  cargo bench-online      compare the time to an address over WiFi with that of wpa_supplicant and networkd alone
  cargo bench-push        compare pushes of closures with what others do; `-- --help` says more
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| *word != "--").collect();
    let result = match words.as_slice() {
        ["demo"] => cygnet_tests::demo::run(false),
        ["demo", "--failing"] => cygnet_tests::demo::run(true),
        ["demo", "--help" | "-h"] => {
            print!("{}", cygnet_tests::demo::HELP);
            Ok(())
        }
        ["verify", "--list"] => {
            verify::list();
            Ok(())
        }
        ["verify", words @ ..] if !words.iter().any(|word| ["--help", "-h"].contains(word)) => {
            match verify::Request::parse(words) {
                Ok(request) => verify::run(&request),
                Err(why) => return misuse(&why, HELP),
            }
        }
        ["pi", "--help" | "-h"] => {
            print!("{}", play::HELP);
            Ok(())
        }
        ["pi", words @ ..] => match play::Request::parse(words) {
            Ok(request) => play::run(&request),
            Err(why) => return misuse(&why, play::HELP),
        },
        ["storm", "--help" | "-h"] => {
            print!("{}", storm::HELP);
            Ok(())
        }
        ["storm", words @ ..] => match storm::Request::parse(words) {
            Ok(request) => storm::run(request),
            Err(why) => return misuse(&why, storm::HELP),
        },
        ["bench-push", "--help" | "-h"] => {
            print!("{}", options::HELP);
            Ok(())
        }
        ["bench-push", words @ ..] => match Options::parse(words) {
            Ok(options) => cygnet_tests::bench::measure_all(&options),
            Err(why) => return misuse(&why.to_string(), options::HELP),
        },
        ["fuzz-all", "--help" | "-h"] => {
            print!("{}", cygnet_tests::fuzz::HELP);
            Ok(())
        }
        ["fuzz-all", words @ ..] => cygnet_tests::fuzz::all(words),
        ["--help" | "-h"] | ["verify", "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nfailed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn misuse(why: &str, help: &str) -> ExitCode {
    eprint!("{why}\n\n{help}");
    ExitCode::from(2)
}
