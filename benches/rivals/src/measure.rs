//! One measurement of one contender: does the work, times it, and checks everything that it was given back.

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::payload::{Payload, noise};
use crate::subjects::{Durability, Fallible, Reader, Subject};
use crate::work::{BATCH, BATCH_LEN, READ_LEN, REOPEN_LEN, Scale, Work};

/// Appends between two looks at the clock.
const APPENDS_A_LOOK: u64 = 64;

/// Reads between two looks at the clock.
const READS_A_LOOK: u64 = 256;

/// Durable appends of each thread before the clock starts: what is written ahead is written then.
const WARM_UP: u64 = 4;

/// Records that a fill hands over at once.
const FILL: u64 = 1024;

/// Records of the writer that are looked at after a fan-out.
const LOOKED_AT: u64 = 1000;

/// Where a thread's number lies in the numbers of its records.
const LANE: u32 = 40;

/// What a measurement saw.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Records appended, read or found.
    pub(crate) records: u64,
    pub(crate) seconds: f64,
    /// What the writer of a fan-out appended in that time.
    pub(crate) written: u64,
}

/// Does `work` in the empty folder `dir`; to reopen, in one that [`prepare`] filled.
pub(crate) fn measure<S: Subject>(work: Work, dir: &Path, scale: &Scale) -> Fallible<Measured> {
    match work {
        Work::Append { len } => append::<S>(dir, len, scale.burst_bytes, scale.time),
        Work::AppendLong => append::<S>(dir, READ_LEN, scale.long_mib << 20, scale.long_time),
        Work::Batch => batch::<S>(dir, scale),
        Work::Durable { threads } => durable::<S>(dir, scale, threads),
        Work::Read { threads } => read::<S>(dir, scale, threads, false),
        Work::FanOut { readers } => read::<S>(dir, scale, readers, true),
        Work::Scan => scan::<S>(dir, scale),
        Work::Reopen => reopen::<S>(dir, scale),
    }
}

/// Writes the journal that is reopened by another process.
pub(crate) fn prepare<S: Subject>(dir: &Path, scale: &Scale) -> Fallible {
    let subject = S::open(dir, Durability::OnClose)?;
    fill(&subject, REOPEN_LEN, reopened(scale))?;
    subject.close()
}

fn append<S: Subject>(dir: &Path, len: usize, bytes: u64, time: Duration) -> Fallible<Measured> {
    let subject = S::open(dir, Durability::OnClose)?;
    let mut payload = Payload::new(len);
    let most = bytes / len as u64;
    let mut records = 0;
    let start = Instant::now();
    while records < most && start.elapsed() < time {
        for _ in 0..APPENDS_A_LOOK {
            records += 1;
            subject.append(0, payload.numbered(records))?;
        }
    }
    subject.flush()?;
    let seconds = start.elapsed().as_secs_f64();
    check_in_order(subject, dir, &payload, records)?;
    Ok(Measured { records, seconds, written: 0 })
}

fn batch<S: Subject>(dir: &Path, scale: &Scale) -> Fallible<Measured> {
    let subject = S::open(dir, Durability::OnClose)?;
    let mut payloads: Vec<Payload> = (0..BATCH).map(|_| Payload::new(BATCH_LEN)).collect();
    let most = scale.burst_bytes / BATCH_LEN as u64;
    let mut records = 0;
    let start = Instant::now();
    while records < most && start.elapsed() < scale.time {
        let batch: Vec<&[u8]> = payloads
            .iter_mut()
            .zip(records + 1..)
            .map(|(payload, number)| payload.numbered(number))
            .collect();
        subject.append_batch(&batch)?;
        records += BATCH as u64;
    }
    subject.flush()?;
    let seconds = start.elapsed().as_secs_f64();
    check_in_order(subject, dir, &payloads[0], records)?;
    Ok(Measured { records, seconds, written: 0 })
}

