//! Walking over an object or an array.

use std::{borrow::Cow, ops::Range};

use super::text;
use crate::runs;

/// One member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// The key, unescaped: what keys compare by.
    pub key: Cow<'a, str>,
    /// The value as it was written.
    pub raw: &'a str,
    /// Where the whole member is in the object's text, without the commas around it.
    pub span: Range<usize>,
}

/// The members of a valid object, in order. Allocates only for a key with an escape.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Members<'a> {
    /// `None` if this is no object.
    pub fn of(object: &'a str) -> Option<Self> {
        let mut cursor = Cursor { text: object, at: 0 };
        cursor.skip_space();
        cursor.take(b'{').then_some(Self { cursor })
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    #[inline]
    fn next(&mut self) -> Option<Member<'a>> {
        let cursor = &mut self.cursor;
        cursor.skip_space();
        cursor.take(b',');
        cursor.skip_space();
        let start = cursor.at;
        let key = cursor.string()?;
        cursor.skip_space();
        if !cursor.take(b':') {
            return None;
        }
        cursor.skip_space();
        let raw = cursor.value()?;
        Some(Member { key: text(key)?, raw, span: start..cursor.at })
    }
}

/// The elements of a valid array, in order, as they were written.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Elements<'a> {
    /// `None` if this is no array.
    pub fn of(array: &'a str) -> Option<Self> {
        let mut cursor = Cursor { text: array, at: 0 };
        cursor.skip_space();
        cursor.take(b'[').then_some(Self { cursor })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.cursor.skip_space();
        self.cursor.take(b',');
        self.cursor.skip_space();
        self.cursor.value()
    }
}

#[derive(Debug, Clone)]
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// A string with its quotes.
    #[inline]
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        if !self.take(b'"') {
            return None;
        }
        loop {
            self.at += runs::unquoted(self.text.as_bytes().get(self.at..)?);
            match self.peek()? {
                b'"' => break,
                // Whatever follows a backslash does not end the string.
                _ => self.at += 2,
            }
        }
        self.at += 1;
        self.text.get(start..self.at)
    }

    #[inline]
    fn value(&mut self) -> Option<&'a str> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' | b'[' => self.container(),
            _ => self.scalar(),
        }
    }

    fn container(&mut self) -> Option<&'a str> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.checked_sub(1)?,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return self.text.get(start..self.at);
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self) -> Option<&'a str> {
        let rest = self.text.get(self.at..)?;
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        let length = rest.as_bytes().iter().position(ends).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).filter(|scalar| !scalar.is_empty())
    }
}
