//! The effective configuration as TOML.

use std::{collections::BTreeMap, fmt::Write};

use figment::value::{Dict, Value};
use serde::Serialize;

use super::{DEFAULT_ORIGIN, secret};

/// `config` is serialised again rather than taken from the layers, so that secrets hide themselves.
pub(super) fn print(config: &impl Serialize, origins: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let sections = Value::serialize(config).ok().and_then(Value::into_dict).unwrap_or_default();
    section("", &sections, origins, &mut out);
    out
}

fn section(name: &str, values: &Dict, origins: &BTreeMap<String, String>, out: &mut String) {
    let full = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    let mut header_due = !name.is_empty();
    for (key, value) in values.iter().filter(|(_, value)| value.as_dict().is_none()) {
        if header_due {
            let gap = if out.is_empty() { "" } else { "\n" };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{gap}[{name}]");
            header_due = false;
        }
        let assignment = match literal(value) {
            Some(literal) => format!("{key} = {literal}"),
            None => format!("# {key} is not set"),
        };
        let _ = match origins.get(&full(key)) {
            Some(origin) if origin != DEFAULT_ORIGIN => writeln!(out, "{assignment} # from {origin}"),
            _ => writeln!(out, "{assignment} # default"),
        };
    }
    for (key, value) in values {
        if let Some(values) = value.as_dict() {
            section(&full(key), values, origins, out);
        }
    }
}

fn literal(value: &Value) -> Option<String> {
    let value = match value {
        Value::Empty(..) => return None,
        Value::String(_, text) => toml::Value::String(secret::without_password(text).into_owned()),
        other => toml::Value::try_from(other).ok()?,
    };
    Some(value.to_string())
}
