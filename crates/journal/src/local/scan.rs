//! Sequential reading over segments: a trail of batches, walked inline or by a thread that reads and verifies ahead.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use skerry_proof::batch::HEADER_LENGTH;
use skerry_proof::{BatchHeader, Hash};

use crate::batch::{BatchView, damage_of, head_after};
use crate::error::{DamageKind, ReadError};
use crate::seam::{Head, Position};
use crate::segment::Segment;
use crate::segment::walk::Walk;
use crate::storage::StorageFile;

type Visit<'a> = &'a mut dyn FnMut(BatchView<'_>) -> ControlFlow<()>;

/// The segments of a trail in order; those of the cold folder are opened as they are reached.
pub(super) type Ahead<F> = Box<dyn Iterator<Item = Result<Arc<Segment<F>>, ReadError>> + Send>;

/// Batches from a position to the durable end, over segment borders. Headers and chain are checked on the way, bodies
/// are left to [`Step::verify`].
pub(super) struct Trail<F> {
    segments: Ahead<F>,
    walk: Walk<F>,
    durable: Head,
    done: Head,
}

/// One batch on the trail.
#[derive(Debug)]
pub(super) struct Step<'a, F> {
    pub(super) segment: &'a Arc<Segment<F>>,
    pub(super) offset: u64,
    pub(super) header: BatchHeader,
    pub(super) hash: Hash,
    pub(super) bytes: &'a [u8],
}

impl<F: StorageFile> Step<'_, F> {
    /// Checks the body against the header.
    pub(super) fn verify(&self, scratch: &mut Vec<Hash>) -> Result<(), ReadError> {
        verify(self.segment, self.offset, &self.header, self.bytes, scratch)
    }
}

pub(super) fn verify<F: StorageFile>(
    segment: &Segment<F>,
    offset: u64,
    header: &BatchHeader,
    bytes: &[u8],
    scratch: &mut Vec<Hash>,
) -> Result<(), ReadError> {
    header
        .verify_body(bytes.get(HEADER_LENGTH..).unwrap_or_default(), scratch)
        .map_err(|error| segment.damage(offset, header.first_position, damage_of(error)))
}

impl<F: StorageFile> Trail<F> {
    /// Begins with the batch that holds `from`, which lies in the first of `segments` and before `durable`.
    pub(super) fn begin(
        first: Arc<Segment<F>>,
        segments: Ahead<F>,
        from: Position,
        durable: Head,
    ) -> Result<Self, ReadError> {
        let found = first.find(from.0)?;
        let done = Head { position: from, batch: found.header.batch, hash: found.header.previous };
        Ok(Self { walk: Walk::new(first, found.offset, found.before), segments, durable, done })
    }

    /// The place after the last step.
    pub(super) fn done(&self) -> Head {
        self.done
    }

    /// The next batch, `None` at the durable end.
    pub(super) fn step(&mut self) -> Result<Option<Step<'_, F>>, ReadError> {
        if self.done.batch >= self.durable.batch {
            return Ok(None);
        }
        while self.walk.is_at_end() {
            self.next_segment()?;
        }
        let (segment, found, bytes) = self.walk.step()?;
        self.done = head_after(&found.header, found.hash);
        if self.done.batch == self.durable.batch && self.done != self.durable {
            return Err(segment.damage(
                found.offset,
                found.header.first_position,
                DamageKind::Chain("its hash is not the one known to be durable"),
            ));
        }
        Ok(Some(Step { segment, offset: found.offset, header: found.header, hash: found.hash, bytes }))
    }

    fn next_segment(&mut self) -> Result<(), ReadError> {
        let here = self.walk.segment();
        if self.walk.before() != Some(here.head()) {
            let kind = DamageKind::Footer;
            return Err(here.damage(here.data_end(), here.head().position.0, kind));
        }
        let end = here.head();
        match self.segments.next().transpose()? {
            Some(next) if next.start() == end => {
                self.walk = Walk::new(Arc::clone(&next), next.layout().data_start(), Some(end));
                Ok(())
            }
            Some(next) => {
                let kind = DamageKind::Chain("the segment does not continue the one before it");
                Err(next.damage(0, end.position.0, kind))
            }
            None => {
                let kind = DamageKind::MissingSegment(end.position.0);
                Err(here.damage(here.data_end(), end.position.0, kind))
            }
        }
    }
}

/// Reads, verifies and visits on the caller's thread.
pub(super) fn scan_inline<F: StorageFile>(mut trail: Trail<F>, visit: Visit<'_>) -> Result<Head, ReadError> {
    let mut scratch = Vec::new();
    while let Some(step) = trail.step()? {
        step.verify(&mut scratch)?;
        if visit(BatchView { header: step.header, hash: step.hash, bytes: step.bytes }).is_break() {
            break;
        }
    }
    Ok(trail.done())
}

