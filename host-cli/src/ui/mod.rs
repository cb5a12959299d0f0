//! All that a person or a script sees: data on stdout, everything else on stderr.
//!
//! [`format`] turns numbers into text, `hidden` reads passphrases, [`bar`] shows how far something is, [`sending`] how a closure gets over,
//! [`timeline`] renders the agent's events, [`summary`] is the account at the end, [`paint`] gives a plan its colours. [`sink`] is where all of stderr goes out.

pub mod bar;
pub mod format;
mod hidden;
mod paint;
pub mod sending;
pub mod sink;
pub mod summary;
pub mod timeline;

use crate::error::StdoutClosed;
use anyhow::{Context, Result};
use cygnet_protocol::fault::Fault;
use cygnet_protocol::text;
use indicatif::ProgressBar;
use serde::Serialize;
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// Where text goes.
#[derive(Debug)]
pub struct Ui {
    json: bool,
    quiet: bool,
    terminal: bool,
    /// The bar that is on the screen; lines are printed above it.
    current: Mutex<Option<ProgressBar>>,
}

impl Ui {
    /// For this process's stdout and stderr.
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, terminal: io::stderr().is_terminal(), current: Mutex::new(None) }
    }

    /// Is stdout for a script?
    pub fn json(&self) -> bool {
        self.json
    }

    /// Prints data for a person on stdout.
    pub fn data(&self, text: &str) -> Result<()> {
        let mut text = text::lines(text);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let mut out = io::stdout().lock();
        written(out.write_all(text.as_bytes()))?;
        written(out.flush())
    }

    /// Prints a plan on stdout, with colours if it is a terminal that has them.
    pub fn plan(&self, plan: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        let text = paint::plan(plan, paint::has_colours(&io::stdout()));
        written(out.write_all(text.as_bytes()))?;
        written(out.flush())
    }

    /// Shows a plan that a question is about, on stderr, even with `--quiet`.
    pub fn show_plan(&self, plan: &str) {
        let text = paint::plan(plan.trim_end(), paint::has_colours(&io::stderr()));
        self.above_the_bar(|| sink::painted(&text));
    }

    /// Is `--quiet` said?
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Prints one line of JSON on stdout.
    pub fn record(&self, value: &impl Serialize) -> Result<()> {
        let mut line = text::json(&serde_json::to_string(value).context("writing JSON")?);
        line.push('\n');
        let mut out = io::stdout().lock();
        written(out.write_all(line.as_bytes()))?;
        written(out.flush())
    }

    /// Tells what is being done, on stderr, unless `--quiet`.
    pub fn status(&self, text: &str) {
        if !self.quiet {
            self.stderr(text);
        }
    }

    /// Tells what a person should know even with `--quiet`.
    pub fn warning(&self, text: &str) {
        self.stderr(&format!("warning: {}", indent(text)));
    }

    /// The three parts of a failure.
    pub fn failure(&self, fault: &Fault) {
        self.stderr(&format!(
            "error: {}\n  cause:  {}\n  remedy: {}",
            indent(&fault.what),
            indent(&fault.cause),
            indent(&fault.remedy)
        ));
    }

    /// Shows what a question is about, even with `--quiet`.
    pub fn show(&self, text: &str) {
        self.stderr(text.trim_end_matches('\n'));
    }

    /// Can a person be asked?
    pub fn can_ask(&self) -> bool {
        self.terminal && io::stdin().is_terminal()
    }

    /// Asks on the terminal until one of `answers` comes; the end of the input counts as the last of them.
    pub fn ask<'a>(&self, question: &str, answers: &[&'a str]) -> Result<&'a str> {
        loop {
            sink::ask(&format!("{question} [{}] ", answers.join("/")));
            let mut line = String::new();
            let count = io::stdin().lock().read_line(&mut line).context("reading the answer")?;
            let said = line.trim();
            if let Some(answer) = answers.iter().find(|answer| answer.eq_ignore_ascii_case(said)) {
                return Ok(answer);
            }
            if count == 0 {
                return Ok(answers.last().copied().unwrap_or("no"));
            }
        }
    }

    fn stderr(&self, text: &str) {
        self.above_the_bar(|| sink::tell(text));
    }

    fn above_the_bar(&self, print: impl FnOnce()) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref() {
            Some(bar) => bar.suspend(print),
            None => print(),
        };
    }

    fn set_bar(&self, bar: Option<ProgressBar>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = std::mem::replace(&mut *current, bar) {
            old.finish_and_clear();
        }
    }
}

/// Later lines stand under the first, right of the label.
fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n          ")
}

fn written(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        other => other.context("writing to stdout"),
    }
}
