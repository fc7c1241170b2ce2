//! The keys that servers know.

use super::Malformed;

macro_rules! keys {
    ($($name:ident $text:literal)*) => {
        /// A key that a server reads or writes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is the key of its own name")]
        pub enum Key {
            $($name,)*
        }

        /// Every key that a server reads or writes: none of them may occur twice in an object.
        pub const KNOWN_KEYS: &[&str] = &[$($text,)*];

        impl Key {
            /// How many there are.
            pub const COUNT: usize = KNOWN_KEYS.len();

            /// The known key with this text, unescaped.
            pub fn of(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The key's text.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

keys! {
    Stanza "stanza"
    Namespace "namespace"
    Type "type"
    From "from"
    To "to"
    Id "id"
    Username "username"
    Password "password"
    Register "register"
    Token "token"
    Resource "resource"
    Session "session"
    Jid "jid"
    Message "message"
    IpLocal "ip_local"
    Port "port"
    IsPrivate "is_private"
    Connection "connection"
    Component "component"
    Query "query"
    Items "items"
    Item "item"
    Name "name"
    Subscription "subscription"
    Error "error"
    Condition "condition"
    Text "text"
    Msg "msg"
    Code "code"
    Bio "bio"
    Online "online"
    UpdatedAt "updated_at"
    DirectedEntity "directed_entity"
    Target "target"
    Show "show"
    Status "status"
    Priority "priority"
    Body "body"
    Subject "subject"
    Thread "thread"
    State "state"
    Receipt "receipt"
    Marker "marker"
    Seq "seq"
    StanzaId "stanza_id"
    Ts "ts"
    Level "level"
    Resume "resume"
    Log "log"
    Reset "reset"
    First "first"
    AfterMs "after_ms"
    RetryAfterMs "retry_after_ms"
}

// `Seen` has one bit for each.
const _: () = assert!(Key::COUNT <= 64);

/// Which known keys an object has had.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen(u64);

impl Seen {
    /// Notes a key; one that was noted before makes the object malformed.
    #[inline]
    pub fn note(&mut self, key: Key) -> Result<(), Malformed> {
        let bit = 1 << key as u8;
        if self.0 & bit != 0 {
            return Err(Malformed);
        }
        self.0 |= bit;
        Ok(())
    }
}
