//! The whole book as bytes: for snapshots, digests and a start without replay.
//!
//! Laid by hand, little-endian, in an order that depends on nothing but the events.
//!
//! ```text
//! magic "SKRYBOOK" 8 · version u32 · branch u16 · life: length u32, bytes
//! customers: count u32, then each by serial: document 32, key u64, sealed at u64, opened i32, ended i32,
//!            first account u32, last account u32, line u8, erased u8
//! accounts: count u32, then each by serial: the next account of the same customer u32
//! keys: first number u64, count u32, then each: key u128, request 16, time u64, answer kind u16, answer u64
//! permanent keys, in version 2 alone: count u32, not zero, then each: key u128, request 16, answer kind u16, answer u64
//! channels, in version 3 alone, which has permanent keys too (perhaps none): length u32, bytes
//! the ledger's image
//! ```
//!
//! A book has one form: with channels it is version 3, without them version 2 if it has permanent keys, else 1.

mod life;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use skerry_ledger::{Ledger, LedgerImage};
use skerry_money::Date;

use crate::book::{Book, Life};
use crate::channel::Channels;
use crate::command::Done;
use crate::customers::{Customer, Customers};
use crate::hash::Seed;
use crate::keys::{Answer, KEYS_MAX, Keys, PERMANENT_MAX, Permanent, Used};
use crate::paged::{PAGE, Paged, PagedQueue};

const MAGIC: &[u8; 8] = b"SKRYBOOK";
const VERSION: u32 = 1;
/// With permanent keys.
const VERSION_PERMANENT: u32 = 2;
/// With channels.
const VERSION_CHANNELS: u32 = 3;
/// What is open on all channels.
const CHANNELS_MAX: u32 = 1 << 30;
/// The chart is the largest part of a life; a flipped bit must not ask for more.
const LIFE_MAX: u32 = 16 << 20;
/// How much is gathered before the sink is called.
const CHUNK: usize = 64 * 1024;

/// A book as it was at one moment, sharing its pages until they change. Cheap to make; it can be written on another
/// thread while the book goes on.
#[derive(Debug, Clone)]
pub struct BookImage {
    branch: u16,
    life: Life,
    customers: Paged<Customer>,
    next: Paged<u32>,
    keys: PagedQueue<Used>,
    permanent: Paged<Permanent>,
    channels: Channels,
    ledger: LedgerImage,
}

/// Why a book could not be read from an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError<E> {
    /// The bytes could not be had.
    #[error("could not read the image of a book")]
    Source(E),
    /// The bytes are no image of a book: what was expected.
    #[error("the image of a book is corrupt: expected {0}")]
    Corrupt(&'static str),
    /// Written by a later release.
    #[error("the image of a book has the unknown version {0}")]
    Version(u32),
}

impl<E> From<skerry_ledger::ReadError<E>> for ReadError<E> {
    fn from(error: skerry_ledger::ReadError<E>) -> Self {
        match error {
            skerry_ledger::ReadError::Source(error) => Self::Source(error),
            skerry_ledger::ReadError::Corrupt(what) => Self::Corrupt(what),
            skerry_ledger::ReadError::Version(version) => Self::Version(version),
        }
    }
}

impl Book {
    /// Marks this moment. Costs a pointer per page of accounts, customers and keys.
    #[must_use]
    pub fn freeze(&self) -> BookImage {
        self.image_with(self.ledger.freeze())
    }

    /// Begins an image of this moment that costs little at any one time: a pointer per page of customers and keys now,
    /// the accounts in slices by [`advance_image`](Self::advance_image). One that is under way is dropped.
    pub fn begin_image(&mut self) {
        self.ledger.begin_image();
        // Whatever is not the ledger's is small enough to be taken at once; its ledger follows.
        let empty = Ledger::new(self.branch, self.seed.pair()).freeze();
        self.marking = Some(Box::new(self.image_with(empty)));
    }

    /// Goes on with the image, by up to `pages` pages of 4 accounts. Returns it once it is whole; `None` if it is not,
    /// or if none was begun.
    pub fn advance_image(&mut self, pages: usize) -> Option<BookImage> {
        let ledger = self.ledger.advance_image(pages)?;
        let image = self.marking.take()?;
        Some(BookImage { ledger, ..*image })
    }

    fn image_with(&self, ledger: LedgerImage) -> BookImage {
        BookImage {
            branch: self.branch,
            life: self.life.clone(),
            customers: self.customers.list.clone(),
            next: self.customers.next.clone(),
            keys: self.keys.queue.clone(),
            permanent: self.keys.permanent.clone(),
            channels: self.channels.clone(),
            ledger,
        }
    }

