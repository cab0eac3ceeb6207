//! One writer, eight readers, one torn tail.
//!
//! ```sh
//! cargo run --release --example fan_out            # the sources of this crate's own dependencies
//! cargo run --release --example fan_out -- DIR     # every file under DIR
//! ```
//!
//! Journals every file under a folder, one record for each file, while eight threads follow the journal with zero-copy
//! reads, each computing the same digest. Then cuts the file in the middle of its last record, as a power cut
//! would leave it, and opens it again. The journal lies in a temporary folder (under `TMPDIR`), which is removed at
//! the end. Exits with 1 if a digest differs or something cannot be done.

use std::error::Error;
use std::fs;
use std::io::{IoSlice, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use wally::{Batch, Journal, Options, Reader, SyncPolicy};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const READERS: usize = 8;

/// Files up to this length go in together, the small ones of a folder as one atomic batch.
const SMALL: usize = 4096;

/// The record that says that no more will come. The record of a file is never empty, since it begins with the file's name.
const END: &[u8] = b"";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("the digests do not agree");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("fan_out: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let roots = match std::env::args_os().nth(1) {
        Some(dir) => {
            let dir = PathBuf::from(dir);
            vec![fs::canonicalize(&dir).map_err(|error| format!("{}: {error}", dir.display()))?]
        }
        None => sources_of_dependencies()?,
    };
    let folder = tempfile::Builder::new().prefix("fan_out-").tempdir()?;
    let path = fs::canonicalize(folder.path())?.join("sources.wally");
    match roots.as_slice() {
        [root] => println!("from      {}", root.display()),
        roots => {
            println!("from      the sources of {} dependencies, {} ...", roots.len(), roots[0].display())
        }
    }
    println!("journal   {}\n", path.display());

    // The writer, and the readers that follow it: they are there before the first record is.
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(&path)?;
    let start = Instant::now();
    let (journal, written, followed) = thread::scope(|scope| -> Result<_> {
        let readers = start_readers(scope, &journal);
        // If this fails the journal is dropped, which ends the readers.
        let written = write(&journal, &roots)?;
        Ok((journal, written, join(readers, start)?))
    })?;
    // The readers once more, with nothing to wait for: the writer is done.
    let start = Instant::now();
    let again = thread::scope(|scope| join(start_readers(scope, &journal), start))?;

    row("", "records", "bytes", "seconds", "records/s", "GB/s");
    print_rates("writer", written.seen.records, written.seen.bytes, written.busy);
    followed.print("8 readers, following");
    again.print("8 readers, once more");
    println!(
        "\nThe writer's seconds are those in the journal's calls, the last sync among them; with reading the"
    );
    println!(
        "files it took {:.3} s, and readers that follow it wait for it.\n",
        written.elapsed.as_secs_f64()
    );
    written.skipped.print();
    let Some(last) = written.digests.len().checked_sub(1) else {
        return Err("there is no file to journal".into());
    };

    let readers: Vec<_> = followed.seen.iter().chain(&again.seen).collect();
    let expected = readers[0].counted();
    let agreeing = readers.iter().filter(|seen| seen.counted() == expected).count();
    let agree = agreeing == readers.len() && readers[0].digest == written.digests[last];
    println!("counted   {} words in {} lines", readers[0].words, readers[0].lines);
    println!("digests   {:016x}, the writer's", written.digests[last]);
    println!("          {:016x}, that of {agreeing} of the {} readers", readers[0].digest, readers.len());
    println!("          {}", if agree { "all agree" } else { "NOT ALL AGREE" });
    for (at, seen) in readers.iter().enumerate().filter(|(_, seen)| seen.counted() != expected) {
        println!("          reader {at}: {seen:?}");
    }

    // Removes the record that told the readers to stop.
    journal.truncate_back(journal.last_index() - 1)?;
    let survived = tear_and_reopen(journal, &path, &written)?;
    Ok(agree && survived)
}

