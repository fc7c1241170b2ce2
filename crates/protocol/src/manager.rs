//! The manager's client socket (PROTOCOL §2, §3, §4).

mod account;
mod archive;
mod auth;
mod explain;
mod from_client;
mod presence;
mod roster;
mod to_client;

pub use account::{AccountAction, AccountRequest, ListedDevice};
pub use archive::{ArchiveAction, ArchiveRequest, Displayed, Filed, Found, Search};
pub use auth::{Auth, Password, Session};
pub use explain::{ExplainRequest, ExplainedStep, Explanation};
pub use from_client::FromClient;
pub use presence::{Presence, PresenceRequest};
pub use roster::{BadSubscription, Item, NewName, RosterAction, RosterRequest, Sender, Subscription};
pub use to_client::{RelayEntry, ToClient};
