//! Readers of every kind in several threads against a writer that appends, grows, truncates and clears. Content names
//! its generation and index and follows from them, so each reader checks every byte that it was ever lent; some it
//! holds for long and checks again.
//!
//! `WALLY_STRESS_STEPS` sets how many steps the writer takes, to run for longer. Also meant to be run with an address
//! sanitizer: `RUSTFLAGS=-Zsanitizer=address cargo +nightly test --target x86_64-unknown-linux-gnu --test stress`.

use crate::common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use common::content::{check, payload};
use common::rng::Rng;
use common::until;
use wally::{
    Batch, Error, Follow, Format, IndexMode, Journal, Options, Reader, RecordRef, Snapshot, SyncPolicy,
};

/// Steps of the writer, unless the environment says otherwise.
const STEPS: u64 = 400;

/// What the threads tell each other.
struct Shared {
    journal: Journal,
    /// Cuts begun: also the generation that records appended from then on name.
    begun: AtomicU64,
    /// Cuts that have returned.
    ended: AtomicU64,
    done: AtomicBool,
}

impl Shared {
    /// The number of cuts so far, if none is under way.
    fn quiet(&self) -> Option<u64> {
        let ended = self.ended.load(Ordering::SeqCst);
        (self.begun.load(Ordering::SeqCst) == ended).then_some(ended)
    }

    fn newest_generation(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }
}

fn steps() -> u64 {
    let set = std::env::var("WALLY_STRESS_STEPS").ok();
    set.map_or(STEPS, |steps| steps.parse().expect("WALLY_STRESS_STEPS is a number"))
}

/// Lengths from 0 to 20 KiB, most of them short.
fn length(rng: &mut Rng) -> usize {
    match rng.below(16) {
        0 => 0,
        1..=2 => rng.below(20 << 10),
        3..=6 => rng.below(4096),
        _ => rng.below(256),
    }
}

fn write(shared: &Shared, seed: u64, large: bool) {
    let mut rng = Rng::new(seed);
    let journal = &shared.journal;
    let mut last = 0;
    let mut batch = Batch::new();
    for _ in 0..steps() {
        let generation = shared.newest_generation();
        match rng.below(20) {
            0..=9 => {
                for _ in 0..1 + rng.below(20) {
                    last += 1;
                    let record = payload(generation, last, length(&mut rng));
                    assert_eq!(journal.append(&record).unwrap(), last);
                }
            }
            10..=13 => {
                batch.clear();
                let first = last + 1;
                for _ in 0..1 + rng.below(30) {
                    last += 1;
                    batch.push(&payload(generation, last, length(&mut rng)));
                }
                assert_eq!(journal.write_batch(&batch).unwrap(), first..=last);
            }
            14 if large => {
                // Fills a window of the map soon.
                last += 1;
                assert_eq!(journal.append(&payload(generation, last, 3 << 20)).unwrap(), last);
            }
            14..=15 => journal.sync().unwrap(),
            16..=17 => journal.flush().unwrap(),
            18 => {
                let depth = match rng.below(4) {
                    0 => rng.below(4),
                    1 => rng.below(last as usize + 1),
                    _ => rng.below(200),
                };
                let n = last.saturating_sub(depth as u64);
                shared.begun.fetch_add(1, Ordering::SeqCst);
                journal.truncate_back(n).unwrap();
                shared.ended.fetch_add(1, Ordering::SeqCst);
                last = n;
            }
            _ if rng.below(8) == 0 => {
                shared.begun.fetch_add(1, Ordering::SeqCst);
                journal.truncate_back(0).unwrap();
                shared.ended.fetch_add(1, Ordering::SeqCst);
                last = 0;
            }
            _ => assert_eq!(journal.last_index(), last),
        }
    }
    journal.flush().unwrap();
    shared.done.store(true, Ordering::SeqCst);
}

/// What a reader keeps to look at again.
enum Held {
    Snapshot(Snapshot),
    Record(RecordRef, Option<u64>),
}

impl Held {
    fn check(&self, rng: &mut Rng, shared: &Shared) {
        match self {
            Held::Snapshot(snapshot) => check_range(snapshot, rng, shared),
            Held::Record(record, generation) => {
                assert_eq!(check(record.index(), record), *generation);
                record.verify().unwrap();
            }
        }
    }
}

/// Up to 40 records of a snapshot from a random place on, forwards and backwards: in index order the generations
/// that they name never fall.
fn check_range(snapshot: &Snapshot, rng: &mut Rng, shared: &Shared) {
    if snapshot.is_empty() {
        assert_eq!(snapshot.iter().next(), None);
        return;
    }
    let from = 1 + rng.below(snapshot.len() as usize) as u64;
    let to = (from + 40).min(snapshot.last_index());
    let mut forwards = Vec::new();
    let mut newest = 0;
    for (n, bytes) in snapshot.range(from..=to) {
        assert_eq!(n, from + forwards.len() as u64);
        if let Some(generation) = check(n, bytes) {
            assert!(generation >= newest && generation <= shared.newest_generation());
            newest = generation;
        }
        forwards.push((n, bytes));
    }
    assert_eq!(forwards.len() as u64, to - from + 1, "every record up to the count is there");
    let mut range = snapshot.range(from..=to);
    while let Some(back) = range.next_back() {
        assert!(Some(back) == forwards.pop() && snapshot.get(back.0) == Some(back.1));
        if rng.below(4) == 0 && !forwards.is_empty() {
            assert!(range.next() == Some(forwards.remove(0)));
        }
    }
    assert!(forwards.is_empty());
}

