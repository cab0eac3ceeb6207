//! P1, P5, P6 and atomic batches under power cuts: random operations are recorded at the seam, and for every point
//! between them files are built that a power cut could have left there. Each is opened: nothing durable may be lost,
//! nothing refused or removed may come back, no batch may be split, and none may be called damaged.
//!
//! `WALLY_CRASH_RUNS` sets how many random journals are tried (the default takes some seconds).

use crate::common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::disk::Disk;
use common::rng::Rng;
use common::seam::{Call, ENOSPC, Seam, Seen};
use wally::seam::{Role, Verdict};
use wally::{IndexMode, Options, Recovery, SyncPolicy};

/// What a reopen may find while one step of a run is under way, or before the next begins.
#[derive(Clone, Debug)]
struct Allowed {
    /// Everything appended and not removed, with what the step appends; in batches.
    records: Vec<(Vec<u8>, Continued)>,
    /// At least so many records.
    durable: usize,
    /// Or exactly so many, if the step cuts.
    cut: Option<usize>,
    /// The least of the names that it may be found under.
    named: usize,
}

/// Whether the next record belongs to the same batch.
type Continued = bool;

struct Run {
    seam: Arc<Seam>,
    /// The file before the first event, if there was one.
    base: Option<Vec<u8>>,
    /// Where it is now.
    path: PathBuf,
    phases: Vec<Phase>,
    now: Allowed,
}

/// A step of a run, or what holds between two of them.
struct Phase {
    /// How many events were complete when it began.
    began: usize,
    allowed: Allowed,
    name: String,
}

impl Run {
    /// `during` holds while the step runs, `after` once it has returned.
    fn step<T>(
        &mut self,
        name: String,
        during: Allowed,
        act: impl FnOnce() -> T,
        after: impl FnOnce(&T) -> Allowed,
    ) -> T {
        self.phases.push(Phase { began: self.seam.changes(), allowed: during, name: name.clone() });
        let done = act();
        self.now = after(&done);
        let (began, allowed) = (self.seam.changes(), self.now.clone());
        self.phases.push(Phase { began, allowed, name: format!("after {name}") });
        done
    }
}

/// Lengths that often meet again, so that a record can end where another one did, and some around sectors and blocks.
fn payload(rng: &mut Rng) -> Vec<u8> {
    let len = match rng.below(12) {
        0..=1 => 0,
        2..=4 => 20,
        5..=6 => 100,
        7 => rng.range(490, 520),
        8 => rng.range(4070, 4100),
        9 => rng.range(0, 9000),
        _ => rng.range(0, 300),
    };
    rng.bytes(len)
}

/// The kinds of steps from this one on happen on a full disk.
const FULL_DISK: usize = 18;

/// A truncation on a full disk, which takes no record but is not asked to.
const CUT_ON_A_FULL_DISK: usize = 20;