/// Closes the journal, cuts its file in the middle of the last record, and opens it again. Returns `true` if its records
/// are then those that were written, up to the cut.
fn tear_and_reopen(journal: Journal, path: &Path, written: &Written) -> Result<bool> {
    let last = journal.last_index();
    let payload = journal.data_range(last)?;
    journal.close()?;

    let middle = payload.start + (payload.end - payload.start) / 2;
    let file = fs::OpenOptions::new().write(true).open(path)?;
    let whole = file.metadata()?.len();
    file.set_len(middle)?;
    drop(file);
    println!("\ntorn      the file is cut from {whole} to {middle} bytes, in the middle of record {last}");

    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).open(path)?;
    println!("reopened  {}", journal.recovery());

    let kept = journal.last_index();
    let mut seen = Seen::default();
    for (_, record) in journal.snapshot().iter() {
        seen.add(record);
    }
    let expected = kept.checked_sub(1).map_or(Seen::default().digest, |at| written.digests[at as usize]);
    let same = seen.records == kept && kept < last && seen.digest == expected;
    let verdict = if same { "as they were written" } else { "NOT WHAT WAS WRITTEN" };
    println!("          the {kept} records left are {verdict}");
    if last - kept > 1 {
        println!(
            "          record {last} was the last of a batch that began with {}: all or nothing",
            kept + 1
        );
    }
    let next = journal.append(b"life goes on")?;
    let goes_on = next == kept + 1 && journal.read(next)? == b"life goes on";
    println!("          the next append {} record {next}", if goes_on { "became" } else { "DID NOT BECOME" });
    journal.close()?;
    Ok(same && goes_on)
}

// The writer.

/// What the writer wrote.
struct Written {
    /// The digest after each record.
    digests: Vec<u64>,
    seen: Seen,
    /// The time spent in the journal's calls.
    busy: Duration,
    elapsed: Duration,
    skipped: Skipped,
}

/// Files that were not journalled.
#[derive(Default)]
struct Skipped {
    unreadable: u64,
    first: Option<String>,
    not_files: u64,
}

impl Skipped {
    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        self.unreadable += 1;
        self.first.get_or_insert_with(|| format!("{}: {error}", path.display()));
    }

    fn print(&self) {
        if let Some(first) = &self.first {
            println!(
                "\nskipped   {} files or folders that could not be read; the first: {first}",
                self.unreadable
            );
        }
        if self.not_files > 0 {
            println!("skipped   {} symbolic links and other things that are not files", self.not_files);
        }
    }
}

struct Writer<'a> {
    journal: &'a Journal,
    batch: Batch,
    record: Vec<u8>,
    content: Vec<u8>,
    written: Written,
}

fn write(journal: &Journal, roots: &[PathBuf]) -> Result<Written> {
    let start = Instant::now();
    let mut writer = Writer {
        journal,
        batch: Batch::new(),
        record: Vec::new(),
        content: Vec::new(),
        written: Written {
            digests: Vec::new(),
            seen: Seen::default(),
            busy: Duration::ZERO,
            elapsed: Duration::ZERO,
            skipped: Skipped::default(),
        },
    };
    for root in roots {
        writer.folder(root, root.parent().unwrap_or(root))?;
    }
    writer.timed(|journal| journal.append(END))?;
    // Until here nothing was synced, and the last records may still be in the staging buffer.
    writer.timed(|journal| journal.sync())?;
    writer.written.elapsed = start.elapsed();
    Ok(writer.written)
}

