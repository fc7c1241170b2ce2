//! The admin port: `/livez`, `/readyz`, `/metrics` over HTTP. For the operator's network, not the clients'.

use serde::{Deserialize, Serialize};

/// Section `[admin]` of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// `host:port` of the admin port; `"off"` turns it off.
    pub listen: String,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: "127.0.0.1:5090".to_owned() }
    }
}
