//! Who may have a device: every rule of the tables, each a function of what is on record.

use kurir_protocol::name::{LoginId, Resource};

/// Whether the owner of an entry lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It is this generation itself.
    Own,
    /// It lives, or nobody may say that it is dead.
    Live,
    /// It is dead for good.
    Dead,
}

/// The entry on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) login: LoginId,
    /// Which claim of its owner it is.
    pub(crate) unique: u64,
    /// The login before it lost the device for good.
    pub(crate) displaces: bool,
    pub(crate) life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Nobody loses anything by it.
    Take,
    /// The one on record is to be closed.
    Displace,
    Refuse,
    /// Refuse: the login is over.
    Ended,
}

/// Whether the device of everybody who names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    Default,
    Named,
}

impl Device {
    pub(crate) fn of(resource: &Resource) -> Self {
        if *resource == Resource::default_device() { Self::Default } else { Self::Named }
    }
}

/// A login. `displaces`: of a named device, or one that comes back by its session.
pub(crate) fn new_session(
    displaces: bool,
    login: LoginId,
    current: Option<Current>,
    ended: Option<LoginId>,
) -> Ruling {
    match current {
        _ if is_over(login, ended) => Ruling::Ended,
        None | Some(Current { life: Life::Dead, .. }) => Ruling::Take,
        // The same claim once more: its first answer was lost.
        Some(Current { life: Life::Own, login: on_record, .. }) if on_record == login => Ruling::Take,
        Some(current) if !displaces || current.login > login => Ruling::Refuse,
        Some(_) => Ruling::Displace,
    }
}

/// A hello at a relay. `superseded`: the device has a live session of a newer login.
pub(crate) fn new_route(
    login: LoginId,
    connection: u64,
    current: Option<Current>,
    superseded: bool,
    ended: Option<LoginId>,
) -> Ruling {
    if superseded || is_over(login, ended) {
        return Ruling::Refuse;
    }
    again_route(login, connection, current, None, Ruling::Displace)
}

/// What a component was to others since it last claimed what it claims again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meanwhile {
    /// Dead, for its generation is another now: whoever claimed meanwhile did so rightly.
    Dead,
    /// Alive: of two owners the conflict rule chooses. The device without a name stays with its older login, unless the newer
    /// one has displaced it; a named one goes to the newer.
    Alive,
}

/// A session of a component that had it all along.
pub(crate) fn old_session(
    device: Device,
    login: LoginId,
    meanwhile: Meanwhile,
    current: Option<Current>,
    ended: Option<LoginId>,
) -> Ruling {
    match current {
        _ if is_over(login, ended) => Ruling::Refuse,
        None | Some(Current { life: Life::Dead, .. }) => Ruling::Take,
        Some(Current { life: Life::Own, login: on_record, .. }) if on_record == login => Ruling::Take,
        Some(current) => {
            let older_stays =
                device == Device::Default && meanwhile == Meanwhile::Alive && !current.displaces;
            let keeps = match device {
                Device::Default => older_stays && login < current.login,
                Device::Named => login > current.login,
            };
            if keeps { Ruling::Displace } else { Ruling::Refuse }
        }
    }
}

/// A route of a relay that had it all along: of two of one login the one on record stays.
pub(crate) fn old_route(
    login: LoginId,
    connection: u64,
    current: Option<Current>,
    ended: Option<LoginId>,
) -> Ruling {
    again_route(login, connection, current, ended, Ruling::Refuse)
}

fn again_route(
    login: LoginId,
    connection: u64,
    current: Option<Current>,
    ended: Option<LoginId>,
    same_login: Ruling,
) -> Ruling {
    if is_over(login, ended) {
        return Ruling::Refuse;
    }
    match current {
        None | Some(Current { life: Life::Dead, .. }) => Ruling::Take,
        Some(Current { life: Life::Own, unique, .. }) if unique == connection => Ruling::Take,
        Some(current) if current.login > login => Ruling::Refuse,
        Some(current) if current.login == login => same_login,
        Some(_) => Ruling::Displace,
    }
}

