//! The history against a model that adds everything up from the records, one by one.
//!
//! Few accounts, dates, codes and references, tiny spans: everything collides, and every question
//! crosses sealed spans, waiting ones and the chunk in the making.

mod crashes;
mod model;
mod questions;

pub(crate) use model::{Memory, id_at};
