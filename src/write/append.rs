//! What callers wait for: records appended, and records made durable.

use std::io::IoSlice;

use crate::error::{Error, Result};
use crate::format::HEADER_LEN;
use crate::group_commit::Target;
use crate::options::SyncPolicy;
use crate::sync::Arc;
use crate::write::Log;
use crate::write::lock::Locked;
use crate::write::writer::{Parts, Records, Refusal, Written};

impl Log {
    /// Appends one record; its index.
    #[inline]
    pub(crate) fn append(&self, slices: &[IoSlice<'_>]) -> Result<u64> {
        let record = self.measure(slices)?;
        self.check_process()?;
        let mut writer = self.lock();
        let n = loop {
            writer.check()?;
            if writer.has_room(record.len.saturating_add(HEADER_LEN)) {
                break writer.stage(record, 0)?;
            }
            self.file.check_process()?;
            let durable = self.group_commit.durable_bytes();
            if writer.needs_slot(durable) {
                writer = self.settle(writer, None)?;
                continue;
            }
            match writer.write_record(record, durable) {
                Ok(written) => break self.let_in(&mut writer, written),
                Err(Refusal::Before(error)) => return Err(error),
                Err(Refusal::Write(error)) => writer = self.refuse(writer, None, error)?,
            }
        };
        self.acknowledge(writer, n)?;
        Ok(n)
    }

    /// Appends the records of `batch`, all or none, and returns the index of the last. `batch` is not empty.
    pub(crate) fn append_batch(&self, batch: &impl Records) -> Result<u64> {
        let mut total = 0u64;
        for at in 0..batch.count() {
            let len = batch.get(at).map_or(0, |(payload, _)| payload.len() as u64);
            self.check_len(len)?;
            total = total.saturating_add(len).saturating_add(HEADER_LEN);
        }
        self.check_process()?;
        let mut writer = self.lock();
        loop {
            writer.check()?;
            if writer.has_room(total) {
                writer.stage_batch(batch, total)?;
                break;
            }
            self.file.check_process()?;
            let durable = self.group_commit.durable_bytes();
            if writer.needs_slot(durable) {
                writer = self.settle(writer, None)?;
                continue;
            }
            match writer.write_batch(batch, total, durable) {
                Ok(written) => {
                    self.let_in(&mut writer, written);
                    break;
                }
                Err(Refusal::Before(error)) => return Err(error),
                Err(Refusal::Write(error)) => writer = self.refuse(writer, None, error)?,
            }
        }
        let last = writer.appended().index;
        self.acknowledge(writer, last)?;
        Ok(last)
    }

    // Inlined, or an append waits for the result to come back through memory: a fifth of its time at 64 bytes.
    #[inline]
    fn measure<'a>(&self, slices: &'a [IoSlice<'a>]) -> Result<Parts<'a>> {
        let mut hasher = crc32fast::Hasher::new();
        let mut len = 0u64;
        for slice in slices {
            len = len.saturating_add(slice.len() as u64);
            hasher.update(slice);
        }
        self.check_len(len)?;
        Ok(Parts { slices, len, crc: hasher.finalize() })
    }

    /// An append is refused in another process than the one that opened the journal. One that only goes to the buffer, and
    /// so writes nothing, makes no system call to find out.
    #[inline]
    fn check_process(&self) -> Result<()> {
        match self.policy {
            SyncPolicy::Always => self.file.check_process(),
            SyncPolicy::OnDemand | SyncPolicy::Interval(_) => self.file.check_process_at_once(),
        }
    }

    fn check_len(&self, len: u64) -> Result<()> {
        let max = self.max_record_len;
        if len > max { Err(Error::RecordTooLarge { len, max }) } else { Ok(()) }
    }

    /// Lets readers see records that went past the buffer; the last of them. They are appended before they are committed.
    fn let_in(&self, writer: &mut Locked<'_>, written: Written) -> u64 {
        let n = writer.appended().index;
        self.set_appended(n);
        writer.publish(written);
        n
    }

    /// Tells an append that its records, the last of which is `n`, are in: at once, or when they are durable.
    #[inline]
    fn acknowledge(&self, mut writer: Locked<'_>, n: u64) -> Result<()> {
        self.set_appended(n);
        if self.policy != SyncPolicy::Always {
            return Ok(());
        }
        let target = target(&mut writer, n);
        drop(writer);
        self.group_commit.wait(target, |slot| self.sync_with(slot))
    }

    /// Makes everything appended so far durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.check_process()?;
        let mut writer = self.lock();
        // What is left after a failure is durable, but what was staged is gone: that must not look like success.
        writer.check()?;
        let last = writer.appended().index;
        let target = target(&mut writer, last);
        drop(writer);
        self.group_commit.wait(target, |slot| self.sync_with(slot))
    }

    /// Waits until record `n` is durable.
    pub(crate) fn wait_durable(&self, n: u64) -> Result<()> {
        self.file.check_process()?;
        let mut writer = self.lock();
        let (first, last) = (writer.view.first(), writer.appended().index);
        // Looked at before `n` is held against the end: what is durable stays so after a failure.
        let durable = self.group_commit.durable_index();
        if n < first || n <= durable {
            return Ok(());
        }
        writer.check()?;
        if n > last {
            return Err(Error::OutOfRange { index: n, first, last });
        }
        let generation = Arc::clone(writer.view.generation());
        let target = target(&mut writer, n);
        drop(writer);
        self.group_commit.wait(target, |slot| self.sync_with(slot))?;
        // It may have been cut meanwhile, and its index may be that of another record by now.
        match generation.lowest_kept() {
            Some(last) if n > last => {
                Err(Error::OutOfRange { index: n, first: self.publisher.load().first(), last })
            }
            _ => Ok(()),
        }
    }
}

/// What a caller waits for that wants record `n` to be durable. If it is still staged, the caller hears of it should it be
/// dropped.
#[inline]
fn target(writer: &mut Locked<'_>, n: u64) -> Target {
    let staged = n > writer.committed.index;
    if staged {
        writer.waiting += 1;
    }
    Target { index: n, generation: writer.view.cuts(), stage: staged.then_some(writer.stage) }
}

#[cfg(all(test, feature = "__seam", not(loom)))]
mod tests {
    use super::*;
    use crate::file::JournalFile;
    use crate::file::seam::FileSeam;
    use crate::options::Options;
    use crate::recover::recover;
    use crate::seam::{Op, Role, Seam, Verdict};
    use crate::sync::{Condvar, Mutex};
    use crate::write::writer::Start;