impl Writer<'_> {
    /// Journals what is in `folder`, in the order of names: large files one by one, small ones as a batch, then
    /// the folders in it. Names are kept relative to `base`. Symbolic links are not followed.
    fn folder(&mut self, folder: &Path, base: &Path) -> Result<()> {
        let entries = match fs::read_dir(folder).and_then(|all| all.collect::<std::io::Result<Vec<_>>>()) {
            Ok(entries) => entries,
            Err(error) => {
                self.written.skipped.unreadable(folder, &error);
                return Ok(());
            }
        };
        let mut entries: Vec<_> =
            entries.into_iter().map(|entry| (entry.path(), entry.file_type())).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut folders = Vec::new();
        for (path, kind) in entries {
            match kind {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => self.file(&path, base)?,
                Ok(_) => self.written.skipped.not_files += 1,
                Err(error) => self.written.skipped.unreadable(&path, &error),
            }
        }
        self.write_batch()?;
        folders.iter().try_for_each(|path| self.folder(path, base))
    }

    fn file(&mut self, path: &Path, base: &Path) -> Result<()> {
        if path == self.journal.path() {
            return Ok(());
        }
        self.content.clear();
        let read = fs::File::open(path).and_then(|mut file| file.read_to_end(&mut self.content));
        if let Err(error) = read {
            self.written.skipped.unreadable(path, &error);
            return Ok(());
        }
        let name = path.strip_prefix(base).unwrap_or(path).as_os_str().as_bytes();
        self.record.clear();
        self.record.extend_from_slice(name);
        self.record.push(b'\n');
        if self.content.len() <= SMALL {
            self.record.extend_from_slice(&self.content);
            self.batch.push(&self.record);
            self.written.seen.add(&self.record);
            self.written.digests.push(self.written.seen.digest);
            return Ok(());
        }
        // What the batch holds comes first, so that the order is that of the digest.
        self.write_batch()?;
        let content = std::mem::take(&mut self.content);
        let head = std::mem::take(&mut self.record);
        self.timed(|journal| journal.append_vectored(&[IoSlice::new(&head), IoSlice::new(&content)]))?;
        self.written.seen.add_parts(&head, &content);
        self.written.digests.push(self.written.seen.digest);
        (self.content, self.record) = (content, head);
        Ok(())
    }

    fn write_batch(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.timed(|journal| journal.write_batch(&batch))?;
        self.batch = batch;
        self.batch.clear();
        Ok(())
    }

    fn timed<T>(&mut self, call: impl FnOnce(&Journal) -> wally::Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = call(self.journal);
        self.written.busy += start.elapsed();
        Ok(result?)
    }
}

// The readers.