/// Performs random operations on a new journal and returns what was recorded.
fn run(seed: u64, dir: &Path) -> Run {
    let rng = &mut Rng::new(seed);
    // The background thread stays out of it.
    let policies =
        [SyncPolicy::Always, SyncPolicy::Interval(Duration::from_secs(1 << 20)), SyncPolicy::OnDemand];
    let policy = policies[rng.below(3)];
    let seam = Seam::new();
    let mut options = Options::new();
    options
        .sync_policy(policy)
        .buffer_size(4096)
        .preallocate([0, 600, 5000, 20_000][rng.below(4)])
        .index([IndexMode::Full, IndexMode::Sparse(3), IndexMode::Scan][rng.below(3)])
        .seam(seam.clone());
    let mut path = dir.join(format!("run-{seed}"));
    let nothing = Allowed { records: Vec::new(), durable: 0, cut: None, named: 0 };
    let empty = Allowed { named: 1, ..nothing.clone() };
    let mut run =
        Run { seam: seam.clone(), base: None, path: path.clone(), phases: Vec::new(), now: nothing.clone() };
    let create = || {
        seam.renamed();
        options.open(&path).unwrap()
    };
    let created = run.step("create".into(), nothing, create, |_| empty.clone());
    if policy != SyncPolicy::OnDemand && rng.below(4) > 0 {
        // From here on, so that there are preallocated zeros from the beginning.
        common::past_the_first_syncs(&created);
        seam.take();
        run.base = Some(std::fs::read(&path).unwrap());
        run.phases = vec![Phase { began: 0, allowed: empty, name: "create".into() }];
    }
    let mut journal = Some(created);
    for step in 0..rng.range(5, 30) {
        let j = journal.as_ref().unwrap();
        let before = run.now.clone();
        let always = policy == SyncPolicy::Always;
        let kind = if step == 0 && rng.below(4) == 0 { FULL_DISK } else { rng.below(CUT_ON_A_FULL_DISK + 1) };
        match kind {
            0..=8 => {
                let bytes = payload(rng);
                let mut during = before.clone();
                during.records.push((bytes.clone(), false));
                run.step(
                    format!("append {}", bytes.len()),
                    during.clone(),
                    || j.append(&bytes).unwrap(),
                    |_| durable_if(always, during.clone()),
                );
            }
            9..=11 => {
                let batch: Vec<_> = (0..rng.range(1, 8)).map(|_| payload(rng)).collect();
                let mut during = before.clone();
                let last = batch.len() - 1;
                during.records.extend(batch.iter().cloned().enumerate().map(|(i, b)| (b, i < last)));
                run.step(
                    format!("batch of {}", batch.len()),
                    during.clone(),
                    || j.append_batch(&batch).unwrap(),
                    |_| durable_if(always, during.clone()),
                );
            }
            12 => {
                run.step("flush".into(), before.clone(), || j.flush().unwrap(), |_| before.clone());
            }
            13 | 14 => {
                run.step(
                    "sync".into(),
                    before.clone(),
                    || j.sync().unwrap(),
                    |_| durable_if(true, before.clone()),
                );
            }
            15 | 16 => {
                let keep = match rng.below(3) {
                    0 => 0,
                    1 => before.records.len().saturating_sub(rng.below(3)),
                    _ => rng.below(before.records.len() + 1),
                };
                let during = Allowed { cut: Some(keep), ..before.clone() };
                let mut after = before.clone();
                after.records.truncate(keep);
                if let Some((_, continued)) = after.records.last_mut() {
                    *continued = false;
                }
                after.durable = keep;
                run.step(
                    format!("truncate to {keep} of {}", before.records.len()),
                    during,
                    || j.truncate_back(keep as u64).unwrap(),
                    |_| after.clone(),
                );
            }
            17 => {
                let open = journal.take().unwrap();
                let closed = durable_if(true, before.clone());
                run.step("close".into(), before, || open.close().unwrap(), |_| closed.clone());
                let mut after = closed.clone();
                let rename = rng.below(2) == 0;
                let renamed = dir.join(format!("run-{seed}-{step}"));
                let reopen = || {
                    if rename {
                        // Its directory is synced by nobody but the open.
                        std::fs::rename(&path, &renamed).unwrap();
                        seam.renamed();
                        path.clone_from(&renamed);
                    }
                    options.open(&path).unwrap()
                };
                after.named += usize::from(rename);
                let name = if rename { "rename and reopen" } else { "reopen" };
                journal = Some(run.step(name.into(), closed, reopen, |_| after.clone()));
            }
            CUT_ON_A_FULL_DISK => {
                // Marks and seals find room, so there is no window in which a power cut looks like damage.
                seam.fail(ENOSPC, |call| call.written() > 16 || call.is_extend());
                let keep = rng.below(j.committed_index() as usize + 1);
                let during = Allowed { cut: Some(keep), ..before.clone() };
                let mut after = before.clone();
                after.records.truncate(keep);
                if let Some((_, continued)) = after.records.last_mut() {
                    *continued = false;
                }
                after.durable = keep;
                run.step(
                    format!("truncate to {keep} of {} on a full disk", before.records.len()),
                    during,
                    || j.truncate_back(keep as u64).unwrap(),
                    |_| after.clone(),
                );
                seam.allow_all();
            }
            _ => {
                // The disk is full from some write on, and stays so until the step has returned.
                // Copying on write, it has no room for a mark in the place of another either.
                let copies = rng.below(3) == 0;
                let batch: Vec<_> = (0..[1, 1, 3][rng.below(3)]).map(|_| payload(rng)).collect();
                let (from, short) = (rng.below(3), rng.range(1, 700));
                let mut calls = 0;
                seam.rule(move |role, call| {
                    if role != Role::Journal {
                        return Verdict::Proceed;
                    }
                    let at = calls;
                    calls += 1;
                    match call {
                        // Within the first 16 bytes of the file no system writes short: their block has been there since the
                        // creation, and no limit that let the first mark in lies below them.
                        Call::Write { offset: 0, .. } if at == from => Verdict::Short(short.max(16)),
                        Call::Write { .. } if at == from => Verdict::Short(short),
                        // The mark of a roll-back fits where the block is still there.
                        Call::Write { bytes, .. } if at > from && (copies || bytes.len() != 16) => {
                            Verdict::Fail(ENOSPC)
                        }
                        Call::Extend(_) if at == from => Verdict::Short(short),
                        Call::Extend(_) if at > from => Verdict::Fail(ENOSPC),
                        _ => Verdict::Proceed,
                    }
                });
                let mut during = before.clone();
                let last = batch.len() - 1;
                during.records.extend(batch.iter().cloned().enumerate().map(|(i, b)| (b, i < last)));
                let appended = during.clone();
                let _ = run.step(
                    format!("batch of {} on a full disk", batch.len()),
                    during,
                    || {
                        let appended = j.append_batch(&batch).and_then(|_| j.flush());
                        (appended, j.last_index())
                    },
                    |(result, last)| {
                        // Under the lazy policies a staged record stays though its flush failed.
                        let stayed = *last as usize == appended.records.len();
                        let after = if stayed { appended.clone() } else { before.clone() };
                        durable_if(always && result.is_ok(), after)
                    },
                );
                seam.allow_all();
            }
        }
    }
    drop(journal);
    run.path = path;
    run
}

