//! The tables as sea-orm sees them.

#![expect(unreachable_pub, reason = "sea-orm derives public items from a public model only")]

pub(super) mod account;
pub(super) mod device;
pub(super) mod displayed;
pub(super) mod log;
pub(super) mod log_entry;
pub(super) mod roster_item;
pub(super) mod trail;
