//! The admin port: `/livez`, `/readyz`, `/metrics` over HTTP. For the operator's network, not the clients'.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use crate::{BindError, Health, Listener, ListenerConfig, Metrics, Shell};

const OFF: &str = "off";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

/// The admin port of a process. Dropping it closes the port.
#[derive(Debug)]
pub struct Admin {
    address: Option<SocketAddr>,
    serving: Option<AbortHandle>,
}

impl Admin {
    /// Opens the admin port, unless it is off. It goes on answering while the process drains.
    pub async fn start(config: &AdminConfig, shell: &Shell) -> Result<Self, BindError> {
        if config.listen == OFF {
            return Ok(Self { address: None, serving: None });
        }
        let listener = Listener::bind(&config.listen, &ListenerConfig::default()).await?;
        let address = listener.local_addr().ok();
        let router = router(shell.health.clone(), shell.metrics.clone());
        // Not in the shutdown's tracker: it outlives the drain and is ended when this value is dropped.
        let serving = tokio::spawn(async move {
            // Resolves never: accepting goes on after errors.
            let _ = axum::serve(listener.into_inner(), router).await;
        });
        Ok(Self { address, serving: Some(serving.abort_handle()) })
    }

    /// Where it listens; `None` when it is off.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

fn router(health: Health, metrics: Metrics) -> Router {
    Router::new()
        // Answered without asking anything: while this runs, restarting the process would not help it.
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz).with_state(health))
        .route("/metrics", get(encoded).with_state(metrics))
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let report = health.report();
    let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // A line for each part, for people.
    let body = serde_json::to_string_pretty(&report).unwrap_or_default() + "\n";
    (status, [(CONTENT_TYPE, "application/json")], body)
}

async fn encoded(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], metrics.encode())
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    async fn open(shell: &Shell) -> Admin {
        Admin::start(&AdminConfig { listen: "127.0.0.1:0".to_owned() }, shell).await.unwrap()
    }

    /// Status line and body of `GET path`.
    async fn get(admin: &Admin, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(admin.address().unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn livez_is_ok_before_anything_is_ready() {
        let admin = open(&Shell::new(1)).await;
        assert_eq!(get(&admin, "/livez").await, ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    }

    #[tokio::test]
    async fn readyz_says_which_part_is_not_ready_and_why() {
        let shell = Shell::new(1);
        let admin = open(&shell).await;
        let relay = shell.health.register("relay");
        relay.not_ready("waiting for a tracker");
        let (status, body) = get(&admin, "/readyz").await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        let expected = serde_json::json!({"ready": false, "parts": {"relay": "waiting for a tracker"}});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), expected);
        assert!(body.lines().any(|line| line.trim() == r#""relay": "waiting for a tracker""#), "{body}");

        relay.ready();
        let (status, body) = get(&admin, "/readyz").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        let expected = serde_json::json!({"ready": true, "parts": {"relay": "ready"}});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), expected);

        shell.health.stopping();
        let (status, _) = get(&admin, "/readyz").await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    }

    #[tokio::test]
    async fn metrics_are_what_the_registry_holds() {
        let shell = Shell::new(1);
        let admin = open(&shell).await;
        shell.metrics.register(|registry| registry.register("users", "Users here", Gauge::<i64>::default()));
        let (status, body) = get(&admin, "/metrics").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert_eq!(body, shell.metrics.encode());
    }

    #[tokio::test]
    async fn off_opens_no_port() {
        let off = AdminConfig { listen: "off".to_owned() };
        assert_eq!(Admin::start(&off, &Shell::new(1)).await.unwrap().address(), None);
    }
}