/// One round of a `Reader`: its count does not fall and every record up to it is there, unless the journal is cut
/// meanwhile.
fn check_reader(reader: &mut Reader, rng: &mut Rng, shared: &Shared) {
    let quiet = shared.quiet();
    let still_quiet = || quiet.is_some() && shared.newest_generation() == quiet.unwrap_or_default();
    let last = reader.last_index();
    let from = 1 + rng.below(last as usize + 1) as u64;
    let mut newest = 0;
    for n in from..=last.min(from + 40) {
        match reader.get(n) {
            Some(bytes) => {
                if let Some(generation) = check(n, bytes) {
                    assert!(generation <= shared.newest_generation());
                    assert!(generation >= newest || !still_quiet(), "records of one state are in order");
                    newest = generation;
                }
            }
            None => assert!(!still_quiet(), "record {n} of {last} is missing"),
        }
    }
    let now = reader.last_index();
    assert!(now >= last || !still_quiet(), "the count fell from {last} to {now}");
    if rng.below(50) == 0 {
        reader.release();
    }
}

/// Reads until the writer is done, and then once more; returns how many rounds it made.
fn read(shared: &Shared, seed: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let journal = &shared.journal;
    let mut reader = journal.reader();
    let mut held: Vec<Held> = Vec::new();
    let mut rounds = 0;
    loop {
        let done = shared.done.load(Ordering::SeqCst);
        rounds += 1;
        check_reader(&mut reader, &mut rng, shared);
        match rng.below(12) {
            0..=1 => held.push(Held::Snapshot(journal.snapshot())),
            2..=4 => {
                // The journal may be cut before the read, so the record may not be there.
                let n = 1 + rng.below(journal.committed_index() as usize + 1) as u64;
                if let Ok(record) = journal.read_ref(n) {
                    let generation = check(n, &record);
                    held.push(Held::Record(record, generation));
                }
            }
            5 => {
                let n = 1 + rng.below(journal.last_index() as usize + 1) as u64;
                if let Ok(bytes) = journal.read(n) {
                    check(n, &bytes);
                }
            }
            6..=8 => check_range(&journal.snapshot(), &mut rng, shared),
            _ if !held.is_empty() => {
                let at = rng.below(held.len());
                held[at].check(&mut rng, shared);
            }
            _ => {}
        }
        // Some of what is held stays to the end.
        if held.len() > 24 {
            let at = 8 + rng.below(held.len() - 8);
            let gone = held.swap_remove(at);
            gone.check(&mut rng, shared);
        }
        if done {
            held.iter().for_each(|held| held.check(&mut rng, shared));
            return rounds;
        }
    }
}

/// Keeps up with the journal until it is closed. What it holds is, cut by cut, what the journal holds.
struct Follower {
    /// How many records it has by now.
    has: Arc<AtomicU64>,
    thread: JoinHandle<Vec<Option<u64>>>,
}

impl Follower {
    fn start(follow: Follow) -> Self {
        let has = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&has);
        Self { has, thread: thread::spawn(move || keep_up(follow, &told)) }
    }

    /// Whether it has `last` records, or has failed.
    fn has(&self, last: u64) -> bool {
        self.has.load(Ordering::SeqCst) == last || self.thread.is_finished()
    }
}

/// The generations that the records named.
fn keep_up(follow: Follow, has: &AtomicU64) -> Vec<Option<u64>> {
    let mut generations = Vec::new();
    for record in follow {
        match record {
            Ok(record) => {
                assert_eq!(record.index(), generations.len() as u64 + 1);
                record.verify().unwrap();
                generations.push(check(record.index(), &record));
            }
            Err(Error::Truncated { last, .. }) => generations.truncate(last as usize),
            Err(Error::Closed) => break,
            Err(error) => panic!("{error}"),
        }
        has.store(generations.len() as u64, Ordering::SeqCst);
    }
    generations
}

