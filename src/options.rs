//! [`Options`] and the types of its settings: plain data, no behaviour.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::format::Format;

/// When appended records become durable without an explicit call.
///
/// Under every policy [`Journal::sync`](crate::Journal::sync), [`Journal::wait_durable`](crate::Journal::wait_durable)
/// and [`Journal::close`](crate::Journal::close) make records durable when they return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SyncPolicy {
    /// Each append or batch is durable when it returns. Threads that append at the same time share their syncs.
    #[default]
    Always,
    /// A background thread makes everything appended durable at least this often.
    Interval(Duration),
    /// Only an explicit call makes records durable.
    OnDemand,
}

/// How the offset of a record in the file is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IndexMode {
    /// The offset of every record is kept in memory, in about 4 bytes a record. A random read costs O(1).
    #[default]
    Full,
    /// The offset of every k-th record is kept in memory, in 8 bytes. A random read hops over at most k - 1 headers in the
    /// map. 0 is taken as 1. [`IndexMode::sparse`] has the usual k.
    Sparse(u32),
    /// No offsets are kept. A random read hops over the headers from the start of the journal, or from the record that the
    /// reader read last.
    Scan,
}

impl IndexMode {
    /// Returns a sparse index with the usual distance of 4096 records.
    ///
    /// ```
    /// assert_eq!(wally::IndexMode::sparse(), wally::IndexMode::Sparse(4096));
    /// ```
    pub const fn sparse() -> Self {
        Self::Sparse(4096)
    }
}

/// What opening does with a journal that does not end cleanly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Recovery {
    /// A torn tail is cut off; damage to what is known to have been durable is an error.
    #[default]
    TornTail,
    /// Damage is cut off as well. What is cut is always kept in a quarantine file.
    FirstInvalid,
    /// Every end that is not clean is an error, and the file is left untouched.
    Strict,
}

/// How far the opening of a journal has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the file walked so far.
    pub bytes: u64,
    /// The file's length in bytes.
    pub total_bytes: u64,
    /// Records walked so far.
    pub records: u64,
}

type OnProgress = Arc<dyn Fn(Progress) -> ControlFlow<()> + Send + Sync>;

/// Settings for opening a journal. Every setting has a default, so `Options::new().open(path)` is
/// [`Journal::open`](crate::Journal::open).
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("events.wally");
/// use wally::{IndexMode, Options, SyncPolicy};
/// let journal = Options::new()
///     .sync_policy(SyncPolicy::OnDemand)
///     .index(IndexMode::Sparse(1024))
///     .buffer_size(1 << 20)
///     .open(&path)?;
/// assert_eq!(journal.append(b"hello")?, 1);
/// journal.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) create: bool,
    pub(crate) sync_policy: SyncPolicy,
    pub(crate) index: IndexMode,
    pub(crate) new_file_format: Format,
    pub(crate) recovery_policy: Recovery,
    pub(crate) quarantine: bool,
    pub(crate) delete_on_close: bool,
    pub(crate) buffer_size: usize,
    pub(crate) max_record_len: u64,
    pub(crate) preserve_limit: u64,
    /// `None` for the default of the file system.
    pub(crate) preallocate: Option<u64>,
    pub(crate) on_progress: Option<OnProgress>,
    pub(crate) seam: Option<Arc<dyn crate::seam::Seam>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create: true,
            sync_policy: SyncPolicy::default(),
            index: IndexMode::default(),
            new_file_format: Format::default(),
            recovery_policy: Recovery::default(),
            quarantine: false,
            delete_on_close: false,
            buffer_size: 256 << 10,
            max_record_len: u64::MAX,
            preserve_limit: 256 << 20,
            preallocate: None,
            on_progress: None,
            seam: None,
        }
    }
}

impl Options {
    /// Returns the defaults, which each setting names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether a file that does not exist is created. Through a symbolic link that leads to no file, the file that it
    /// names is created. Default: `true`.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Sets when records become durable. Default: [`SyncPolicy::Always`].
    pub fn sync_policy(&mut self, policy: SyncPolicy) -> &mut Self {
        self.sync_policy = policy;
        self
    }

    /// Sets how records are found. Default: [`IndexMode::Full`].
    pub fn index(&mut self, mode: IndexMode) -> &mut Self {
        self.index = mode;
        self
    }

    /// Sets the format of a file that is new or empty. A file that has records keeps its format.
    /// Default: [`Format::Sealed`].
    pub fn new_file_format(&mut self, format: Format) -> &mut Self {
        self.new_file_format = format;
        self
    }

    /// Sets what opening does with a journal that does not end cleanly. Default: [`Recovery::TornTail`].
    pub fn recovery_policy(&mut self, policy: Recovery) -> &mut Self {
        self.recovery_policy = policy;
        self
    }

    /// Sets whether everything that recovery cuts is kept in a quarantine file, not only a cut that holds whole records. The
    /// rest of a truncation that a crash interrupted is never kept, since the program had asked to remove it. The quarantine
    /// file lies beside the journal's file, not beside a symbolic link to it. Default: `false`.
    pub fn quarantine(&mut self, always: bool) -> &mut Self {
        self.quarantine = always;
        self
    }

