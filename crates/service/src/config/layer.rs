//! One source of configuration values, as figment merges them.

use std::{fs, path::Path};

use figment::{
    Metadata, Profile, Provider,
    value::{Dict, Map, Value},
};

use super::ConfigError;

/// Values that came from one place. Figment tags each with `origin`, so errors and `config print` can name it.
pub(super) struct Layer {
    origin: String,
    values: Dict,
}

impl Layer {
    pub(super) fn new(origin: String, values: Value) -> Self {
        Self { origin, values: values.into_dict().unwrap_or_default() }
    }

    pub(super) fn file(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        let syntax = |line, problem: &str| ConfigError::Syntax {
            path: path.to_owned(),
            line,
            problem: problem.replace('\n', ", "),
        };
        let table: toml::Table = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            syntax(before.matches('\n').count() + 1, error.message())
        })?;
        let values = Value::serialize(table).map_err(|error| syntax(1, &error.to_string()))?;
        Ok(Self::new(path.display().to_string(), values))
    }

    /// One key given as text, which is read as whatever the key's default is.
    pub(super) fn one(origin: String, key: &str, text: &str, defaults: &Value) -> Self {
        let value = match defaults.find_ref(key) {
            // Not parsed: a password may be all digits.
            Some(Value::String(..)) => Value::from(text),
            Some(Value::Array(..)) if !text.trim_start().starts_with('[') => Value::from(
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>(),
            ),
            _ => text.parse().unwrap_or_else(|never| match never {}),
        };
        let nested =
            key.rsplit('.').fold(value, |value, part| Value::from(Dict::from([(part.to_owned(), value)])));
        Self::new(origin, nested)
    }

    pub(super) fn refuse_unknown_keys(&self, defaults: &Value) -> Result<(), ConfigError> {
        let known = defaults.as_dict();
        match known.and_then(|known| unknown_key(&self.values, known)) {
            Some(key) => Err(ConfigError::Unknown { key, origin: self.origin.clone() }),
            None => Ok(()),
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// Calls `visit` with the full name of every value under `value` that is no section.
pub(super) fn each_leaf(key: &str, value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Dict(_, section) => {
            for (part, value) in section {
                each_leaf(&format!("{key}.{part}"), value, visit);
            }
        }
        _ => visit(key, value),
    }
}

fn unknown_key(values: &Dict, known: &Dict) -> Option<String> {
    values.iter().find_map(|(part, value)| {
        let below = match (value, known.get(part)) {
            (_, None) => return Some(part.clone()),
            (Value::Dict(_, values), Some(Value::Dict(_, known))) => unknown_key(values, known),
            // An optional section that is not set by default: serde checks its keys.
            (Value::Dict(..), Some(Value::Empty(..))) => None,
            (Value::Dict(_, values), Some(_)) => values.keys().next().cloned(),
            _ => None,
        };
        below.map(|below| format!("{part}.{below}"))
    })
}