fn stress(seed: u64, options: &Options, large: bool) {
    let dir = common::fast_dir();
    let path = dir.path().join("j");
    let shared = Shared {
        journal: options.open(&path).unwrap(),
        begun: AtomicU64::new(0),
        ended: AtomicU64::new(0),
        done: AtomicBool::new(false),
    };
    let followers = [shared.journal.follow(1), shared.journal.follow(1).durable()].map(Follower::start);
    let before_drop = std::thread::scope(|scope| {
        let readers: Vec<_> = (1..=4)
            .map(|thread| {
                let shared = &shared;
                scope.spawn(move || read(shared, seed + thread))
            })
            .collect();
        // If the writer fails the readers must not go on for ever.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let done = Done(&shared.done);
        write(&shared, seed, large);
        drop(done);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
        shared.journal.snapshot()
    });
    shared.journal.sync().unwrap();
    until(|| followers.iter().all(|follower| follower.has(shared.journal.last_index())));
    assert_eq!((shared.journal.stats().views_held, shared.journal.stats().held_bytes), (0, 0));
    shared.journal.close().unwrap();
    let followed = followers.map(|follower| follower.thread.join().unwrap());
    for (n, bytes) in &before_drop {
        check(n, bytes);
    }
    let last = before_drop.last_index();
    drop(before_drop);
    let journal = options.open(&path).unwrap();
    assert_eq!(journal.last_index(), last);
    let kept: Vec<_> = (1..=last).map(|n| check(n, &journal.read(n).unwrap())).collect();
    assert!(followed.iter().all(|followed| *followed == kept));
}

fn on_demand(mode: IndexMode) -> Options {
    let mut options = Options::new();
    // Readers hold much on purpose.
    options.sync_policy(SyncPolicy::OnDemand).index(mode).preserve_limit(u64::MAX);
    options
}

#[test]
fn readers_of_every_kind_see_whole_records_only_with_a_full_index() {
    stress(100, &on_demand(IndexMode::Full), true);
}

#[test]
fn readers_of_every_kind_see_whole_records_only_with_a_sparse_index_and_a_small_buffer() {
    stress(200, on_demand(IndexMode::Sparse(16)).buffer_size(4096), false);
}

#[test]
fn readers_of_every_kind_see_whole_records_only_without_an_index_in_the_reference_format() {
    stress(300, on_demand(IndexMode::Scan).new_file_format(Format::Reference), false);
}

#[test]
fn readers_of_every_kind_see_whole_records_only_when_every_append_is_durable() {
    // Zeros are preallocated and cut all the time.
    stress(400, on_demand(IndexMode::Full).sync_policy(SyncPolicy::Always).preallocate(3000), false);
}

/// One thread appends, flushes, syncs and cuts, others look at the three indexes. A counter tells whether a cut is under
/// way: it is odd from before a cut until after it. Without one, indexes only grow, so what is looked at later must not
/// be less; during one they only fall, so it must not be more.
#[test]
fn durable_committed_and_appended_are_in_order_at_every_instant() {
    for policy in [SyncPolicy::OnDemand, SyncPolicy::Always] {
        let dir = common::fast_dir();
        let mut options = Options::new();
        let journal = options.sync_policy(policy).buffer_size(4096).open(dir.path().join("j")).unwrap();
        let (cuts, done) = (AtomicU64::new(0), AtomicBool::new(false));
        let look = || {
            let (durable, committed) = (|| journal.durable_index(), || journal.committed_index());
            let appended = || journal.last_index();
            let before = cuts.load(Ordering::SeqCst);
            let indexes = match before % 2 {
                0 => [durable(), committed(), appended()],
                _ => {
                    let mut indexes = [appended(), committed(), durable()];
                    indexes.reverse();
                    indexes
                }
            };
            if cuts.load(Ordering::SeqCst) == before {
                assert!(indexes.is_sorted(), "{policy:?}, {before} cuts: {indexes:?}");
            }
            let stats = journal.stats();
            let indexes = [stats.durable_index, stats.committed_index, stats.appended_index];
            let bytes = [stats.durable_bytes, stats.committed_bytes, stats.appended_bytes];
            assert!(indexes.is_sorted() && bytes.is_sorted(), "{policy:?}: {stats:?}");
            usize::from(before % 2 == 1)
        };
        std::thread::scope(|scope| {
            let looking = || {
                let (mut looks, mut in_cuts) = (0, 0);
                while !done.load(Ordering::SeqCst) {
                    (looks, in_cuts) = (looks + 1, in_cuts + look());
                }
                (looks, in_cuts)
            };
            let readers: Vec<_> = (0..2).map(|_| scope.spawn(looking)).collect();
            // If this thread fails the others must not go on for ever.
            struct Done<'a>(&'a AtomicBool);
            impl Drop for Done<'_> {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::SeqCst);
                }
            }
            let end = Done(&done);
            let mut rng = Rng::new(7);
            for _ in 0..steps() {
                match rng.below(8) {
                    // Goes past the buffer, and now and then past the map.
                    0 => drop(journal.append(&payload(0, 1, rng.below(3 << 20))).unwrap()),
                    1..=2 => drop(journal.append_batch([payload(0, 1, 5000), payload(0, 1, 9)]).unwrap()),
                    3 => journal.flush().unwrap(),
                    4 => journal.sync().unwrap(),
                    5 => {
                        let last = journal.last_index();
                        cuts.fetch_add(1, Ordering::SeqCst);
                        journal.truncate_back(last.saturating_sub(rng.below(30) as u64)).unwrap();
                        cuts.fetch_add(1, Ordering::SeqCst);
                    }
                    _ => drop(journal.append(b"staged").unwrap()),
                }
            }
            drop(end);
            let looks: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
            println!("{policy:?}: {looks:?} looks, and so many of them during cuts");
        });
    }
}
