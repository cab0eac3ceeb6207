//! How a journal is opened: plain data, no behaviour.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// When appended records become durable without being asked to.
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

/// How the place of a record in the file is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IndexMode {
    /// Every record's place is kept: about 4 bytes a record, a random read is O(1).
    #[default]
    Full,
    /// Every k-th record's place is kept: 8 bytes per k records, a random read hops over at most k - 1 headers in
    /// the map. 0 is taken as 1. [`IndexMode::sparse`] has the usual k.
    Sparse(u32),
    /// Nothing is kept: a random read hops from the start of the journal, or from where the reader last was.
    Scan,
}

impl IndexMode {
    /// A sparse index with the usual distance of 4096 records.
    ///
    /// ```
    /// assert_eq!(wally::IndexMode::sparse(), wally::IndexMode::Sparse(4096));
    /// ```
    pub const fn sparse() -> Self {
        Self::Sparse(4096)
    }
}

/// The two formats of a journal file, told apart by its first header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Format {
    /// Each header proves its own length, flags and place.
    #[default]
    Sealed,
    /// Byte for byte what the reference implementation writes: no seal, no batch atomicity.
    Reference,
}

impl Format {
    /// The format's name in lower case, as the command prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Reference => "reference",
        }
    }
}

/// What opening does with a journal that does not end cleanly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Recovery {
    /// A torn tail is cut off; damage to what is known to have been durable is an error.
    #[default]
    TornTail,
    /// Damage is cut off as well, always with a copy in a quarantine file.
    FirstInvalid,
    /// Whatever is not clean is an error, and the file is left untouched.
    Strict,
}

/// How far opening a journal has come.
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

/// How to open a journal. Every setting has a default, so `Options::new().open(path)` is
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
    /// `None` for what the file system is served best by.
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
    /// The defaults, as each setting names them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a file that does not exist is created. A symbolic link that leads to no file creates the file that it
    /// names. Default: `true`.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// When records become durable. Default: [`SyncPolicy::Always`].
    pub fn sync_policy(&mut self, policy: SyncPolicy) -> &mut Self {
        self.sync_policy = policy;
        self
    }

    /// How records are found. Default: [`IndexMode::Full`].
    pub fn index(&mut self, mode: IndexMode) -> &mut Self {
        self.index = mode;
        self
    }

    /// The format of a file that is new or empty; one that has records keeps the format it has.
    /// Default: [`Format::Sealed`].
    pub fn new_file_format(&mut self, format: Format) -> &mut Self {
        self.new_file_format = format;
        self
    }

    /// What to do with a journal that does not end cleanly. Default: [`Recovery::TornTail`].
    pub fn recovery_policy(&mut self, policy: Recovery) -> &mut Self {
        self.recovery_policy = policy;
        self
    }

    /// Keep everything that recovery cuts in a quarantine file, not only what holds whole records; but never the rest of a
    /// truncation that a crash interrupted, which someone had asked to remove. The quarantine file lies beside the
    /// journal's file, not beside a symbolic link to it. Default: `false`.
    pub fn quarantine(&mut self, always: bool) -> &mut Self {
        self.quarantine = always;
        self
    }

    /// Remove the file when the journal is closed or dropped, without syncing it first. Through a symbolic link, the file
    /// is removed to which the link led when the journal was opened, and the link stays. A file that was moved meanwhile
    /// stays, and so does another one in its place. Default: `false`.
    pub fn delete_on_close(&mut self, delete: bool) -> &mut Self {
        self.delete_on_close = delete;
        self
    }

    /// Size of the staging buffer in bytes; at least 4096 are used. Without memory for it, opening fails with
    /// [`Error::Io`](crate::Error::Io). Default: 256 KiB.
    pub fn buffer_size(&mut self, bytes: usize) -> &mut Self {
        self.buffer_size = bytes;
        self
    }

    /// The longest payload that an append accepts, in bytes. It binds appends only: longer records that are
    /// already in the file are read. Default: no limit.
    pub fn max_record_len(&mut self, bytes: u64) -> &mut Self {
        self.max_record_len = bytes;
        self
    }

    /// How many bytes beyond a cut a truncation copies for readers that still hold them, before it refuses with
    /// [`Error::ReadersActive`](crate::Error::ReadersActive). Default: 256 MiB. With 0 nothing is copied, and every
    /// truncation that would have to is refused.
    ///
    /// The copies are memory of this process, one for each view that is held, until the readers that hold it let go.
    /// What earlier truncations copied does not count. Where the system has no room for a copy the truncation is
    /// refused as well, with one exception: in a memory cgroup, as a container has it, Linux refuses nothing. A copy that
    /// goes beyond `memory.max` calls the OOM killer, which ends this process or another of the cgroup. There, set a
    /// limit that fits into what the cgroup leaves free.
    ///
    /// The copy is made before the append lock is taken. Appends wait only while what was committed meanwhile is copied, and
    /// while the copy takes the place of the pages that the readers hold.
    pub fn preserve_limit(&mut self, bytes: u64) -> &mut Self {
        self.preserve_limit = bytes;
        self
    }

    /// The largest step in which a sealed journal writes zeros behind its records, in bytes; 0 for none.
    /// Default: 512 KiB, since more gained nothing; 0 on file systems that copy on write.
    ///
    /// Under [`SyncPolicy::Always`] and [`SyncPolicy::Interval`] an open journal is followed by zeros in its file, which
    /// the next records take the place of: syncing those costs less, since the file system has no new length and no new
    /// blocks to journal. Steps begin at 64 KiB and grow with what comes between two syncs. Where that is more than
    /// 64 KiB, or than the largest step, no zeros are written, for they would cost what they save; nor are any at the
    /// first few syncs after opening, for those who append only a few records. Closing the journal takes the zeros off,
    /// and so does opening it after a crash. A disk without room for them is no error.
    ///
    /// It gains where a file's blocks are overwritten in place: on ext4 and XFS 1.55 to 2.35 times as many durable appends
    /// were measured with it. Where each write goes to a new block it costs space and gains nothing: on btrfs 0.97 to 1.00
    /// times as many, and a journal of 20 MB in records of 4,000 bytes took 59 MB instead of 40. So there is none by default
    /// where the system says that the file is on btrfs, ZFS, bcachefs, NILFS2 or UBIFS; what is set here is taken
    /// everywhere. A file on btrfs that is excepted from copying (`chattr +C`) is not told from the others, nor is what lies
    /// under an overlay: set it there.
    ///
    /// Other systems than Linux, and processes with a limit on the size of their files, never write zeros ahead.
    pub fn preallocate(&mut self, bytes: u64) -> &mut Self {
        self.preallocate = Some(bytes);
        self
    }

    /// Called from time to time while a journal is opened; [`ControlFlow::Break`] ends the opening with
    /// [`Error::Stopped`](crate::Error::Stopped) and leaves the file untouched. Default: none.
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
