//! nano-wal: segments by time, records found by the offset that an append returned.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Durability, Fallible, Profile, Reader, Subject};
use crate::work::Work;
use nano_wal::{EntryRef, ReadDescriptor, Segment, Wal, WalOptions, WriteEntry, read_batch};

/// Longer than any measurement, so that there is one segment.
const AGE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a scan reads with one call.
const AT_ONCE: usize = 512;

pub(crate) struct NanoWal {
    log: Wal,
    segment: Arc<Segment>,
    now: i64,
    durable: bool,
    /// Where each record lies: whoever uses nano-wal keeps that.
    places: Mutex<Vec<EntryRef>>,
}

impl Subject for NanoWal {
    const PROFILE: Profile = Profile {
        name: "nano-wal",
        package: Some("nano-wal"),
        settings: "one segment; one `writev` an append or batch, with `fdatasync` where each append is synced. A scan \
                   reads 512 records a call",
        less: &[
            "no checksum",
            "records are found by the offset that an append returned, which its user must keep (here: a list in \
             memory); opened again, it does not know what it holds",
            "threads do not share syncs",
            "nothing is done about a torn tail",
        ],
        forgets: Some("opened again, it does not know what it holds"),
        reads_once: false,
    };

    type Reader<'a> = PlaceReader<'a>;

    fn lacks(work: Work) -> Option<&'static str> {
        matches!(work, Work::Reopen).then_some("opened again, it does not know what it holds")
    }

    fn less(work: Work) -> Option<&'static str> {
        match work {
            Work::Batch => Some("no checksum, and the batch is not atomic"),
            _ => Some("no checksum"),
        }
    }

    fn open(dir: &Path, durability: Durability) -> Fallible<Self> {
        let log = Wal::new(dir, "records", WalOptions { retention: AGE, segment_duration: AGE })?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis().try_into()?;
        let segment = log.ensure_segment(now)?;
        Ok(Self {
            log,
            segment,
            now,
            durable: durability == Durability::EachAppend,
            places: Mutex::default(),
        })
    }

    fn append(&self, _lane: usize, payload: &[u8]) -> Fallible {
        let place = self.log.append(None, payload, self.now, self.durable)?;
        self.places().push(place);
        Ok(())
    }

    fn append_batch(&self, payloads: &[&[u8]]) -> Fallible {
        // Five slices a record go into one system call, which takes 1024.
        for payloads in payloads.chunks(200) {
            let entries: Vec<WriteEntry<'_>> =
                payloads.iter().map(|payload| WriteEntry { header: None, content: payload }).collect();
            let places = self.log.append_batch(&entries, self.now, self.durable)?;
            self.places().extend(places);
        }
        Ok(())
    }

    fn reader(&self) -> Fallible<PlaceReader<'_>> {
        let places = self.places().iter().map(|place| (place.file_offset, place.byte_size)).collect();
        Ok(PlaceReader { from: self, places })
    }

    fn scan(&self, mut see: impl FnMut(&[u8])) -> Fallible {
        let places = self.places();
        for places in places.chunks(AT_ONCE) {
            let wanted: Vec<ReadDescriptor> = places
                .iter()
                .map(|place| ReadDescriptor {
                    read_fd: Arc::clone(self.segment.read_fd()),
                    file_offset: place.file_offset,
                    byte_size: place.byte_size,
                })
                .collect();
            read_batch(&wanted)?.iter().for_each(|record| see(&record.content));
        }
        Ok(())
    }

    fn close(self) -> Fallible {
        Ok(self.log.shutdown()?)
    }
}

impl NanoWal {
    fn places(&self) -> MutexGuard<'_, Vec<EntryRef>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct PlaceReader<'a> {
    from: &'a NanoWal,
    places: Vec<(u64, usize)>,
}

impl Reader for PlaceReader<'_> {
    fn read<T>(&mut self, n: u64, see: impl FnOnce(&[u8]) -> T) -> Fallible<T> {
        let &(offset, bytes) = self.places.get(n as usize - 1).ok_or("no such record")?;
        let record = self.from.log.read_at(&self.from.segment, offset, bytes)?;
        Ok(see(&record.content))
    }
}
