//! P1, P5 and atomic batches when the process is killed: a child appends under each policy and tells what it was promised,
//! the parent kills it after a random number of such lines, and whatever it had told is there.
//!
//! A killed process does not lose the page cache, so what it had told as committed is there as well. `WALLY_KILLS` sets
//! how often it is done.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::rng::Rng;
use wally::{Format, IndexMode, Journal, Options, Recovery, SyncPolicy, Verdict, Walk};

const CHILD: &str = "WALLY_KILL_CHILD";

const POLICIES: [(&str, SyncPolicy); 3] = [
    ("always", SyncPolicy::Always),
    ("interval", SyncPolicy::Interval(Duration::from_millis(1))),
    ("on-demand", SyncPolicy::OnDemand),
];

/// Where a record stands: what it says of itself is enough to check all of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claim {
    index: u64,
    /// How many cuts came before it.
    cuts: u64,
    /// Its place in its batch, and how many the batch has.
    nth: u64,
    of: u64,
}

impl Claim {
    fn encode(self) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            [self.index, self.cuts, self.nth, self.of].iter().flat_map(|part| part.to_le_bytes()).collect();
        bytes.extend(self.filler());
        bytes
    }

    /// Up to some pages that follow from the rest.
    fn filler(self) -> Vec<u8> {
        let mut rng = Rng::new(self.index ^ self.cuts << 32);
        let len = [0, 5, 100, 700, 9000][rng.below(5)];
        rng.bytes(len)
    }

    fn decode(bytes: &[u8]) -> Self {
        let part = |n: usize| u64::from_le_bytes(bytes[n * 8..n * 8 + 8].try_into().unwrap());
        let claim = Self { index: part(0), cuts: part(1), nth: part(2), of: part(3) };
        assert_eq!(bytes[32..], claim.filler(), "the record {claim:?} is not what was appended");
        claim
    }
}

/// The child: appends for ever, and tells each promise on a line of its own.
#[test]
fn child() {
    let Ok(spec) = std::env::var(CHILD) else { return };
    let parts: Vec<&str> = spec.splitn(4, ' ').collect();
    let [policy, format, seed, path] = parts[..] else { panic!("{spec}") };
    let policy = POLICIES.iter().find(|(name, _)| *name == policy).unwrap().1;
    let format = if format == "sealed" { Format::Sealed } else { Format::Reference };
    let journal = Options::new()
        .sync_policy(policy)
        .new_file_format(format)
        .buffer_size(8192)
        .index(IndexMode::Sparse(7))
        .preallocate(2000)
        .open(path);
    append_for_ever(&journal.unwrap(), policy, &mut Rng::new(seed.parse().unwrap()));
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the parent listens");
}

fn append_for_ever(journal: &Journal, policy: SyncPolicy, rng: &mut Rng) {
    let mut cuts = journal
        .last_index()
        .checked_sub(1)
        .map_or(0, |_| Claim::decode(&journal.read(journal.last_index()).unwrap()).cuts + 1);
    loop {
        let next = journal.last_index() + 1;
        match rng.below(20) {
            0..=10 => {
                let n = journal.append(&Claim { index: next, cuts, nth: 0, of: 1 }.encode()).unwrap();
                assert_eq!(n, next);
            }
            11..=14 => {
                let of = rng.range(2, 9) as u64;
                let batch = (0..of).map(|nth| Claim { index: next + nth, cuts, nth, of }.encode());
                journal.append_batch(batch).unwrap();
            }
            15 => journal.sync().unwrap(),
            16 => journal.wait_durable(next - 1).unwrap(),
            17 => {
                journal.flush().unwrap();
                tell(&format!("committed {} {cuts}", journal.committed_index()));
                continue;
            }
            18 if next > 4 => {
                // From here on what was told does not hold.
                let keep = next - 1 - rng.below(4) as u64;
                tell(&format!("cutting {keep} {cuts}"));
                journal.truncate_back(keep).unwrap();
                cuts += 1;
                tell(&format!("cut {keep} {cuts}"));
            }
            _ => {}
        }
        if policy == SyncPolicy::Always {
            assert_eq!(journal.durable_index(), journal.last_index());
        }
        tell(&format!("durable {} {cuts}", journal.durable_index()));
    }
}

/// What the parent heard.
#[derive(Debug, Default, Clone, Copy)]
struct Heard {
    /// The journal holds at least so many records.
    least: u64,
    /// A cut to so many was under way, and nothing was heard since.
    cutting: Option<u64>,
    /// The last cut that was heard of had come before so many others.
    cuts: u64,
    lines: usize,
}

