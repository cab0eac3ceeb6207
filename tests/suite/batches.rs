//! Batches: their order, their size, and what they leave behind.

use crate::common;

use std::sync::{Arc, Mutex};

use common::seam::Seam;
use common::{payload, place};
use wally::{Batch, Error, Format, Journal, Options, SyncPolicy};

const BUFFER: usize = 4096;
const CONTINUED: u8 = 1 << 2;

fn options() -> Options {
    let mut options = Options::new();
    options.sync_policy(SyncPolicy::OnDemand).buffer_size(BUFFER);
    options
}

fn contents(journal: &Journal) -> Vec<Vec<u8>> {
    journal.flush().unwrap();
    journal.snapshot().iter().map(|(_, bytes)| bytes.to_vec()).collect()
}

/// The flags in the low byte of each record's seal, as they are in the file.
fn flags(journal: &Journal) -> Vec<u8> {
    journal.flush().unwrap();
    let file = std::fs::read(journal.path()).unwrap();
    let low = |n| file[journal.data_range(n).unwrap().start as usize - 4];
    (1..=journal.last_index()).map(low).collect()
}

#[test]
fn a_batch_gets_consecutive_indexes_in_its_order() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    assert_eq!(journal.append(b"before").unwrap(), 1);
    assert_eq!(journal.append_batch(["one", "two", "three"]).unwrap(), 2..=4);
    let mut batch = Batch::new();
    for bytes in [&b"four"[..], b"", b"six"] {
        batch.push(bytes);
    }
    assert_eq!(journal.write_batch(&batch).unwrap(), 5..=7);
    assert_eq!(journal.append(b"after").unwrap(), 8);
    assert_eq!(
        contents(&journal),
        [&b"before"[..], b"one", b"two", b"three", b"four", b"", b"six", b"after"]
    );
}

#[test]
fn every_record_of_a_batch_but_the_last_says_that_it_goes_on() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    let large = payload(1, BUFFER);
    journal.append(b"alone").unwrap();
    journal.append_batch([b"a", b"b", b"c"]).unwrap();
    journal.append_batch([b"a"]).unwrap();
    journal.append_batch([&large, &large]).unwrap();
    let continued: Vec<bool> = flags(&journal).iter().map(|low| low & CONTINUED != 0).collect();
    assert_eq!(continued, [false, true, true, false, false, true, false]);
}

#[test]
fn a_batch_of_nothing_is_an_empty_range_and_changes_nothing() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    assert!(journal.append_batch::<[&[u8]; 0]>([]).unwrap().is_empty());
    assert!(journal.write_batch(&Batch::new()).unwrap().is_empty());
    journal.append(b"a").unwrap();
    let range = journal.append_batch::<[&[u8]; 0]>([]).unwrap();
    assert!(range.is_empty());
    assert_eq!((*range.start(), *range.end()), (2, 1), "it says where it would have been");
    assert_eq!(journal.last_index(), 1);
    assert_eq!(journal.stats().flushes, 0);
}

#[test]
fn batches_of_every_size_come_back_whole() {
    for format in [Format::Sealed, Format::Reference] {
        for staged in [false, true] {
            let (_dir, path) = place();
            let mut options = options();
            options.new_file_format(format);
            let journal = options.open(&path).unwrap();
            let mut expected = Vec::new();
            // A gather takes 64 records, a call 1024 parts: on and around these.
            for (salt, count) in (1..).zip([1usize, 2, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 3000]) {
                for len in [0usize, 1, 50, 200] {
                    if staged {
                        journal.append(b"staged").unwrap();
                        expected.push(b"staged".to_vec());
                    }
                    let batch: Vec<Vec<u8>> =
                        (0..count as u64).map(|i| payload(salt * 10_000 + i, len)).collect();
                    let first = journal.last_index() + 1;
                    let range = journal.append_batch(&batch).unwrap();
                    assert_eq!(range, first..=first + count as u64 - 1);
                    expected.extend(batch);
                }
            }
            assert!(contents(&journal) == expected);
            journal.close().unwrap();
            let journal = options.open(&path).unwrap();
            assert!(contents(&journal) == expected);
        }
    }
}

#[test]
fn a_batch_may_mix_empty_small_and_large_records() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    let sizes = [0, 10, 0, 0, 5000, 1, BUFFER - 16, 0, BUFFER, 300_000, 0];
    let batch: Vec<Vec<u8>> = (1..).zip(sizes).map(|(salt, len)| payload(salt, len)).collect();
    assert_eq!(journal.append_batch(&batch).unwrap(), 1..=sizes.len() as u64);
    assert_eq!(journal.committed_index(), sizes.len() as u64);
    assert!(contents(&journal) == batch);
}

#[test]
fn a_batch_on_the_edge_of_the_buffer_is_staged_if_it_fits_whole() {
    let half = BUFFER / 2 - 16;
    for (by, committed) in [(-1i64, 0), (0, 0), (1, 2)] {
        let (_dir, path) = place();
        let journal = options().open(&path).unwrap();
        let batch = [payload(1, half), payload(2, (half as i64 + by) as usize)];
        journal.append_batch(&batch).unwrap();
        assert_eq!(journal.committed_index(), committed, "{by}");
        assert!(contents(&journal) == batch);
    }
}

