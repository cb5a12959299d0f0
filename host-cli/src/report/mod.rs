//! A report that a person can send: what cygnet knows of a Pi, a card or a layout, in one text, so that a fault arrives as a
//! small input.
//!
//! [`gather`] looks, and takes what fails as part of the story; [`redact`] strikes out what is nobody's business. The text is
//! shown whole before it is written, and nothing is sent anywhere.

pub mod gather;
pub mod redact;

use redact::Known;

/// A part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What it is.
    pub title: String,
    /// What there is to say.
    pub text: String,
}

/// All of it, and what must not be in it.
#[derive(Debug, Default)]
pub struct Report {
    sections: Vec<Section>,
    known: Known,
}

impl Report {
    /// Adds a part; what went wrong instead is one, too.
    fn add(&mut self, title: &str, text: anyhow::Result<String>) {
        let text = text.unwrap_or_else(|error| format!("error: {}", crate::error::fault_of(&error)));
        if !text.trim().is_empty() {
            self.sections.push(Section { title: title.to_owned(), text });
        }
    }

    /// The text as it is shown and written.
    pub fn text(&self) -> String {
        let mut out = String::from(
            "A report of cygnet. Passphrases, private keys, user names, hardware addresses and the names of networks are\n\
             struck out as far as they are known; look through the rest before you send it.\n",
        );
        for Section { title, text } in &self.sections {
            let text = redact::lines(text.trim_end(), &self.known);
            out.push_str(&format!("\n=== {title} ===\n{text}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_part_of_the_report_and_secrets_are_not() {
        let mut report = Report::default();
        report.known.secret("correct horse");
        report.add("one", Ok("the passphrase correct horse is wrong".into()));
        report.add("two", Err(anyhow::anyhow!("no such thing").context("looking at it")));
        report.add("three", Ok("  \n".into()));
        let text = report.text();
        assert!(text.contains("=== one ===\nthe passphrase (struck out) is wrong\n"), "{text}");
        assert!(
            text.contains("=== two ===\nerror: Something went wrong while looking at it.") && !text.contains("three")
        );
    }
}
