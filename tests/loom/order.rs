//! The three watermarks are in order at every instant: durable, committed, appended. A thread that looks reads one
//! after the other. While the journal grows, what it reads later may be more, so it begins with durable; while the journal
//! is cut, what it reads later may be less, so it begins with appended.

use loom::thread;

use crate::model;
use crate::write::Log;

fn durable(log: &Log) -> u64 {
    log.group_commit.durable_index()
}

fn committed(log: &Log) -> u64 {
    log.publisher.load().committed()
}

#[test]
fn a_look_while_the_journal_grows_finds_the_watermarks_in_order() {
    model(3, || {
        let log = Log::new();
        let watched = crate::sync::Arc::clone(&log);
        let watcher = thread::spawn(move || {
            let indexes = [durable(&watched), committed(&watched), watched.appended()];
            assert!(indexes.is_sorted(), "{indexes:?}");
        });
        log.append(1);
        log.sync();
        log.write(2);
        watcher.join().unwrap();
    });
}

#[test]
fn a_look_while_the_journal_is_cut_finds_the_watermarks_in_order() {
    model(3, || {
        let log = Log::new();
        log.write(1);
        log.write(2);
        log.sync();
        log.append(3);
        let watched = crate::sync::Arc::clone(&log);
        let watcher = thread::spawn(move || {
            let mut indexes = [watched.appended(), committed(&watched), durable(&watched)];
            indexes.reverse();
            assert!(indexes.is_sorted(), "{indexes:?}");
        });
        log.cut(1);
        watcher.join().unwrap();
    });
}
