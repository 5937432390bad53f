//! History and evidence beside a replica: what is a job of the open branch is done at once here, on the thread that follows.

use skerry_journal::{Head, JournalReader, SealedBatch, Storage};
use skerry_proof::BatchHeader;

use super::{Followers, JobDone, Workshop, failed, take_in};
use crate::history::HistoryWork;

impl<S: Storage> Workshop<S> {
    /// What a follower of the journal has just read, and what was missing before it. Spans are sealed on the way.
    ///
    /// # Errors
    ///
    /// Why it could not be kept.
    pub(crate) fn follow<R: JournalReader>(&self, reader: &R, batches: &[SealedBatch]) -> Result<(), String> {
        let (Some(first), Some(last)) = (batches.first(), batches.last()) else { return Ok(()) };
        let end = Head::after(last).position;
        let mut followers = self.followers();
        let repaired = followers.history.repair();
        repaired.map_err(|error| failed("could not repair the history", &error))?;
        let has = |followers: &Followers<S::File>, header: &BatchHeader| {
            followers.history.position() >= header.first_position && followers.nodes.count() >= header.batch
        };
        if has(&followers, first.header()) {
            batches.iter().try_for_each(|batch| take_in(&mut followers, batch))?;
            self.look_at(&followers, true);
            drop(followers);
            return self.seal_spans().map(|_sealed| ());
        }
        drop(followers);
        loop {
            let at = match self.catch_up_to(reader, end) {
                JobDone::CaughtUp(progress) => {
                    let at = progress.head.position;
                    progress.span.map_or(Ok(()), |span| self.seal(span))?;
                    at
                }
                JobDone::Failed(error) => return Err(error),
                _ => return Ok(()),
            };
            if !self.seal_spans()? && at >= end {
                return Ok(());
            }
        }
    }

    /// Seals what waits for it. Whether there was anything.
    fn seal_spans(&self) -> Result<bool, String> {
        let mut any = false;
        loop {
            let span = self.followers().history.take_work();
            let Some(span) = span else { return Ok(any) };
            self.seal(span)?;
            any = true;
        }
    }

    fn seal(&self, span: HistoryWork) -> Result<(), String> {
        let done = span.run();
        let finished = self.followers().history.finish(done);
        finished.map_err(|error| failed("could not seal a span of history", &error))
    }
}
