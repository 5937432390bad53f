//! The files of the embedded directory: a table of records, and a log that makes its newest part durable.
//!
//! ```text
//! table-<generation>   records one after the other; synced up to the mark
//! log-<number>         header of 4096 bytes: generation, mark; then frames, each beginning on 4096
//! frame                magic u32 · length u32 · at u64 · number u64 · check 16 · the bytes of the table at `at`
//! ```
//!
//! A flush writes one frame and syncs the log; the table gets the same bytes, unsynced. Once the log is long the table is
//! synced, and a new log begins with a higher mark. So no sync rewrites a sector that was acknowledged, and after a crash the
//! table up to the mark and the frames behind it are everything. What lies in the table beyond is written again.

use std::collections::BTreeSet;

use skerry_journal::storage::{SECTOR, remove_if_there};
use skerry_journal::{Storage, StorageError, StorageErrorKind, StorageFile};

use super::record::UNIT;

const LOG_MAGIC: [u8; 8] = *b"SKDIR\0\x01\0";
const FRAME_MAGIC: u32 = 0x524b_4644;
const FRAME_HEAD: usize = 40;
/// One frame carries at most this much of the table.
pub(super) const FRAME_BYTES_MAX: usize = 4 << 20;
/// Places are counted in units of 16 bytes and held in 32 bits.
pub(super) const TABLE_BYTES_MAX: u64 = (u32::MAX as u64) * UNIT as u64;

/// Why the files did not open.
#[derive(Debug)]
pub(super) enum Unread {
    /// The machine failed.
    Machine(StorageError),
    /// There is nothing, or nothing that was ever finished.
    Nothing,
    /// What is there cannot be what was written.
    Damaged(String),
}

impl From<StorageError> for Unread {
    fn from(error: StorageError) -> Self {
        Self::Machine(error)
    }
}

/// The table and its log, open for reading and appending.
#[derive(Debug)]
pub(super) struct Log<S: Storage> {
    storage: S,
    generation: u64,
    number: u64,
    table: S::File,
    log: S::File,
    /// The table's length in the file; `tail` follows.
    written: u64,
    tail: Vec<u8>,
    /// How much of `tail` is in a frame.
    flushed: usize,
    frame: u64,
    log_at: u64,
    log_bytes_max: u64,
}

/// What is to be read at opening: the table up to its mark, and the log.
pub(super) struct Found<S: Storage> {
    generation: u64,
    number: u64,
    table: S::File,
    mark: u64,
    log: S::File,
}

fn table_name(generation: u64) -> String {
    format!("table-{generation:016x}")
}

fn log_name(number: u64) -> String {
    format!("log-{number:016x}")
}

fn numbers(names: &[String], prefix: &str) -> BTreeSet<u64> {
    let hex = names.iter().filter_map(|name| name.strip_prefix(prefix)).filter(|hex| hex.len() == 16);
    hex.filter_map(|hex| u64::from_str_radix(hex, 16).ok()).collect()
}

impl<S: Storage> Found<S> {
    /// The newest log with a whole header, and its table.
    pub(super) fn look(storage: &S) -> Result<Self, Unread> {
        let names = storage.list()?;
        let logs = numbers(&names, "log-");
        for number in logs.iter().rev().copied() {
            let log = storage.open(&log_name(number), false)?;
            let mut header = vec![0; LOG_HEAD];
            let got = log.read_at(0, &mut header)?;
            let Some((generation, mark)) = read_header(&header[..got], number) else { continue };
            let table = match storage.open(&table_name(generation), true) {
                Ok(table) => table,
                Err(error) if error.kind == StorageErrorKind::NotFound => {
                    return Err(Unread::Damaged(format!("{} is not there", table_name(generation))));
                }
                Err(error) => return Err(error.into()),
            };
            if table.length()? < mark {
                return Err(Unread::Damaged(format!("{} is cut short", table_name(generation))));
            }
            return Ok(Self { generation, number, table, mark, log });
        }
        if logs.is_empty() {
            Err(Unread::Nothing)
        } else {
            Err(Unread::Damaged("no log has a whole header".into()))
        }
    }

