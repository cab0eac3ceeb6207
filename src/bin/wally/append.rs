//! `wally append`: appends standard input to a journal.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use wally::{Batch, Format, IndexMode, Journal, Options, SyncPolicy};

use crate::outcome::{self, Failure, OTHER, Outcome, count};
use crate::progress::{self, Meter};

/// Append standard input to a journal, creating it if it does not exist
///
/// Prints the number of appended records, the index of the last one, and the rate. When the command exits with 0, all
/// records are durable, under every --sync.
///
/// A torn tail that a crash left is cut off first, and the cut is reported on standard error. A corrupt journal is left
/// untouched.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  Follow a log, every line durable before the next is read:
    tail -F app.log | wally append events.wally
  Import quickly, made durable once at the end:
    wally append --sync never events.wally < app.log
  Copy a journal, whatever bytes its records hold:
    wally cat --output length-prefixed old.wally | wally append --input length-prefixed --sync never new.wally")]
pub(crate) struct Append {
    /// The journal
    file: PathBuf,
    /// The format of a journal that is created; a journal that has records keeps its format
    #[arg(long, value_enum, default_value_t = FormatName::Sealed)]
    format: FormatName,
    /// Append N records at a time as an atomic batch: after a crash all records of a batch are there or none
    ///
    /// The last batch holds the rest. In the reference format a batch is only faster, not atomic.
    #[arg(long, value_name = "N")]
    batch: Option<NonZeroUsize>,
    /// When records become durable: `always` (each record or batch before the next is read), `never` (once, at the
    /// end), or at least once in so many milliseconds
    ///
    /// With `never` and with milliseconds, records that were read but are not durable yet are lost when the command is
    /// killed.
    #[arg(long, value_name = "always|never|MILLISECONDS", default_value = "always", value_parser = sync_policy)]
    sync: SyncPolicy,
    /// How standard input is split into records
    #[arg(long, value_enum, default_value_t = Input::Lines)]
    input: Input,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// Each header proves its own length, flags and place
    Sealed,
    /// Byte for byte what the reference implementation writes
    Reference,
}

#[derive(Clone, Copy, ValueEnum)]
enum Input {
    /// One record per line, without its newline; any bytes are allowed, and a carriage return belongs to the record
    Lines,
    /// Each record after its length, a little-endian u32
    LengthPrefixed,
}

fn sync_policy(text: &str) -> Result<SyncPolicy, String> {
    match text {
        "always" => Ok(SyncPolicy::Always),
        "never" => Ok(SyncPolicy::OnDemand),
        _ => match text.parse() {
            Ok(0) => Err("0 milliseconds is `always`".to_owned()),
            Ok(millis) => Ok(SyncPolicy::Interval(Duration::from_millis(millis))),
            Err(_) => Err("expected `always`, `never` or a number of milliseconds".to_owned()),
        },
    }
}

impl Append {
    pub(crate) fn run(&self) -> Outcome {
        let journal = self.open()?;
        let began = Instant::now();
        let mut tally = Tally { records: 0, bytes: 0, last: journal.last_index() };
        let appended = self.append_all(&journal, &mut tally);
        outcome::close(journal, appended).map_err(|failure| {
            failure.and(&format!("{} appended, the last index is {}", were(tally.records), tally.last))
        })?;
        outcome::print(format_args!("{}", tally.summary(began.elapsed())))?;
        Ok(0)
    }

    fn open(&self) -> Result<Journal, Failure> {
        let format = match self.format {
            FormatName::Sealed => Format::Sealed,
            FormatName::Reference => Format::Reference,
        };
        let mut options = Options::new();
        options.new_file_format(format).sync_policy(self.sync).index(IndexMode::sparse());
        let meter = progress::of_opening(&mut options);
        let journal = options.open(&self.file)?;
        drop(meter);
        if let Some(cut) = outcome::what_was_cut(&journal) {
            outcome::say(&format!("note: {}: {cut}", self.file.display()));
        }
        Ok(journal)
    }

