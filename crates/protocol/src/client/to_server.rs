//! What a client writes.

/// What clients send, to whichever role it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToServer<'a> {
    /// To tracker and manager: the first packet (U1, U2).
    Hello {
        /// The client's own address, as it sees it.
        host: &'a str,
        /// Its own port.
        port: u16,
    },
    /// To the tracker.
    GetComponents,
    /// To the manager (U3).
    Register {
        /// The wanted name.
        username: &'a str,
        /// Its password.
        password: &'a str,
    },
    /// To the manager (U4).
    Login {
        /// The account.
        username: &'a str,
        /// Its password.
        password: &'a str,
    },
    /// To the manager: which relay to connect to now.
    GetRelay,
    /// To the manager (U7).
    RosterGet {
        /// Oneself.
        from: &'a str,
        /// To be echoed.
        id: &'a str,
    },
    /// To the manager: add or rename (U8, U9).
    RosterSet {
        /// Oneself.
        from: &'a str,
        /// The contact.
        jid: &'a str,
        /// What to call it.
        name: Option<&'a str>,
        /// To be echoed.
        id: &'a str,
    },
    /// To the manager (U10).
    RosterRemove {
        /// Oneself.
        from: &'a str,
        /// The contact.
        jid: &'a str,
        /// To be echoed.
        id: &'a str,
    },
    /// To the manager (U6).
    InitialPresence,
    /// To the manager (U11).
    DirectedPresence {
        /// With whom.
        to: &'a str,
    },
    /// To the manager (U12).
    Bio {
        /// Oneself.
        from: &'a str,
        /// What to say.
        bio: &'a str,
    },
    /// To the manager (U13).
    Logout {
        /// Oneself.
        from: &'a str,
    },
    /// To the relay: the first packet (U5).
    RelayHello {
        /// Oneself.
        username: &'a str,
        /// The ticket that came with the relay's address.
        token: Option<&'a str>,
    },
    /// To the relay (U14).
    Message {
        /// Oneself.
        from: &'a str,
        /// The receiver.
        to: &'a str,
        /// The text.
        body: &'a str,
        /// Its language.
        lang: Option<&'a str>,
    },
    /// To anyone: are you there?
    Ping {
        /// To be echoed.
        id: &'a str,
    },
}

impl ToServer<'_> {
    /// Appends the packet as one canonical line.
    pub fn write(&self, out: &mut Vec<u8>) {
        let _ = out;
        todo!()
    }
}