    /// What the frames say follows the mark.
    pub(super) fn frames(&self) -> Result<Vec<u8>, Unread> {
        let length = self.log.length()?;
        let (mut at, mut number, mut bytes) = (SECTOR, 0, Vec::new());
        while let Some(frame) = self.frame(at, length)? {
            let expected = self.mark + bytes.len() as u64;
            if frame.number != number || frame.at != expected {
                return Err(Unread::Damaged(format!("frame {number} of the log is another's")));
            }
            bytes.extend_from_slice(&frame.bytes);
            number += 1;
            at += frame_length(frame.bytes.len());
        }
        // What was not finished is followed by nothing: a frame is begun only when the one before is durable.
        let mut behind = at + SECTOR;
        while behind < length {
            if self.frame(behind, length)?.is_some_and(|frame| frame.number > number) {
                return Err(Unread::Damaged(format!("frame {number} of the log is damaged")));
            }
            behind += SECTOR;
        }
        Ok(bytes)
    }

    fn frame(&self, at: u64, length: u64) -> Result<Option<Frame>, Unread> {
        let mut head = [0; FRAME_HEAD];
        if at + SECTOR > length || self.log.read_at(at, &mut head)? < FRAME_HEAD {
            return Ok(None);
        }
        let Some((bytes_length, table_at, number)) = read_frame_head(&head) else { return Ok(None) };
        let mut bytes = vec![0; bytes_length];
        let got = self.log.read_at(at + FRAME_HEAD as u64, &mut bytes)?;
        let whole = got == bytes_length && frame_check(&head[..24], self.log_key(), &bytes) == head[24..];
        Ok(whole.then_some(Frame { at: table_at, number, bytes }))
    }

    fn log_key(&self) -> u64 {
        self.number
    }
}

struct Frame {
    at: u64,
    number: u64,
    bytes: Vec<u8>,
}

const LOG_HEAD: usize = 48;

fn header(number: u64, generation: u64, mark: u64) -> Vec<u8> {
    let mut bytes = LOG_MAGIC.to_vec();
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&mark.to_le_bytes());
    let check = blake3::hash(&bytes);
    bytes.extend_from_slice(&check.as_bytes()[..16]);
    bytes
}

fn read_header(bytes: &[u8], number: u64) -> Option<(u64, u64)> {
    let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (generation, mark) = (u64_at(16)?, u64_at(24)?);
    (bytes == header(number, generation, mark)).then_some((generation, mark))
}

fn frame_head(number: u64, log: u64, at: u64, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a frame has at most 4 MiB");
    let mut head = FRAME_MAGIC.to_le_bytes().to_vec();
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&at.to_le_bytes());
    head.extend_from_slice(&number.to_le_bytes());
    let check = frame_check(&head, log, bytes);
    head.extend_from_slice(&check);
    head
}

fn read_frame_head(head: &[u8; FRAME_HEAD]) -> Option<(usize, u64, u64)> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let length = usize::try_from(u32_at(4)?).ok()?;
    let whole = u32_at(0)? == FRAME_MAGIC && length <= FRAME_BYTES_MAX;
    whole.then_some((length, u64_at(8)?, u64_at(16)?))
}

/// A frame is this log's own: what an older one left on the disk is none.
fn frame_check(head: &[u8], log: u64, bytes: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&log.to_le_bytes());
    hasher.update(head);
    hasher.update(bytes);
    let mut check = [0; 16];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    check
}

fn frame_length(bytes: usize) -> u64 {
    ((FRAME_HEAD + bytes) as u64).next_multiple_of(SECTOR)
}

