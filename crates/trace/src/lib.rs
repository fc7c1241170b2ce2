//! Traces for operators: what a login or a batch of tracked messages went through, across processes, as spans that are sent
//! to an OpenTelemetry collector.
//!
//! Off unless an endpoint is configured; a span is then a look at one constant. Spans here are none of the log's: they have
//! a target and a level of their own.
//!
//! - [`span!`](crate::span!) begins a trace or goes on in one; [`step!`](crate::step!) only goes on
//! - [`context`]: from one process to the next
//!
//! Not here: the collector (`kurir-service`).
#![warn(missing_docs)]

pub mod context;

pub use context::{continued, traceparent};

/// The target of every span that is exported, and of nothing else.
pub const TARGET: &str = "kurir_trace";

#[doc(hidden)]
pub use tracing as __tracing;

/// A span with a literal name and fields as `tracing`'s. It begins a trace where there is none.
#[macro_export]
macro_rules! span {
    ($name:literal $(, $($fields:tt)+)?) => {
        $crate::__tracing::trace_span!(target: "kurir_trace", $name $(, $($fields)+)?)
    };
}

/// A [`span!`] where one is open already, and none otherwise: what happens all the time, such as the renewal of a lease, is no trace
/// of its own.
#[macro_export]
macro_rules! step {
    ($name:literal $(, $($fields:tt)+)?) => {
        if $crate::__tracing::Span::current().is_disabled() {
            $crate::__tracing::Span::none()
        } else {
            $crate::span!($name $(, $($fields)+)?)
        }
    };
}