    /// Reads a book back; `fill` fills the whole of each buffer with the next bytes. `seed` must be the institution's:
    /// the image has digests and keys made with it.
    ///
    /// # Errors
    ///
    /// If `fill` fails or the bytes are not an image. That its parts agree is checked by [`crate::invariants::check`].
    pub fn read<E>(
        fill: &mut impl FnMut(&mut [u8]) -> Result<(), E>,
        seed: Seed,
    ) -> Result<Self, ReadError<E>> {
        let mut source = Source { fill };
        if &source.bytes::<8>()? != MAGIC {
            return Err(ReadError::Corrupt("its magic"));
        }
        let version = source.u32()?;
        if !(VERSION..=VERSION_CHANNELS).contains(&version) {
            return Err(ReadError::Version(version));
        }
        let branch = source.bytes().map(u16::from_le_bytes)?;
        let life = source.life()?;
        let customers = source.customers(&seed)?;
        let queue = source.keys()?;
        let permanent = match version {
            VERSION => Paged::default(),
            version => source.permanent(version == VERSION_CHANNELS)?,
        };
        let channels = if version == VERSION_CHANNELS { source.channels()? } else { Channels::default() };
        let keys = Keys::restored(&queue, &permanent);
        let ledger = Ledger::read(source.fill, seed.pair())?;
        if ledger.branch() != branch || ledger.customer_count() != customers.next.len() {
            return Err(ReadError::Corrupt("the ledger of the same branch and accounts"));
        }
        Ok(Self { seed, branch, ledger, customers, keys, channels, life, marking: None })
    }
}

impl BookImage {
    /// The position of the first record that is not in it.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.life.position
    }

    /// Writes the image, calling `sink` with one piece after another.
    pub fn write(&self, sink: &mut impl FnMut(&[u8])) {
        let mut life = Vec::new();
        self.life.put(&mut life);
        let mut writer = Writer { buffer: Vec::with_capacity(CHUNK), sink };
        writer.put(MAGIC);
        let version = self.version();
        writer.put(&version.to_le_bytes());
        writer.put(&self.branch.to_le_bytes());
        writer.count(life.len());
        writer.put(&life);
        writer.count(self.customers.len());
        for customer in self.customers.iter() {
            writer.put(&customer_bytes(customer));
        }
        writer.count(self.next.len());
        for next in self.next.iter() {
            writer.put(&next.to_le_bytes());
        }
        writer.put(&self.keys.first().to_le_bytes());
        writer.count(self.keys.len());
        for used in self.keys.iter() {
            writer.put(&used_bytes(used));
        }
        if version != VERSION {
            writer.count(self.permanent.len());
            for one in self.permanent.iter() {
                writer.put(&permanent_bytes(one));
            }
        }
        if version == VERSION_CHANNELS {
            let mut channels = Vec::new();
            self.channels.put(&mut channels);
            writer.count(channels.len());
            writer.put(&channels);
        }
        writer.flush();
        self.ledger.write(sink);
    }

    fn version(&self) -> u32 {
        match (self.channels.is_empty(), self.permanent.len()) {
            (false, _) => VERSION_CHANNELS,
            (true, 0) => VERSION,
            (true, _) => VERSION_PERMANENT,
        }
    }
}

const CUSTOMER_BYTES: usize = 66;
const USED_BYTES: usize = 50;
const PERMANENT_BYTES: usize = 42;

fn customer_bytes(customer: &Customer) -> [u8; CUSTOMER_BYTES] {
    let mut bytes = [0; CUSTOMER_BYTES];
    crate::wire::Filler::new(&mut bytes)
        .put(customer.document)
        .put(customer.key_ref.to_le_bytes())
        .put(customer.sealed_at.to_le_bytes())
        .put(customer.opened.0.to_le_bytes())
        .put(customer.ended.0.to_le_bytes())
        .put(customer.first_account.to_le_bytes())
        .put(customer.last_account.to_le_bytes())
        .put([customer.line, u8::from(customer.erased)])
        .finish();
    bytes
}

fn used_bytes(used: &Used) -> [u8; USED_BYTES] {
    let (kind, value) = used.done.parts();
    let mut bytes = [0; USED_BYTES];
    crate::wire::Filler::new(&mut bytes)
        .put(used.key.to_le_bytes())
        .put(used.request)
        .put(used.time_us.to_le_bytes())
        .put(kind.to_le_bytes())
        .put(value.to_le_bytes())
        .finish();
    bytes
}

fn permanent_bytes(one: &Permanent) -> [u8; PERMANENT_BYTES] {
    let (kind, value) = one.answer.done.parts();
    let mut bytes = [0; PERMANENT_BYTES];
    crate::wire::Filler::new(&mut bytes)
        .put(one.key.to_le_bytes())
        .put(one.answer.request)
        .put(kind.to_le_bytes())
        .put(value.to_le_bytes())
        .finish();
    bytes
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

    fn count(&mut self, count: usize) {
        let count = u32::try_from(count).expect("counts of a branch fit in 32 bits");
        self.put(&count.to_le_bytes());
    }

    fn flush(&mut self) {
        (self.sink)(&self.buffer);
        self.buffer.clear();
    }
}

