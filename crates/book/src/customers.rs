//! Who the customers are, without knowing who they are: an HMAC of the document, a reference to their key, the
//! place of their ciphertext in the journal, and the chain of their accounts.
//!
//! 72 bytes a customer and 4 an account, in copy-on-write pages; the index by document is rebuilt, not stored.

use skerry_ledger::Table;
use skerry_money::Date;

use crate::hash::Seed;
use crate::paged::Paged;

/// One customer of the branch.
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Customer {
    /// HMAC of the document under the institution's secret; zero once erased.
    pub document: [u8; 32],
    /// Where the key lies behind the `Keys` seam.
    pub key_ref: u64,
    /// Position of the record whose tail is the customer's present ciphertext.
    pub sealed_at: u64,
    /// Since when.
    pub opened: Date,
    /// When the last account closed; `opened` before any did.
    pub ended: Date,
    /// The business line.
    pub line: u8,
    /// Whether the key is destroyed.
    pub erased: bool,
    pub(crate) first_account: u32,
    pub(crate) last_account: u32,
}

/// All customers by serial, and their accounts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Customers {
    pub(crate) list: Paged<Customer>,
    /// By account serial − 1: the next account of the same customer, 0 at the end.
    pub(crate) next: Paged<u32>,
    by_document: Table<u32>,
}

impl Customers {
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.list.len()).expect("a branch has fewer than 2^32 customers")
    }

    pub(crate) fn get(&self, serial: u32) -> Option<&Customer> {
        self.list.get(index(serial)?)
    }

    /// # Panics
    ///
    /// If there is no such customer: an event named it, so the journal is corrupt.
    pub(crate) fn get_mut(&mut self, serial: u32) -> &mut Customer {
        let found = index(serial).and_then(|index| self.list.get_mut(index));
        found.expect("an event names a customer that an earlier event opened")
    }

    pub(crate) fn find(&self, seed: &Seed, line: u8, document: &[u8; 32]) -> Option<u32> {
        let same = |serial: &u32| {
            self.get(*serial).is_some_and(|customer| customer.line == line && customer.document == *document)
        };
        self.by_document.find(slot(seed, line, document), same).copied()
    }

    /// # Panics
    ///
    /// Unless `serial` is the next: the journal is corrupt.
    pub(crate) fn push(&mut self, seed: &Seed, serial: u32, customer: Customer) {
        assert_eq!(serial.checked_sub(1), Some(self.len()), "customers are numbered without gaps");
        self.list.push(customer);
        if !customer.erased {
            self.index(seed, serial);
        }
    }

    fn index(&mut self, seed: &Seed, serial: u32) {
        let Self { list, by_document, .. } = self;
        let hash = |serial: &u32| {
            let customer = index(*serial).and_then(|index| list.get(index));
            let customer = customer.expect("the index names customers of the list");
            slot(seed, customer.line, &customer.document)
        };
        by_document.insert(hash(&serial), serial, hash);
    }

    fn unindex(&mut self, seed: &Seed, serial: u32) {
        let customer = *self.get_mut(serial);
        let hash = slot(seed, customer.line, &customer.document);
        self.by_document.remove(hash, |other| *other == serial);
    }

    pub(crate) fn set_document(&mut self, seed: &Seed, serial: u32, document: [u8; 32]) {
        self.unindex(seed, serial);
        self.get_mut(serial).document = document;
        self.index(seed, serial);
    }

    pub(crate) fn erase(&mut self, seed: &Seed, serial: u32) {
        self.unindex(seed, serial);
        let customer = self.get_mut(serial);
        customer.erased = true;
        customer.document = [0; 32];
    }

    /// Puts the next account at the end of its customer's chain.
    ///
    /// # Panics
    ///
    /// Unless `account` is the next: the journal is corrupt.
    pub(crate) fn push_account(&mut self, serial: u32, account: u32) {
        self.next.push(0);
        assert_eq!(usize::try_from(account), Ok(self.next.len()), "accounts are numbered without gaps");
        let customer = self.get_mut(serial);
        let last = core::mem::replace(&mut customer.last_account, account);
        if last == 0 {
            customer.first_account = account;
        } else {
            let link = index(last).and_then(|index| self.next.get_mut(index));
            *link.expect("a chain names accounts of the list") = account;
        }
    }

    /// The serials of a customer's accounts, oldest first.
    pub(crate) fn accounts(&self, serial: u32) -> impl Iterator<Item = u32> {
        let first = self.get(serial).map_or(0, |customer| customer.first_account);
        let known = |account: u32| (account != 0).then_some(account);
        core::iter::successors(known(first), move |account| {
            known(*index(*account).and_then(|index| self.next.get(index))?)
        })
    }

    pub(crate) fn indexed(&self) -> usize {
        self.by_document.len()
    }
}

fn index(serial: u32) -> Option<usize> {
    usize::try_from(serial.checked_sub(1)?).ok()
}

fn slot(seed: &Seed, line: u8, document: &[u8; 32]) -> u64 {
    seed.table(document) ^ u64::from(line)
}
