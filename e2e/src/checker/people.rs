//! Which devices each account has.

use std::collections::BTreeSet;

use super::history::Device;
use crate::packets::DOMAIN;
use crate::raw::Speaks;

/// A device of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The account's device `default` as the original's client: its framing, the password at each login, no places.
    Original,
    /// The account's device `default`.
    Default,
    /// One that logs in with this `resource`.
    Named(&'static str),
}

/// Accounts in turn have one, two and three devices that go by places (`resume`), and one that does not, alone or beside one
/// that does.
const HOUSEHOLDS: [&[Kind]; 5] = [
    &[Kind::Default],
    &[Kind::Default, Kind::Named("telepon")],
    &[Kind::Named("telepon"), Kind::Default, Kind::Named("laptop")],
    &[Kind::Original],
    &[Kind::Original, Kind::Named("laptop")],
];

/// Everybody's devices. Accounts count from 0.
#[derive(Clone, Debug)]
pub struct People {
    /// The pair among them.
    accounts: usize,
    /// The first account of the pair that is in a hurry, if there is one.
    pair: Option<usize>,
    devices: Vec<(usize, Kind)>,
}

impl People {
    /// So many accounts, each with its devices.
    pub fn of(accounts: usize) -> People {
        let devices = |account: usize| {
            let kinds = HOUSEHOLDS[account % HOUSEHOLDS.len()];
            kinds.iter().map(move |kind| (account, *kind))
        };
        People { accounts, pair: None, devices: (0..accounts).flat_map(devices).collect() }
    }

    /// And two accounts more, with a device each, who write to each other as fast as they can when there is a rush.
    #[must_use]
    pub fn and_a_pair(mut self) -> People {
        let first = self.accounts;
        self.devices.extend([(first, Kind::Default), (first + 1, Kind::Default)]);
        People { accounts: first + 2, pair: Some(first), ..self }
    }

    /// To whom this device writes as fast as it can when there is a rush; none: it is in no hurry.
    pub fn partner(&self, device: Device) -> Option<usize> {
        let (first, own) = (self.pair?, self.account(device));
        (own >= first).then(|| if own == first { first + 1 } else { first })
    }

    /// How many accounts there are.
    pub fn accounts(&self) -> usize {
        self.accounts
    }

    /// The account of each device.
    pub fn accounts_of_devices(&self) -> Vec<usize> {
        self.devices.iter().map(|(account, _)| *account).collect()
    }

    /// The devices that do not go by places.
    pub fn plain(&self) -> BTreeSet<Device> {
        (0..self.devices.len()).filter(|device| self.kind(*device) == Kind::Original).collect()
    }

    /// Whose a device is.
    pub fn account(&self, device: Device) -> usize {
        self.devices[device].0
    }

    /// What sort of device it is.
    pub fn kind(&self, device: Device) -> Kind {
        self.devices[device].1
    }

    /// Whose this is in a packet's `from`, as `reader` is shown it: a name, or to a named device a full address.
    pub fn writes(&self, from: Device, reader: Device) -> String {
        let name = name_of(self.account(from));
        match (self.kind(reader), self.kind(from).resource()) {
            (Kind::Original | Kind::Default, _) => name,
            (Kind::Named(_), resource) => format!("{name}@{DOMAIN}/{}", resource.unwrap_or("default")),
        }
    }

    /// The account that a packet's `to` names, whether by a name or by an address.
    pub fn addressed(&self, to: &str) -> Option<usize> {
        let bare = to.split(['@', '/']).next()?;
        (0..self.accounts).find(|account| name_of(*account) == bare)
    }
}

impl Kind {
    /// What it logs in with.
    pub fn resource(self) -> Option<&'static str> {
        match self {
            Kind::Original | Kind::Default => None,
            Kind::Named(resource) => Some(resource),
        }
    }

    /// How it writes its packets.
    pub fn speaks(self) -> Speaks {
        match self {
            Kind::Original => Speaks::Original,
            Kind::Default | Kind::Named(_) => Speaks::Lines,
        }
    }
}

/// What an account is called.
pub fn name_of(account: usize) -> String {
    format!("orang{account}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_one_two_and_three_devices() {
        let people = People::of(6);
        assert_eq!(people.accounts_of_devices(), [0, 1, 1, 2, 2, 2, 3, 4, 4, 5]);
        assert_eq!(people.plain(), BTreeSet::from([6, 7]));
        assert_eq!((people.kind(2), people.account(5)), (Kind::Named("telepon"), 2));
        assert_eq!((people.writes(2, 0), people.writes(8, 6)), ("orang1".into(), "orang4".into()));
        assert_eq!(people.writes(2, 3), "orang1@localhost/telepon");
        assert_eq!(people.writes(0, 3), "orang0@localhost/default");
        assert_eq!(people.addressed("orang3@localhost/laptop"), Some(3));
        assert_eq!((people.addressed("orang1"), people.addressed("orang4")), (Some(1), Some(4)));
        assert_eq!(people.addressed("orang6"), None);
    }

    #[test]
    fn a_pair_is_two_accounts_more_who_have_each_other() {
        let people = People::of(3).and_a_pair();
        assert_eq!((people.accounts(), people.accounts_of_devices()), (5, vec![0, 1, 1, 2, 2, 2, 3, 4]));
        let partners: Vec<_> = (0..8).map(|device| people.partner(device)).collect();
        assert_eq!(partners, [None, None, None, None, None, None, Some(4), Some(3)]);
        assert_eq!(People::of(3).partner(5), None);
    }
}