/// What a reader has counted in the journal, in order.
#[derive(Debug)]
struct Seen {
    records: u64,
    bytes: u64,
    lines: u64,
    words: u64,
    /// FNV-1a over the length and the CRC-32 of each record: other bytes, another order, a record too many or
    /// too few give another digest.
    digest: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Self { records: 0, bytes: 0, lines: 0, words: 0, digest: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Seen {
    /// Returns what all readers must agree on.
    fn counted(&self) -> [u64; 5] {
        [self.records, self.bytes, self.lines, self.words, self.digest]
    }

    fn add(&mut self, record: &[u8]) {
        self.fold(record.len(), crc32fast::hash(record));
    }

    fn add_parts(&mut self, head: &[u8], content: &[u8]) {
        let mut crc = crc32fast::Hasher::new();
        crc.update(head);
        crc.update(content);
        self.fold(head.len() + content.len(), crc.finalize());
    }

    fn fold(&mut self, len: usize, crc: u32) {
        self.records += 1;
        self.bytes += len as u64;
        for byte in (len as u64).to_le_bytes().into_iter().chain(crc.to_le_bytes()) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Counts the lines and words of a file's content, which is everything after the record's first line.
    fn count(&mut self, record: &[u8]) {
        let content = record.iter().position(|&byte| byte == b'\n').map_or(record, |at| &record[at + 1..]);
        let mut before = b' ';
        // Sums of at most 255 fit into a byte, which is what lets the compiler take many bytes at a time.
        for chunk in content.chunks(255) {
            self.lines += u64::from(chunk.iter().map(|&byte| u8::from(byte == b'\n')).sum::<u8>());
            let starts =
                chunk.windows(2).map(|pair| u8::from(is_space(pair[0]) & !is_space(pair[1]))).sum::<u8>();
            self.words += u64::from(starts) + u64::from(is_space(before) & !is_space(chunk[0]));
            before = chunk[chunk.len() - 1];
        }
    }
}

fn is_space(byte: u8) -> bool {
    (byte == b' ') | (byte.wrapping_sub(b'\t') < 5)
}

type Handle<'scope> = thread::ScopedJoinHandle<'scope, wally::Result<Seen>>;

fn start_readers<'scope>(scope: &'scope thread::Scope<'scope, '_>, journal: &Journal) -> Vec<Handle<'scope>> {
    (0..READERS)
        .map(|_| {
            let reader = journal.reader();
            scope.spawn(move || follow(reader))
        })
        .collect()
}

/// Reads record by record until the one that says that it was the last. Each record is borrowed from the map, not
/// copied.
fn follow(mut reader: Reader) -> wally::Result<Seen> {
    let mut seen = Seen::default();
    let mut next = 1;
    loop {
        while let Some(record) = reader.get(next) {
            if record == END {
                return Ok(seen);
            }
            seen.add(record);
            seen.count(record);
            next += 1;
        }
        // Sleeps until the next record is committed; if it is staged, this commits it.
        reader.wait_for(next, None)?;
    }
}

/// What all readers counted, and the time that they took together.
struct Round {
    seen: Vec<Seen>,
    took: Duration,
}

fn join(readers: Vec<Handle<'_>>, start: Instant) -> Result<Round> {
    let seen = readers.into_iter().map(|reader| Ok(reader.join().map_err(|_| "a reader panicked")??));
    let seen = seen.collect::<Result<_>>()?;
    Ok(Round { seen, took: start.elapsed() })
}

impl Round {
    fn print(&self, name: &str) {
        let records = self.seen.iter().map(|seen| seen.records).sum();
        let bytes = self.seen.iter().map(|seen| seen.bytes).sum();
        print_rates(name, records, bytes, self.took);
    }
}

// What is printed.

fn row(name: &str, records: &str, bytes: &str, seconds: &str, rate: &str, throughput: &str) {
    println!("{name:<22}{records:>12}{bytes:>16}{seconds:>10}{rate:>14}{throughput:>9}");
}

fn print_rates(name: &str, records: u64, bytes: u64, took: Duration) {
    let seconds = took.as_secs_f64().max(1e-9);
    row(
        name,
        &records.to_string(),
        &bytes.to_string(),
        &format!("{seconds:.3}"),
        &format!("{:.0}", records as f64 / seconds),
        &format!("{:.3}", bytes as f64 / seconds / 1e9),
    );
}

// What is journalled if no folder is named.

/// Returns the folders of this crate's dependencies in cargo's registry, as `Cargo.lock` names them.
fn sources_of_dependencies() -> Result<Vec<PathBuf>> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let packages = fs::read_to_string(&lock).map_err(|error| {
        format!(
            "{}: {error}; name a folder instead: cargo run --release --example fan_out -- DIR",
            lock.display()
        )
    })?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).ok_or("there is no home folder")?;
    let sources = home.join("registry").join("src");
    let registries = fs::read_dir(&sources).map(|all| all.flatten().map(|entry| entry.path()).collect());
    let registries: Vec<_> = registries.unwrap_or_default();

    let mut folders = Vec::new();
    for package in packages.split("[[package]]") {
        let field = |name: &str| {
            package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'))
        };
        let (Some(name), Some(version), Some(_)) = (field("name"), field("version"), field("source")) else {
            continue;
        };
        // Dependencies of other platforms are in the lock file, but were never fetched.
        let folder = registries.iter().map(|registry| registry.join(format!("{name}-{version}")));
        folders.extend(folder.into_iter().find(|folder| folder.is_dir()));
    }
    if folders.is_empty() {
        return Err(format!(
            "no source of a dependency found in {}; name a folder instead: \
             cargo run --release --example fan_out -- DIR",
            sources.display()
        )
        .into());
    }
    Ok(folders)
}
