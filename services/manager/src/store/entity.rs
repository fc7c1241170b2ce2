//! The tables as sea-orm sees them.

pub(super) mod account;
#[expect(unreachable_pub, reason = "sea-orm derives public items from a public model only")]
pub(super) mod roster_item;