    /// Sets whether the file is removed when the journal is closed or dropped; it is not synced then. Through a symbolic link,
    /// the file to which the link led when the journal was opened is removed, and the link stays. A file that was moved
    /// meanwhile stays, and so does another file in its place. Default: `false`.
    pub fn delete_on_close(&mut self, delete: bool) -> &mut Self {
        self.delete_on_close = delete;
        self
    }

    /// Sets the size of the staging buffer in bytes; a smaller one than 4096 is taken as 4096. Without memory for it, opening
    /// fails with [`Error::Io`](crate::Error::Io). Default: 256 KiB.
    pub fn buffer_size(&mut self, bytes: usize) -> &mut Self {
        self.buffer_size = bytes;
        self
    }

    /// Sets the length of the longest payload that an append accepts, in bytes. It limits appends only: longer records that
    /// are already in the file are read. Default: no limit.
    pub fn max_record_len(&mut self, bytes: u64) -> &mut Self {
        self.max_record_len = bytes;
        self
    }

    /// Sets how many bytes a truncation may copy for readers that still hold what it removes, in bytes. A truncation that has
    /// to copy more fails with [`Error::ReadersActive`](crate::Error::ReadersActive). With 0 every truncation that would
    /// have to copy anything fails. Default: 256 MiB.
    ///
    /// The copies are memory of this process, one for each view that is held, until its readers release it. Copies of earlier
    /// truncations do not count. A truncation also fails if the system has no room for a copy, with one exception: in a
    /// memory cgroup, as a container has it, Linux refuses no memory. A copy that exceeds `memory.max` calls the OOM killer,
    /// which ends this process or another one of the cgroup. There, set a limit that fits into what the cgroup leaves free.
    ///
    /// The copy is made before the append lock is taken. Appends wait only while records that were committed meanwhile are
    /// copied, and while the copy takes the place of the pages that the readers hold.
    pub fn preserve_limit(&mut self, bytes: u64) -> &mut Self {
        self.preserve_limit = bytes;
        self
    }

    /// Sets the largest step in which a sealed journal extends its file with zeros ahead of the records, in bytes; 0 for none.
    /// Default: 512 KiB, since more gained nothing; 0 on file systems that copy on write.
    ///
    /// Under [`SyncPolicy::Always`] and [`SyncPolicy::Interval`] the file is extended with zeros ahead of the records, which
    /// later records overwrite, so that a sync need not update the file's size or allocation. Steps begin at 64 KiB and grow
    /// with the bytes appended between two syncs. If those are more than 64 KiB, or more than the largest step, no zeros are
    /// written, since they would cost what they save; nor are any at the first few syncs after opening, for programs that
    /// append only a few records. Closing the journal removes the zeros, and so does opening it after a crash. A disk
    /// without room for them is no error.
    ///
    /// Zeros help where a file's blocks are overwritten in place: on ext4 and XFS 1.55 to 2.35 times as many durable appends
    /// were measured with them. Where each write goes to a new block they cost space and gain nothing: on btrfs 0.97 to 1.00
    /// times as many appends, and a journal of 20 MB in records of 4,000 bytes took 59 MB instead of 40. So the default is 0
    /// where the system says that the file is on btrfs, ZFS, bcachefs, NILFS2 or UBIFS; a value that is set here is used
    /// everywhere. The default treats a file on btrfs that is excepted from copying (`chattr +C`) like the others, and
    /// does not see what lies under an overlay: set a value there.
    ///
    /// On other systems than Linux, and in processes with a limit on the size of their files, no zeros are written.
    pub fn preallocate(&mut self, bytes: u64) -> &mut Self {
        self.preallocate = Some(bytes);
        self
    }

    /// Sets a callback that is called from time to time while a journal is opened. If it returns [`ControlFlow::Break`],
    /// opening fails with [`Error::Stopped`](crate::Error::Stopped) and leaves the file untouched. Default: none.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("events.wally");
    /// # wally::Journal::open(&path)?.append(b"a")?;
    /// use std::ops::ControlFlow;
    /// let stopped = wally::Options::new().on_progress(|_| ControlFlow::Break(())).open(&path);
    /// assert!(matches!(stopped, Err(wally::Error::Stopped)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_progress(
        &mut self,
        callback: impl Fn(Progress) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> &mut Self {
        self.on_progress = Some(Arc::new(callback));
        self
    }

    #[cfg(feature = "__seam")]
    #[doc(hidden)]
    pub fn seam(&mut self, seam: Arc<dyn crate::seam::Seam>) -> &mut Self {
        self.seam = Some(seam);
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("create", &self.create)
            .field("sync_policy", &self.sync_policy)
            .field("index", &self.index)
            .field("new_file_format", &self.new_file_format)
            .field("recovery_policy", &self.recovery_policy)
            .field("quarantine", &self.quarantine)
            .field("delete_on_close", &self.delete_on_close)
            .field("buffer_size", &self.buffer_size)
            .field("max_record_len", &self.max_record_len)
            .field("preserve_limit", &self.preserve_limit)
            .field("preallocate", &self.preallocate)
            .field("on_progress", &self.on_progress.is_some())
            .finish_non_exhaustive()
    }
}
