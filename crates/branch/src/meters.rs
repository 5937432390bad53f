//! Meters: what each kind of request and each principal costs this branch, and how the branch is doing.
//!
//! Counting is by request and by batch, never by transfer. Prices are none of its business: `skerry cost`
//! multiplies. The number of principals told apart is bounded; the rest are counted together.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::api::Principal;

/// Most principals that are told apart; further ones are counted under [`Meters::others`].
pub const PRINCIPALS_MAX: usize = 4096;

/// The kinds of request that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A packed batch of transfers.
    Packed,
    /// Transfers with texts.
    Transfers,
    /// A command to the book.
    Command,
    /// A read by the writer.
    Read,
    /// What the bank itself does: day changes, expiries, checkpoints.
    Bank,
}

impl Kind {
    /// All kinds, in the order of their meters.
    pub const ALL: [Self; 5] = [Self::Packed, Self::Transfers, Self::Command, Self::Read, Self::Bank];

    /// The name used in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packed => "packed",
            Self::Transfers => "transfers",
            Self::Command => "command",
            Self::Read => "read",
            Self::Bank => "bank",
        }
    }
}

/// One meter: everything counts up for ever.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meter {
    /// Requests served.
    pub messages: u64,
    /// Journal records written for them.
    pub records: u64,
    /// Records among them that journal a refusal.
    pub refusals: u64,
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes written to the journal for them, without padding.
    pub bytes_journal: u64,
    /// Time of the writer thread, in nanoseconds.
    pub cpu_ns: u64,
}

impl Meter {
    /// Adds `other` to it.
    pub fn add(&mut self, other: &Self) {
        self.messages = self.messages.wrapping_add(other.messages);
        self.records = self.records.wrapping_add(other.records);
        self.refusals = self.refusals.wrapping_add(other.refusals);
        self.bytes_in = self.bytes_in.wrapping_add(other.bytes_in);
        self.bytes_journal = self.bytes_journal.wrapping_add(other.bytes_journal);
        self.cpu_ns = self.cpu_ns.wrapping_add(other.cpu_ns);
    }
}

/// All meters of a branch since it was opened.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Default)]
pub struct Meters {
    /// By [`Kind`], in the order of [`Kind::ALL`].
    pub kinds: [Meter; Kind::ALL.len()],
    /// Commands, by their names.
    pub commands: BTreeMap<Cow<'static, str>, Meter>,
    /// By principal, at most [`PRINCIPALS_MAX`].
    pub principals: BTreeMap<Principal, Meter>,
    /// Principals beyond that bound.
    pub others: Meter,
}

impl Meters {
    /// Counts `cost` for a request of `kind` by `principal`.
    pub fn count(&mut self, kind: Kind, principal: &Principal, cost: &Meter) {
        for (slot, candidate) in self.kinds.iter_mut().zip(Kind::ALL) {
            if candidate == kind {
                slot.add(cost);
            }
        }
        if let Some(meter) = self.principals.get_mut(principal) {
            meter.add(cost);
        } else if self.principals.len() < PRINCIPALS_MAX {
            self.principals.insert(*principal, *cost);
        } else {
            self.others.add(cost);
        }
    }

    /// Counts `cost` for the command with this name; it is counted under its kind besides.
    pub fn count_command(&mut self, name: &'static str, cost: &Meter) {
        self.commands.entry(Cow::Borrowed(name)).or_default().add(cost);
    }

    /// The meter of `kind`.
    #[must_use]
    pub fn kind(&self, kind: Kind) -> Meter {
        Kind::ALL
            .iter()
            .zip(&self.kinds)
            .find(|(candidate, _)| **candidate == kind)
            .map_or_else(Meter::default, |(_, meter)| *meter)
    }
}

/// A histogram in powers of two: bucket `i` counts values in `[2^(i-1), 2^i)`, bucket 0 the zeros.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    /// Counts.
    #[cfg_attr(feature = "wire", serde(with = "crate::wire::buckets"))]
    pub buckets: [u64; 40],
    /// Sum of the values.
    pub sum: u64,
    /// Number of values.
    pub count: u64,
    /// The largest value.
    pub max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; 40], sum: 0, count: 0, max: 0 }
    }
}

impl Histogram {
    /// Records one value.
    pub fn record(&mut self, value: u64) {
        let bits = usize::try_from(u64::BITS - value.leading_zeros()).unwrap_or(usize::MAX);
        let last = self.buckets.len() - 1;
        if let Some(bucket) = self.buckets.get_mut(bits.min(last)) {
            *bucket += 1;
        }
        self.sum = self.sum.wrapping_add(value);
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// Upper bound of the bucket that holds the `permille`-th value; 0 when empty.
    #[must_use]
    pub fn quantile(&self, permille: u64) -> u64 {
        let wanted = self.count.saturating_mul(permille).div_ceil(1000);
        let mut seen = 0_u64;
        for (bits, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && wanted > 0 {
                return (1_u64 << bits).min(self.max);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_beyond_the_bound_are_counted_together() {
        let mut meters = Meters::default();
        let cost = Meter { messages: 1, ..Meter::default() };
        for number in 0..PRINCIPALS_MAX + 3 {
            meters.count(Kind::Read, &Principal::new(&format!("p{number}")).unwrap(), &cost);
        }
        assert_eq!(meters.principals.len(), PRINCIPALS_MAX);
        assert_eq!(meters.others.messages, 3);
        assert_eq!(meters.kind(Kind::Read).messages, u64::try_from(PRINCIPALS_MAX).unwrap() + 3);
    }

    #[test]
    fn quantiles_come_from_the_right_bucket() {
        let mut histogram = Histogram::default();
        for _ in 0..99 {
            histogram.record(3);
        }
        histogram.record(1000);
        assert_eq!(histogram.quantile(500), 4);
        assert_eq!(histogram.quantile(1000), 1000);
        assert_eq!(histogram.max, 1000);
        assert_eq!(Histogram::default().quantile(990), 0);
    }
}
