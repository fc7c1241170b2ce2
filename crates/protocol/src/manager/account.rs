//! The own account: its devices (Part II `account`).

use crate::{
    Malformed, iq,
    name::Resource,
    object::{Fields, Key, text},
    write,
};

/// A request about the own account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRequest {
    /// To be echoed.
    pub id: Option<iq::Id>,
    /// What is asked for.
    pub action: AccountAction,
}

/// What an [`AccountRequest`] asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountAction {
    /// The list of devices.
    Devices,
    /// Removes a device: its session ends, and how far it has read is forgotten.
    Remove(Resource),
    /// Answered with [`iq::Condition::BadRequest`].
    Bad,
}

impl AccountRequest {
    /// What it is answered with: to the asker, null before login.
    pub fn answer<'a>(&'a self, to: Option<&'a str>) -> iq::Answer<'a> {
        iq::Answer::new("account", to, self.id.as_ref())
    }

    /// None where an iq asks for nothing: a result or an error.
    pub(super) fn read(iq: &Fields<'_>) -> Result<Option<Self>, Malformed> {
        let action = match iq::Kind::of(iq) {
            iq::Kind::Answer => return Ok(None),
            iq::Kind::Get => Some(AccountAction::Devices),
            iq::Kind::Set => {
                let query = iq.object(Key::Query)?;
                let device = query.and_then(|query| text(query.given(Key::Remove)?));
                device.and_then(|device| Resource::addressed(&device).ok()).map(AccountAction::Remove)
            }
            iq::Kind::Bad => None,
        };
        Ok(Some(Self { id: iq::Id::of(iq), action: action.unwrap_or(AccountAction::Bad) }))
    }
}

/// A device of the account, as its owner is shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDevice {
    /// Its name.
    pub resource: String,
    /// Whether it is online now.
    pub online: bool,
    /// When it last logged in or went, in milliseconds since the Unix epoch.
    pub seen_at_ms: i64,
}

/// To an [`AccountRequest`].
impl iq::Answer<'_> {
    /// The list of devices.
    pub fn devices(self, out: &mut Vec<u8>, devices: &[ListedDevice]) {
        self.result(out, |query| query.value("devices", |out| write::array(out, devices, write_device)));
    }

    /// A device was removed.
    pub fn removed(self, out: &mut Vec<u8>) {
        self.done(out);
    }
}

fn write_device(out: &mut Vec<u8>, device: &ListedDevice) {
    write::Object::begin(out)
        .text("resource", &device.resource)
        .number("online", device.online.into())
        .number("seen_at", device.seen_at_ms)
        .end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iq::Condition;

    fn read(rest: &str) -> Option<AccountRequest> {
        let packet = format!(r#"{{"stanza":"iq","namespace":"account","id":"7",{rest}}}"#);
        AccountRequest::read(&Fields::read(&packet).unwrap()).unwrap()
    }

    #[test]
    fn devices_are_listed_and_removed() {
        let phone = Resource::named("phone").unwrap();
        for (rest, expected) in [
            (r#""type":"get""#, AccountAction::Devices),
            (r#""type":"set","query":{"remove":"phone"}"#, AccountAction::Remove(phone)),
            (
                r#""type":"set","query":{"remove":"default"}"#,
                AccountAction::Remove(Resource::default_device()),
            ),
            (
                r#""type":"set","query":{"remove":"cafe\u0301"}"#,
                AccountAction::Remove(Resource::named("café").unwrap()),
            ),
            (r#""type":"set","query":{"remove":"a\u0000"}"#, AccountAction::Bad),
            (r#""type":"set","query":{"remove":""}"#, AccountAction::Bad),
            (r#""type":"set","query":{"remove":null}"#, AccountAction::Bad),
            (r#""type":"set""#, AccountAction::Bad),
            (r#""type":"ask""#, AccountAction::Bad),
        ] {
            assert_eq!(read(rest).unwrap().action, expected, "{rest}");
        }
        assert_eq!(read(r#""type":"result""#), None);
    }

    #[test]
    fn answers_are_written_as_the_documentation_says() {
        let id = read(r#""type":"get""#).unwrap().id;
        let answer = iq::Answer::new("account", Some("esa@a.example/tv"), id.as_ref());
        let line = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let device = ListedDevice { resource: "phone".into(), online: true, seen_at_ms: 1 };
        let devices = line(&|out| answer.devices(out, std::slice::from_ref(&device)));
        let expected = concat!(
            r#"{"stanza":"iq","namespace":"account","type":"result","query":{"devices":["#,
            r#"{"resource":"phone","online":1,"seen_at":1}]},"to":"esa@a.example/tv","id":"7"}"#,
            "\n"
        );
        assert_eq!(devices, expected);
        let refused = line(&|out| answer.refused(out, Condition::ItemNotFound));
        assert!(refused.contains(r#""type":"error","error":{"type":"cancel","condition":"item-not-found"}"#));
    }
}
