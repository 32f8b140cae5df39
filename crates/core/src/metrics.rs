//! Counters and gauges, in OpenMetrics.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;

use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::registry::Registry;

type Labels = Vec<(String, String)>;

#[derive(Clone)]
struct Buckets(Vec<f64>);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

#[derive(Default)]
struct Families {
    registry: Registry,
    counters: HashMap<&'static str, Family<Labels, Counter>>,
    gauges: HashMap<&'static str, Family<Labels, Gauge>>,
    histograms: HashMap<&'static str, Family<Labels, Histogram, Buckets>>,
}

/// Where components put their figures. Clones share the same registry; a component's handle carries its labels.
///
/// Names follow Prometheus' conventions (`actlog_…_bytes`, base units); `_total` is added to counters on output.
/// Labels must have few values: never an id, a user or a text from outside.
#[derive(Clone, Default)]
pub struct Metrics {
    families: Arc<Mutex<Families>>,
    labels: Labels,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("labels", &self.labels).finish_non_exhaustive()
    }
}

impl Metrics {
    /// A handle whose metrics carry these labels too.
    #[must_use]
    pub fn with_labels(&self, labels: &[(&str, &str)]) -> Self {
        Self { families: Arc::clone(&self.families), labels: self.all_labels(labels) }
    }

    /// The counter of that name and these labels, made when absent. Keep it: finding it takes a lock.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Counter {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let Families { registry, counters, .. } = &mut *families;
        let family = counters.entry(name).or_insert_with(|| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            family
        });
        family.get_or_create_owned(&self.all_labels(labels))
    }

    /// The gauge of that name and these labels, made when absent. Keep it: finding it takes a lock.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Gauge {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let Families { registry, gauges, .. } = &mut *families;
        let family = gauges.entry(name).or_insert_with(|| {
            let family = Family::<Labels, Gauge>::default();
            registry.register(name, help, family.clone());
            family
        });
        family.get_or_create_owned(&self.all_labels(labels))
    }

    /// The histogram of that name and these labels, made when absent with the upper bounds given at first.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        bounds: &[f64],
        labels: &[(&str, &str)],
    ) -> Histogram {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let Families { registry, histograms, .. } = &mut *families;
        let family = histograms.entry(name).or_insert_with(|| {
            let family = Family::new_with_constructor(Buckets(bounds.to_vec()));
            registry.register(name, help, family.clone());
            family
        });
        family.get_or_create_owned(&self.all_labels(labels))
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing into a String can't fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &families.registry);
        text
    }

    fn all_labels(&self, labels: &[(&str, &str)]) -> Labels {
        let own = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.labels.iter().cloned().chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_share_a_metric_and_differ_in_labels() {
        let metrics = Metrics::default();
        for name in ["a", "b"] {
            let component = metrics.with_labels(&[("source", name)]);
            component.counter("actlog_test_records", "Records", &[]).inc();
        }
        let text = metrics.encode();
        assert!(text.contains("actlog_test_records_total{source=\"a\"} 1"), "{text}");
        assert!(text.contains("actlog_test_records_total{source=\"b\"} 1"), "{text}");
        assert_eq!(text.matches("# TYPE").count(), 1, "{text}");
    }
}