    const EIO: i32 = 5;

    /// Holds syncs of the journal as it is told, and refuses the next operation that it is told to refuse.
    #[derive(Default)]
    struct Disk {
        state: Mutex<State>,
        changed: Condvar,
    }

    #[derive(Default)]
    struct State {
        holds: bool,
        held: bool,
        refuses: Option<fn(&Op<'_>) -> bool>,
        /// What was written.
        written: Vec<u8>,
    }

    impl Seam for Disk {
        fn before(&self, role: Role, op: &Op<'_>) -> Verdict {
            let mut state = self.state.lock();
            if role == Role::Journal && matches!(op, Op::Sync) {
                while state.holds {
                    state.held = true;
                    self.changed.notify_all();
                    state = self.changed.wait(state);
                }
            }
            if let Op::Write { parts, .. } = op {
                parts.iter().for_each(|part| state.written.extend_from_slice(part));
            }
            match state.refuses.take_if(|refuses| refuses(op)) {
                Some(_) => Verdict::Fail(EIO),
                None => Verdict::Proceed,
            }
        }
    }

    impl Disk {
        /// Returns once a sync is held.
        fn wait_held(&self) {
            let mut state = self.state.lock();
            while !state.held {
                state = self.changed.wait(state);
            }
        }

        /// Lets syncs go on, and refuses from here on what is to be refused.
        fn release(&self, refuses: Option<fn(&Op<'_>) -> bool>) {
            let mut state = self.state.lock();
            (state.holds, state.held, state.refuses) = (false, false, refuses);
            self.changed.notify_all();
        }
    }

    fn log(dir: &tempfile::TempDir, disk: &Arc<Disk>) -> Log {
        let mut options = Options::new();
        options.seam(disk.clone());
        let (file, origin) = JournalFile::open(&dir.path().join("j"), true, FileSeam::of(&options)).unwrap();
        let found = recover(&file, origin, &options).unwrap();
        let (file, staging_len) = (Arc::new(file), 4096);
        let start =
            Start { file, format: found.format, index: found.index, marked: found.marked, staging_len };
        Log::new(start, &options).unwrap()
    }

    fn append(log: &Log, payload: &[u8]) -> Result<u64> {
        log.append(&[IoSlice::new(payload)])
    }

    fn until(done: impl Fn() -> bool) {
        while !done() {
            std::thread::yield_now();
        }
    }

