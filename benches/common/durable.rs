//! Durable appends from several threads: a round is a record that is acknowledged when a sync has covered it.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use wally::SyncPolicy;

use super::folder::Folder;
use super::threads::spread;
use super::{header, payload};

/// Leader and followers in their simplest form: a thread that finds no other one syncing writes and syncs all that is
/// staged, and the other threads wait for it. Not a bound: it wakes all threads each time and grows its file with each
/// write.
struct Group {
    file: File,
    state: Mutex<State>,
    turn: Condvar,
}

#[derive(Default)]
struct State {
    buffer: Vec<u8>,
    /// The previous buffer, which is reused.
    spare: Vec<u8>,
    /// Where the next record begins in the file.
    end: u64,
    durable: u64,
    leading: bool,
}

impl Group {
    fn new(folder: &Folder) -> Self {
        Self { file: folder.file(), state: Mutex::default(), turn: Condvar::new() }
    }

    fn append(&self, payload: &[u8]) {
        let mut state = self.state.lock().expect("no panic before");
        let header = header(state.end, payload, 0);
        state.buffer.extend_from_slice(&header);
        state.buffer.extend_from_slice(payload);
        state.end += 16 + payload.len() as u64;
        let end = state.end;
        while state.durable < end {
            if state.leading {
                state = self.turn.wait(state).expect("no panic before");
                continue;
            }
            state.leading = true;
            let spare = std::mem::take(&mut state.spare);
            let mut staged = std::mem::replace(&mut state.buffer, spare);
            let (from, to) = (state.durable, state.end);
            drop(state);
            let synced = self.file.write_all_at(&staged, from).and_then(|()| self.file.sync_data());
            staged.clear();
            state = self.state.lock().expect("no panic before");
            state.spare = staged;
            state.durable = to;
            state.leading = false;
            self.turn.notify_all();
            // With the lock held, so that a panic ends the other threads, too.
            synced.expect("room on the disk");
        }
    }
}

pub fn floor(folder: &Folder, len: usize, threads: usize) -> impl FnMut(u64) -> Duration + '_ {
    let payload = payload(len, 1);
    move |rounds| {
        let group = Group::new(folder);
        let append = || group.append(black_box(&payload));
        spread(threads, rounds, 1, |_| |rounds| (0..rounds).for_each(|_| append()))
    }
}

pub fn wally(folder: &Folder, len: usize, threads: usize) -> impl FnMut(u64) -> Duration + '_ {
    let mut counted = wally_counted(folder, len, threads);
    move |rounds| counted(rounds).0
}

/// Returns also the mean number of records that a sync covered.
pub fn wally_counted(folder: &Folder, len: usize, threads: usize) -> impl FnMut(u64) -> (Duration, f64) + '_ {
    let payload = payload(len, 1);
    move |rounds| {
        let journal = folder.journal(SyncPolicy::Always);
        let append = || {
            journal.append(black_box(&payload)).expect("an append");
        };
        let took = spread(threads, rounds, 1, |_| |rounds| (0..rounds).for_each(|_| append()));
        (took, journal.stats().records_per_sync)
    }
}
