//! Channels and servers for internal gRPC: tonic has no deadline of its own, so every one is set here.

use std::{io, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_stream::Stream;
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Endpoint, Server},
};
use tracing::Span;

/// A connection that is not there by then counts as refused.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// HTTP/2 pings on internal streams: sent after this much silence, and answered within as much again, or the
/// stream is dead (ARCHITECTURE "Tables").
pub const KEEPALIVE: Duration = Duration::from_secs(2);

/// How long accepting rests after the system refused a connection.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Room for batches in flight on one stream; HTTP/2's own 64 KiB would make links wait for window updates.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// A connection to another component. Calls go on with the trace of whoever makes them.
pub type Channel = InterceptedService<tonic::transport::Channel, WithTrace>;

/// Tells the other side, in a call's metadata, which trace it is part of.
#[derive(Debug, Clone, Copy)]
pub struct WithTrace;

/// Why another component could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configured or announced address is no URL.
    #[error("{url} is not a gRPC address (expected http://host:port)")]
    Address {
        /// As given.
        url: String,
        /// What the parser said.
        source: tonic::transport::Error,
    },
    /// Nobody answered within [`CONNECT_TIMEOUT`].
    #[error("cannot connect to {url}")]
    Unreachable {
        /// As given.
        url: String,
        /// What the transport said.
        source: tonic::transport::Error,
    },
    /// It took longer than [`CONNECT_TIMEOUT`] to find out where that is.
    #[error("cannot connect to {url} within {CONNECT_TIMEOUT:?}")]
    Late {
        /// As given.
        url: String,
    },
}

/// Whether [`connect`] understands it: `http://host:port`.
pub fn is_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    uri.scheme_str() == Some("http")
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.port_u16().is_some()
}

/// Connects to another component's gRPC address, `http://host:port`.
///
/// Takes at most [`CONNECT_TIMEOUT`]. Streams on the channel end with an error within twice [`KEEPALIVE`] of the
/// other side's host going silent.
pub async fn connect(url: &str) -> Result<Channel, ConnectError> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|source| ConnectError::Address { url: url.to_owned(), source })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES)
        .tcp_nodelay(true);
    // The endpoint's own deadline does not cover the look-up of the name.
    let channel = timeout(CONNECT_TIMEOUT, endpoint.connect())
        .await
        .map_err(|_| ConnectError::Late { url: url.to_owned() })?
        .map_err(|source| ConnectError::Unreachable { url: url.to_owned(), source })?;
    Ok(InterceptedService::new(channel, WithTrace))
}

impl Interceptor for WithTrace {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let trace = kurir_trace::traceparent().and_then(|trace| AsciiMetadataValue::try_from(trace).ok());
        if let Some(trace) = trace {
            request.metadata_mut().insert(kurir_trace::context::HEADER, trace);
        }
        Ok(request)
    }
}

/// Around the handling of a call that is part of a trace. A stream's is over when it has begun.
fn span_of<B>(request: &http::Request<B>) -> Span {
    let Some(trace) = request.headers().get(kurir_trace::context::HEADER) else { return Span::none() };
    let span = kurir_trace::span!("serve", call = request.uri().path());
    kurir_trace::continued(span, trace.to_str().ok())
}

/// A server for internal gRPC, with the keepalives and windows that [`connect`] expects of the other side.
pub fn server() -> Server {
    Server::builder()
        .trace_fn(span_of)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES)
        .tcp_nodelay(true)
}

/// The connections that come to a bound socket, for `serve_with_incoming`.
///
/// A refusal of the system, for want of files as a rule, is logged and waited out: what cannot be accepted stays in the
/// backlog, so that trying at once would fail at once, for ever.
pub fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    futures_util::stream::unfold(listener, async |listener| {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((Ok(stream), listener)),
                // The other side went away before we came.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept internal connections");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    })
}

/// An error with its causes, in the one log line it gets: transport errors say what happened only in theirs.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_without_a_scheme_is_named_in_the_error() {
        let error = connect("not a url").await.unwrap_err();
        assert!(error.to_string().contains("not a url"), "{error}");
    }

    #[tokio::test]
    async fn nobody_listening_is_unreachable() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        assert!(matches!(connect(&url).await, Err(ConnectError::Unreachable { .. })));
    }
}
