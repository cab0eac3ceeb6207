//! The small, stable set: each way to append, read and open beside its floor, for watching one of them closely.
//! `cargo bench --bench journal` takes two or three minutes; `-- append/64` runs only the benches that match.
//!
//! `common/mod.rs` says what a floor is. The two sides of a group run one after the other here; where the machine
//! drifts in between, the ratios of `cargo bench --bench table` are the ones to go by, which interleaves them.
//!
//! Files lie in a temporary folder under `WALLY_BENCH_DIR`, else under `TMPDIR`, and are removed at the end.
//! `cargo bench --bench journal -- --test` runs each bench once, to see that it works.

use std::cell::{LazyCell, RefCell};
use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

mod common;

use common::folder::Folder;
use common::read::{self, ReadSet};
use common::reopen::Closed;
use common::{BATCH, append, durable, touch};

/// Lets criterion time `side`.
fn side(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut side: impl FnMut(u64) -> Duration) {
    group.bench_function(name, |b| b.iter_custom(&mut side));
}

fn appends(c: &mut Criterion) {
    let folder = Folder::new();
    for len in [64, 256, 4096] {
        let mut group = c.benchmark_group(format!("append/{len}"));
        group.throughput(Throughput::Bytes(len as u64));
        side(&mut group, "floor", append::floor(&folder, len));
        side(&mut group, "wally", append::wally(&folder, len));
        side(&mut group, "write(2) for each", append::write_each(&folder, len));
        group.finish();
    }
}

fn batches(c: &mut Criterion) {
    let folder = Folder::new();
    for len in [256, 4096] {
        let mut group = c.benchmark_group(format!("batch of {BATCH}/{len}"));
        group.throughput(Throughput::Bytes((len * BATCH) as u64));
        side(&mut group, "floor", append::floor_batches(&folder, len));
        side(&mut group, "wally", append::wally_batches(&folder, len));
        group.finish();
    }
}

fn durables(c: &mut Criterion) {
    let folder = Folder::new();
    let len = 256;
    for threads in [1, 8, 64] {
        let mut group = c.benchmark_group(format!("durable append by {threads}/{len}"));
        group.throughput(Throughput::Elements(1));
        side(&mut group, "floor", durable::floor(&folder, len, threads));
        side(&mut group, "wally", durable::wally(&folder, len, threads));
        group.finish();
    }
}

fn reads(c: &mut Criterion) {
    let folder = Folder::new();
    let set = &ReadSet::new(&folder);

    let mut group = c.benchmark_group(format!("checked read, random/{}", read::LEN));
    group.throughput(Throughput::Elements(1));
    let mut buffer = Vec::with_capacity(read::LEN);
    group.bench_function("floor", |b| {
        let mut at = 0;
        b.iter(|| assert!(set.floor.checked(set.next(&mut at), &mut buffer)));
    });
    group.bench_function("Journal::read_into", |b| {
        let mut at = 0;
        b.iter(|| set.journal.read_into(set.next(&mut at), &mut buffer).expect("a record"));
    });
    group.finish();

    for threads in [1, 2] {
        let mut group = c.benchmark_group(format!("zero-copy read, random, by {threads}/{}", read::LEN));
        group.throughput(Throughput::Elements(1));
        side(&mut group, "floor", |rounds| set.floor(threads, rounds));
        side(&mut group, "Reader::get", |rounds| set.wally(threads, rounds));
        if threads == 1 {
            group.bench_function("Journal::read_ref", |b| {
                let mut at = 0;
                b.iter(|| touch(&set.journal.read_ref(set.next(&mut at)).expect("a record")));
            });
        }
        group.finish();
    }

    let mut group = c.benchmark_group(format!("zero-copy read, forward/{}", read::LEN));
    group.throughput(Throughput::Elements(1));
    group.bench_function("floor", |b| {
        let mut offset = 0;
        b.iter(|| touch(set.floor.next(&mut offset)));
    });
    group.bench_function("Reader::get", |b| {
        let (mut reader, mut n) = (set.journal.reader(), 0);
        b.iter(|| {
            n = n % set.records() + 1;
            touch(reader.get(black_box(n)).expect("a record"))
        });
    });
    group.finish();

    let mut group = c.benchmark_group(format!("scan/{}", read::LEN));
    group.throughput(Throughput::Elements(set.records()));
    side(&mut group, "floor", |rounds| set.scan_floor(rounds));
    side(&mut group, "Snapshot::iter", |rounds| set.scan(rounds));
    group.finish();
}

fn reads_beside_a_writer(c: &mut Criterion) {
    let folder = Folder::new();
    let set = LazyCell::new(|| RefCell::new(ReadSet::new(&folder)));
    let mut group = c.benchmark_group(format!("zero-copy read, random, beside a writer/{}", read::LEN));
    group.throughput(Throughput::Elements(1));
    side(&mut group, "floor", |rounds| {
        set.borrow_mut().renew(&folder);
        let set = set.borrow();
        set.while_writing(|| set.floor(1, rounds)).0
    });
    side(&mut group, "Reader::get", |rounds| {
        set.borrow_mut().renew(&folder);
        let set = set.borrow();
        set.while_writing(|| set.wally(1, rounds)).0
    });
    group.finish();
}

fn reopens(c: &mut Criterion) {
    let folder = Folder::new();
    for (records, len) in [(1 << 20, 1024), (10_000_000, 32)] {
        let file = LazyCell::new(|| Closed::new(&folder, records, len));
        let mut group = c.benchmark_group(format!("reopen {records} records/{len}"));
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        side(&mut group, "floor", |rounds| file.floor(rounds));
        side(&mut group, "wally", |rounds| file.wally(rounds));
        group.finish();
    }
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = benches;
    config = settings();
    targets = appends, batches, durables, reads, reads_beside_a_writer, reopens
}
criterion_main!(benches);
