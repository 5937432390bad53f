//! How two things travel between processes that serde alone cannot carry.

use skerry_book::packed::Field;

use crate::api;

/// [`api::Malformed`] with the field's name as text.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) enum Malformed {
    Length,
    TooMany { max: u32 },
    Transfer { index: u32, field: String },
}

impl From<api::Malformed> for Malformed {
    fn from(malformed: api::Malformed) -> Self {
        match malformed {
            api::Malformed::Length => Self::Length,
            api::Malformed::TooMany { max } => Self::TooMany { max },
            api::Malformed::Transfer { index, field } => Self::Transfer { index, field: field.to_owned() },
        }
    }
}

impl From<Malformed> for api::Malformed {
    /// A field that only a later release names becomes none.
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Length => Self::Length,
            Malformed::TooMany { max } => Self::TooMany { max },
            Malformed::Transfer { index, field } => {
                Self::Transfer { index, field: Field::from_name(&field).name() }
            }
        }
    }
}

impl serde::Serialize for api::Malformed {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        Malformed::from(*self).serialize(out)
    }
}

impl<'de> serde::Deserialize<'de> for api::Malformed {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Malformed::deserialize(input).map(Self::from)
    }
}

/// The buckets of a histogram; further ones, of a later release, are counted with the last.
pub(crate) mod buckets {
    use serde::{Deserialize as _, Deserializer, Serializer};

    const BUCKETS: usize = 40;

    pub(crate) fn serialize<S: Serializer>(buckets: &[u64; BUCKETS], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(buckets)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<[u64; BUCKETS], D::Error> {
        let mut buckets = [0_u64; BUCKETS];
        for (at, count) in Vec::<u64>::deserialize(input)?.into_iter().enumerate() {
            let bucket = &mut buckets[at.min(BUCKETS - 1)];
            *bucket = bucket.saturating_add(count);
        }
        Ok(buckets)
    }
}
