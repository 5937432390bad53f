//! The whole state as bytes: for snapshots, digests and a start without replay.
//!
//! Laid by hand, little-endian, in an order that depends on nothing but the events: two ledgers that
//! evolved the same events write the same bytes, whatever their seeds and whether or not one of them was
//! read from an image half way.
//!
//! ```text
//! magic "SKLEDGER" 8 · version u32 · branch u16 · live (u8, i32) · imported through (u8, i32)
//! heads: count u32, then each: reference u64, account 128
//! customers: count u32, then each by serial: account 128
//! holds: slots u32, first vacant u32, then each slot 40
//! trial: pairs of days u32, then each by date: booked i32, value i32, rows u32,
//!        then each by slot: slot u16, debits u128, credits u128
//! ```

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use skerry_money::{Currency, Date};

use crate::account::{Account, Limit, bit};
use crate::holds::{Holds, STORED_BYTES, Slab, Stored};
use crate::ledger::{Accounts, Ledger};
use crate::trial::{Movement, Trial};
use crate::types::{AccountKind, AccountRef};

const MAGIC: &[u8; 8] = b"SKLEDGER";
const VERSION: u32 = 1;
const ACCOUNT_BYTES: usize = 128;
/// How much is gathered before the sink is called.
const CHUNK: usize = 64 * 1024;

/// A ledger as it was at one moment, sharing its pages until they change. Cheap to make, and can be
/// written on another thread while the ledger goes on.
#[derive(Debug, Clone)]
pub struct LedgerImage {
    branch: u16,
    customers: Accounts,
    heads: Accounts,
    head_refs: Arc<[AccountRef]>,
    slab: Slab,
    vacant: u32,
    trial: Trial,
    live: Option<Date>,
    imported_through: Option<Date>,
}

/// Why a ledger could not be read from an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<E> {
    /// The bytes could not be had.
    #[error("could not read the image of a ledger")]
    Source(E),
    /// The bytes are no image of a ledger: what was expected.
    #[error("the image of a ledger is corrupt: expected {0}")]
    Corrupt(&'static str),
    /// Written by a later release.
    #[error("the image of a ledger has the unknown version {0}")]
    Version(u32),
}

impl Ledger {
    /// Marks this moment. Costs one pointer per page of 4 accounts; each page is then copied
    /// before its first change, so the first batches afterwards take longer.
    #[must_use]
    pub fn freeze(&self) -> LedgerImage {
        LedgerImage { customers: self.customers.clone(), ..self.surroundings() }
    }

    /// Begins an image of this moment that costs little at any one time: [`advance_image`](Self::advance_image) until it
    /// is whole. One that is under way is dropped.
    pub fn begin_image(&mut self) {
        self.customers.begin_mark();
        self.marking = Some(Box::new(self.surroundings()));
    }

    /// Goes on with the image, by up to `pages` pages of 4 accounts. Returns it once it is whole; `None` if it is not,
    /// or if none was begun.
    pub fn advance_image(&mut self, pages: usize) -> Option<LedgerImage> {
        let customers = self.customers.advance_mark(pages)?;
        let image = self.marking.take()?;
        Some(LedgerImage { customers, ..*image })
    }

    /// An image without customers' accounts.
    fn surroundings(&self) -> LedgerImage {
        LedgerImage {
            branch: self.branch,
            customers: Accounts::new(),
            heads: self.heads.clone(),
            head_refs: self.head_refs.as_slice().into(),
            slab: self.holds.slab().clone(),
            vacant: self.holds.vacant(),
            trial: self.trial.clone(),
            live: self.live,
            imported_through: self.imported_through,
        }
    }

    /// Reads a ledger back; `fill` fills the whole of each buffer with the next bytes. `seed` is as for
    /// [`new`](Self::new) and need not be the writer's.
    ///
    /// # Errors
    ///
    /// If `fill` fails or the bytes are not an image. That the totals agree with each other is not checked
    /// here but by [`crate::invariants::check`].
    pub fn read<E>(
        fill: &mut impl FnMut(&mut [u8]) -> Result<(), E>,
        seed: [u64; 2],
    ) -> Result<Self, ReadError<E>> {
        let mut reader = Reader { fill };
        if &reader.bytes::<8>()? != MAGIC {
            return Err(ReadError::Corrupt("its magic"));
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(ReadError::Version(version));
        }
        let mut ledger = Self::new(reader.u16()?, seed);
        ledger.live = reader.date_or_none()?;
        ledger.imported_through = reader.date_or_none()?;
        reader.heads(&mut ledger)?;
        reader.customers(&mut ledger)?;
        ledger.holds = reader.holds(&ledger, seed)?;
        ledger.trial = reader.trial(&ledger)?;
        Ok(ledger)
    }
}

