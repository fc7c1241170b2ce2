//! Spans to a collector, in batches and in the background. What a collector does not take in time is lost: traces never hold up
//! what they tell of.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use kurir_trace::TARGET;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{self, Sampler, SdkTracerProvider, SpanData},
};
use prometheus_client::metrics::counter::Counter;
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
pub struct Exporter {
    provider: SdkTracerProvider,
    lost: Counter,
}

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
    let lost = Counter::default();
    let exporter = Watched { exporter, is_failing: AtomicBool::new(false), lost: lost.clone() };
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
    let exporter = Exporter { provider, lost };
    let layer = tracing_opentelemetry::layer()
        .with_tracer(exporter.provider.tracer("kurir"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(TARGET, LevelFilter::TRACE));
    Ok(Some((layer, exporter)))
}

/// Says when the collector begins to take nothing, and when it takes again, and counts what it did not take.
#[derive(Debug)]
struct Watched {
    exporter: SpanExporter,
    is_failing: AtomicBool,
    lost: Counter,
}

impl trace::SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let exported = self.exporter.export(batch).await;
        let was_failing = self.is_failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Err(error) => {
                self.lost.inc_by(spans);
                if !was_failing {
                    let error = error as &dyn std::error::Error;
                    tracing::warn!(
                        error,
                        spans,
                        "traces: the collector took nothing; until it does, spans are lost"
                    );
                }
            }
            Ok(()) if was_failing => tracing::info!("traces: the collector takes spans again"),
            Ok(()) => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl Exporter {
    /// Spans that no collector took.
    pub(crate) fn lost(&self) -> Counter {
        self.lost.clone()
    }

    /// Sends what is left, for three seconds at most. Blocks; not to be called on the runtime's own threads.
    pub fn finish(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(PATIENCE) {
            tracing::debug!(error = &error as &dyn std::error::Error, "the last spans were not taken");
        }
    }
}
