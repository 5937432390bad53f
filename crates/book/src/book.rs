//! The state of a branch, and what can be read from it. What may happen is in `decide` and `transfers`, what
//! happened in `evolve`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use skerry_ledger::{Account, AccountRef, Ledger, Stamp, TransferId};
use skerry_money::{Currency, Date};

use crate::actor::{Actor, Principal};
use crate::channel::Channels;
use crate::chart::Chart;
use crate::customers::{Customer, Customers};
use crate::event::{Incarnated, Terms};
use crate::hash::{Purpose, Seed};
use crate::keys::Keys;
use crate::policy::{Policy, Proposal, Proposals};

/// The highest format level that this release reads and writes.
pub const FORMAT_LEVEL: u16 = 4;

/// The level from which orders to archive are put on record.
pub const ARCHIVE_LEVEL: u16 = 3;

/// One branch's book. All of it derives from the journal's events.
#[derive(Debug)]
pub struct Book {
    pub(crate) seed: Seed,
    pub(crate) branch: u16,
    pub(crate) ledger: Ledger,
    pub(crate) customers: Customers,
    pub(crate) keys: Keys,
    pub(crate) channels: Channels,
    pub(crate) life: Life,
    /// An image under way, with everything but the ledger.
    pub(crate) marking: Option<alloc::boxed::Box<crate::BookImage>>,
}

/// What is small: copied whole into every image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Life {
    /// How many events were evolved: the position of the next record.
    pub(crate) position: u64,
    /// The time of the last event.
    pub(crate) time_us: u64,
    pub(crate) terms: Option<Terms>,
    pub(crate) format: u16,
    pub(crate) incarnation: u32,
    pub(crate) losses: Vec<Incarnated>,
    pub(crate) chart: Arc<Chart>,
    /// In use, in order of opening.
    pub(crate) currencies: Vec<Currency>,
    /// The open day.
    pub(crate) day: Option<Date>,
    pub(crate) days: u32,
    pub(crate) first_day: Option<Date>,
    /// The business date of the first entry that was no import.
    pub(crate) first_native: Option<Date>,
    pub(crate) policy: Policy,
    pub(crate) proposals: Proposals,
    pub(crate) erased: u32,
    /// Transfers posted or held, and holds resolved.
    pub(crate) moved: u64,
    pub(crate) refused: u64,
}

impl Book {
    /// The book of a branch that does not exist yet: its first event is to be
    /// [`BranchOpened`](crate::Event::BranchOpened). The seed is the institution's and stays the same for ever.
    #[must_use]
    pub fn new(branch: u16, seed: Seed) -> Self {
        Self {
            seed,
            branch,
            ledger: Ledger::new(branch, seed.pair()),
            customers: Customers::default(),
            keys: Keys::default(),
            channels: Channels::default(),
            life: Life::default(),
            marking: None,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn branch(&self) -> u16 {
        self.branch
    }

    /// The ledger, for reading.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The seed of its keyed hashes.
    #[must_use]
    pub const fn seed(&self) -> &Seed {
        &self.seed
    }

    /// The position of the record that comes next: how many events it has evolved.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.life.position
    }

    /// What a batch beginning at `time_us` is stamped with: never before the last event, on the open day.
    #[must_use]
    pub fn stamp(&self, time_us: u64) -> Stamp {
        Stamp { time_us: time_us.max(self.life.time_us), business_date: self.life.day.unwrap_or(Date::EPOCH) }
    }

    /// The open business day; `None` before the first.
    #[must_use]
    pub const fn day(&self) -> Option<Date> {
        self.life.day
    }

    /// The business day that the clock is in; `None` before the branch has its terms.
    #[must_use]
    pub fn day_of(&self, time_us: u64) -> Option<Date> {
        let terms = self.life.terms.as_ref()?;
        Some(Date::business_day(time_us, i32::from(terms.offset_minutes), terms.cutoff_minutes))
    }

    /// The day to be opened now, if the cutoff has passed since the open one began: ask it as
    /// [`Command::OpenDay`](crate::Command::OpenDay) by the bank itself.
    #[must_use]
    pub fn day_due(&self, time_us: u64) -> Option<Date> {
        let today = self.day_of(time_us)?;
        self.life.day.is_none_or(|open| open < today).then_some(today)
    }

    /// What the branch was opened with.
    #[must_use]
    pub const fn terms(&self) -> Option<&Terms> {
        self.life.terms.as_ref()
    }

    /// The level of records that may be written.
    #[must_use]
    pub const fn format(&self) -> u16 {
        self.life.format
    }

    /// How often it has begun: 1, and one more for each declared loss.
    #[must_use]
    pub const fn incarnation(&self) -> u32 {
        self.life.incarnation
    }

    /// The declared losses, oldest first.
    #[must_use]
    pub fn losses(&self) -> &[Incarnated] {
        &self.life.losses
    }

    /// The chart of accounts and the products.
    #[must_use]
    pub fn chart(&self) -> &Chart {
        &self.life.chart
    }

    /// Currencies whose heads are open.
    #[must_use]
    pub fn currencies(&self) -> &[Currency] {
        &self.life.currencies
    }

    /// The rules in force.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.life.policy
    }

