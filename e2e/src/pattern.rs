//! What a packet must look like.
//!
//! Names, types and values must be those of the pattern, no key more and none less; a wildcard stands for what a
//! scenario cannot know beforehand.

use serde_json::Value;

/// Stands for any value.
pub const ANY: &str = "«any»";
/// Stands for any string that is not empty.
pub const TEXT: &str = "«text»";
/// Stands for any non-negative whole number.
pub const NUMBER: &str = "«number»";

/// Whether a packet is what a pattern says.
pub fn matches(pattern: &Value, packet: &Value) -> bool {
    match (pattern, packet) {
        (Value::String(wildcard), _) if wildcard == ANY => true,
        (Value::String(wildcard), Value::String(text)) if wildcard == TEXT => !text.is_empty(),
        (Value::String(wildcard), _) if wildcard == NUMBER => packet.is_u64(),
        (Value::Object(pattern), Value::Object(packet)) => {
            pattern.len() == packet.len()
                && pattern
                    .iter()
                    .all(|(key, value)| packet.get(key).is_some_and(|found| matches(value, found)))
        }
        (Value::Array(pattern), Value::Array(packet)) => {
            pattern.len() == packet.len()
                && pattern.iter().zip(packet).all(|(value, found)| matches(value, found))
        }
        _ => pattern == packet,
    }
}

/// Whether a packet has everything a pattern has, and maybe more keys at its top.
pub fn includes(pattern: &Value, packet: &Value) -> bool {
    let (Value::Object(pattern), Value::Object(packet)) = (pattern, packet) else {
        return matches(pattern, packet);
    };
    pattern.iter().all(|(key, value)| packet.get(key).is_some_and(|found| matches(value, found)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_more_or_a_key_less_is_no_match() {
        let pattern = json!({"a": 1, "at": NUMBER});
        assert!(matches(&pattern, &json!({"at": 5, "a": 1})));
        assert!(!matches(&pattern, &json!({"at": 5, "a": 1, "b": 2})));
        assert!(!matches(&pattern, &json!({"at": 5})));
        assert!(!matches(&pattern, &json!({"at": "5", "a": 1})));
        assert!(includes(&pattern, &json!({"at": 5, "a": 1, "b": 2})));
    }
}
