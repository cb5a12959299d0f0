//! Colours for a plan, where a terminal has them: what is lost in red, headings bold, warnings yellow.
//!
//! Text is made harmless before it is painted, and nothing is painted for a file, a pipe, `NO_COLOR` (no-color.org) or a
//! terminal that is `dumb`.

use cygnet_protocol::text;
use std::io::IsTerminal;

const RED: &str = "\x1b[31m";
const LOST: &str = "\x1b[1;31m";
const HEADING: &str = "\x1b[1m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// Whether a stream has colours.
pub fn has_colours(stream: &impl IsTerminal) -> bool {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    stream.is_terminal() && variable("NO_COLOR").is_none() && variable("TERM").is_none_or(|term| term != "dumb")
}

/// The plan, safe for a terminal, with colours if it has them.
pub fn plan(plan: &str, colours: bool) -> String {
    let plain = text::lines(plan);
    if !colours {
        return plain;
    }
    let mut out = String::with_capacity(plain.len() * 2);
    let mut below = "";
    for line in plain.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        if !line.starts_with(' ') {
            below = "";
        }
        let colour = match line {
            "" => "",
            "WILL BE LOST:" => {
                below = RED;
                LOST
            }
            "Warnings" => {
                below = YELLOW;
                HEADING
            }
            line if line.starts_with(' ') => below,
            _ => HEADING,
        };
        match colour {
            "" => out.push_str(line),
            colour => out.extend([colour, line, RESET]),
        }
        out.push_str(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_red_and_nothing_else_acts_on_the_terminal() {
        let text = "WILL BE LOST:\n  - vfat “\x1b[2J”\n\nDisk “ssd”  x\n  WDC\n\nWarnings\n  - y\n";
        assert_eq!(
            plan(text, true),
            "\x1b[1;31mWILL BE LOST:\x1b[0m\n\x1b[31m  - vfat “\u{fffd}[2J”\x1b[0m\n\n\x1b[1mDisk “ssd”  x\x1b[0m\n  WDC\n\n\
             \x1b[1mWarnings\x1b[0m\n\x1b[33m  - y\x1b[0m\n"
        );
        assert_eq!(plan(text, false), text::lines(text));
        assert!(!has_colours(&tempfile::tempfile().unwrap()));
    }
}
