//! Spans to a collector, in batches and in the background. What a collector does not take in time is lost: traces never hold up
//! what they tell of.

use std::time::Duration;

use kurir_trace::TARGET;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use serde::{Deserialize, Serialize};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

/// A collector that does not answer for so long has not taken the batch; nor is the process' end held up for longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Section `[traces]` of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracesConfig {
    /// `http://host:port` of a collector that takes OTLP over gRPC; empty: no traces.
    pub otlp_endpoint: String,
    /// The share of traces that are taken, 0 to 1. Whoever begins one decides for all processes that go on with it.
    pub sample_ratio: f64,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self { otlp_endpoint: String::new(), sample_ratio: 1.0 }
    }
}

/// Sends what is left when it is [finished](Exporter::finish).
#[derive(Debug)]
pub struct Exporter(SdkTracerProvider);

/// There can be no exporter to this address.
#[derive(Debug, thiserror::Error)]
#[error("traces.otlp_endpoint: {endpoint:?} cannot be exported to")]
pub struct ExportError {
    /// As configured.
    endpoint: String,
    source: ExporterBuildError,
}

/// A layer that exports the spans of this process, called `kurir-<role>` there, and the exporter behind it. None: they are off. Needs a
/// tokio runtime that is entered, and that lives until the exporter is finished.
pub(crate) fn layer<S>(
    config: &TracesConfig,
    role: &str,
) -> Result<Option<(impl Layer<S> + Send + Sync + 'static, Exporter)>, ExportError>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    if config.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&config.otlp_endpoint)
        .with_timeout(PATIENCE)
        .build()
        .map_err(|source| ExportError { endpoint: config.otlp_endpoint.clone(), source })?;
    // Beside what OTEL_RESOURCE_ATTRIBUTES says.
    let resource = Resource::builder()
        .with_service_name(format!("kurir-{role}"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio)));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .with_sampler(sampler)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("kurir"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(TARGET, LevelFilter::TRACE));
    Ok(Some((layer, Exporter(provider))))
}

impl Exporter {
    /// Sends what is left, for three seconds at most. Blocks; not to be called on the runtime's own threads.
    pub fn finish(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(PATIENCE) {
            tracing::debug!(error = &error as &dyn std::error::Error, "the last spans were not taken");
        }
    }
}
