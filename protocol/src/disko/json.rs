//! Bytes into a JSON value, with limits.

use super::DiskoError;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The largest layout disko's own examples evaluate to is 25 kB.
const LONGEST: usize = 1 << 20;

/// Parses one JSON value. Depth is limited by `serde_json` (128), size by us, and a key that occurs twice is refused:
/// with a plain map the second would silently win.
pub(super) fn value(json: &[u8]) -> Result<Value, DiskoError> {
    const AGAIN: &str = "evaluate the layout again and send it unchanged";
    if json.len() > LONGEST {
        let what = format!("the layout is {} bytes of JSON; the limit is {LONGEST}", json.len());
        return Err(DiskoError::new("", what, "send config.disko.devices only"));
    }
    match serde_json::from_slice::<Strict>(json) {
        Ok(Strict(value)) => Ok(value),
        Err(error) if error.is_eof() => Err(DiskoError::new("", format!("the JSON is cut short: {error}"), AGAIN)),
        Err(error) => Err(DiskoError::new("", format!("this is not valid JSON: {error}"), AGAIN)),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key “{key}” occurs twice in one object")));
            }
            let Strict(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
