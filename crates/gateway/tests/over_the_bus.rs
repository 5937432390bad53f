//! The bank's tests once more, with every branch behind a bus, as a gateway reaches those of other processes: the answers
//! are the same.
#![expect(clippy::duplicate_mod, reason = "each file brings its rig, which finds out that it is here")]

#[path = "answers.rs"]
mod answers;
#[path = "banking.rs"]
mod banking;
#[path = "crossing_table.rs"]
mod crossing_table;
#[path = "events.rs"]
mod events;
#[path = "holds.rs"]
mod holds;
#[path = "iso20022.rs"]
mod iso20022;
#[path = "notes.rs"]
mod notes;
#[path = "operating.rs"]
mod operating;
#[path = "payments.rs"]
mod payments;
#[path = "residence.rs"]
mod residence;
#[path = "webhooks.rs"]
mod webhooks;
