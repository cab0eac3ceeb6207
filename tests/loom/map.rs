//! Takes the place of `src/map.rs` in the models: a file of bytes that change, and maps that show it.
//!
//! Loom sees each access to a byte: a writer's must come after those of every reader that may have lent it, and a
//! reader's after the writer's, or the model fails. What the system sees to is not modelled: preserving a map's pages
//! changes nothing for its readers.

use std::cell::Cell;
use std::rc::Rc;

use loom::cell::UnsafeCell;

use crate::format::HEADER_LEN;
use crate::sync::{AtomicU64, Ordering};

/// Records in the file. Each is a header and one byte.
const RECORDS: usize = 6;

/// Bytes of a record, header included.
pub(crate) const RECORD_LEN: u64 = HEADER_LEN + 1;

/// What a header says of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

/// What can stand in a record.
static BYTES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

type Payloads = [Cell<u8>; RECORDS];

/// The pages of one map.
#[derive(Debug)]
struct Pages {
    /// Readers of this map look at a record, or the writer changes it under them.
    access: [UnsafeCell<()>; RECORDS],
    /// What the file held when these pages were made this map's own.
    preserved: Cell<Option<[u8; RECORDS]>>,
}

/// The file: what it holds, and the maps of it.
#[derive(Debug, Default)]
pub(crate) struct File {
    payloads: Payloads,
    maps: std::cell::RefCell<Vec<Rc<Pages>>>,
}

impl File {
    /// Writes `payload` into the `at`-th place, which every map shows at once whose pages are the file's.
    pub(crate) fn write(&self, at: usize, payload: u8) {
        for pages in self.maps.borrow().iter().filter(|pages| pages.preserved.get().is_none()) {
            pages.access[at].with_mut(|_| ());
        }
        self.payloads[at].set(payload);
    }
}

/// A window onto the file.
#[derive(Debug)]
pub(crate) struct Map {
    file: Rc<File>,
    pages: Rc<Pages>,
    limit: AtomicU64,
}

impl Map {
    pub(crate) fn new(file: &Rc<File>) -> Self {
        let access = std::array::from_fn(|_| UnsafeCell::new(()));
        let pages = Rc::new(Pages { access, preserved: Cell::new(None) });
        file.maps.borrow_mut().push(Rc::clone(&pages));
        Self { file: Rc::clone(file), pages, limit: AtomicU64::new(0) }
    }

    /// Relaxed here and below, where the map has release and acquire: it is the count that orders bytes.
    pub(crate) fn raise(&self, to: u64) {
        self.limit.store(to, Ordering::Relaxed);
    }

    fn byte(&self, at: u64, end: u64) -> Option<&'static [u8]> {
        if end > self.limit.load(Ordering::Relaxed) {
            return None;
        }
        assert_eq!(at % RECORD_LEN, 0, "no record begins here");
        let at = (at / RECORD_LEN) as usize;
        let byte = match self.pages.preserved.get() {
            Some(preserved) => preserved[at],
            None => self.pages.access[at].with(|_| self.file.payloads[at].get()),
        };
        Some(std::slice::from_ref(&BYTES[usize::from(byte)]))
    }

    pub(crate) fn payload(&self, start: u64, end: u64) -> Option<&[u8]> {
        self.byte(start, end)
    }

    pub(crate) fn stated(&self, offset: u64) -> Option<Stated> {
        self.byte(offset, offset + HEADER_LEN).map(|_| Stated { len: 1, crc: 0 })
    }

    /// A map of the same file that shows nothing.
    pub(crate) fn blank(&self) -> Self {
        Self { file: Rc::clone(&self.file), pages: Rc::clone(&self.pages), limit: AtomicU64::new(0) }
    }

    /// Makes what this map shows its own.
    pub(crate) fn preserve(&self) -> std::io::Result<()> {
        if self.pages.preserved.get().is_none() {
            self.pages.preserved.set(Some(std::array::from_fn(|at| self.file.payloads[at].get())));
        }
        Ok(())
    }
}