impl LedgerImage {
    /// Writes the image, calling `sink` with one piece after another.
    pub fn write(&self, sink: &mut impl FnMut(&[u8])) {
        let mut writer = Writer { buffer: Vec::with_capacity(CHUNK), sink };
        writer.put(MAGIC);
        writer.put(&VERSION.to_le_bytes());
        writer.put(&self.branch.to_le_bytes());
        writer.date_or_none(self.live);
        writer.date_or_none(self.imported_through);
        writer.count(self.heads.len());
        for (head, account) in self.head_refs.iter().zip(self.heads.iter()) {
            writer.put(&head.0.to_le_bytes());
            writer.account(account);
        }
        writer.count(self.customers.len());
        for account in self.customers.iter() {
            writer.account(account);
        }
        writer.count(self.slab.len());
        writer.put(&self.vacant.to_le_bytes());
        for stored in self.slab.iter() {
            writer.put(&stored.to_bytes());
        }
        writer.trial(&self.trial);
        writer.flush();
    }

    /// How many customer accounts it has.
    #[must_use]
    pub const fn customer_count(&self) -> usize {
        self.customers.len()
    }
}

struct Writer<'a, S> {
    buffer: Vec<u8>,
    sink: &'a mut S,
}

impl<S: FnMut(&[u8])> Writer<'_, S> {
    fn put(&mut self, bytes: &[u8]) {
        if self.buffer.len().saturating_add(bytes.len()) > CHUNK {
            self.flush();
        }
        self.buffer.extend_from_slice(bytes);
    }

    fn flush(&mut self) {
        (self.sink)(&self.buffer);
        self.buffer.clear();
    }

    fn count(&mut self, count: usize) {
        let count = u32::try_from(count).expect("counts of a branch fit in 32 bits");
        self.put(&count.to_le_bytes());
    }

    fn date_or_none(&mut self, date: Option<Date>) {
        self.put(&[u8::from(date.is_some())]);
        self.put(&date.map_or(0, |date| date.0).to_le_bytes());
    }

    fn account(&mut self, account: &Account) {
        let Account { debits_posted, credits_posted, debits_pending, credits_pending, .. } = *account;
        for total in [debits_posted, credits_posted, debits_pending, credits_pending] {
            self.put(&total.to_le_bytes());
        }
        self.put(&account.floor.to_le_bytes());
        for figure in [account.daily_limit, account.daily_used, account.imported_until_us] {
            self.put(&figure.to_le_bytes());
        }
        self.put(&account.owner.to_le_bytes());
        self.put(&account.holds.to_le_bytes());
        self.put(&account.opened.0.to_le_bytes());
        self.put(&account.daily_day.0.to_le_bytes());
        for short in [account.product, account.head, account.currency.number()] {
            self.put(&short.to_le_bytes());
        }
        let limit = match account.limit {
            Limit::None => 0,
            Limit::Debits => 1,
            Limit::Credits => 2,
        };
        self.put(&[limit, account.debit_freeze, account.credit_freeze, account.state, 0, 0, 0, 0, 0, 0]);
    }

    fn trial(&mut self, trial: &Trial) {
        self.count(trial.len());
        for ((booked, value), movements) in trial.iter() {
            self.put(&booked.0.to_le_bytes());
            self.put(&value.0.to_le_bytes());
            self.count(movements.len());
            let mut movements = movements.to_vec();
            movements.sort_unstable_by_key(|movement| movement.slot);
            for movement in movements {
                self.put(&movement.slot.to_le_bytes());
                self.put(&movement.debits.to_le_bytes());
                self.put(&movement.credits.to_le_bytes());
            }
        }
    }
}

struct Reader<'a, F> {
    fill: &'a mut F,
}

