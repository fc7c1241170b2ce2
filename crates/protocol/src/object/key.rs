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

            const ALL: [Self; Self::COUNT] = [$(Self::$name,)*];

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
    Devices "devices"
    Remove "remove"
    SeenAt "seen_at"
    RetryAfterMs "retry_after_ms"
    With "with"
    After "after"
    Before "before"
    Limit "limit"
    Messages "messages"
    Complete "complete"
    Displayed "displayed"
}

// `Seen` has one bit for each.
const _: () = assert!(Key::COUNT <= 128);

impl Key {
    /// The known key with this text, unescaped.
    #[inline]
    pub fn of(text: &str) -> Option<Self> {
        let mut slot = slot_of(text.as_bytes());
        // One is empty at the latest after all known keys.
        while let Some(key) = SLOTS.get(slot).copied().flatten() {
            if key.as_str() == text {
                return Some(key);
            }
            slot = (slot + 1) % SLOT_COUNT;
        }
        None
    }
}

const SLOT_COUNT: usize = 256;

/// Known keys by hash, with open addressing: every key of every packet is looked up here, and a `match` on strings
/// compares them one after the other.
const SLOTS: [Option<Key>; SLOT_COUNT] = slots();

const fn slot_of(text: &[u8]) -> usize {
    let [first, .., last] = text else { return 0 };
    (*first as usize + *last as usize * 8 + text.len() * 34) % SLOT_COUNT
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn slots() -> [Option<Key>; SLOT_COUNT] {
    let mut slots = [None; SLOT_COUNT];
    let mut index = 0;
    while index < Key::COUNT {
        let mut slot = slot_of(KNOWN_KEYS[index].as_bytes());
        while slots[slot].is_some() {
            slot = (slot + 1) % SLOT_COUNT;
        }
        slots[slot] = Some(Key::ALL[index]);
        index += 1;
    }
    slots
}

/// Which known keys an object has had.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen(u128);

impl Seen {
    /// Notes a key; one that was noted before makes the object malformed.
    #[inline]
    pub fn note(&mut self, key: Key) -> Result<(), Malformed> {
        let bit = 1_u128 << key as u8;
        if self.0 & bit != 0 {
            return Err(Malformed);
        }
        self.0 |= bit;
        Ok(())
    }
}
