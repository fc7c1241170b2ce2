//! Requests that every socket answers by itself: ping, and every iq that it does not know (PROTOCOL Part II).

use crate::object::Malformed;

/// An iq's `id`, echoed in its answer: any JSON string, kept exactly as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(Box<str>);

/// An iq get or set that is answered on the spot, and exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    ping: bool,
    namespace: Option<Box<str>>,
    id: Option<Id>,
}

impl Request {
    /// Appends the answer as a canonical line: `result` to a ping, otherwise `cancel`, `service-unavailable`.
    pub fn answer(&self, out: &mut Vec<u8>) {
        let _ = out;
        todo!()
    }

    /// Like [`answer`](Self::answer) where the client must log in first: a ping is answered all the same, everything
    /// else is `auth`, `not-authorized`.
    pub fn answer_before_login(&self, out: &mut Vec<u8>) {
        let _ = out;
        todo!()
    }
    #[allow(dead_code)]
    fn read(_v: &str) -> Result<Self, Malformed> {
        todo!()
    }
}