impl<S: Storage> Log<S> {
    /// Begins with an empty table and log, under numbers that no file here has.
    pub(super) fn fresh(storage: &S, log_bytes_max: u64) -> Result<Self, StorageError> {
        let names = storage.list()?;
        let next = |prefix| numbers(&names, prefix).last().map_or(1, |last| last + 1);
        let (generation, number) = (next("table-"), next("log-"));
        let table = storage.create(&table_name(generation))?;
        table.sync_data()?;
        let log = begin_log(storage, number, generation, 0, log_bytes_max)?;
        Ok(Self::of(storage, (generation, number), table, log, 0, log_bytes_max))
    }

    /// Goes on behind what was found, whose frames held `bytes`; [`checkpoint`](Self::checkpoint) must follow before
    /// anything else, for the old log is not appended to.
    pub(super) fn resume(storage: &S, found: Found<S>, bytes: Vec<u8>, log_bytes_max: u64) -> Self {
        let numbers = (found.generation, found.number);
        let mut log = Self::of(storage, numbers, found.table, found.log, found.mark, log_bytes_max);
        log.flushed = bytes.len();
        log.tail = bytes;
        log
    }

    fn of(
        storage: &S,
        (generation, number): (u64, u64),
        table: S::File,
        log: S::File,
        written: u64,
        log_bytes_max: u64,
    ) -> Self {
        Self {
            storage: storage.clone(),
            generation,
            number,
            table,
            log,
            written,
            tail: Vec::new(),
            flushed: 0,
            frame: 0,
            log_at: SECTOR,
            log_bytes_max,
        }
    }

    /// Where the next record goes, in bytes.
    pub(super) fn end(&self) -> u64 {
        self.written + self.tail.len() as u64
    }

    /// Appends whole records; durable after the next [`flush`](Self::flush).
    pub(super) fn append(&mut self, records: &[u8]) {
        self.tail.extend_from_slice(records);
    }

    /// Bytes that the next flush will make durable.
    pub(super) fn unflushed(&self) -> usize {
        self.tail.len() - self.flushed
    }

    /// Makes everything that was appended durable.
    ///
    /// # Errors
    ///
    /// Then nothing further is promised, and the files must be opened again.
    pub(super) fn flush(&mut self) -> Result<(), StorageError> {
        while self.unflushed() > 0 {
            let end = self.tail.len().min(self.flushed + FRAME_BYTES_MAX);
            let length = frame_length(end - self.flushed);
            if self.log_at > SECTOR && self.log_at + length > self.log_bytes_max {
                self.checkpoint()?;
                continue;
            }
            let bytes = &self.tail[self.flushed..end];
            let at = self.written + self.flushed as u64;
            let mut frame = frame_head(self.frame, self.number, at, bytes);
            frame.extend_from_slice(bytes);
            frame.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
            self.log.write_at(self.log_at, &frame)?;
            self.log.sync_data()?;
            self.log_at += length;
            self.frame += 1;
            self.flushed = end;
        }
        if self.tail.len() >= TAIL_BYTES_MAX { self.write_tail() } else { Ok(()) }
    }

    /// Hands what is durable in the log to the table, unsynced.
    fn write_tail(&mut self) -> Result<(), StorageError> {
        self.table.write_at(self.written, &self.tail)?;
        self.written += self.tail.len() as u64;
        self.tail.clear();
        self.flushed = 0;
        Ok(())
    }

    /// Makes the table durable as far as it goes and begins a new log.
    pub(super) fn checkpoint(&mut self) -> Result<(), StorageError> {
        // The mark lies on a sector of its own: none that was synced is written again.
        let padded = self.end().next_multiple_of(SECTOR);
        let filler = usize::try_from(padded - self.end()).unwrap_or(0);
        self.tail.resize(self.tail.len() + filler, 0);
        self.write_tail()?;
        self.table.sync_data()?;
        let old = self.number;
        self.number += 1;
        self.log = begin_log(&self.storage, self.number, self.generation, padded, self.log_bytes_max)?;
        (self.log_at, self.frame) = (SECTOR, 0);
        remove_if_there(&self.storage, &log_name(old))
    }