impl Heard {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let (Some(n), Some(cuts)) = (words.next(), words.next()) else { return };
        let (n, cuts): (u64, u64) = (n.parse().unwrap(), cuts.parse().unwrap());
        self.lines += 1;
        self.cuts = cuts;
        match kind {
            "durable" | "committed" => self.least = self.least.max(n),
            "cutting" => self.cutting = Some(n),
            "cut" => (self.least, self.cutting) = (n, None),
            _ => panic!("{line}"),
        }
    }
}

/// Runs a child and kills it after so many lines; what it told until it was dead.
fn run(policy: &str, format: &str, seed: u64, path: &Path, lines: usize) -> Heard {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{policy} {format} {seed} {}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut heard = Heard::default();
    let mut killed = false;
    let mut line = String::new();
    // Lines that were under way are promises, too: one is told only after it was given.
    while out.read_line(&mut line).unwrap() > 0 {
        if line.ends_with('\n') {
            let told = ["durable ", "committed ", "cutting ", "cut "].iter().find_map(|kind| line.find(kind));
            if let Some(at) = told {
                heard.hear(line[at..].trim_end());
            }
        }
        line.clear();
        if heard.lines >= lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    assert!(killed, "the child ended by itself after {} lines", heard.lines);
    child.wait().unwrap();
    heard
}

/// Opens what is left and holds it against what was heard. Returns how the open found it.
fn check(format: &str, path: &Path, heard: Heard, context: &str) -> Verdict {
    let walked = match format {
        "sealed" => Walk::inspect(path).unwrap().records,
        _ => 0,
    };
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(path).unwrap_or_else(|error| {
        panic!("{context}: {error}");
    });
    let last = journal.last_index();
    if format == "sealed" {
        assert_eq!(walked, last, "{context}: a reader saw another journal");
    }
    // A cut that was under way has happened or not.
    let least = heard.cutting.unwrap_or(heard.least).min(heard.least);
    assert!(last >= least, "{context}: {last} records, but {heard:?}");
    let mut before: Option<Claim> = None;
    for n in 1..=last {
        let claim = Claim::decode(&journal.read(n).unwrap());
        assert_eq!(claim.index, n, "{context}: not in its place");
        if let Some(before) = before {
            assert!(before.cuts <= claim.cuts, "{context}: record {n} is older than the one before it");
            // A batch goes on, unless a cut went through it.
            if before.nth + 1 < before.of && claim.cuts == before.cuts {
                assert_eq!((claim.nth, claim.of), (before.nth + 1, before.of), "{context}: {n}");
            } else if claim.cuts == before.cuts {
                assert_eq!(claim.nth, 0, "{context}: record {n} begins inside a batch");
            }
        }
        before = Some(claim);
    }
    if let Some(last_claim) = before {
        let whole = last_claim.nth + 1 == last_claim.of;
        // The last cut may have ended inside a batch, and be the last thing that happened.
        let cut_there = heard.cuts > last_claim.cuts || heard.cutting.is_some();
        assert!(whole || cut_there || format == "reference", "{context}: {last_claim:?} ends inside a batch");
    }
    let verdict = journal.recovery().verdict;
    journal.close().unwrap();
    Options::new()
        .recovery_policy(Recovery::Strict)
        .open(path)
        .unwrap_or_else(|e| panic!("{context}: then {e}"));
    verdict
}

#[test]
fn what_was_told_as_durable_survives_a_kill() {
    let kills: u64 = std::env::var("WALLY_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(240);
    let dir = common::fast_dir();
    let mut verdicts = std::collections::BTreeMap::<String, u32>::new();
    let mut lines_heard = 0;
    for seed in 0..kills {
        let rng = &mut Rng::new(seed + 1);
        let (policy, _) = POLICIES[rng.below(POLICIES.len())];
        let format = if rng.below(5) == 0 { "reference" } else { "sealed" };
        // Some journals are killed several times.
        let path = dir.path().join(format!("{format}-{}", seed / 3));
        let lines = [rng.below(4), rng.below(60), rng.below(300)][rng.below(3)] + 1;
        let heard = run(policy, format, seed, &path, lines);
        lines_heard += heard.lines;
        let context = format!("seed {seed}, {policy}, {format}, {lines} lines");
        let verdict = check(format, &path, heard, &context);
        *verdicts.entry(verdict.to_string()).or_default() += 1;
    }
    println!("{kills} kills after {lines_heard} lines: {verdicts:?}");
}
