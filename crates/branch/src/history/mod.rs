//! History: what happened, found by account, code, reference, id and date.

pub(crate) mod asked;
pub(crate) mod mix;
pub(crate) mod records;
pub(crate) mod side;
pub(crate) mod table;

pub use asked::{
    AsOf, Cursor, CursorError, Day, DayBy, Entry, Found, Kinds, Order, Page, Query, Range, Side, Totals,
};
pub use records::{RECORD_BYTES, Records};
pub use side::{SideError, SideFolder};