/// `ended`: the newest login of the device that was ended.
fn is_over(login: LoginId, ended: Option<LoginId>) -> bool {
    ended.is_some_and(|ended| ended >= login)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDER: LoginId = LoginId(4);
    const MINE: LoginId = LoginId(5);
    const NEWER: LoginId = LoginId(6);

    #[expect(clippy::unnecessary_wraps, reason = "what the rules take")]
    fn on_record(login: LoginId, life: Life) -> Option<Current> {
        Some(Current { login, unique: login.0, displaces: false, life })
    }

    #[test]
    fn a_dead_owner_never_stands_in_the_way() {
        for login in [OLDER, MINE, NEWER] {
            let dead = on_record(login, Life::Dead);
            for device in [Device::Default, Device::Named] {
                assert_eq!(new_session(device == Device::Named, MINE, dead, None), Ruling::Take);
                assert_eq!(old_session(device, MINE, Meanwhile::Dead, dead, None), Ruling::Take);
                assert_eq!(old_session(device, MINE, Meanwhile::Alive, dead, None), Ruling::Take);
            }
            assert_eq!(new_route(MINE, 1, dead, false, None), Ruling::Take);
            assert_eq!(old_route(MINE, 1, dead, None), Ruling::Take);
        }
    }

    #[test]
    fn m12_the_default_device_that_is_online_refuses_another_login() {
        for life in [Life::Live, Life::Own] {
            assert_eq!(new_session(false, MINE, on_record(OLDER, life), None), Ruling::Refuse);
            assert_eq!(new_session(false, MINE, on_record(NEWER, life), None), Ruling::Refuse);
        }
        assert_eq!(new_session(false, MINE, on_record(MINE, Life::Own), None), Ruling::Take);
    }

    #[test]
    fn a_named_device_goes_to_the_newer_login() {
        assert_eq!(new_session(true, MINE, on_record(OLDER, Life::Live), None), Ruling::Displace);
        assert_eq!(new_session(true, MINE, on_record(NEWER, Life::Live), None), Ruling::Refuse);
        assert_eq!(
            old_session(Device::Named, MINE, Meanwhile::Alive, on_record(OLDER, Life::Live), None),
            Ruling::Displace
        );
        assert_eq!(
            old_session(Device::Named, MINE, Meanwhile::Dead, on_record(NEWER, Life::Live), None),
            Ruling::Refuse
        );
    }

    #[test]
    fn the_default_device_stays_with_its_older_login_unless_that_was_dead() {
        let newer = on_record(NEWER, Life::Live);
        assert_eq!(old_session(Device::Default, MINE, Meanwhile::Alive, newer, None), Ruling::Displace);
        assert_eq!(old_session(Device::Default, MINE, Meanwhile::Dead, newer, None), Ruling::Refuse);
        let older = on_record(OLDER, Life::Live);
        assert_eq!(old_session(Device::Default, MINE, Meanwhile::Alive, older, None), Ruling::Refuse);
        let came_back = newer.map(|newer| Current { displaces: true, ..newer });
        assert_eq!(old_session(Device::Default, MINE, Meanwhile::Alive, came_back, None), Ruling::Refuse);
    }

    #[test]
    fn a_second_hello_replaces_the_first_but_not_a_newer_login() {
        for life in [Life::Live, Life::Own] {
            assert_eq!(new_route(MINE, 9, on_record(OLDER, life), false, None), Ruling::Displace);
            assert_eq!(new_route(MINE, 9, on_record(MINE, life), false, None), Ruling::Displace);
            assert_eq!(new_route(MINE, 9, on_record(NEWER, life), false, None), Ruling::Refuse);
        }
    }

    #[test]
    fn an_ended_or_superseded_login_gets_no_route() {
        assert_eq!(new_route(MINE, 1, None, false, Some(MINE)), Ruling::Refuse);
        assert_eq!(new_route(MINE, 1, None, false, Some(NEWER)), Ruling::Refuse);
        assert_eq!(new_route(MINE, 1, None, false, Some(OLDER)), Ruling::Take);
        assert_eq!(new_route(MINE, 1, None, true, None), Ruling::Refuse);
        assert_eq!(old_route(MINE, 1, None, Some(MINE)), Ruling::Refuse);
    }

    #[test]
    fn an_ended_login_gets_no_session() {
        for (ended, over) in [(OLDER, false), (MINE, true), (NEWER, true)] {
            for current in [None, on_record(OLDER, Life::Live), on_record(MINE, Life::Own)] {
                let new = new_session(true, MINE, current, Some(ended));
                assert_eq!(new == Ruling::Ended, over, "{ended} {current:?}");
                let old = old_session(Device::Named, MINE, Meanwhile::Alive, current, Some(ended));
                assert_eq!(old == Ruling::Refuse, over, "{ended} {current:?}");
            }
        }
    }

    #[test]
    fn of_two_routes_of_one_login_the_one_on_record_stays() {
        assert_eq!(old_route(MINE, 9, on_record(MINE, Life::Live), None), Ruling::Refuse);
        assert_eq!(old_route(MINE, 5, on_record(MINE, Life::Own), None), Ruling::Take);
        assert_eq!(old_route(MINE, 9, on_record(OLDER, Life::Live), None), Ruling::Displace);
    }
}
