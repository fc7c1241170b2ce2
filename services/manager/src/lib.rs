//! The manager: accounts, rosters, presence, and who is sent to which relay. It is the only role that speaks SQL, and
//! it never carries messages.
//!
//! - [`config`]: what can be configured
//! - [`store`], [`password`]: accounts and rosters in the database, and their passwords

pub mod config;
pub mod password;
pub mod store;

pub use config::{Config, RelayChoice};
