//! A collector of OpenTelemetry, which keeps what it is sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::deadline::{PATIENCE, until};

/// It serves until it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    kept: Kept,
    serving: JoinHandle<()>,
}

/// One span of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// `service.name`.
    pub service: String,
    pub name: String,
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    /// Empty: it begins the trace.
    pub parent: Vec<u8>,
    fields: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<Span>>>);

impl Collector {
    /// On a free port.
    pub async fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let kept = Kept::default();
        let service = TraceServiceServer::new(kept.clone());
        let serving =
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        let serving = tokio::spawn(async move { serving.await.expect("to serve") });
        Collector { address, kept, serving }
    }

    /// Where spans are sent to.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything so far.
    pub fn spans(&self) -> Vec<Span> {
        self.kept.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a span; they are sent in batches, every few seconds.
    pub async fn has(&self, what: &str, is: impl Fn(&Span) -> bool) -> Span {
        let found = async || self.spans().into_iter().find(&is);
        until(PATIENCE, &format!("a span: {what}"), found).await.0
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Span {
    pub fn is(&self, service: &str, name: &str) -> bool {
        self.service == service && self.name == name
    }

    /// A field of text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for process in request.into_inner().resource_spans {
            let resource = process.resource.map(|resource| fields(&resource.attributes)).unwrap_or_default();
            let service = resource.into_iter().find(|(name, _)| name == "service.name").unwrap_or_default().1;
            let spans = process.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| Span {
                service: service.clone(),
                fields: fields(&span.attributes),
                name: span.name,
                trace: span.trace_id,
                id: span.span_id,
                parent: span.parent_span_id,
            });
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn fields(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |field: &KeyValue| match field.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some((field.key.clone(), text.clone())),
        _ => None,
    };
    attributes.iter().filter_map(text).collect()
}
