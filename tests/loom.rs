//! The models: the rooms that readers and writers meet in without a lock, and the hand-over of group commit, explored
//! by loom over every interleaving of two or three threads (preemptions bounded) and every value that a weak memory
//! order lets a load return.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --test loom
//! ```
//!
//! `publish.rs`, `index/mod.rs`, `entries.rs`, `view.rs`, `snapshot.rs`, `commit.rs`, `turns.rs`, `generation.rs`, `watch.rs`
//! and `wait.rs` are compiled in here from `src/` as they are. `loom/sync.rs` takes the place of `src/sync.rs`,
//! `loom/map.rs` that of the mapped file, `loom/memory.rs` that of the index's memory. `loom/journal.rs` does what the writer does with them, `loom/log.rs` what the log does for
//! those who wait.
//!
//! What each model is worth: weakened like this, the code makes it fail.
//!
//! | weakened | fails |
//! | --- | --- |
//! | `view.rs`: the count stored or loaded relaxed; stored before the map's limit | all `who_sees_…` and most others |
//! | `entries.rs`: entries stored relaxed; loaded relaxed where a look is enough | all `an_old_index_…` and `who_is_told_at_once_is_told_of_its_own_…` |
//! | `entries.rs`: entries loaded relaxed where one is searched for; there what is kept looked at before | `an_old_index_stays_as_it_was` |
//! | `entries.rs`: what is kept not looked at, or before the entries, where a look is enough | as above, all three |
//! | `entries.rs`: a cut preserves nothing | as above, all three |
//! | `entries.rs`: told from where on entries are kept before they are, or relaxed | all `an_old_index_…` |
//! | `entries.rs`: only the first of the pieces that are kept is looked at | `an_old_index_…_over_two_cuts` |
//! | the writer: an older view preserves its entries after the next push | as above, all three |
//! | `view.rs`: the count loaded relaxed where a reader is told at once | `who_is_told_at_once_sees_the_record` |
//! | `view.rs`: that it was replaced stored relaxed, over the count | `an_old_view_stays_as_it_was` and `a_count_goes_back_only_…` |
//! | `publish.rs`: what is replaced is not told; a subscriber does not look again | `a_removed_record_is_not_read_again` |
//! | `publish.rs`: what is replaced does not join the retired | all `…_is_a_pin…` |
//! | `publish.rs`: the writer's own handle counts as a pin | all `…_is_a_pin…` |
//! | `publish.rs`: `strong_count` for `get_mut`, the count not dropped at once (its drop would synchronise as well) | all `…_is_a_pin…` |
//! | the writer: bytes or entries after the count, or after the view | all `who_sees_…`; `a_new_view_has_…` |
//! | the writer: a cut in the same view, or with the same generation | `a_count_goes_back_only_with_a_new_generation` |
//! | arc-swap: a swap that leaves debts as they are; a relaxed load, return or drop; a swap without release | `a_guard_is_a_pin` and most others |
//! | `commit.rs`: the slot given back without waking; never given back | `appends_that_share_a_sync_all_wake` |
//! | `turns.rs`: at the end of a round nobody called, or those not woken whom it covers | `appends_that_share_…` and others |
//! | `turns.rs`: who leaves calls nobody; who is called stays called | `whoever_comes_back_…` |
//! | `turns.rs`: those who wait for the slot itself not woken, or counted for ever | `who_waits_for_the_slot_…` and others |
//! | `commit.rs`: waiting in two steps; the slot looked at and taken in two | `appends_that_share_a_sync_all_wake` |
//! | `commit.rs`: no verdict after waking, or looked at before the lock; a failure not kept, or told to nobody | `a_failed_sync_reaches_every_waiter` |
//! | `commit.rs`: no verdict after leading | `a_failed_write_reaches_…` |
//! | `commit.rs`: the durable watermark stored or loaded relaxed | `what_is_called_durable_is_on_the_disk` |
//! | `commit.rs`: acknowledged before the sync | `a_sync_covers_…` |
//! | `commit.rs`: a truncation that takes the slot from its holder, or settles nothing | `a_truncation_acknowledges_…` |
//! | `commit.rs`: durable or settled looked at before dropped; a drop without its generation | `a_truncation_and_a_failed_write_are_told_apart` |
//! | `commit.rs`: a drop told to one append only, or to those that were kept | `a_failed_write_reaches_…` |
//! | `watch.rs`: nobody rung when something is staged; one at a commit | `who_waits_gets_…` and others; `a_commit_wakes_…` |
//! | `wait.rs`: a failed flush not passed on; no flush | `a_flush_that_fails_…`; most of `following` |
//! | `wait.rs`: whether the journal is closed looked at after its view | `the_end_is_told_…` |
//! | `wait.rs`, `generation.rs`: a cut not noted, or the new generation not taken over | `a_cut_is_told_…` |
//! | the log: an `ask` that overlooks what is staged, committed, cut, closed or not durable | one or more of `following` each |
//! | the log: a sync, a cut or a close that rings nobody | `who_waits_for_the_disk_…`; `a_cut_wakes_…`; `the_end_is_told_…` |
//! | the event: registered after the look; the wake of one that went away lost | most of `following`; `two_who_wait_…` |
#![cfg(loom)]
#![allow(dead_code, unreachable_pub, missing_docs)]

#[path = "../src/error.rs"]
mod error;
#[path = "../src/format.rs"]
mod format;
#[path = "../src/group_commit/mod.rs"]
mod group_commit;
#[path = "../src/index/mod.rs"]
mod index;
#[path = "../src/options.rs"]
mod options;
#[cfg(feature = "seam")]
#[path = "../src/seam.rs"]
mod seam;
#[path = "../src/view/mod.rs"]
mod view;

#[path = "."]
mod read {
    #[path = "../src/read/snapshot.rs"]
    pub(crate) mod snapshot;
    #[path = "../src/read/waiter.rs"]
    pub(crate) mod waiter;
}

#[path = "."]
mod write {
    #[path = "loom/log.rs"]
    mod log;
    #[path = "../src/write/notify.rs"]
    pub(crate) mod notify;

    pub(crate) use log::Log;
}

#[path = "."]
mod file {
    #[path = "loom/map.rs"]
    pub(crate) mod map;
}

#[path = "loom/sync.rs"]
mod sync;

#[path = "loom/counts.rs"]
mod counts;
#[path = "loom/durability.rs"]
mod durability;
#[path = "loom/following.rs"]
mod following;
#[path = "loom/journal.rs"]
mod journal;
#[path = "loom/pins.rs"]
mod pins;

/// Explores `f` with at most `preemptions` switches away from a thread that could go on, or `LOOM_MAX_PREEMPTIONS`.
fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 10_000;
    builder.check(f);
}