struct Source<'a, F> {
    fill: &'a mut F,
}

impl<E, F: FnMut(&mut [u8]) -> Result<(), E>> Source<'_, F> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ReadError<E>> {
        let mut bytes = [0; N];
        (self.fill)(&mut bytes).map_err(ReadError::Source)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, ReadError<E>> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn life(&mut self) -> Result<Life, ReadError<E>> {
        let length = self.u32()?;
        let length = usize::try_from(length).ok().filter(|_| length <= LIFE_MAX);
        let mut bytes = vec![0; length.ok_or(ReadError::Corrupt("a life of some kilobytes"))?];
        (self.fill)(&mut bytes).map_err(ReadError::Source)?;
        Life::take(&bytes).ok_or(ReadError::Corrupt("the life of a branch"))
    }

    fn customers(&mut self, seed: &Seed) -> Result<Customers, ReadError<E>> {
        let mut customers = Customers::default();
        for serial in 1..=u64::from(self.u32()?) {
            let bytes = self.bytes::<CUSTOMER_BYTES>()?;
            let serial = u32::try_from(serial).map_err(|_| ReadError::Corrupt("a serial"))?;
            let customer = read_customer(&bytes).ok_or(ReadError::Corrupt("a customer"))?;
            customers.push(seed, serial, customer);
        }
        for _ in 0..self.u32()? {
            customers.next.push(self.u32()?);
        }
        Ok(customers)
    }

    fn keys(&mut self) -> Result<PagedQueue<Used>, ReadError<E>> {
        let first = self.bytes().map(u64::from_le_bytes)?;
        let count = usize::try_from(self.u32()?).map_err(|_| ReadError::Corrupt("a count"))?;
        if count > KEYS_MAX.saturating_add(PAGE) {
            return Err(ReadError::Corrupt("keys within their bound"));
        }
        let mut queue = PagedQueue::starting_at(first);
        for _ in 0..count {
            let bytes = self.bytes::<USED_BYTES>()?;
            queue.push(read_used(&bytes).ok_or(ReadError::Corrupt("a key"))?);
        }
        Ok(queue)
    }

    fn channels(&mut self) -> Result<Channels, ReadError<E>> {
        let length = self.u32()?;
        let length = usize::try_from(length).ok().filter(|_| length <= CHANNELS_MAX);
        let mut bytes = vec![0; length.ok_or(ReadError::Corrupt("channels within their bound"))?];
        (self.fill)(&mut bytes).map_err(ReadError::Source)?;
        Channels::take(&bytes).ok_or(ReadError::Corrupt("the channels of a branch"))
    }

    fn permanent(&mut self, perhaps_none: bool) -> Result<Paged<Permanent>, ReadError<E>> {
        let count = usize::try_from(self.u32()?).map_err(|_| ReadError::Corrupt("a count"))?;
        if (count == 0 && !perhaps_none) || count > PERMANENT_MAX {
            return Err(ReadError::Corrupt("permanent keys within their bound"));
        }
        let mut permanent = Paged::default();
        for _ in 0..count {
            let bytes = self.bytes::<PERMANENT_BYTES>()?;
            permanent.push(read_permanent(&bytes).ok_or(ReadError::Corrupt("a permanent key"))?);
        }
        Ok(permanent)
    }
}

fn read_customer(bytes: &[u8; CUSTOMER_BYTES]) -> Option<Customer> {
    let mut reader = crate::wire::Reader::new(bytes);
    Some(Customer {
        document: reader.array().ok()?,
        key_ref: reader.u64().ok()?,
        sealed_at: reader.u64().ok()?,
        opened: Date(reader.i32().ok()?),
        ended: Date(reader.i32().ok()?),
        first_account: reader.u32().ok()?,
        last_account: reader.u32().ok()?,
        line: reader.u8().ok()?,
        erased: match reader.u8().ok()? {
            0 => false,
            1 => true,
            _ => return None,
        },
    })
}

fn read_permanent(bytes: &[u8; PERMANENT_BYTES]) -> Option<Permanent> {
    let mut reader = crate::wire::Reader::new(bytes);
    let key = reader.u128().ok()?;
    let request = reader.array().ok()?;
    let done = Done::from_parts(reader.u16().ok()?, reader.u64().ok()?)?;
    Some(Permanent { key, answer: Answer { request, done } })
}

fn read_used(bytes: &[u8; USED_BYTES]) -> Option<Used> {
    let mut reader = crate::wire::Reader::new(bytes);
    Some(Used {
        key: reader.u128().ok()?,
        request: reader.array().ok()?,
        time_us: reader.u64().ok()?,
        done: Done::from_parts(reader.u16().ok()?, reader.u64().ok()?)?,
    })
}
