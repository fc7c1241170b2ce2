//! What metrics are made of, beside what prometheus-client has: families whose label has known values, and requests to
//! something that may be slow or away.
//!
//! Not here: the registry and `/metrics` (`kurir-service`), and what is counted (each crate for itself).
#![warn(missing_docs)]

mod label;
mod requests;

pub use label::{ByLabel, Label};
pub use requests::Requests;
