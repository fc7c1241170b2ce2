//! An incremental pushdown automaton for RFC 8259, with UTF-8 checked in the same pass.
//!
//! Its memory is a state and one bit per open container, whatever the value's size.

use super::Limits;
use crate::runs;

/// Walks one value whose first byte opens an object or an array.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    /// One bit per open container, the innermost lowest: 1 is an object.
    containers: u64,
    depth: u8,
    in_key: bool,
}

/// Where a scan ended, as an offset from the value's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// The value is complete; one past its last byte.
    Complete(usize),
    /// No value can have this byte here.
    Offending(usize),
    /// Too many containers inside each other.
    TooDeep,
    /// Everything so far is good.
    More,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Value,
    /// After `[`.
    ValueOrEnd,
    Key,
    /// After `{`.
    KeyOrEnd,
    Colon,
    /// After a value: comma or the end of its container.
    Next,
    Text,
    Escape,
    /// This many hexadecimal digits are missing.
    Hex(u8),
    /// The next byte of a character must lie between these; then as many continuation bytes follow.
    Continuation {
        low: u8,
        high: u8,
        then: u8,
    },
    Number(Number),
    Literal(&'static [u8]),
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl Scanner {
    /// Ready for a value; its first byte comes with the first scan.
    pub(super) fn new() -> Self {
        Self { state: State::Value, containers: 0, depth: 0, in_key: false }
    }

    /// Walks on at `from`, up to the end of `value`. A byte once walked is never looked at again.
    pub(super) fn scan(&mut self, value: &[u8], from: usize, limits: &Limits) -> Scan {
        let mut at = from;
        while let Some(&byte) = value.get(at) {
            if let State::Text = self.state {
                let run = runs::plain(value.get(at..).unwrap_or_default());
                if run > 0 {
                    at += run;
                    continue;
                }
            }
            match self.step(byte, limits) {
                Step::Taken => at += 1,
                Step::Again => {}
                Step::Complete => return Scan::Complete(at + 1),
                Step::Offending => return Scan::Offending(at),
                Step::TooDeep => return Scan::TooDeep,
            }
        }
        Scan::More
    }

    fn step(&mut self, byte: u8, limits: &Limits) -> Step {
        match self.state {
            State::Text => self.text(byte),
            State::Escape => match byte {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.take(State::Text),
                b'u' => self.take(State::Hex(4)),
                _ => Step::Offending,
            },
            State::Hex(missing) if byte.is_ascii_hexdigit() => {
                self.take(if missing == 1 { State::Text } else { State::Hex(missing - 1) })
            }
            State::Continuation { low, high, then } if (low..=high).contains(&byte) => {
                self.take(match then {
                    0 => State::Text,
                    more => continuation(0x80, 0xBF, more - 1),
                })
            }
            State::Number(number) => self.number(number, byte),
            State::Literal([expected, rest @ ..]) if byte == *expected => {
                self.take(if rest.is_empty() { State::Next } else { State::Literal(rest) })
            }
            State::Hex(_) | State::Continuation { .. } | State::Literal(_) => Step::Offending,
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => Step::Taken,
            State::Next => self.next(byte),
            State::Colon if byte == b':' => self.take(State::Value),
            State::Key | State::KeyOrEnd if byte == b'"' => {
                self.in_key = true;
                self.take(State::Text)
            }
            State::KeyOrEnd if byte == b'}' => self.close(),
            State::ValueOrEnd if byte == b']' => self.close(),
            State::Value | State::ValueOrEnd => self.value(byte, limits),
            State::Key | State::KeyOrEnd | State::Colon => Step::Offending,
        }
    }

    fn value(&mut self, byte: u8, limits: &Limits) -> Step {
        match byte {
            b'"' => {
                self.in_key = false;
                self.take(State::Text)
            }
            b'{' => self.open(true, limits),
            b'[' => self.open(false, limits),
            b'-' => self.take(State::Number(Number::Minus)),
            b'0' => self.take(State::Number(Number::Zero)),
            b'1'..=b'9' => self.take(State::Number(Number::Integer)),
            b't' => self.take(State::Literal(b"rue")),
            b'f' => self.take(State::Literal(b"alse")),
            b'n' => self.take(State::Literal(b"ull")),
            _ => Step::Offending,
        }
    }

    /// One byte of a string. The ranges are those of the Unicode Standard's table 3-7: no overlong forms, no surrogates.
    fn text(&mut self, byte: u8) -> Step {
        match byte {
            b'"' => self.take(if self.in_key { State::Colon } else { State::Next }),
            b'\\' => self.take(State::Escape),
            0x20..=0x7F => Step::Taken,
            0xC2..=0xDF => self.take(continuation(0x80, 0xBF, 0)),
            0xE0 => self.take(continuation(0xA0, 0xBF, 1)),
            0xED => self.take(continuation(0x80, 0x9F, 1)),
            0xE1..=0xEF => self.take(continuation(0x80, 0xBF, 1)),
            0xF0 => self.take(continuation(0x90, 0xBF, 2)),
            0xF1..=0xF3 => self.take(continuation(0x80, 0xBF, 2)),
            0xF4 => self.take(continuation(0x80, 0x8F, 2)),
            _ => Step::Offending,
        }
    }

    fn number(&mut self, number: Number, byte: u8) -> Step {
        use Number::{Exponent, Fraction, Integer, Minus, Point, Power, Sign, Zero};
        let next = match (number, byte) {
            (Minus, b'0') => Zero,
            (Minus, b'1'..=b'9') | (Integer, b'0'..=b'9') => Integer,
            (Zero | Integer, b'.') => Point,
            (Point | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Integer | Fraction, b'e' | b'E') => Exponent,
            (Exponent, b'+' | b'-') => Sign,
            (Exponent | Sign | Power, b'0'..=b'9') => Power,
            (Zero | Integer | Fraction | Power, _) => {
                // A number ends only at the byte after it, which belongs to its container.
                self.state = State::Next;
                return Step::Again;
            }
            _ => return Step::Offending,
        };
        self.take(State::Number(next))
    }

    fn next(&mut self, byte: u8) -> Step {
        let in_object = self.containers & 1 == 1;
        match byte {
            b',' => self.take(if in_object { State::Key } else { State::Value }),
            b'}' if in_object => self.close(),
            b']' if !in_object => self.close(),
            _ => Step::Offending,
        }
    }

    fn open(&mut self, object: bool, limits: &Limits) -> Step {
        if self.depth >= limits.max_depth.min(64) {
            return Step::TooDeep;
        }
        self.depth += 1;
        self.containers = self.containers << 1 | u64::from(object);
        self.take(if object { State::KeyOrEnd } else { State::ValueOrEnd })
    }

    fn close(&mut self) -> Step {
        self.depth -= 1;
        self.containers >>= 1;
        if self.depth == 0 { Step::Complete } else { self.take(State::Next) }
    }

    fn take(&mut self, next: State) -> Step {
        self.state = next;
        Step::Taken
    }
}

enum Step {
    Taken,
    /// The state changed, the byte is still to be taken.
    Again,
    Complete,
    Offending,
    TooDeep,
}

fn continuation(low: u8, high: u8, then: u8) -> State {
    State::Continuation { low, high, then }
}
