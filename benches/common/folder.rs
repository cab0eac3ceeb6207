//! Where the files lie.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use wally::{Journal, Options, SyncPolicy};

use super::BUFFER;

/// A folder under `WALLY_BENCH_DIR`, else under `TMPDIR`, that is removed at the end, and names in it.
pub struct Folder {
    dir: tempfile::TempDir,
    next: Cell<u64>,
}

impl Folder {
    pub fn new() -> Self {
        let mut builder = tempfile::Builder::new();
        builder.prefix("wally-bench-");
        let dir = match std::env::var_os("WALLY_BENCH_DIR") {
            Some(root) => builder.tempdir_in(root),
            None => builder.tempdir(),
        };
        Self { dir: dir.expect("a temporary folder"), next: Cell::new(0) }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns a path where there is no file yet.
    pub fn path(&self) -> PathBuf {
        self.next.set(self.next.get() + 1);
        self.dir.path().join(format!("{}.wally", self.next.get()))
    }

    /// Creates a journal whose file is removed when it is dropped.
    pub fn journal(&self, policy: SyncPolicy) -> Journal {
        let mut options = Options::new();
        options.sync_policy(policy).buffer_size(BUFFER).delete_on_close(true);
        options.open(self.path()).expect("a new journal")
    }

    /// Creates a file without a name, which is gone when it is dropped.
    pub fn file(&self) -> File {
        let path = self.path();
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("a new file");
        std::fs::remove_file(path).expect("a file without a name");
        file
    }
}