    fn refused(error: &Error) -> bool {
        matches!(error, Error::Io { source, .. } if source.raw_os_error() == Some(EIO))
    }

    #[test]
    fn all_waiters_for_a_record_that_is_dropped_are_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::default());
        let log = &log(&dir, &disk);
        disk.state.lock().holds = true;
        std::thread::scope(|scope| {
            let first = scope.spawn(|| append(log, b"first"));
            disk.wait_held();
            let mut others = vec![scope.spawn(|| append(log, b"second").map(drop))];
            until(|| log.appended() == 2);
            for _ in 0..4 {
                others.push(scope.spawn(|| log.wait_durable(2)));
                others.push(scope.spawn(|| log.sync()));
            }
            // All of them have asked and sleep: the first one's sync does not cover record 2.
            until(|| log.group_commit.asleep() == (others.len() as u64, 0));
            disk.release(Some(|op| matches!(op, Op::Write { .. })));
            assert_eq!(first.join().unwrap().unwrap(), 1);
            for other in others {
                let told = other.join().unwrap();
                assert!(told.as_ref().is_err_and(refused), "{told:?}");
            }
        });
        assert_eq!((log.appended(), log.group_commit.durable_index()), (1, 1));
        assert_eq!(append(log, b"next").unwrap(), 2);
        log.wait_durable(2).unwrap();
    }

    /// A truncation comes while records are staged whose appends wait, and others wait for those records.
    fn cut_while_staged(kept: u64, refuses: Option<fn(&Op<'_>) -> bool>) -> (Result<()>, Vec<Result<()>>) {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::default());
        let log = &log(&dir, &disk);
        append(log, b"kept").unwrap();
        disk.state.lock().holds = true;
        let told = std::thread::scope(|scope| {
            let first = scope.spawn(|| append(log, b"first"));
            disk.wait_held();
            let mut waiting = Vec::new();
            for n in 3..=5 {
                waiting.push(scope.spawn(move || append(log, b"staged").map(|index| assert_eq!(index, n))));
                until(|| log.appended() == n);
            }
            waiting.push(scope.spawn(|| log.sync()));
            waiting.push(scope.spawn(|| log.wait_durable(4)));
            until(|| log.group_commit.asleep() == (waiting.len() as u64, 0));
            let cut = scope.spawn(move || {
                log.truncate_back(kept)?;
                // The index of one that waits is taken by another record before it can look.
                while log.appended() < 5 {
                    append(log, b"other")?;
                }
                Ok(())
            });
            until(|| log.group_commit.asleep().1 == 1);
            disk.release(refuses);
            assert_eq!(first.join().unwrap().unwrap(), 2);
            let cut = cut.join().unwrap();
            (cut, waiting.into_iter().map(|each| each.join().unwrap()).collect())
        });
        let staged = disk.state.lock().written.windows(6).filter(|bytes| bytes == b"staged").count() as u64;
        let written = if told.0.as_ref().is_err_and(refused) { 3 } else { kept.saturating_sub(2) };
        assert_eq!(staged, written, "cut to {kept}");
        told
    }

    #[test]
    fn waiters_for_a_record_that_is_cut_before_it_is_written_hear_that_it_was_appended() {
        for kept in 0..=4 {
            let (cut, told) = cut_while_staged(kept, None);
            cut.unwrap();
            let [appends @ .., synced, durable] = &told[..] else { panic!("{told:?}") };
            assert!(appends.iter().chain([synced]).all(Result::is_ok), "cut to {kept}: {told:?}");
            match durable {
                Err(Error::OutOfRange { index: 4, last, .. }) if kept < 4 => assert_eq!(*last, kept),
                Ok(()) if kept == 4 => {}
                other => panic!("cut to {kept}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_cut_that_fails_half_way_acknowledges_nothing_that_was_only_staged() {
        let (cut, told) = cut_while_staged(1, Some(|op| matches!(op, Op::Truncate { .. })));
        assert!(matches!(cut, Err(Error::Poisoned { .. })), "{cut:?}");
        assert!(told.iter().all(|told| told.as_ref().is_err_and(refused)), "{told:?}");
    }

    #[test]
    fn after_a_cut_that_is_taken_back_what_is_staged_is_written_and_acknowledged() {
        // The first write after the sync is that of the intent.
        let (cut, told) = cut_while_staged(1, Some(|op| matches!(op, Op::Write { .. })));
        assert!(cut.as_ref().is_err_and(refused), "{cut:?}");
        assert!(told.iter().all(Result::is_ok), "{told:?}");
    }
}
