//! A small tree of YAML, with references (`*name`) followed, as libyaml's documents and PyYAML have it; what comes of them
//! counts as if it stood there, so that a short file can't become a long one.

use saphyr_parser::{Event, Parser, ScalarStyle};
use std::collections::BTreeMap;

/// The most values in a file.
const MAX_NODES: usize = 10_000;
/// The most that are in each other.
const MAX_DEPTH: usize = 24;

/// A value and the line it begins on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// From 1; where its key stands, if it has one.
    pub line: usize,
    /// What it is.
    pub value: Value,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, or a number or truth, which are texts, too; and whether it is in `"`.
    Text(String, bool),
    /// `- …`
    List(Vec<Node>),
    /// `key: …`, in the file's order.
    Map(Vec<(String, Node)>),
    /// A reference to something that contains it.
    Alias,
}

impl Node {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text, _) => Some(text),
            Value::List(_) | Value::Map(_) | Value::Alias => None,
        }
    }

    /// What is in it by name; nothing if it is no map.
    pub fn entries(&self) -> &[(String, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Text(..) | Value::List(_) | Value::Alias => &[],
        }
    }

    /// What is in it one after the other.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Text(..) | Value::Map(_) | Value::Alias => &[],
        }
    }

    /// How deep it is: 0 for a text.
    fn depth(&self) -> usize {
        match &self.value {
            Value::Text(..) | Value::Alias => 0,
            Value::List(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Map(entries) => 1 + entries.iter().map(|(_, node)| node.depth()).max().unwrap_or(0),
        }
    }

    /// How many values are in it, itself among them; a long text counts as several.
    fn weight(&self) -> usize {
        let inside: usize = match &self.value {
            Value::Text(text, _) => text.len() / 16,
            Value::Alias => 0,
            Value::List(items) => items.iter().map(Node::weight).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.weight() + 1).sum(),
        };
        inside + 1
    }

    /// Whether it is nothing, as behind `key:` without a value.
    pub fn is_empty(&self) -> bool {
        matches!(&self.value, Value::Text(text, false) if text.is_empty() || text == "~" || text == "null")
    }
}

/// A list or map that is not complete yet, with the key that waits for its value.
struct Open {
    node: Node,
    key: Option<(String, usize)>,
    /// The number of its anchor; 0 if it has none.
    anchor: usize,
}

/// Reads the first document.
///
/// # Errors
/// The line from which on it is no YAML, or more of it than anybody needs.
pub fn parse(text: &str) -> Result<Option<Node>, usize> {
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: BTreeMap<usize, Node> = BTreeMap::new();
    let mut count = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.marker().line())?;
        let line = span.start.line();
        let (whole, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let quoted = style == ScalarStyle::DoubleQuoted;
                let folded = matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::Literal | ScalarStyle::Folded);
                // An empty text in quotes is none that is missing.
                (Node { line, value: Value::Text(text.into_owned(), quoted || folded) }, anchor)
            }
            Event::Alias(anchor) => match anchors.get(&anchor) {
                Some(node) => {
                    count += node.weight();
                    if count > MAX_NODES || open.len() + node.depth() > MAX_DEPTH {
                        return Err(line);
                    }
                    (Node { line, ..node.clone() }, 0)
                }
                None => (Node { line, value: Value::Alias }, 0),
            },
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                if open.len() >= MAX_DEPTH {
                    return Err(line);
                }
                let value = match event {
                    Event::SequenceStart(..) => Value::List(Vec::new()),
                    _ => Value::Map(Vec::new()),
                };
                open.push(Open { node: Node { line, value }, key: None, anchor });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open { node, anchor, .. }) => (node, anchor),
                None => return Err(line),
            },
            Event::DocumentEnd | Event::StreamEnd => return Ok(None),
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
        };
        count += 1;
        if count > MAX_NODES {
            return Err(line);
        }
        if anchor > 0 {
            anchors.insert(anchor, whole.clone());
        }
        let Some(parent) = open.last_mut() else { return Ok(Some(whole)) };
        match (&mut parent.node.value, parent.key.take()) {
            (Value::List(items), _) => items.push(whole),
            (Value::Map(entries), Some((key, line))) => entries.push((key, Node { line, ..whole })),
            // A key that is no text is nothing that anybody looks for.
            (Value::Map(_), None) => {
                parent.key = Some((whole.text().unwrap_or("(a key that is no text)").to_owned(), line));
            }
            (Value::Text(..) | Value::Alias, _) => return Err(line),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_with_lines() {
        let node = parse("\na: 1\nb:\n  - x\n  - {c: \"\"}\nd: *a\n").unwrap_err();
        assert_eq!(node, 6, "an alias needs an anchor");
        let node = parse("---\na: &a 1\nb:\n  - x\n  - {c: \"\", e: }\nd: *a\n---\nz: 1\n").unwrap().unwrap();
        let entries = node.entries();
        assert_eq!(
            entries.iter().map(|(key, node)| (key.as_str(), node.line)).collect::<Vec<_>>(),
            [("a", 2), ("b", 3), ("d", 6)]
        );
        assert!(
            !entries[1].1.items()[1].entries()[0].1.is_empty() && entries[1].1.items()[1].entries()[1].1.is_empty()
        );
        assert_eq!((entries[2].1.text(), entries[2].1.line), (Some("1"), 6), "as if it stood there");
        assert_eq!(parse("a: &a [*a]\n").unwrap().unwrap().entries()[0].1.items()[0].value, Value::Alias);
        assert_eq!(parse("").unwrap(), None);
    }

    #[test]
    fn bombs_stay_small() {
        let laughs = |levels: u8| {
            let level = |n: u8| format!("{}: &{0} [*{1}, *{1}, *{1}]\n", char::from(b'a' + n), char::from(b'`' + n));
            format!("a: &a [x, x]\n{}", (1..levels).map(level).collect::<String>())
        };
        assert_eq!(parse(&laughs(4)).unwrap().unwrap().entries().len(), 4);
        assert!(parse(&laughs(20)).is_err());
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(30_000), "*a, ".repeat(5000));
        assert!(parse(&long).is_err());
        let deep = |n: u8| format!("{}: &{0} [[[[*{1}]]]]\n", char::from(b'a' + n), char::from(b'`' + n));
        let deep = format!("a: &a x\n{}", (1..20).map(deep).collect::<String>());
        assert!(parse(&deep).is_err());
        assert!(parse(&"[".repeat(60_000)).is_err());
        assert!(parse(&"- ".repeat(30_000)).is_err());
        assert!(parse(&"- x\n".repeat(15_000)).is_err());
        assert!(parse("a: \"x").is_err() && parse("a: [").is_err());
        let _ = parse("\u{0}\u{1}%%%");
    }
}
