//! What a line means.

use clap::ValueEnum;

/// What one can type.
pub(super) const HELP: &str = "\
/to NAME          write to NAME from now on; every other line goes there
/who              who of the contacts is online
/who NAME         how anybody is, showing them that you are here
/roster           the contacts
/add NAME [AS]    add a contact, called AS in your roster
/name NAME [AS]   call a contact AS
/remove NAME      remove a contact
/bio TEXT         what others see of you
/history [N]      the last N messages (20) with whom you write to
/explain N        what became of message N on its way, while the servers remember it
/again N          send message N, which waited for too long, once more
/drop N           give it up
/devices          where this account has logged in
/forget DEVICE    log a device out, and forget how far it has read
/help             these lines
/quit             log out
//TEXT            write a line that begins with a slash";

/// Messages shown by `/history` where nobody says how many.
const HISTORY: u64 = 20;

/// What may follow the slash, in lower case.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Word {
    To,
    Who,
    Roster,
    Add,
    Name,
    Remove,
    Bio,
    History,
    Explain,
    Again,
    Drop,
    Devices,
    Forget,
    Help,
    Quit,
}

/// A line, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    Nothing,
    Say(String),
    To(String),
    Add { jid: String, name: Option<String> },
    Remove(String),
    Roster,
    Bio(String),
    Who(String),
    Everybody,
    History(u64),
    Explain(u32),
    Again(u32),
    Drop(u32),
    Devices,
    Forget(String),
    Help,
    Quit,
}

/// Understands a line, or says what is wrong with it.
pub(super) fn parse(line: &str) -> Result<Command, String> {
    let Some(rest) = line.strip_prefix('/') else {
        return Ok(match line.trim() {
            "" => Command::Nothing,
            _ => Command::Say(line.to_owned()),
        });
    };
    if rest.starts_with('/') {
        return Ok(Command::Say(rest.to_owned()));
    }
    let (typed, rest) = split(rest);
    let Ok(word) = Word::from_str(typed, false) else {
        return Err(format!("no such command: /{}; /help shows them", super::terminal::plain(typed)));
    };
    let (name, more) = split(rest);
    let needs = |what: &str| Err(format!("/{typed} needs more: /{typed} {what}"));
    match (word, name) {
        (Word::To | Word::Remove, "") => needs("NAME"),
        (Word::Forget, "") => needs("DEVICE"),
        (Word::To, name) => Ok(Command::To(name.to_owned())),
        (Word::Remove, name) => Ok(Command::Remove(name.to_owned())),
        (Word::Add | Word::Name, "") => needs("NAME [AS]"),
        (Word::Add | Word::Name, name) => {
            let called = (!more.is_empty()).then(|| more.to_owned());
            Ok(Command::Add { jid: name.to_owned(), name: called })
        }
        (Word::Bio, "") => needs("TEXT"),
        (Word::Bio, _) => Ok(Command::Bio(rest.to_owned())),
        (Word::History, "") => Ok(Command::History(HISTORY)),
        (Word::History, number) if number.parse() == Ok(0) => Err(format!("/{typed} needs a number from 1")),
        (Word::History, number) => number.parse().map(Command::History).or_else(|_| needs("[N]")),
        (Word::Explain, number) => number.parse().map(Command::Explain).or_else(|_| needs("N")),
        (Word::Again, number) => number.parse().map(Command::Again).or_else(|_| needs("N")),
        (Word::Drop, number) => number.parse().map(Command::Drop).or_else(|_| needs("N")),
        (Word::Devices, _) => Ok(Command::Devices),
        (Word::Forget, _) => Ok(Command::Forget(rest.to_owned())),
        (Word::Who, "") => Ok(Command::Everybody),
        (Word::Who, name) => Ok(Command::Who(name.to_owned())),
        (Word::Roster, _) => Ok(Command::Roster),
        (Word::Help, _) => Ok(Command::Help),
        (Word::Quit, _) => Ok(Command::Quit),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_a_slash_is_said_as_it_is() {
        assert_eq!(parse(" halo  esa "), Ok(Command::Say(" halo  esa ".into())));
        assert_eq!(parse("//to nobody"), Ok(Command::Say("/to nobody".into())));
        assert_eq!(parse("  "), Ok(Command::Nothing));
    }

    #[test]
    fn commands_take_a_name_and_the_rest_of_the_line() {
        assert_eq!(parse("/to esa"), Ok(Command::To("esa".into())));
        assert_eq!(
            parse("/add esa  ini esa "),
            Ok(Command::Add { jid: "esa".into(), name: Some("ini esa".into()) })
        );
        assert_eq!(parse("/name esa"), Ok(Command::Add { jid: "esa".into(), name: None }));
        assert_eq!(parse("/bio lagi makan kebab"), Ok(Command::Bio("lagi makan kebab".into())));
        assert_eq!(parse("/who"), Ok(Command::Everybody));
        assert_eq!(parse("/again 7"), Ok(Command::Again(7)));
        assert_eq!(parse("/explain 7"), Ok(Command::Explain(7)));
        assert_eq!(parse("/devices"), Ok(Command::Devices));
        assert_eq!(parse("/forget my phone"), Ok(Command::Forget("my phone".into())));
        assert_eq!(parse("/history"), Ok(Command::History(20)));
        assert_eq!(parse("/history 7"), Ok(Command::History(7)));
        assert_eq!(parse("/drop 7"), Ok(Command::Drop(7)));
        assert_eq!(parse("/who esa"), Ok(Command::Who("esa".into())));
        assert_eq!(parse("/quit"), Ok(Command::Quit));
    }

    #[test]
    fn a_command_that_lacks_something_says_what() {
        assert_eq!(parse("/to"), Err("/to needs more: /to NAME".into()));
        assert_eq!(parse("/name "), Err("/name needs more: /name NAME [AS]".into()));
        assert_eq!(parse("/forget"), Err("/forget needs more: /forget DEVICE".into()));
        assert_eq!(parse("/explain"), Err("/explain needs more: /explain N".into()));
        assert_eq!(parse("/drop it"), Err("/drop needs more: /drop N".into()));
        assert_eq!(parse("/history all"), Err("/history needs more: /history [N]".into()));
        assert_eq!(parse("/history 0"), Err("/history needs a number from 1".into()));
        assert_eq!(parse("/bishop"), Err("no such command: /bishop; /help shows them".into()));
    }

    #[test]
    fn help_has_every_command() {
        for word in Word::value_variants() {
            let value = word.to_possible_value().unwrap();
            let typed = format!("/{} ", value.get_name());
            assert!(HELP.lines().any(|line| line.starts_with(&typed)), "{typed}");
        }
    }
}
