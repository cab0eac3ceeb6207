//! The checking half of the walk: blocks of whole records wait in a short queue, and whoever is free checks their
//! seals and payloads. The lowest failure is kept.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::format::{HEADER_LEN, Header};
use crate::options::Format;
use crate::source::{Place, Source, Ticker, continued, is_record};
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering};

/// Bytes of a block: it stays in a core's own cache between being read and being checked.
pub(crate) const BLOCK: usize = 256 << 10;

/// Something to check.
pub(crate) enum Job {
    /// Whole records back to back, the first of them at `at`.
    Block { block: Vec<u8>, used: usize, at: Place, batch: Option<Place> },
    /// One record, to be read from the file.
    Long { header: Header, at: Place, batch: Option<Place> },
}

/// The first record of a job that is not what its header says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) at: Place,
    pub(crate) batch: Option<Place>,
}

/// The half that checks: a queue of blocks, and the lowest failure.
pub(crate) struct Checks<'a, 't> {
    source: Source<'a>,
    format: Format,
    ticker: Mutex<&'a mut Ticker<'t>>,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// How many jobs may wait.
    queued_max: usize,
    /// The offset of the lowest failure so far; everything beyond it does not matter any more.
    lowest: AtomicU64,
}

struct Queue {
    jobs: VecDeque<Job>,
    free: Vec<Vec<u8>>,
    /// How many blocks may still be made.
    unmade: usize,
    closed: bool,
    failure: Option<Failure>,
    error: Option<Error>,
}

impl<'a, 't> Checks<'a, 't> {
    pub(crate) fn new(source: Source<'a>, format: Format, blocks: usize, ticker: &'a mut Ticker<'t>) -> Self {
        Self {
            source,
            format,
            ticker: Mutex::new(ticker),
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                free: Vec::new(),
                unmade: blocks,
                closed: false,
                failure: None,
                error: None,
            }),
            changed: Condvar::new(),
            queued_max: blocks.saturating_sub(1),
            lowest: AtomicU64::new(u64::MAX),
        }
    }

    /// Tells how far the walk is, at a place up to which so many bytes were read.
    pub(crate) fn tick(&self, read: u64, at: Place) -> Result<()> {
        self.ticker.lock().tick(read, at.offset, at.index.saturating_sub(1))
    }

    pub(crate) fn none_below(&self, offset: u64) -> bool {
        // Relaxed: it only saves work, the outcome is read under the lock.
        self.lowest.load(Ordering::Relaxed) >= offset
    }

    /// A block to read into. While there is none, checks one that is waiting.
    pub(crate) fn free_block(&self) -> Vec<u8> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(block) = queue.free.pop() {
                return block;
            }
            if let Some(left) = queue.unmade.checked_sub(1) {
                queue.unmade = left;
                drop(queue);
                return vec![0; BLOCK];
            }
            queue = match queue.jobs.pop_front() {
                Some(job) => {
                    drop(queue);
                    self.run(job, &mut Vec::new());
                    self.queue.lock()
                }
                None => self.changed.wait(queue),
            };
        }
    }

    /// Leaves a job to whoever is free. If nobody is for long, does one here, so that the queue stays short.
    pub(crate) fn submit(&self, job: Job) {
        let mut queue = self.queue.lock();
        queue.jobs.push_back(job);
        let mine = if queue.jobs.len() > self.queued_max { queue.jobs.pop_front() } else { None };
        drop(queue);
        self.changed.notify_all();
        if let Some(job) = mine {
            self.run(job, &mut Vec::new());
        }
    }

    /// No further jobs will come; those that wait are dropped if nobody wants to know any more.
    pub(crate) fn close(&self, drop_jobs: bool) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        if drop_jobs {
            queue.jobs.clear();
            self.lowest.store(0, Ordering::Relaxed);
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// Checks what waits, until the queue is closed and empty.
    pub(crate) fn work(&self, only_rest: bool) {
        let mut piece = Vec::new();
        let mut queue = self.queue.lock();
        loop {
            queue = match queue.jobs.pop_front() {
                Some(job) => {
                    drop(queue);
                    self.run(job, &mut piece);
                    self.queue.lock()
                }
                None if queue.closed || only_rest => return,
                None => self.changed.wait(queue),
            };
        }
    }

    fn run(&self, job: Job, piece: &mut Vec<u8>) {
        let (block, failure) = match job {
            Job::Block { block, used, at, batch } => {
                let failure = match self.none_below(at.offset) {
                    true => check_block(self.format, block.get(..used).unwrap_or_default(), at, batch),
                    false => None,
                };
                (Some(block), Ok(failure))
            }
            Job::Long { header, at, batch } => (None, self.check_long(header, at, batch, piece)),
        };
        let mut queue = self.queue.lock();
        queue.free.extend(block);
        match failure {
            Ok(None) => {}
            Ok(Some(failure)) => {
                if queue.failure.is_none_or(|lowest| failure.at.offset < lowest.at.offset) {
                    queue.failure = Some(failure);
                    self.lowest.fetch_min(failure.at.offset, Ordering::Relaxed);
                }
            }
            Err(error) => {
                queue.error.get_or_insert(error);
                // Ends the walk: there is no outcome.
                self.lowest.store(0, Ordering::Relaxed);
            }
        }
        drop(queue);
        self.changed.notify_all();
    }

    fn check_long(
        &self,
        header: Header,
        at: Place,
        batch: Option<Place>,
        piece: &mut Vec<u8>,
    ) -> Result<Option<Failure>> {
        let failure = Some(Failure { at, batch });
        if !is_record(self.format, header, at.offset) {
            return Ok(failure);
        }
        let payload = at.offset.saturating_add(HEADER_LEN);
        // One record can be as long as the file: who checks it listens for the word to stop.
        let mut told = Ok(());
        let crc = self.source.crc(payload, header.len, piece, |next| {
            told = self.tick(next, at);
            told.is_ok() && self.none_below(at.offset)
        })?;
        told?;
        Ok(failure.filter(|_| crc != Some(header.crc)))
    }

    pub(crate) fn outcome(&self) -> Result<Option<Failure>> {
        let mut queue = self.queue.lock();
        queue.error.take().map_or(Ok(queue.failure), Err)
    }
}

/// Checks records back to back and returns the first that is not what its header says.
fn check_block(format: Format, bytes: &[u8], mut at: Place, mut batch: Option<Place>) -> Option<Failure> {
    let mut rest = bytes;
    while let Some((head, behind)) = rest.split_first_chunk() {
        let header = Header::decode(head);
        let payload = usize::try_from(header.len).ok().and_then(|len| behind.split_at_checked(len));
        match payload {
            Some((payload, next))
                if is_record(format, header, at.offset) && crc32fast::hash(payload) == header.crc =>
            {
                batch = if continued(header) { batch.or(Some(at)) } else { None };
                at.offset = at.offset.saturating_add(HEADER_LEN + payload.len() as u64);
                at.index = at.index.saturating_add(1);
                rest = next;
            }
            _ => return Some(Failure { at, batch }),
        }
    }
    None
}