fn durable<S: Subject>(dir: &Path, scale: &Scale, threads: usize) -> Fallible<Measured> {
    let subject = S::open(dir, Durability::EachAppend)?;
    let warm = Barrier::new(threads);
    let done = thread::scope(|scope| {
        let appending: Vec<_> = (0..threads)
            .map(|lane| {
                let (subject, warm) = (&subject, &warm);
                scope.spawn(move || -> Fallible<Span> {
                    let mut payload = Payload::new(READ_LEN);
                    let mut records = 0;
                    let mut append = || {
                        records += 1;
                        subject
                            .append(lane, payload.numbered((lane as u64) << LANE | records))
                            .map(|()| records)
                    };
                    // A failure is told after the barrier, which waits for every thread.
                    let warmed = (0..WARM_UP).try_for_each(|_| append().map(drop));
                    warm.wait();
                    warmed?;
                    let start = Instant::now();
                    loop {
                        let records = append()?;
                        let end = Instant::now();
                        if end - start >= scale.durable_time {
                            return Ok(Span { records, start, end });
                        }
                    }
                })
            })
            .collect();
        join(appending)
    })?;
    let acknowledged: Vec<u64> = done.iter().map(|span| span.records).collect();

    // Whatever order the threads came in, each one's records are there in its own order, and nothing else is.
    let mut found = vec![0; threads];
    let payload = Payload::new(READ_LEN);
    let subject = reopened_if_it_can(subject, dir, Durability::EachAppend)?;
    let mut wrong = 0;
    subject.scan(|record| {
        let next = payload.number(record).and_then(|number| {
            let found = found.get_mut((number >> LANE) as usize)?;
            *found += 1;
            Some(number & ((1 << LANE) - 1) == *found)
        });
        wrong += u64::from(next != Some(true));
    })?;
    if wrong > 0 || found != acknowledged {
        return Err(format!("{wrong} records wrong; acknowledged {acknowledged:?}, found {found:?}").into());
    }
    let records = acknowledged.iter().map(|count| count - WARM_UP).sum();
    Ok(Measured { records, seconds: seconds(&done), written: 0 })
}

/// Random reads of what was filled in before, beside a writer or not.
fn read<S: Subject>(dir: &Path, scale: &Scale, readers: usize, writing: bool) -> Fallible<Measured> {
    let subject = S::open(dir, Durability::OnClose)?;
    fill(&subject, READ_LEN, scale.records)?;
    subject.flush()?;
    let started = Barrier::new(readers + usize::from(writing));
    let reading = AtomicUsize::new(readers);
    let (read, written) = thread::scope(|scope| -> Fallible<(Vec<Span>, u64)> {
        let readers: Vec<_> = (0..readers)
            .map(|lane| {
                let (subject, started, reading) = (&subject, &started, &reading);
                scope.spawn(move || -> Fallible<Span> {
                    let reader = subject.reader();
                    started.wait();
                    let read = reader.and_then(|mut reader| read_at_random(&mut reader, lane, scale));
                    reading.fetch_sub(1, Ordering::Relaxed);
                    read
                })
            })
            .collect();
        let writer = writing.then(|| {
            let (subject, started, reading) = (&subject, &started, &reading);
            scope.spawn(move || -> Fallible<u64> {
                let mut payload = Payload::new(READ_LEN);
                let mut written = 0;
                started.wait();
                while reading.load(Ordering::Relaxed) > 0 {
                    written += 1;
                    subject.append(0, payload.numbered(scale.records + written))?;
                }
                Ok(written)
            })
        });
        let read = join(readers)?;
        Ok((read, join(writer.into_iter().collect())?.into_iter().sum()))
    })?;
    if written > 0 {
        subject.flush()?;
        look_at_some(&mut subject.reader()?, scale.records, written)?;
    }
    let records = read.iter().map(|span| span.records).sum();
    Ok(Measured { records, seconds: seconds(&read), written })
}

/// Reads until the time is over.
fn read_at_random(reader: &mut impl Reader, lane: usize, scale: &Scale) -> Fallible<Span> {
    let payload = Payload::new(READ_LEN);
    let mut at = (lane as u64) << LANE;
    let (mut records, mut wrong) = (0, 0);
    let start = Instant::now();
    let mut end = start;
    while end - start < scale.time {
        for _ in 0..READS_A_LOOK {
            at += 1;
            let n = 1 + ((u128::from(noise(at)) * u128::from(scale.records)) >> 64) as u64;
            wrong += u64::from(reader.read(n, |record| payload.number_at_a_glance(record))? != Some(n));
        }
        records += READS_A_LOOK;
        end = Instant::now();
    }
    match wrong {
        0 => Ok(Span { records, start, end }),
        _ => Err(format!("{wrong} of {records} reads gave something else").into()),
    }
}

