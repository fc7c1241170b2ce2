//! Asking on the terminal, and keeping others' text from playing with it.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write};

use chrono::{DateTime, Local};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;

/// Asks, if there is somebody to ask.
pub(super) async fn ask(prompt: &str, interrupt: &mut Signal) -> io::Result<Option<String>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    // stdout may be a pipe for somebody else to read.
    let mut shown = io::stderr();
    write!(shown, "{prompt}")?;
    shown.flush()?;
    let reading = spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let line = tokio::select! {
        line = reading => line.map_err(io::Error::other)??,
        _ = interrupt.recv() => return Err(io::ErrorKind::Interrupted.into()),
    };
    let answer = line.trim_end_matches(['\r', '\n']);
    Ok((!answer.is_empty()).then(|| answer.to_owned()))
}

/// The same, without showing what is typed.
pub(super) async fn ask_secretly(prompt: &str, interrupt: &mut Signal) -> io::Result<Option<String>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let hidden = Hidden::hide()?;
    let answer = ask(prompt, interrupt).await;
    drop(hidden);
    // The Enter that ended it was not shown either.
    writeln!(io::stderr())?;
    answer
}

/// While it lives, what is typed is not shown.
struct Hidden {
    before: Termios,
}

impl Hidden {
    fn hide() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut without = before.clone();
        without.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &without)?;
        Ok(Self { before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // The terminal may be gone; then nothing needs restoring.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Text as others wrote it, without control characters: these could move the cursor, or more. A further line is
/// indented, so that it does not look like one of ours. What would turn the text around it, or cannot be seen, is shown as
/// U+FFFD too: a name could pass for another.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => plain.push_str("\n  "),
            '\t' => plain.push(' '),
            character if character.is_control() || deceives(character) => {
                plain.push(char::REPLACEMENT_CHARACTER);
            }
            character => plain.push(character),
        }
    }
    plain
}

/// Unicode's `Bidi_Control`, its two separators of lines, and what has no width. U+200C and U+200D are parts of words and
/// of emoji.
fn deceives(character: char) -> bool {
    matches!(
        character,
        '\u{61C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'
            | '\u{2066}'..='\u{2069}' | '\u{FEFF}'
    )
}

/// A time as people here write it; of today without the day.
pub(super) fn time(ms: i64) -> String {
    let Some(time) = DateTime::from_timestamp_millis(ms) else { return "some time".into() };
    let time = time.with_timezone(&Local);
    let today = time.date_naive() == Local::now().date_naive();
    time.format(if today { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
}

/// The time of a step that took milliseconds.
pub(super) fn time_of_day(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms).map(|time| time.with_timezone(&Local));
    time.map_or_else(|| "some time".into(), |time| time.format("%H:%M:%S%.3f").to_string())
}

/// A packet as one line that is the same JSON. Control characters outside strings are white space; inside only those
/// from U+007F up are valid, and are escaped.
pub(super) fn one_line(packet: &str) -> String {
    let mut line = String::with_capacity(packet.len());
    for character in packet.chars() {
        if character.is_ascii_control() && character != '\u{7f}' {
            line.push(' ');
        } else if character.is_control() {
            // Writing to a string cannot fail.
            let _ = write!(line, "\\u{:04x}", u32::from(character));
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_said_unless_it_is_today() {
        assert_eq!(time(Local::now().timestamp_millis()).len(), "14:02".len());
        assert_eq!(time(1_726_223_542_222).len(), "2024-09-13 14:02".len());
        assert_eq!(time(i64::MAX), "some time");
        assert_eq!(time_of_day(1_726_223_542_222).get(2..), Some(":32:22.222"));
    }

    #[test]
    fn text_that_turns_or_hides_others_is_shown_as_a_mark() {
        for hidden in "\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{feff}\u{9b}".chars() {
            assert_eq!(plain(&format!("a{hidden}b")), "a\u{fffd}b", "{hidden:?}");
        }
        for kept in ["👩\u{200d}🚒", "می\u{200c}خواهم", "café\u{a0}€", "\u{2027}\u{202f}\u{2065}"]
        {
            assert_eq!(plain(kept), kept);
        }
    }

    #[test]
    fn a_packet_on_one_line_is_the_same_packet() {
        let packet = "{\"body\":\"a\u{9b}2J\u{7f}€\",\r\n\t\"x\":1}";
        let line = one_line(packet);
        assert!(!line.chars().any(char::is_control));
        let (one, other): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(packet).unwrap(), serde_json::from_str(&line).unwrap());
        assert_eq!(one, other);
    }
}