impl<E, F: FnMut(&mut [u8]) -> Result<(), E>> Reader<'_, F> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ReadError<E>> {
        let mut bytes = [0; N];
        (self.fill)(&mut bytes).map_err(ReadError::Source)?;
        Ok(bytes)
    }

    fn u16(&mut self) -> Result<u16, ReadError<E>> {
        self.bytes().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, ReadError<E>> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn date(&mut self) -> Result<Date, ReadError<E>> {
        self.bytes().map(i32::from_le_bytes).map(Date)
    }

    fn date_or_none(&mut self) -> Result<Option<Date>, ReadError<E>> {
        let [some] = self.bytes()?;
        let date = self.date()?;
        match some {
            0 => Ok(None),
            1 => Ok(Some(date)),
            _ => Err(ReadError::Corrupt("0 or 1 before a date")),
        }
    }

    fn account(&mut self) -> Result<Account, ReadError<E>> {
        let bytes = self.bytes::<ACCOUNT_BYTES>()?;
        read_account(&bytes).ok_or(ReadError::Corrupt("an account"))
    }

    fn heads(&mut self, ledger: &mut Ledger) -> Result<(), ReadError<E>> {
        for slot in 0..self.u32()? {
            let slot = u16::try_from(slot).map_err(|_| ReadError::Corrupt("at most 65536 heads"))?;
            let head = AccountRef(self.bytes().map(u64::from_le_bytes)?);
            let account = self.account()?;
            let is_head =
                matches!(head.kind(), Some(AccountKind::Head(_, currency)) if currency == account.currency);
            let at = ledger.head_index.binary_search_by_key(&head, |(head, _)| *head);
            let Err(at) = at else { return Err(ReadError::Corrupt("each head once")) };
            if !is_head || head.branch() != ledger.branch || account.head != slot {
                return Err(ReadError::Corrupt("a head of the branch in its slot"));
            }
            ledger.head_index.insert(at, (head, slot));
            ledger.head_refs.push(head);
            ledger.heads.push(account);
        }
        Ok(())
    }

    fn customers(&mut self, ledger: &mut Ledger) -> Result<(), ReadError<E>> {
        for _ in 0..self.u32()? {
            let account = self.account()?;
            if usize::from(account.head) >= ledger.heads.len() {
                return Err(ReadError::Corrupt("an account that posts to a head"));
            }
            ledger.customers.push(account);
        }
        Ok(())
    }

    fn holds(&mut self, ledger: &Ledger, seed: [u64; 2]) -> Result<Holds, ReadError<E>> {
        let count = self.u32()?;
        let vacant = self.u32()?;
        let mut slab = Slab::new();
        for _ in 0..count {
            let stored = Stored::from_bytes(&self.bytes::<STORED_BYTES>()?);
            let known =
                stored.is_vacant() || stored.places().iter().all(|at| ledger.account_at(*at).is_some());
            if !known {
                return Err(ReadError::Corrupt("a hold on accounts that exist"));
            }
            slab.push(stored);
        }
        Holds::from_slab(slab, vacant, seed).ok_or(ReadError::Corrupt("holds with ids of their own"))
    }

    fn trial(&mut self, ledger: &Ledger) -> Result<Trial, ReadError<E>> {
        let mut trial = Trial::new();
        for _ in 0..self.u32()? {
            let days = (self.date()?, self.date()?);
            if trial.iter().next_back().is_some_and(|(last, _)| last >= days) {
                return Err(ReadError::Corrupt("pairs of days in order"));
            }
            let mut movements = Vec::new();
            for _ in 0..self.u32()? {
                let slot = self.u16()?;
                let debits = self.bytes().map(u128::from_le_bytes)?;
                let credits = self.bytes().map(u128::from_le_bytes)?;
                let rises = movements.last().is_none_or(|last: &Movement| last.slot < slot);
                if usize::from(slot) >= ledger.heads.len() || !rises {
                    return Err(ReadError::Corrupt("movements of heads, by slot"));
                }
                movements.push(Movement { slot, debits, credits });
            }
            trial.restore(days, movements);
        }
        Ok(trial)
    }
}

/// Takes fixed-size fields off the front of a slice.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }
}

fn read_account(bytes: &[u8; ACCOUNT_BYTES]) -> Option<Account> {
    let mut fields = Fields(bytes);
    let account = Account {
        debits_posted: u128::from_le_bytes(fields.take()?),
        credits_posted: u128::from_le_bytes(fields.take()?),
        debits_pending: u128::from_le_bytes(fields.take()?),
        credits_pending: u128::from_le_bytes(fields.take()?),
        floor: i64::from_le_bytes(fields.take()?),
        daily_limit: u64::from_le_bytes(fields.take()?),
        daily_used: u64::from_le_bytes(fields.take()?),
        imported_until_us: u64::from_le_bytes(fields.take()?),
        owner: u32::from_le_bytes(fields.take()?),
        holds: u32::from_le_bytes(fields.take()?),
        opened: Date(i32::from_le_bytes(fields.take()?)),
        daily_day: Date(i32::from_le_bytes(fields.take()?)),
        product: u16::from_le_bytes(fields.take()?),
        head: u16::from_le_bytes(fields.take()?),
        currency: Currency::from_number(u16::from_le_bytes(fields.take()?))?,
        limit: match fields.take::<1>()? {
            [0] => Limit::None,
            [1] => Limit::Debits,
            [2] => Limit::Credits,
            _ => return None,
        },
        debit_freeze: u8::from_le_bytes(fields.take()?),
        credit_freeze: u8::from_le_bytes(fields.take()?),
        state: u8::from_le_bytes(fields.take()?),
    };
    let padding: [u8; 6] = fields.take()?;
    (account.state & !bit::ALL == 0 && padding == [0; 6]).then_some(account)
}