/// Reads some of what a writer appended behind the first `before` records, the first and the last among them.
fn look_at_some(reader: &mut impl Reader, before: u64, written: u64) -> Fallible {
    let payload = Payload::new(READ_LEN);
    for step in 0..=LOOKED_AT {
        let n = before + 1 + (written - 1) * step / LOOKED_AT;
        let found = reader.read(n, |record| payload.number(record))?;
        if found != Some(n) {
            return Err(format!("record {n}, which was appended beside readers, is {found:?}").into());
        }
    }
    Ok(())
}

fn scan<S: Subject>(dir: &Path, scale: &Scale) -> Fallible<Measured> {
    let subject = S::open(dir, Durability::OnClose)?;
    fill(&subject, READ_LEN, scale.records)?;
    subject.flush()?;
    let payload = Payload::new(READ_LEN);
    let pass = || -> Fallible {
        let (mut next, mut wrong) = (1, 0);
        subject.scan(|record| {
            wrong += u64::from(payload.number_at_a_glance(record) != Some(next));
            next += 1;
        })?;
        match (wrong, next - 1) {
            (0, found) if found == scale.records => Ok(()),
            (wrong, found) => {
                Err(format!("{wrong} of {found} records wrong, {} written", scale.records).into())
            }
        }
    };
    let once = S::PROFILE.reads_once;
    if !once {
        pass()?;
    }
    let mut records = 0;
    let start = Instant::now();
    loop {
        pass()?;
        records += scale.records;
        if once || start.elapsed() >= scale.time {
            return Ok(Measured { records, seconds: start.elapsed().as_secs_f64(), written: 0 });
        }
    }
}

fn reopen<S: Subject>(dir: &Path, scale: &Scale) -> Fallible<Measured> {
    let start = Instant::now();
    let subject = S::open(dir, Durability::OnClose)?;
    let seconds = start.elapsed().as_secs_f64();
    let records = reopened(scale);
    all_in_order(&subject, &Payload::new(REOPEN_LEN), records)?;
    subject.close()?;
    Ok(Measured { records, seconds, written: 0 })
}

/// Records in the journal that is reopened.
fn reopened(scale: &Scale) -> u64 {
    (scale.reopen_mib << 20) / REOPEN_LEN as u64
}

/// Appends records numbered from 1.
fn fill<S: Subject>(subject: &S, len: usize, records: u64) -> Fallible {
    let mut payloads: Vec<Payload> = (0..FILL).map(|_| Payload::new(len)).collect();
    let mut filled = 0;
    while filled < records {
        let batch: Vec<&[u8]> = payloads
            .iter_mut()
            .zip(filled + 1..=records)
            .map(|(payload, number)| payload.numbered(number))
            .collect();
        subject.fill(&batch)?;
        filled += batch.len() as u64;
    }
    Ok(())
}

/// Checks that `records` records, numbered in order, and nothing else is there when the contender is opened again.
fn check_in_order<S: Subject>(subject: S, dir: &Path, payload: &Payload, records: u64) -> Fallible {
    let subject = reopened_if_it_can(subject, dir, Durability::OnClose)?;
    all_in_order(&subject, payload, records)
}

fn reopened_if_it_can<S: Subject>(subject: S, dir: &Path, durability: Durability) -> Fallible<S> {
    if S::PROFILE.forgets.is_some() {
        return Ok(subject);
    }
    subject.close()?;
    S::open(dir, durability)
}

fn all_in_order<S: Subject>(subject: &S, payload: &Payload, records: u64) -> Fallible {
    let (mut found, mut wrong) = (0, 0);
    subject.scan(|record| {
        found += 1;
        wrong += u64::from(payload.number(record) != Some(found));
    })?;
    match (wrong, found) {
        (0, found) if found == records => Ok(()),
        _ => Err(format!("{wrong} of {found} records wrong, {records} appended").into()),
    }
}

/// What one thread did, and when. Threads tell that themselves: on a busy machine the one that started them may well
/// look at the clock too late.
struct Span {
    records: u64,
    start: Instant,
    end: Instant,
}

/// From the first start to the last end.
fn seconds(spans: &[Span]) -> f64 {
    let start = spans.iter().map(|span| span.start).min();
    let end = spans.iter().map(|span| span.end).max();
    start.zip(end).map_or(0.0, |(start, end)| (end - start).as_secs_f64())
}

/// What all threads returned, or the first failure.
fn join<T>(threads: Vec<thread::ScopedJoinHandle<'_, Fallible<T>>>) -> Fallible<Vec<T>> {
    threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?).collect()
}

#[cfg(test)]
mod tests;
