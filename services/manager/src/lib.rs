//! Kurir's manager.

pub mod password;
pub mod store;
