//! A layout of any release made one of the newest, by the table of [`super::fields`]: what is absent gets the value that it
//! meant, what is unknown and says nothing is passed over with a note, and what is unknown and says something is refused.

use super::DiskoError;
use super::fields::{Absent, Field, HOOKS, Holds, Kind, NEWEST, OLDEST};
use super::node::join;
use serde_json::{Map, Value, json};

/// How much of a value a message repeats.
const LONGEST_VALUE: usize = 60;

/// `config.disko.devices` out of what people give for it: that itself, the whole of `config.disko`, or a module's
/// `{ disko.devices = …; }`.
#[must_use]
pub fn devices_of(mut given: Value) -> Value {
    for outer in ["config", "disko", "devices"] {
        let is_layout =
            |map: &Map<String, Value>| Kind::Devices.fields().iter().any(|field| map.contains_key(field.name));
        if let Value::Object(map) = &mut given
            && !is_layout(map)
            && map.get(outer).is_some_and(Value::is_object)
            && let Some(inner) = map.remove(outer)
        {
            given = inner;
        }
    }
    given
}

/// A layout with the fields of the newest release.
pub(super) struct Completed {
    pub layout: Value,
    /// What was passed over.
    pub notes: Vec<String>,
    /// The first field that is unknown and says something. What the reader refuses is told first: an unknown field may
    /// only be one that stands at the wrong place.
    pub unknown: Option<DiskoError>,
}

/// Fills in what the release that evaluated the layout did not have.
///
/// What is of a wrong shape stays as it is, for the reader to refuse.
pub(super) fn complete(layout: Value) -> Result<Completed, DiskoError> {
    let mut completion = Completion { notes: Vec::new(), unknown: None };
    let layout = completion.node("", "", Kind::Devices, layout, &Map::new())?;
    Ok(Completed { layout, notes: completion.notes, unknown: completion.unknown })
}

struct Completion {
    notes: Vec<String>,
    unknown: Option<DiskoError>,
}

impl Completion {
    fn node(
        &mut self,
        path: &str,
        key: &str,
        kind: Kind,
        value: Value,
        outer: &Map<String, Value>,
    ) -> Result<Value, DiskoError> {
        let Value::Object(mut fields) = value else {
            return Ok(value);
        };
        self.take_unknown(path, kind, &mut fields);
        known(path, kind, &mut fields)?;
        if kind == Kind::Pool {
            add_root(&mut fields);
        }
        for field in kind.fields() {
            if let Some(value) = fields.remove(field.name) {
                let value = self.held(&join(path, field.name), field.holds, value, &fields)?;
                fields.insert(field.name.to_owned(), value);
            }
        }
        for field in kind.fields().iter().filter(|field| field.only.is_none()) {
            if !fields.contains_key(field.name)
                && let Some(value) = meaning(field.absent, key, &fields, outer)
            {
                fields.insert(field.name.to_owned(), value);
            }
        }
        Ok(Value::Object(fields))
    }

    /// What is in a field; `outer` are the fields beside it.
    fn held(
        &mut self,
        path: &str,
        holds: Holds,
        value: Value,
        outer: &Map<String, Value>,
    ) -> Result<Value, DiskoError> {
        let of_type = |value: &Value, kind: fn(&str) -> Option<Kind>| value.get("type")?.as_str().and_then(kind);
        match (holds, value) {
            (Holds::One(kind), value) => self.node(path, "", kind, value, outer),
            (Holds::Content, value) => match of_type(&value, Kind::of_content) {
                Some(kind) => self.node(path, "", kind, value, outer),
                None => Ok(value),
            },
            (Holds::Map(kind), Value::Object(members)) => self.members(path, members, outer, |_| Some(kind)),
            (Holds::Datasets, Value::Object(members)) => {
                self.members(path, members, outer, |value| of_type(value, Kind::of_dataset))
            }
            (Holds::List(kind), Value::Array(items)) => {
                let items = items.into_iter().enumerate();
                let items = items.map(|(i, item)| self.node(&format!("{path}[{i}]"), "", kind, item, outer));
                items.collect::<Result<Vec<Value>, _>>().map(Value::Array)
            }
            (Holds::List(kind), value) => self.node(path, "", kind, value, outer),
            (Holds::Data | Holds::Map(_) | Holds::Datasets, value) => Ok(value),
        }
    }