    /// Proposals that stand at `now_us`.
    pub fn proposals(&self, now_us: u64) -> impl Iterator<Item = &Proposal> {
        self.life.proposals.standing(now_us)
    }

    /// Who approved what `sender` asks for, as the actor is to be journaled; nobody, if that is the sender.
    #[must_use]
    pub fn approver(&self, sender: &Actor, now_us: u64) -> Option<Principal> {
        let approver = self.life.proposals.find(&sender.request, now_us)?.approver?;
        // Whoever approves does not do it as well: the record would name one person twice.
        (approver != sender.principal).then_some(approver)
    }

    /// The customer with `serial`.
    #[must_use]
    pub fn customer(&self, serial: u32) -> Option<&Customer> {
        self.customers.get(serial)
    }

    /// The customer of `line` with this document.
    #[must_use]
    pub fn customer_by_document(&self, line: u8, document: &[u8; 32]) -> Option<u32> {
        self.customers.find(&self.seed, line, document)
    }

    /// How many customers were ever opened; their serials are 1 to this.
    #[must_use]
    pub fn customer_count(&self) -> u32 {
        self.customers.len()
    }

    /// A customer's accounts, oldest first.
    pub fn accounts(&self, customer: u32) -> impl Iterator<Item = (AccountRef, &Account)> {
        self.customers.accounts(customer).filter_map(|serial| {
            let reference = AccountRef::customer(self.branch, u64::from(serial));
            Some((reference, self.ledger.account(reference)?))
        })
    }

    /// The account, if this branch has it.
    #[must_use]
    pub fn account(&self, account: AccountRef) -> Option<&Account> {
        self.ledger.account(account)
    }

    /// Whose the account is; `None` for a head or a stranger.
    #[must_use]
    pub fn owner(&self, account: AccountRef) -> Option<u32> {
        self.ledger.account(account).map(|account| account.owner).filter(|owner| *owner != 0)
    }

    /// An idempotency key as a [`Context`](crate::Context) carries it: hashed with its principal, so that keys of
    /// two clients never meet.
    #[must_use]
    pub fn idempotency_key(&self, principal: &Principal, key: &[u8]) -> u128 {
        let mut bytes = Vec::new();
        crate::wire::put_short_text(&mut bytes, principal.as_str());
        bytes.extend_from_slice(key);
        self.seed.wide(Purpose::IdempotencyKey, &bytes)
    }

    /// The key of an import as a [`Context`](crate::Context) carries it: the institution's, whoever does the import, and
    /// never one that a client can choose.
    #[must_use]
    pub fn import_key(&self, key: &[u8]) -> u128 {
        self.seed.wide(Purpose::ImportKey, key)
    }

    /// The id of a transfer that the bank derives from its cause. See [`derive_id`].
    #[must_use]
    pub fn derive_id(&self, cause: &[u8]) -> TransferId {
        derive_id(&self.seed, cause)
    }

    /// A reference too long for its record, as the record carries it: 16 bytes of keyed hash, the first of which is
    /// 0xff, which begins no UTF-8.
    #[must_use]
    pub fn reference_hash(&self, reference: &str) -> [u8; 16] {
        let mut hash = self.seed.wide(Purpose::Reference, reference.as_bytes()).to_le_bytes();
        hash[0] = 0xff;
        hash
    }
}

/// The id of a transfer that the bank derives: version 8 (RFC 9562, 5.8), 122 bits of SipHash-2-4-128 of `cause` under
/// the institution's secret seed. The same cause gives the same id, so it happens once; who lacks the seed can neither
/// make one nor find one that collides. An import's cause is its mapping's name, the old core's key of the
/// entry, and nothing that a later run could see otherwise.
#[must_use]
pub fn derive_id(seed: &Seed, cause: &[u8]) -> TransferId {
    const VERSION_MASK: u128 = 0xf << 76;
    const VARIANT_MASK: u128 = 0x3 << 62;
    let hash = seed.wide(Purpose::TransferId, cause);
    TransferId((hash & !VERSION_MASK & !VARIANT_MASK) | (8 << 76) | (0b10 << 62))
}
