//! Writing compact JSON. Nothing here can fail.

/// Appends `text` as a JSON string: quotes, backslashes and control characters escaped, everything else as it is.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let run = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
        let Some((plain, [byte, after @ ..])) = run.and_then(|run| rest.split_at_checked(run)) else { break };
        out.extend_from_slice(plain);
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Writes one object, member by member, in the order of the calls. Keys are written as they are: they must need no
/// escape.
#[derive(Debug)]
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    /// Opens the object.
    pub fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// A member whose value is a string.
    #[must_use]
    pub fn text(mut self, key: &str, text: &str) -> Self {
        self.key(key);
        string(self.out, text);
        self
    }

    /// A member whose value is a string or null.
    #[must_use]
    pub fn text_or_null(self, key: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(key, text),
            None => self.raw(key, "null"),
        }
    }

    /// A member that is left out if there is no text.
    #[must_use]
    pub fn text_if(self, key: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(key, text),
            None => self,
        }
    }

    /// A member whose value is an integer.
    #[must_use]
    pub fn number(self, key: &str, number: i64) -> Self {
        self.raw(key, &number.to_string())
    }

    /// A member whose value is JSON already, without LF.
    #[must_use]
    pub fn raw(mut self, key: &str, raw: &str) -> Self {
        self.key(key);
        self.out.extend_from_slice(raw.as_bytes());
        self
    }

    /// A member whose value is whatever `value` appends: exactly one JSON value.
    #[must_use]
    pub fn value(mut self, key: &str, value: impl FnOnce(&mut Vec<u8>)) -> Self {
        self.key(key);
        value(self.out);
        self
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push(b'}');
    }

    /// Closes the object, and with it the canonical line.
    pub fn end_line(self) {
        self.out.extend_from_slice(b"}\n");
    }

    fn key(&mut self, key: &str) {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

/// Appends an array: `element` appends exactly one JSON value for each item.
pub fn array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut element: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        element(out, item);
    }
    out.push(b']');
}
