//! What a journal tells about itself.

use crate::write::Log;

/// Figures of one open journal, from [`Journal::stats`](crate::Journal::stats). Counts begin at open.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Index of the last appended record.
    pub appended_index: u64,
    /// Index of the last record that the file has accepted: readers see it.
    pub committed_index: u64,
    /// Index of the last record that survives a power loss.
    pub durable_index: u64,
    /// Where the last appended record ends, or will end, in the file, in bytes.
    pub appended_bytes: u64,
    /// Where the last committed record ends in the file, in bytes.
    pub committed_bytes: u64,
    /// Where the last durable record ends in the file, in bytes.
    pub durable_bytes: u64,
    /// Times that records were handed over to the file.
    pub flushes: u64,
    /// Syncs that made records durable.
    pub syncs: u64,
    /// Records made durable by a sync, on average; 0 without syncs.
    pub records_per_sync: f64,
    /// Views published: one at open, one for each larger map and each cut.
    pub views_published: u64,
    /// Older views that some reader still holds.
    pub views_held: u64,
    /// Bytes of the journal that the older views show.
    pub held_bytes: u64,
    /// Zeros that the file holds behind the committed records, in bytes, for the next ones to take their place.
    pub preallocated_bytes: u64,
    /// Memory of the index in bytes. Address space that is only reserved is not counted, nor what a truncation left to
    /// older views.
    pub index_bytes: u64,
    /// Failures of the background thread: of a sync of `SyncPolicy::Interval`, which it tries again at its next turn, or
    /// of a flush that was left to it, which the waiters for it try again.
    pub background_failures: u64,
    /// The last of them in words.
    pub last_background_failure: Option<String>,
}

impl Log {
    pub(crate) fn stats(&self) -> Stats {
        let background = self.background.lock();
        let (background_failures, last_background_failure) = (background.count, background.last.clone());
        drop(background);
        // Under the append lock no cut is under way, and nothing is committed: all of this is one moment.
        let mut writer = self.lock();
        let durable = self.group_commit.durable();
        let (syncs, synced_records) = self.group_commit.syncs();
        let (appended, committed) = (writer.appended(), writer.committed);
        let held = writer.retired.held();
        let (views_held, held_bytes) = (held.len() as u64, held.iter().map(|view| view.map().limit()).sum());
        Stats {
            appended_index: appended.index,
            committed_index: committed.index,
            durable_index: durable.index,
            appended_bytes: appended.bytes,
            committed_bytes: committed.bytes,
            durable_bytes: durable.bytes,
            flushes: writer.flushes,
            syncs,
            records_per_sync: if syncs == 0 { 0.0 } else { synced_records as f64 / syncs as f64 },
            views_published: writer.views_published,
            views_held,
            held_bytes,
            preallocated_bytes: self.preallocation.left(committed.bytes),
            index_bytes: writer.index.bytes(),
            background_failures,
            last_background_failure,
        }
    }
}
