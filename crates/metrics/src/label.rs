//! Families with one label, all of whose values are known.

use std::{fmt, marker::PhantomData, sync::Arc};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric},
};

/// The values of one label. [`label!`](crate::label!) makes them.
pub trait Label: Copy + fmt::Debug + Send + Sync + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Its values, in the order of [`index`](Self::index).
    const VALUES: &'static [&'static str];

    /// The place of this one among them.
    fn index(self) -> usize;

    /// This one, as it is shown.
    fn value(self) -> &'static str {
        Self::VALUES.get(self.index()).copied().unwrap_or_default()
    }
}

/// Declares the values of a label, as an enum that is a [`Label`]:
///
/// ```
/// kurir_metrics::label! {
///     /// What became of a hello.
///     pub enum Hello as "result" {
///         Admitted = "admitted",
///         Refused = "refused",
///     }
/// }
/// let hellos = kurir_metrics::ByLabel::<Hello, prometheus_client::metrics::counter::Counter>::default();
/// hellos.of(Hello::Refused).inc();
/// ```
#[macro_export]
macro_rules! label {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $label:ident as $name:literal {
            $($(#[$value_attribute:meta])* $variant:ident = $value:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $label {
            $($(#[$value_attribute])* $variant,)+
        }

        impl $crate::Label for $label {
            const NAME: &'static str = $name;
            const VALUES: &'static [&'static str] = &[$($value),+];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

/// A metric for each value of a label, there from the start: a rate over what has not happened yet is 0 and not missing, and
/// the first time counts. Clones are the same.
pub struct ByLabel<L, M> {
    metrics: Arc<[M]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label, M> ByLabel<L, M> {
    /// The metric of one value. Takes no lock.
    #[expect(clippy::indexing_slicing, reason = "there is one for each value")]
    pub fn of(&self, value: L) -> &M {
        &self.metrics[value.index()]
    }
}

impl<L: Label, M: Default> Default for ByLabel<L, M> {
    fn default() -> Self {
        Self { metrics: L::VALUES.iter().map(|_| M::default()).collect(), label: PhantomData }
    }
}

impl<L, M> Clone for ByLabel<L, M> {
    fn clone(&self) -> Self {
        Self { metrics: Arc::clone(&self.metrics), label: PhantomData }
    }
}

impl<L, M: fmt::Debug> fmt::Debug for ByLabel<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.metrics.iter()).finish()
    }
}

impl<L: Label, M: EncodeMetric + TypedMetric> EncodeMetric for ByLabel<L, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (value, metric) in L::VALUES.iter().zip(self.metrics.iter()) {
            metric.encode(encoder.encode_family(&[(L::NAME, *value)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, metrics::counter::Counter, registry::Registry};

    use super::*;

    label! {
        enum Outcome as "outcome" {
            Delivered = "delivered",
            NotDelivered = "not_delivered",
        }
    }

    #[test]
    fn every_value_is_shown_from_the_start() {
        let messages: ByLabel<Outcome, Counter> = ByLabel::default();
        let mut registry = Registry::default();
        registry.register("messages", "Messages", messages.clone());
        messages.of(Outcome::NotDelivered).inc();
        assert_eq!(messages.of(Outcome::Delivered).get(), 0);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert_eq!(
            text,
            "# HELP messages Messages.\n\
             # TYPE messages counter\n\
             messages_total{outcome=\"delivered\"} 0\n\
             messages_total{outcome=\"not_delivered\"} 1\n\
             # EOF\n"
        );
    }
}
