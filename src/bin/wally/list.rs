//! `wally ls` and `wally cat`: the records, read without a lock.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use wally::{Entry, Error, State, Walk};

use crate::outcome::{CORRUPT, Failure, OTHER, Outcome, Output, TORN};
use crate::progress::Meter;

/// List the records: index, offset of the header, length, CRC-32, separated by tabs
///
/// The payload begins 16 bytes after the offset. Every checksum is checked. In a torn or corrupt journal the records before
/// the damage are listed, then the place of the damage is reported on standard error.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  The ten longest records:
    wally ls events.wally | sort -t$'\\t' -k3,3nr | head
  The payload of a record of 5 bytes listed at offset 100, straight from the file:
    tail -c +117 events.wally | head -c 5")]
pub(crate) struct Ls {
    /// The journal
    file: PathBuf,
}

impl Ls {
    pub(crate) fn run(&self) -> Outcome {
        each_record(&self.file, |entry, output| {
            let Entry { index, offset, crc, payload, .. } = entry;
            output.line(format_args!("{index}\t{offset}\t{}\t{crc:08x}", payload.len()))?;
            Ok(ControlFlow::Continue(()))
        })
    }
}

/// Print the records' payloads
///
/// Every checksum is checked. In a torn or corrupt journal the records before the damage are printed, then the place of the
/// damage is reported on standard error.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  Records 100 to 110, one per line:
    wally cat --from 100 --to 110 events.wally
  All records in a form that preserves any bytes, into another journal:
    wally cat --output length-prefixed old.wally | wally append --input length-prefixed --sync never new.wally")]
pub(crate) struct Cat {
    /// The journal
    file: PathBuf,
    /// The first index to print
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    from: u64,
    /// The last index to print; records after it are not read
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// How records are separated
    #[arg(long, value_enum, default_value_t = Form::Lines)]
    output: Form,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Form {
    /// The bytes as they are and a newline after each record
    Lines,
    /// The bytes as they are, each record after its length, a little-endian u32
    LengthPrefixed,
    /// A line of hexadecimal digits for each record
    Hex,
}

impl Cat {
    pub(crate) fn run(&self) -> Outcome {
        if self.from > self.to {
            return Err(Failure::new(OTHER, format!("--from {} is after --to {}", self.from, self.to)));
        }
        each_record(&self.file, |entry, output| {
            if entry.index > self.to {
                return Ok(ControlFlow::Break(()));
            }
            if entry.index >= self.from {
                self.output.print(entry, output)?;
            }
            // No record after the last one that was asked for is read: damage there does not concern this call.
            Ok(if entry.index == self.to { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
    }
}

impl Form {
    pub(crate) fn print(self, entry: &Entry, output: &mut Output) -> Result<(), Failure> {
        let payload = &entry.payload;
        match self {
            Self::Lines => {
                output.bytes(payload)?;
                output.bytes(b"\n")
            }
            Self::LengthPrefixed => {
                let len = u32::try_from(payload.len()).map_err(|_| {
                    let why = "too long for a length of 32 bits";
                    Failure::new(OTHER, format!("record {} has {} bytes, {why}", entry.index, payload.len()))
                })?;
                output.bytes(&len.to_le_bytes())?;
                output.bytes(payload)
            }
            Self::Hex => {
                let mut digits = [0; 1024];
                for piece in payload.chunks(digits.len() / 2) {
                    for (pair, byte) in digits.chunks_exact_mut(2).zip(piece) {
                        pair.copy_from_slice(&hex(*byte));
                    }
                    output.bytes(digits.get(..2 * piece.len()).unwrap_or_default())?;
                }
                output.bytes(b"\n")
            }
        }
    }
}

fn hex(byte: u8) -> [u8; 2] {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    [digit(byte >> 4), digit(byte & 15)]
}

/// Calls `each` with one record after the other until it breaks off or the journal ends.
fn each_record(
    path: &Path,
    mut each: impl FnMut(&Entry, &mut Output) -> Result<ControlFlow<()>, Failure>,
) -> Outcome {
    let mut walk = Walk::open(path)?;
    // The length is only for the progress bar, so not getting it is no failure.
    let meter = Meter::new("reading", fs::metadata(path).map(|meta| meta.len()).ok(), &io::stdout());
    let mut output = Output::new();
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                output.flush()?;
                return Err(broken_off(path, &walk, error));
            }
        };
        if each(&entry, &mut output)?.is_break() {
            break;
        }
        meter.reach(entry.offset.saturating_add(16).saturating_add(entry.payload.len() as u64));
    }
    output.flush()?;
    Ok(0)
}

/// Returns the failure that a walk's last error means. A walk ends with the same error at a torn tail and at damage.
pub(crate) fn broken_off(path: &Path, walk: &Walk, error: Error) -> Failure {
    let Error::Corrupt { offset, index, beyond, .. } = &error else { return Failure::from(error) };
    let (code, what) = match walk.state() {
        Some(State::Torn) => (TORN, "torn"),
        _ => (CORRUPT, "corrupt"),
    };
    let path = path.display();
    let beyond = beyond.map_or_else(String::new, |beyond| format!("; {beyond}"));
    Failure::new(code, format!("{path} is {what} at offset {offset}, in the place of record {index}{beyond}"))
}
