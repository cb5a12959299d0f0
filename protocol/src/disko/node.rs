//! Walking a JSON object with its path in hand: every field is taken once, and what is left over is refused.

use super::DiskoError;
use super::model::{Hooks, Variable};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const UNEDITED: &str = "evaluate the layout again, and send what disko gives, unchanged";
const MISSING: &str = "give what disko makes of your layout (config.disko.devices), unchanged; if your disko is older than 1.1 \
                       (September 2023), run `nix flake update disko` first";

/// A JSON object that remembers where it was found.
pub(super) struct Node {
    path: String,
    fields: Map<String, Value>,
}

/// The path of a member. Keys that would not read well after a dot are quoted, as Nix does.
pub(crate) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{key:?}"),
        (false, true) => format!("{path}.{key}"),
        (false, false) => format!("{path}.{key:?}"),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn wrong_type(path: &str, expected: &str, found: &Value) -> DiskoError {
    DiskoError::new(path, format!("should be {expected}, and is {}", kind(found)), UNEDITED)
}

/// A string without control characters: none of disko's fields but hooks may have any, and they would garble the plan.
fn text(path: &str, value: Value) -> Result<String, DiskoError> {
    match value {
        Value::String(text) if text.chars().any(char::is_control) => {
            Err(DiskoError::new(path, "contains a control character", "remove it from the configuration"))
        }
        Value::String(text) => Ok(text),
        other => Err(wrong_type(path, "a string", &other)),
    }
}

