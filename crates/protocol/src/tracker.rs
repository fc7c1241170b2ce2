//! The tracker's client socket (PROTOCOL §1).

use crate::{
    Malformed, iq,
    object::{Fields, Key},
    write,
};

/// What a component says it is (T2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A user.
    Client,
    /// A manager.
    Manager,
    /// A relay.
    Relay,
}

impl Kind {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Manager => "manager",
            Self::Relay => "relay",
        }
    }

    pub(crate) fn of(fields: &Fields<'_>) -> Option<Self> {
        [Self::Client, Self::Manager, Self::Relay]
            .into_iter()
            .find(|kind| fields.says(Key::Type, kind.as_str()))
    }
}

/// What clients send to a tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromClient {
    /// The first packet: answered with the components, without a delimiter after them in the original's framing.
    /// It registers nothing, whatever `kind` says.
    Hello {
        /// What it says it is.
        kind: Kind,
    },
    /// `{"message":"get components"}` (T5): answered with the components.
    GetComponents,
    /// Answered by [`iq::Request::answer`].
    Iq(iq::Request),
    /// Fits no row: no answer (T7).
    Ignored,
}

impl FromClient {
    /// Reads one value.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let fields = Fields::read(value)?;
        if fields.says(Key::Stanza, "iq") {
            return Ok(iq::Request::of(&fields).map_or(Self::Ignored, Self::Iq));
        }
        if fields.says(Key::Message, "get components") {
            return Ok(Self::GetComponents);
        }
        let kind = Kind::of(&fields);
        Ok(kind.map_or(Self::Ignored, |kind| Self::Hello { kind }))
    }
}

/// A component as clients are told of it (T4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Manager or relay.
    pub kind: Kind,
    /// Host to connect to: the original calls it `ip_local`, wherever it is.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// Passed on as the component said it.
    pub is_private: bool,
}

/// Appends the array of components as a canonical line.
pub fn write_components<'a>(out: &mut Vec<u8>, components: impl IntoIterator<Item = &'a Component>) {
    write::array(out, components, |out, component| {
        write::Object::begin(out)
            .text("ip_local", &component.host)
            .number("port", component.port.into())
            .text("type", component.kind.as_str())
            .text("is_private", if component.is_private { "1" } else { "0" })
            .end();
    });
    out.push(b'\n');
}
