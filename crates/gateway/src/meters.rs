//! What the gateway counts, and the text in which Prometheus reads it (exposition format 0.0.4).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that others may read while it changes.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    /// Takes away.
    pub fn subtract(&self, by: u64) {
        self.0.fetch_sub(by, Ordering::Relaxed);
    }

    /// Reads.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Latency buckets: upper bounds in microseconds, doubling from 64 µs to 16 s.
const BUCKETS: usize = 19;
const FIRST_US: u64 = 64;

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
    beyond: AtomicU64,
    sum_us: AtomicU64,
}

impl Latency {
    /// Counts one.
    pub fn record(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let doublings = u64::BITS - (took_us.saturating_sub(1) / FIRST_US).leading_zeros();
        let bucket = usize::try_from(doublings).ok().and_then(|index| self.buckets.get(index));
        bucket.unwrap_or(&self.beyond).fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// Writes it as a Prometheus histogram in seconds.
    pub fn write(&self, out: &mut Exposition, name: &str, labels: &str) {
        let mut count = 0;
        let comma = if labels.is_empty() { "" } else { "," };
        for (doublings, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = seconds(FIRST_US << doublings);
            out.line(format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"));
        }
        count += self.beyond.load(Ordering::Relaxed);
        out.line(format_args!("{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}"));
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        out.line(format_args!(
            "{name}_sum{open}{labels}{close} {}",
            seconds(self.sum_us.load(Ordering::Relaxed))
        ));
        out.line(format_args!("{name}_count{open}{labels}{close} {count}"));
    }
}

/// Microseconds as decimal seconds, without floats.
#[must_use]
pub fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// The gateway's own meters.
#[derive(Debug, Default)]
pub struct Meters {
    /// Connections open now.
    pub connections: Gauge,
    /// Connections refused at the cap.
    pub connections_refused: Gauge,
    /// Requests being answered.
    pub in_flight: Gauge,
    /// Event streams open now.
    pub streams: Gauge,
    /// Event streams that were dropped because their readers took nothing.
    pub streams_dropped: Gauge,
    /// Bytes of answers whose length was known, which is all but streams.
    pub bytes_sent: Gauge,
    /// Handlers that panicked.
    pub panics: Gauge,
    /// Answers by hundreds of their status: 2xx is number 2.
    pub answers: [Gauge; 6],
    /// Spans that the collector of traces took.
    pub traces_sent: Gauge,
    /// Spans that were dropped: the queue was full, or the collector away.
    pub traces_dropped: Gauge,
    /// Time of requests that change something.
    pub writes: Latency,
    /// Time of requests that look.
    pub reads: Latency,
}

/// Text in Prometheus' format, built line by line.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a metric.
    pub fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One line.
    pub fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }

    /// A metric of one line without labels.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.metric(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }
}

impl Meters {
    /// Writes them all.
    pub fn write(&self, out: &mut Exposition) {
        out.single("skerry_http_connections", "gauge", "Connections open now.", self.connections.get());
        out.single(
            "skerry_http_connections_refused_total",
            "counter",
            "Connections refused at the cap.",
            self.connections_refused.get(),
        );
        out.single("skerry_http_in_flight", "gauge", "Requests being answered.", self.in_flight.get());
        out.single("skerry_http_event_streams", "gauge", "Event streams open now.", self.streams.get());
        out.single(
            "skerry_http_event_streams_dropped_total",
            "counter",
            "Event streams dropped because their readers took nothing.",
            self.streams_dropped.get(),
        );
        out.single("skerry_http_panics_total", "counter", "Handlers that panicked.", self.panics.get());
        out.single(
            "skerry_http_sent_bytes_total",
            "counter",
            "Bytes of answers, streams left out.",
            self.bytes_sent.get(),
        );
        out.single(
            "skerry_traces_sent_total",
            "counter",
            "Spans that the collector took.",
            self.traces_sent.get(),
        );
        out.single(
            "skerry_traces_dropped_total",
            "counter",
            "Spans dropped: the queue was full or the collector away.",
            self.traces_dropped.get(),
        );
        out.metric("skerry_http_answers_total", "counter", "Answers by class of status.");
        for (class, count) in self.answers.iter().enumerate().skip(1) {
            out.line(format_args!("skerry_http_answers_total{{class=\"{class}xx\"}} {}", count.get()));
        }
        out.metric("skerry_http_seconds", "histogram", "Time from the head of a request to its answer.");
        self.writes.write(out, "skerry_http_seconds", "kind=\"write\"");
        self.reads.write(out, "skerry_http_seconds", "kind=\"read\"");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_below_its_bound() {
        let latency = Latency::default();
        for micros in [0, 1, 64, 65, 128, 129, 20_000_000] {
            latency.record(Duration::from_micros(micros));
        }
        let mut out = Exposition::default();
        latency.write(&mut out, "x", "");
        let text = out.finish();
        for line in
            ["x_bucket{le=\"0.000064\"} 3", "x_bucket{le=\"0.000128\"} 5", "x_bucket{le=\"0.000256\"} 6"]
        {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(text.contains("x_bucket{le=\"16.777216\"} 6\nx_bucket{le=\"+Inf\"} 7"), "{text}");
        assert!(text.contains("x_sum 20.000387\nx_count 7"), "{text}");
    }
}