impl Node {
    pub(super) fn new(path: String, value: Value) -> Result<Self, DiskoError> {
        match value {
            Value::Object(fields) => Ok(Self { path, fields }),
            other => Err(wrong_type(&path, "an object", &other)),
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn at(&self, key: &str) -> String {
        join(&self.path, key)
    }

    pub(super) fn error(&self, key: &str, what: impl Into<String>, remedy: impl Into<String>) -> DiskoError {
        DiskoError::new(&self.at(key), what, remedy)
    }

    /// An error about one element of a list.
    pub(super) fn error_in(
        &self,
        key: &str,
        index: usize,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> DiskoError {
        DiskoError::new(&format!("{}[{index}]", self.at(key)), what, remedy)
    }

    fn take(&mut self, key: &str) -> Result<Value, DiskoError> {
        self.fields.remove(key).ok_or_else(|| self.error(key, "is missing", MISSING))
    }

    /// A field that may be absent, which is `null`.
    fn take_or_null(&mut self, key: &str) -> Value {
        self.fields.remove(key).unwrap_or(Value::Null)
    }

    /// Accepts a field without looking at it: it has no effect on an installation.
    pub(super) fn ignore(&mut self, key: &str) {
        self.fields.remove(key);
    }

    pub(super) fn peek_str(&self, key: &str) -> Option<&str> {
        self.fields.get(key).and_then(Value::as_str)
    }

    pub(super) fn string(&mut self, key: &str) -> Result<String, DiskoError> {
        let value = self.take(key)?;
        text(&self.at(key), value)
    }

    pub(super) fn optional_string(&mut self, key: &str) -> Result<Option<String>, DiskoError> {
        match self.take(key)? {
            Value::Null => Ok(None),
            value => text(&self.at(key), value).map(Some),
        }
    }

    pub(super) fn boolean(&mut self, key: &str) -> Result<bool, DiskoError> {
        match self.take(key)? {
            Value::Bool(value) => Ok(value),
            other => Err(wrong_type(&self.at(key), "a boolean", &other)),
        }
    }

    pub(super) fn integer(&mut self, key: &str) -> Result<i64, DiskoError> {
        let value = self.take(key)?;
        value.as_i64().ok_or_else(|| wrong_type(&self.at(key), "a whole number", &value))
    }

    pub(super) fn optional_integer(&mut self, key: &str) -> Result<Option<i64>, DiskoError> {
        match self.take_or_null(key) {
            Value::Null => Ok(None),
            value => value.as_i64().map(Some).ok_or_else(|| wrong_type(&self.at(key), "a whole number", &value)),
        }
    }

    /// A string that may be absent, of an object whose other fields are none of ours.
    pub(super) fn maybe_string(&mut self, key: &str) -> Result<Option<String>, DiskoError> {
        match self.take_or_null(key) {
            Value::Null => Ok(None),
            value => text(&self.at(key), value).map(Some),
        }
    }

    /// A boolean that may be absent, which is false.
    pub(super) fn maybe_boolean(&mut self, key: &str) -> Result<bool, DiskoError> {
        match self.take_or_null(key) {
            Value::Null => Ok(false),
            Value::Bool(value) => Ok(value),
            other => Err(wrong_type(&self.at(key), "a boolean", &other)),
        }
    }

    /// A number of bytes that may be absent; a string of digits is one, too, as the shell would have it.
    pub(super) fn maybe_bytes(&mut self, key: &str) -> Result<Option<u64>, DiskoError> {
        let value = self.take_or_null(key);
        let number = match &value {
            Value::Null => return Ok(None),
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        number.map(Some).ok_or_else(|| wrong_type(&self.at(key), "a number of bytes", &value))
    }

    pub(super) fn list(&mut self, key: &str) -> Result<Vec<(String, Value)>, DiskoError> {
        match self.take(key)? {
            Value::Array(items) => {
                let path = self.at(key);
                Ok(items.into_iter().enumerate().map(|(i, item)| (format!("{path}[{i}]"), item)).collect())
            }
            other => Err(wrong_type(&self.at(key), "a list", &other)),
        }
    }

    pub(super) fn strings(&mut self, key: &str) -> Result<Vec<String>, DiskoError> {
        self.list(key)?.into_iter().map(|(path, item)| text(&path, item)).collect()
    }

    pub(super) fn string_map(&mut self, key: &str) -> Result<BTreeMap<String, String>, DiskoError> {
        let node = self.child(key)?;
        let path = node.path;
        node.fields.into_iter().map(|(name, item)| Ok((name.clone(), text(&join(&path, &name), item)?))).collect()
    }

    pub(super) fn child(&mut self, key: &str) -> Result<Node, DiskoError> {
        let value = self.take(key)?;
        Node::new(self.at(key), value)
    }

    pub(super) fn optional_child(&mut self, key: &str) -> Result<Option<Node>, DiskoError> {
        match self.take_or_null(key) {
            Value::Null => Ok(None),
            value => Node::new(self.at(key), value).map(Some),
        }
    }

    /// An object or a string, as `mode` of a pool is.
    pub(super) fn string_or_child(&mut self, key: &str) -> Result<Result<String, Node>, DiskoError> {
        match self.take(key)? {
            Value::Object(fields) => Ok(Err(Node { path: self.at(key), fields })),
            value => text(&self.at(key), value).map(Ok),
        }
    }

    /// A list of objects; a single object counts as a list of one, `null` and absence as none.
    pub(super) fn children_list(&mut self, key: &str) -> Result<Vec<Node>, DiskoError> {
        match self.take_or_null(key) {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => {
                let path = self.at(key);
                items.into_iter().enumerate().map(|(i, item)| Node::new(format!("{path}[{i}]"), item)).collect()
            }
            value => Ok(vec![Node::new(self.at(key), value)?]),
        }
    }

    /// The members of a map keyed by names the user chose, in byte order. Absent is empty.
    pub(super) fn members(&mut self, key: &str) -> Result<Vec<(String, Node)>, DiskoError> {
        let Some(node) = self.optional_child(key)? else {
            return Ok(Vec::new());
        };
        let path = node.path;
        let mut members = Vec::new();
        for (name, value) in node.fields {
            let path = join(&path, &name);
            if name.is_empty() || name.chars().any(char::is_control) {
                return Err(DiskoError::new(&path, "is not a usable name", "rename it in the configuration"));
            }
            members.push((name, Node::new(path, value)?));
        }
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(members)
    }

    /// disko's six hooks, with the options disko would define as variables for them. Call before taking other fields.
    pub(super) fn hooks(&mut self) -> Result<Hooks, DiskoError> {
        let mut take = |key: &str| -> Result<String, DiskoError> {
            match self.take_or_null(key) {
                Value::Null => Ok(String::new()),
                Value::String(script) if script.contains('\0') => Err(self.error(key, "contains NUL", UNEDITED)),
                Value::String(script) => Ok(script),
                other => Err(wrong_type(&self.at(key), "a string", &other)),
            }
        };
        let mut hooks = Hooks {
            pre_create: take("preCreateHook")?,
            post_create: take("postCreateHook")?,
            pre_mount: take("preMountHook")?,
            post_mount: take("postMountHook")?,
            pre_unmount: take("preUnmountHook")?,
            post_unmount: take("postUnmountHook")?,
            variables: BTreeMap::new(),
        };
        if !hooks.are_empty() {
            hooks.variables = self.variables();
        }
        Ok(hooks)
    }

    fn variables(&self) -> BTreeMap<String, Variable> {
        const SUBMODULES: [&str; 5] = ["content", "partitions", "datasets", "swap", "mode"];
        let mut variables = BTreeMap::new();
        for (name, value) in &self.fields {
            let plain = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
            if name.starts_with('_') || SUBMODULES.contains(&name.as_str()) || !plain {
                continue;
            }
            let variable = match value {
                Value::Array(items) => Variable::List(items.iter().map(scalar).collect()),
                Value::Object(map) => {
                    Variable::Map(map.iter().map(|(key, value)| (key.clone(), scalar(value))).collect())
                }
                other => Variable::Text(scalar(other)),
            };
            variables.insert(name.replace('-', "_"), variable);
        }
        variables
    }

    /// Everything was understood; what is left is not.
    pub(super) fn finish(self) -> Result<(), DiskoError> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(key) => Err(self.error(
                key,
                "is not a field this version knows",
                "remove it, or update cygnet if your disko is newer than it",
            )),
        }
    }
}

/// As Nix's `toShellVar` writes scalars.
fn scalar(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(false) => String::new(),
        Value::Bool(true) => "1".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