#[test]
fn readers_never_see_a_part_of_a_batch() {
    let (_dir, path) = place();
    let seam = Seam::new();
    let journal = Arc::new(options().seam(seam.clone()).open(&path).unwrap());
    // Watched at the seam, between the calls that a large batch takes.
    let reader = Mutex::new(journal.reader());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    seam.rule(move |_, call| {
        if call.is_write() {
            told.lock().unwrap().push(reader.lock().unwrap().last_index());
        }
        wally::seam::Verdict::Proceed
    });
    journal.append_batch(vec![payload(1, 1000); 500]).unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, vec![0; 8], "64 records a call, none visible before the last");
    seam.allow_all();
    assert_eq!(journal.committed_index(), 500);
}

#[test]
fn a_batch_is_used_again() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    let mut batch = Batch::new();
    assert!(batch.is_empty());
    batch.push(b"a");
    batch.push(b"bc");
    assert_eq!((batch.len(), batch.payload_bytes(), batch.is_empty()), (2, 3, false));
    assert_eq!(journal.write_batch(&batch).unwrap(), 1..=2);
    assert_eq!(journal.write_batch(&batch).unwrap(), 3..=4, "it stays as it is");
    batch.clear();
    assert_eq!((batch.len(), batch.payload_bytes(), batch.is_empty()), (0, 0, true));
    batch.push(b"d");
    assert_eq!(journal.write_batch(&batch).unwrap(), 5..=5);
    assert_eq!(contents(&journal), [&b"a"[..], b"bc", b"a", b"bc", b"d"]);
}

#[test]
fn the_iterator_may_use_the_journal_while_it_is_drained() {
    for policy in [SyncPolicy::OnDemand, SyncPolicy::Always] {
        let (_dir, path) = place();
        let journal = options().sync_policy(policy).open(&path).unwrap();
        journal.append(b"first").unwrap();
        let items = (0..5).map(|i| {
            // Appends, reads, syncs: the lock is not held yet.
            let n = journal.append(format!("single {i}").as_bytes()).unwrap();
            journal.sync().unwrap();
            journal.truncate_back(n).unwrap();
            [b"batch of ".to_vec(), journal.read(n).unwrap()].concat()
        });
        assert_eq!(journal.append_batch(items).unwrap(), 7..=11, "after what the iterator appended");
        assert_eq!(journal.read(7).unwrap(), b"batch of single 0");
        assert_eq!(journal.read(6).unwrap(), b"single 4");
    }
}

#[test]
fn a_panicking_iterator_leaves_the_journal_as_it_was() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    let items = (0..5).map(|i| if i == 3 { panic!("the caller's own") } else { b"x" });
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| journal.append_batch(items)));
    assert!(unwound.is_err());
    assert_eq!(journal.append(b"a").unwrap(), 1);
    assert_eq!(contents(&journal), [b"a"]);
}

#[test]
fn a_record_that_is_too_long_refuses_the_whole_batch() {
    let (_dir, path) = place();
    let journal = options().max_record_len(10).open(&path).unwrap();
    journal.append(b"before").unwrap();
    let error = journal.append_batch([&b"fits"[..], &[0; 11], b"fits"]).unwrap_err();
    assert!(matches!(error, Error::RecordTooLarge { len: 11, max: 10, .. }), "{error}");
    let mut batch = Batch::new();
    batch.push(&[0; 10]);
    batch.push(&[0; 12]);
    assert!(matches!(journal.write_batch(&batch), Err(Error::RecordTooLarge { len: 12, max: 10, .. })));
    assert_eq!(journal.append_batch([[0; 10], [1; 10]]).unwrap(), 2..=3, "together they may be longer");
    assert_eq!(journal.last_index(), 3);
}

#[test]
fn batches_of_many_threads_do_not_mix() {
    let (_dir, path) = place();
    let journal = options().open(&path).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let journal = &journal;
            scope.spawn(move || {
                for round in 0..50u8 {
                    // Some fit the buffer, some do not.
                    let records = vec![[thread, round]; 1 + usize::from(round) * 6];
                    let range = journal.append_batch(&records).unwrap();
                    for n in range {
                        assert_eq!(journal.read(n).unwrap(), [thread, round]);
                    }
                    journal.append(&[thread, round, 1]).unwrap();
                }
            });
        }
    });
    let per_thread: u64 = (0..50).map(|round| 1 + round * 6 + 1).sum();
    assert_eq!(journal.last_index(), 4 * per_thread);
}

#[test]
fn a_batch_under_always_is_durable_when_it_returns_and_takes_one_sync() {
    let (_dir, path) = place();
    let journal = options().sync_policy(SyncPolicy::Always).open(&path).unwrap();
    assert_eq!(journal.append_batch(vec![payload(1, 100); 1000]).unwrap(), 1..=1000);
    assert_eq!((journal.durable_index(), journal.stats().syncs), (1000, 1));
}