/// Bytes that go from the reading thread to the visiting one at once.
const PARCEL_BYTES: usize = 1 << 20;
/// How many parcels may wait: the memory bound of a scan is so many parcels and two more, and the window.
const PARCELS: usize = 4;

struct Parcel<F> {
    bytes: Vec<u8>,
    batches: Vec<Packed<F>>,
    verified: bool,
}

struct Packed<F> {
    segment: Arc<Segment<F>>,
    offset: u64,
    header: BatchHeader,
    hash: Hash,
    range: Range<usize>,
}

impl<F: StorageFile> Parcel<F> {
    /// The next batches of `trail` in the buffer `bytes`, and the error that ended them, if one did.
    fn fill(trail: &mut Trail<F>, mut bytes: Vec<u8>) -> (Self, Option<ReadError>) {
        bytes.clear();
        let mut parcel = Self { bytes, batches: Vec::new(), verified: false };
        while parcel.bytes.len() < PARCEL_BYTES {
            match trail.step() {
                Ok(Some(step)) => parcel.put(&step),
                Ok(None) => break,
                Err(error) => return (parcel, Some(error)),
            }
        }
        (parcel, None)
    }

    fn put(&mut self, step: &Step<'_, F>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(step.bytes);
        self.batches.push(Packed {
            segment: Arc::clone(step.segment),
            offset: step.offset,
            header: step.header,
            hash: step.hash,
            range: start..start + step.bytes.len(),
        });
    }

    fn verify(&self, packed: &Packed<F>, scratch: &mut Vec<Hash>) -> Result<(), ReadError> {
        let bytes = self.bytes.get(packed.range.clone()).unwrap_or_default();
        verify(&packed.segment, packed.offset, &packed.header, bytes, scratch)
    }

    /// Verifies all of it; what comes before the first bad batch stays in.
    fn verify_all(&mut self, scratch: &mut Vec<Hash>) -> Result<(), ReadError> {
        for index in 0..self.batches.len() {
            if let Err(error) = self.verify(&self.batches[index], scratch) {
                self.batches.truncate(index);
                self.verified = true;
                return Err(error);
            }
        }
        self.verified = true;
        Ok(())
    }
}

type Sent<F> = Result<Parcel<F>, ReadError>;

/// Reads on a second thread. That one also verifies while the visitor is busy; when the visitor waits, it verifies
/// itself. So both cores work whether visiting is cheap or dear.
pub(super) fn scan_ahead<F: StorageFile>(trail: Trail<F>, visit: Visit<'_>) -> Result<Head, ReadError> {
    let (parcels, arriving) = sync_channel(PARCELS);
    let (empties, returned) = channel();
    let waiting = AtomicUsize::new(0);
    let begin = trail.done();
    std::thread::scope(|scope| {
        let waiting = &waiting;
        scope.spawn(move || send_parcels(trail, &parcels, &returned, waiting));
        // It owns the receiver, so that breaking off, failing and panicking all end the reading thread.
        visit_parcels(begin, arriving, &empties, waiting, visit)
    })
}

fn send_parcels<F: StorageFile>(
    mut trail: Trail<F>,
    parcels: &SyncSender<Sent<F>>,
    returned: &Receiver<Vec<u8>>,
    waiting: &AtomicUsize,
) {
    let mut scratch = Vec::new();
    loop {
        let (mut parcel, mut failed) = Parcel::fill(&mut trail, returned.try_recv().unwrap_or_default());
        let last = parcel.batches.is_empty();
        if waiting.load(Ordering::Relaxed) > 0
            && let Err(error) = parcel.verify_all(&mut scratch)
        {
            failed = Some(error);
        }
        waiting.fetch_add(1, Ordering::Relaxed);
        // The visitor may have broken off; then nobody listens, and we are done.
        if !last && parcels.send(Ok(parcel)).is_err() {
            return;
        }
        if let Some(error) = failed {
            let _heard = parcels.send(Err(error));
            return;
        }
        if last {
            return;
        }
    }
}

fn visit_parcels<F: StorageFile>(
    begin: Head,
    arriving: Receiver<Sent<F>>,
    empties: &Sender<Vec<u8>>,
    waiting: &AtomicUsize,
    visit: Visit<'_>,
) -> Result<Head, ReadError> {
    let (mut done, mut scratch) = (begin, Vec::new());
    for parcel in arriving {
        waiting.fetch_sub(1, Ordering::Relaxed);
        let parcel = parcel?;
        for packed in &parcel.batches {
            if !parcel.verified {
                parcel.verify(packed, &mut scratch)?;
            }
            done = head_after(&packed.header, packed.hash);
            let bytes = parcel.bytes.get(packed.range.clone()).unwrap_or_default();
            if visit(BatchView { header: packed.header, hash: packed.hash, bytes }).is_break() {
                return Ok(done);
            }
        }
        // The reader may be done already and not want it back.
        let _wanted = empties.send(parcel.bytes);
    }
    Ok(done)
}