    fn append_all(&self, journal: &Journal, tally: &mut Tally) -> Result<(), Failure> {
        let mut records = InputRecords::of_stdin(self.input)?;
        if records.are_from(&self.file) {
            let path = self.file.display();
            return Err(Failure::new(OTHER, format!("{path} is the journal and standard input at once")));
        }
        let meter = Meter::new("appending", records.total, &io::stdin());
        let mut record = Vec::new();
        match self.batch {
            None => {
                while records.next(&mut record)? {
                    tally.last = journal.append(&record)?;
                    tally.records += 1;
                    tally.bytes += record.len() as u64;
                    meter.reach(records.consumed);
                }
            }
            Some(size) => {
                let mut batch = Batch::new();
                let mut bytes = 0;
                let mut more = true;
                while more {
                    // A batch in which the input breaks off is not written: a batch is whole or not there at all.
                    more = records.next(&mut record)?;
                    if more {
                        batch.push(&record);
                        bytes += record.len() as u64;
                    }
                    if batch.len() == size.get() || (!more && !batch.is_empty()) {
                        tally.last = *journal.write_batch(&batch)?.end();
                        tally.records += batch.len() as u64;
                        tally.bytes += bytes;
                        bytes = 0;
                        batch.clear();
                    }
                    meter.reach(records.consumed);
                }
            }
        }
        Ok(())
    }
}

/// What was appended so far.
struct Tally {
    records: u64,
    bytes: u64,
    last: u64,
}

impl Tally {
    fn summary(&self, took: Duration) -> String {
        let seconds = took.as_secs_f64().max(1e-9);
        format!(
            "{} appended, the last index is {}; {:.0} records/s, {:.1} MiB/s",
            count(self.records, "record"),
            self.last,
            self.records as f64 / seconds,
            self.bytes as f64 / seconds / f64::from(1 << 20),
        )
    }
}

fn were(records: u64) -> String {
    format!("{} {}", count(records, "record"), if records == 1 { "was" } else { "were" })
}

/// Standard input, split into records.
struct InputRecords {
    input: BufReader<File>,
    form: Input,
    /// Bytes read so far.
    consumed: u64,
    /// The number of bytes that there are, if the input is a file.
    total: Option<u64>,
}

impl InputRecords {
    fn of_stdin(form: Input) -> Result<Self, Failure> {
        // The descriptor itself is read, since std's handle has a small buffer of its own.
        let fd = io::stdin().as_fd().try_clone_to_owned().map_err(unreadable)?;
        let mut file = File::from(fd);
        let total = match file.metadata() {
            Ok(meta) if meta.is_file() => file.stream_position().ok().map(|at| meta.len().saturating_sub(at)),
            _ => None,
        };
        Ok(Self { input: BufReader::with_capacity(256 << 10, file), form, consumed: 0, total })
    }

    /// Returns `true` if the input is the file at `path`, which would then grow for ever.
    fn are_from(&self, path: &Path) -> bool {
        let place = |meta: fs::Metadata| (meta.dev(), meta.ino());
        match (self.input.get_ref().metadata(), fs::metadata(path)) {
            (Ok(input), Ok(journal)) => place(input) == place(journal),
            _ => false,
        }
    }

    /// Reads the next record into `record`. Returns `false` at the end of the input.
    fn next(&mut self, record: &mut Vec<u8>) -> Result<bool, Failure> {
        record.clear();
        match self.form {
            Input::Lines => self.line(record),
            Input::LengthPrefixed => self.length_prefixed(record),
        }
    }

    fn line(&mut self, record: &mut Vec<u8>) -> Result<bool, Failure> {
        let read = self.input.read_until(b'\n', record).map_err(unreadable)?;
        self.consumed += read as u64;
        if record.last() == Some(&b'\n') {
            record.pop();
        }
        Ok(read > 0)
    }

    fn length_prefixed(&mut self, record: &mut Vec<u8>) -> Result<bool, Failure> {
        if self.take(4, record)? == 0 {
            return Ok(false);
        }
        let Some(prefix) = record.first_chunk::<4>() else {
            return Err(broken_off(format!("inside a length: {} of its 4 bytes", record.len())));
        };
        let len = u64::from(u32::from_le_bytes(*prefix));
        record.clear();
        let read = self.take(len, record)?;
        if read < len {
            return Err(broken_off(format!("inside a record: {read} of its {len} bytes")));
        }
        Ok(true)
    }

    /// Reads up to `len` bytes and returns their number. The buffer grows with the bytes that are there, never by a stated
    /// length.
    fn take(&mut self, len: u64, into: &mut Vec<u8>) -> Result<u64, Failure> {
        let read = self.input.by_ref().take(len).read_to_end(into).map_err(unreadable)? as u64;
        self.consumed += read;
        Ok(read)
    }
}

fn unreadable(error: io::Error) -> Failure {
    Failure::new(OTHER, format!("read standard input: {error}"))
}

fn broken_off(place: String) -> Failure {
    Failure::new(OTHER, format!("standard input ends {place} are there"))
}