    /// Reads what lies at `at`, in the file or before it; fewer bytes than asked for only at the end.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        if at < self.written {
            let most = usize::try_from(self.written - at).unwrap_or(usize::MAX).min(buffer.len());
            return self.table.read_at(at, &mut buffer[..most]);
        }
        let start = usize::try_from(at - self.written).unwrap_or(usize::MAX).min(self.tail.len());
        let most = (self.tail.len() - start).min(buffer.len());
        buffer[..most].copy_from_slice(&self.tail[start..start + most]);
        Ok(most)
    }

    /// Begins a new table that `fill` writes; the old one is gone afterwards.
    pub(super) fn rewrite(
        self,
        mut fill: impl FnMut(
            &Self,
            &mut dyn FnMut(&[u8]) -> Result<u64, StorageError>,
        ) -> Result<(), StorageError>,
    ) -> Result<Self, StorageError> {
        let storage = self.storage.clone();
        let names = storage.list()?;
        let generation = numbers(&names, "table-").last().map_or(1, |last| last + 1);
        let table = storage.create(&table_name(generation))?;
        let (mut written, mut buffer) = (0, Vec::with_capacity(TAIL_BYTES_MAX));
        fill(&self, &mut |record| {
            if buffer.len() + record.len() > TAIL_BYTES_MAX {
                table.write_at(written, &buffer)?;
                written += buffer.len() as u64;
                buffer.clear();
            }
            let at = written + buffer.len() as u64;
            buffer.extend_from_slice(record);
            Ok(at)
        })?;
        let padded = (written + buffer.len() as u64).next_multiple_of(SECTOR);
        buffer.resize(usize::try_from(padded - written).unwrap_or(0), 0);
        table.write_at(written, &buffer)?;
        table.sync_data()?;
        let number = self.number + 1;
        let log = begin_log(&storage, number, generation, padded, self.log_bytes_max)?;
        Ok(Self::of(&storage, (generation, number), table, log, padded, self.log_bytes_max))
    }

    /// Removes files that are not in use.
    pub(super) fn tidy(&self) -> Result<(), StorageError> {
        let names = self.storage.list()?;
        for generation in numbers(&names, "table-").into_iter().filter(|other| *other != self.generation) {
            remove_if_there(&self.storage, &table_name(generation))?;
        }
        for number in numbers(&names, "log-").into_iter().filter(|other| *other != self.number) {
            remove_if_there(&self.storage, &log_name(number))?;
        }
        Ok(())
    }
}

/// The table is written in pieces of about this.
const TAIL_BYTES_MAX: usize = 256 << 10;

fn begin_log<S: Storage>(
    storage: &S,
    number: u64,
    generation: u64,
    mark: u64,
    log_bytes_max: u64,
) -> Result<S::File, StorageError> {
    remove_if_there(storage, &log_name(number))?;
    let log = storage.create(&log_name(number))?;
    log.reserve(SECTOR + log_bytes_max)?;
    let mut bytes = header(number, generation, mark);
    bytes.resize(usize::try_from(SECTOR).unwrap_or(0), 0);
    log.write_at(0, &bytes)?;
    log.sync_data()?;
    storage.sync_dir()?;
    Ok(log)
}

/// Reads a log's header or a frame of it, for whoever feeds this edge with rubbish: whether `bytes` is either.
#[must_use]
pub fn is_read(bytes: &[u8]) -> bool {
    let number = bytes.get(8..16).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    let is_header = bytes.get(..LOG_HEAD).is_some_and(|head| read_header(head, number).is_some());
    let is_frame = bytes.first_chunk::<FRAME_HEAD>().is_some_and(|head| read_frame_head(head).is_some());
    is_header || is_frame
}
