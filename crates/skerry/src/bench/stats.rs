//! Latencies, medians and ratios: the few statistics that a measurement is told in.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies in microseconds, three digits exact, up to ten minutes.
#[derive(Debug, Clone)]
pub(super) struct Latencies(Histogram<u64>);

const MOST_MICROS: u64 = 600_000_000;

impl Latencies {
    pub(super) fn new() -> Self {
        Self(
            Histogram::new_with_bounds(1, MOST_MICROS, 3)
                .expect("the bounds are constants that the crate accepts"),
        )
    }

    pub(super) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros.max(1));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// Milliseconds; `None` before the first is recorded.
    pub(super) fn summary(&self) -> Option<Latency> {
        let millis = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        (!self.0.is_empty()).then(|| Latency {
            p50: millis(0.50),
            p99: millis(0.99),
            p999: Some(millis(0.999)),
            max: self.0.max() as f64 / 1e3,
        })
    }
}

/// Latencies of requests, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Not every peer tells it.
    #[serde(default)]
    pub(super) p999: Option<f64>,
    pub(super) max: f64,
}

/// The middle value; the mean of the two middle ones of an even count. `None` of nothing.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some((values[middle - 1] + upper) / 2.0) }
}

/// `one / other`; `None` without a base.
pub(super) fn ratio(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) if other > 0.0 => Some(one / other),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
        assert_eq!(ratio(Some(6.0), Some(2.0)), Some(3.0));
        assert_eq!(ratio(Some(6.0), Some(0.0)), None);
        assert_eq!(ratio(None, Some(1.0)), None);
    }

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.summary(), None);
        let mut others = Latencies::new();
        for micros in 1..=1_000 {
            let target = if micros % 2 == 0 { &mut latencies } else { &mut others };
            target.record(Duration::from_micros(micros * 10));
        }
        latencies.add(&others);
        let summary = latencies.summary().unwrap();
        assert!((summary.p50 - 5.0).abs() < 0.02 && (summary.p99 - 9.9).abs() < 0.02, "{summary:?}");
        assert!(
            summary.p999.is_some_and(|p999| (p999 - 9.99).abs() < 0.02) && (summary.max - 10.0).abs() < 0.02
        );
        latencies.record(Duration::from_secs(100_000));
        assert!(latencies.summary().unwrap().max >= 600_000.0);
    }
}