fn durable_if(durable: bool, mut allowed: Allowed) -> Allowed {
    if durable {
        allowed.durable = allowed.records.len();
    }
    allowed
}

/// Opens `image` and holds what it finds against `allowed`.
fn check(image: &[u8], allowed: &Allowed, path: &Path) -> Result<Vec<Seen>, String> {
    std::fs::write(path, image).unwrap();
    let seam = Seam::new();
    let mut options = Options::new();
    options.sync_policy(SyncPolicy::OnDemand).seam(seam.clone());
    let journal = options.open(path).map_err(|e| format!("refused: {e}"))?;
    let recovering = seam.take_changes();
    let found: Vec<Vec<u8>> = (1..=journal.last_index()).map(|n| journal.read(n).unwrap()).collect();
    let count = found.len();
    if count > allowed.records.len() || found.iter().zip(&allowed.records).any(|(a, (b, _))| a != b) {
        return Err(format!("{count} records are no prefix of {}", allowed.records.len()));
    }
    if allowed.cut != Some(count) {
        if count < allowed.durable {
            return Err(format!("{count} records, but {} were durable", allowed.durable));
        }
        if count > 0 && allowed.records[count - 1].1 {
            return Err(format!("{count} records split a batch"));
        }
    }
    drop(journal);
    let strict = Options::new().recovery_policy(Recovery::Strict).open(path);
    let again = strict.map_err(|e| format!("not clean after recovery: {e}"))?;
    if again.last_index() as usize != count {
        return Err(format!("{count} records, then {}", again.last_index()));
    }
    Ok(recovering)
}

