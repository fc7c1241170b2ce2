//! What a line means.

/// What one can type.
pub(super) const HELP: &str = "\
/to NAME          write to NAME from now on; every other line goes there
/who              who of the contacts is online
/who NAME         how anybody is, showing them that you are here
/roster           the contacts
/add NAME [AS]    add a contact, called AS in your roster
/rename NAME [AS] call a contact AS
/remove NAME      remove a contact
/bio TEXT         what others see of you
/quit             log out
//TEXT            write a line that begins with a slash";

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
    let (word, rest) = split(rest);
    let (name, more) = split(rest);
    let needs = |example: &str| format!("/{word} needs more: {example}");
    match (word, name) {
        ("to", "") => Err(needs("/to NAME")),
        ("to", name) => Ok(Command::To(name.to_owned())),
        ("add" | "rename", "") => Err(needs(&format!("/{word} NAME [AS]"))),
        ("add" | "rename", name) => {
            let called = (!more.is_empty()).then(|| more.to_owned());
            Ok(Command::Add { jid: name.to_owned(), name: called })
        }
        ("remove", "") => Err(needs("/remove NAME")),
        ("remove", name) => Ok(Command::Remove(name.to_owned())),
        ("bio", "") => Err(needs("/bio TEXT")),
        ("bio", _) => Ok(Command::Bio(rest.to_owned())),
        ("who", "") => Ok(Command::Everybody),
        ("who", name) => Ok(Command::Who(name.to_owned())),
        ("roster", _) => Ok(Command::Roster),
        ("help", _) => Ok(Command::Help),
        ("quit", _) => Ok(Command::Quit),
        _ => Err(format!("no such command: /{}; /help shows them", super::plain(word))),
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
        assert_eq!(parse("/rename esa"), Ok(Command::Add { jid: "esa".into(), name: None }));
        assert_eq!(parse("/bio lagi makan kebab"), Ok(Command::Bio("lagi makan kebab".into())));
        assert_eq!(parse("/who"), Ok(Command::Everybody));
        assert_eq!(parse("/who esa"), Ok(Command::Who("esa".into())));
        assert_eq!(parse("/quit"), Ok(Command::Quit));
    }

    #[test]
    fn a_command_that_lacks_something_says_what() {
        assert_eq!(parse("/to"), Err("/to needs more: /to NAME".into()));
        assert_eq!(parse("/rename "), Err("/rename needs more: /rename NAME [AS]".into()));
        assert_eq!(parse("/bishop"), Err("no such command: /bishop; /help shows them".into()));
    }

    #[test]
    fn help_has_every_command() {
        for word in ["to", "who", "roster", "add", "rename", "remove", "bio", "quit"] {
            assert!(HELP.contains(&format!("/{word} ")), "{word}");
        }
    }
}