    fn members(
        &mut self,
        path: &str,
        members: Map<String, Value>,
        outer: &Map<String, Value>,
        kind: impl Fn(&Value) -> Option<Kind>,
    ) -> Result<Value, DiskoError> {
        let mut all = Map::new();
        for (key, value) in members {
            let value = match kind(&value) {
                Some(kind) => self.node(&join(path, &key), &key, kind, value, outer)?,
                None => value,
            };
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }

    /// Takes out what no release known to us has.
    fn take_unknown(&mut self, path: &str, kind: Kind, fields: &mut Map<String, Value>) {
        let is_known = |key: &str| {
            let hooks = HOOKS.iter().filter(|_| kind.has_hooks());
            kind.fields().iter().chain(hooks).any(|field| field.name == key)
        };
        let unknown: Vec<String> = fields.keys().filter(|key| !is_known(key)).cloned().collect();
        for key in unknown {
            let path = join(path, &key);
            let value = fields.remove(&key).unwrap_or_default();
            if !is_inert(&value) {
                let what = format!(
                    "says {}, and is no field that cygnet knows, which can't tell, therefore, whether it destroys anything",
                    short(&value)
                );
                let remedy =
                    format!("take it out of the layout; or update cygnet, if your disko is newer than {NEWEST}");
                self.unknown.get_or_insert_with(|| DiskoError::new(&path, what, remedy));
                continue;
            }
            let value = short(&value);
            self.notes
                .push(format!("{path} is no field that cygnet knows; it says nothing ({value}), and is passed over"));
        }
    }
}

/// Refuses fields that are known and cannot be carried out, and takes out those that nobody reads.
fn known(path: &str, kind: Kind, fields: &mut Map<String, Value>) -> Result<(), DiskoError> {
    for Field { name, since, until, absent, holds: _, only } in kind.fields() {
        let path = join(path, name);
        if until.is_some() && fields.contains_key(*name) {
            let what =
                format!("is from a disko older than {OLDEST} (September 2023), which cygnet does not understand");
            return Err(DiskoError::new(&path, what, "run `nix flake update disko`, and evaluate the layout again"));
        }
        let Some((why, instead)) = only else { continue };
        match fields.remove(*name) {
            Some(value) if meaning(*absent, "", fields, fields).is_none_or(|meaning| meaning != value) => {
                let what = format!("is {}, which {why} (disko has this field since {since})", short(&value));
                return Err(DiskoError::new(&path, what, *instead));
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// `null`, `false`, and what is empty.
fn is_inert(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(_) => false,
    }
}

/// A value as JSON, cut where it gets long. JSON escapes control characters.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

/// Before 1.3 the pool itself was mounted; since then that is done by a dataset of a reserved name.
fn add_root(pool: &mut Map<String, Value>) {
    let field = |name: &str| pool.get(name).cloned();
    let (options, mountpoint, mount_options) = (field("rootFsOptions"), field("mountpoint"), field("mountOptions"));
    if let Some(Value::Object(datasets)) = pool.get_mut("datasets")
        && !datasets.contains_key("__root")
    {
        let root = json!({
            "type": "zfs_fs",
            "name": "__root",
            "options": options.unwrap_or_else(|| json!({})),
            "mountpoint": mountpoint,
            "mountOptions": mount_options.unwrap_or_else(|| json!(["defaults"])),
        });
        datasets.insert("__root".to_owned(), root);
    }
}

/// What the absence of a field means; `None` if that is for the reader to say. `outer` are the fields of the node around.
fn meaning(absent: Absent, key: &str, fields: &Map<String, Value>, outer: &Map<String, Value>) -> Option<Value> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let is_set =
        |map: Option<&Value>, name: &str| map.and_then(|map| map.get(name)).is_some_and(|value| !value.is_null());
    Some(match absent {
        Absent::Reader | Absent::Unread => return None,
        Absent::Null => Value::Null,
        Absent::False => json!(false),
        Absent::True => json!(true),
        Absent::EmptyList => json!([]),
        Absent::EmptyMap => json!({}),
        Absent::DefaultOptions => json!(["defaults"]),
        Absent::OldAlignment if outer.contains_key("efiGptPartitionFirst") => json!(0),
        Absent::OldAlignment => json!(2048),
        Absent::BySize if text("size")?.contains("100%") => json!(9001),
        Absent::BySize => json!(1000),
        Absent::NameInPool => {
            let pool = outer.get("name").and_then(Value::as_str)?;
            if key == "__root" { json!(pool) } else { json!(format!("{pool}/{}", text("name")?)) }
        }
        Absent::NotRoot => json!(key != "__root"),
        Absent::WithoutKey => {
            let settings = fields.get("settings");
            let named = text("passwordFile").or(text("keyFile")).is_some() || is_set(settings, "keyFile");
            json!(!named)
        }
    })
}