/// Images of one disk, each once: the extremes, and random mixtures.
fn images(disk: &Disk, rng: &mut Rng, random: usize) -> Vec<Vec<u8>> {
    let image = |kind| match kind {
        0 => disk.image(|_, n| n - 1, |n| n - 1),
        1 => disk.image(|_, _| 0, |n| n - 1),
        2 => disk.image(|_, _| 0, |_| 0),
        3 => disk.image(|_, n| n - 1, |_| 0),
        kind => {
            let (mut sectors, size) = (Rng::new(rng.next()), rng.next() as usize);
            // A torn write loses its end, a lost page its middle, chaos anything.
            let edge = rng.below(64);
            let choose = move |at: usize, n: usize| match kind % 4 {
                0 if at % 64 >= edge => 0,
                1 if at % 64 < edge => 0,
                0 | 1 => n - 1,
                2 => [0, n - 1][sectors.below(2)],
                _ => sectors.below(n),
            };
            disk.image(choose, |n| if size % 3 == 0 { n - 1 } else { size % n })
        }
    };
    let mut images = Vec::new();
    for image in (0..4 + random).map(image) {
        if !images.contains(&image) {
            images.push(image);
        }
    }
    images
}

#[test]
fn no_power_cut_loses_what_is_durable_or_brings_back_what_is_gone() {
    let runs = std::env::var("WALLY_CRASH_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let first: u64 = std::env::var("WALLY_CRASH_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let dir = common::fast_dir();
    let (mut tried, mut in_recovery) = (0u64, 0u64);
    for seed in first..first + runs {
        let run = run(seed, dir.path());
        let events = run.seam.take_changes();
        let rng = &mut Rng::new(seed ^ 0xC0FFEE);
        let mut disk = run.base.as_ref().map_or_else(Disk::without, |base| Disk::holding(base));
        let path = dir.path().join("image");
        for at in 0..=events.len() {
            if at > 0 {
                disk.apply(&events[at - 1]);
            }
            // The phase that had begun last when so many events were complete asks for most.
            let phase = run.phases.partition_point(|phase| phase.began <= at) - 1;
            let Phase { allowed, name, .. } = &run.phases[phase];
            let under = *disk.names().start();
            assert!(
                under >= allowed.named,
                "seed {seed}, event {at}, \"{name}\": found under its name {under}, not {}",
                allowed.named
            );
            for image in images(&disk, rng, 6) {
                tried += 1;
                let context = |what: String, rng_image: &[u8]| {
                    let kept = std::env::temp_dir().join(format!("wally-crash-{seed}-{at}"));
                    std::fs::write(&kept, rng_image).unwrap();
                    format!(
                        "seed {seed}, event {at} of {} ({:?}), \"{name}\": {what}; the image is {}",
                        events.len(),
                        at.checked_sub(1).map(|last| summary(&events[last])),
                        kept.display()
                    )
                };
                let recovering = match check(&image, allowed, &path) {
                    Ok(recovering) => recovering,
                    Err(what) => panic!("{}", context(what, &image)),
                };
                // A second power cut while the first is being recovered from.
                if tried % 2 == 0 && !recovering.is_empty() {
                    let mut again = Disk::holding(&image);
                    for event in &recovering {
                        again.apply(event);
                        if event.role == Role::Directory {
                            // The file is what it was.
                            continue;
                        }
                        for second in images(&again, rng, 2) {
                            in_recovery += 1;
                            if let Err(what) = check(&second, allowed, &path) {
                                panic!("in recovery: {}", context(what, &second));
                            }
                        }
                    }
                }
                for entry in std::fs::read_dir(dir.path()).unwrap() {
                    let entry = entry.unwrap().path();
                    if entry.to_string_lossy().contains(".cut-") {
                        std::fs::remove_file(entry).unwrap();
                    }
                }
            }
        }
        std::fs::remove_file(&run.path).unwrap();
    }
    println!("{tried} images of {runs} journals, {in_recovery} of recoveries");
}

fn summary(Seen { role, call, done }: &Seen) -> String {
    let done = done.unwrap_or_default();
    match call {
        Call::Write { offset, .. } => format!("write of {done} at {offset}"),
        Call::Extend(_) => format!("{done} zeros at the end"),
        call => format!("{role:?}: {call:?}"),
    }
}
