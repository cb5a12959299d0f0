//! `docs/options.md`: every option, as the module system describes it.

use crate::tools::{evaluated, root, say};
use serde_json::Value;
use std::fmt::Write;

const HEAD: &str = "\
# Options

What can be set in NixOS: `services.cygnet` by `nixosModules.agent` and `nixosModules.bootstrap`, for the card;
`services.cygnet.bootstrap` by the latter only; `services.cygnet.installed` by `nixosModules.installed`, for the system on the SSD.

This file is generated: `CYGNET_NIXPKGS=… UPDATE_GOLDEN=1 cargo test -p cygnet-tests --test nix reference`.
";

#[test]
fn the_reference_is_that_of_the_options() {
    let Some(found) = evaluated() else {
        say("NOT RUN: comparing docs/options.md with the options");
        return;
    };
    let options = found["documented"].as_array().unwrap();
    assert!(options.len() > 15, "{options:#?}");
    let text = render(options);
    let path = root().join("docs/options.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, kept, "docs/options.md is old; run again with UPDATE_GOLDEN=1");
    say("run: docs/options.md is what the options say");
}

fn render(options: &[Value]) -> String {
    let mut sorted: Vec<&Value> = options.iter().collect();
    sorted.sort_by_key(|option| option["name"].as_str().unwrap_or_default().replace(".<name>", ""));
    let mut text = HEAD.to_owned();
    for option in sorted {
        let field = |name: &str| option[name].as_str().unwrap_or_default().trim();
        let (name, description) = (field("name"), plain(field("description")));
        assert!(!description.is_empty(), "{name} has no description");
        let _ = write!(text, "\n## `{name}`\n\n{description}\n\n- **Type:** {}\n", field("type"));
        for (label, value) in [("Default", &option["default"]), ("Example", &option["example"])] {
            if let Some(value) = value["text"].as_str() {
                let _ = writeln!(text, "- **{label}:**{}", code(value));
            }
        }
    }
    text
}

/// nixpkgs' roles of words, as plain Markdown.
fn plain(text: &str) -> String {
    ["{option}", "{command}", "{file}", "{env}"].iter().fold(text.to_owned(), |text, role| text.replace(role, ""))
}

/// In the line if it is one, in a block below if it has several.
fn code(value: &str) -> String {
    let value = value.trim_end();
    if value.contains('\n') {
        format!("\n\n  ```nix\n  {}\n  ```", value.replace('\n', "\n  "))
    } else {
        format!(" `{value}`")
    }
}

#[test]
fn code_of_several_lines_is_a_block() {
    assert_eq!(code("[ ]"), " `[ ]`");
    assert_eq!(code("[\n  1\n]\n"), "\n\n  ```nix\n  [\n    1\n  ]\n  ```");
    assert_eq!(plain("See {option}`services.x`."), "See `services.x`.");
}
