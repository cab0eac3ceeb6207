//! The models: the rooms that readers and writers meet in without a lock, and the hand-over of group commit, explored
//! by loom over every interleaving of two or three threads (preemptions bounded) and every value that a weak memory
//! order lets a load return.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --test loom
//! ```
//!
//! `view/`, `index/mod.rs`, `index/entries.rs`, `group_commit/`, `notify/`, `read/snapshot.rs`, `read/waiter.rs` and
//! `write/holds.rs` are compiled in here from `src/` as they are. `loom/sync.rs` takes the place of `src/sync.rs`,
//! `loom/map.rs` that of the mapped file, `loom/memory.rs` that of the index's memory. `loom/journal.rs` does what the
//! writer does with them, `loom/log.rs` what the log does for
//! those who wait.
//!
//! What each model is worth: weakened like this, the code makes it fail.
//!
//! | weakened | fails |
//! | --- | --- |
//! | `view/mod.rs`: the count stored or loaded relaxed; stored before the map's limit | all `who_sees_…` and most others |
//! | `index/entries.rs`: entries stored relaxed; loaded relaxed where a look is enough | all `an_old_index_…` and `who_is_told_at_once_is_told_of_its_own_…` |
//! | `index/entries.rs`: entries loaded relaxed where one is searched for; there what is kept looked at before | `an_old_index_stays_as_it_was` |
//! | `index/entries.rs`: what is kept not looked at, or before the entries, where a look is enough | as above, all three |
//! | `index/entries.rs`: a cut preserves nothing | as above, all three |
//! | `index/entries.rs`: told from where on entries are kept before they are, or relaxed | all `an_old_index_…` |
//! | `index/entries.rs`: only the first of the pieces that are kept is looked at | `an_old_index_…_over_two_cuts` |
//! | the writer: an older view preserves its entries after the next push | as above, all three |
//! | `view/mod.rs`: the count loaded relaxed where a reader is told at once | `who_is_told_at_once_sees_the_record` |
//! | `view/mod.rs`: that it was replaced stored relaxed, over the count | `an_old_view_stays_as_it_was` and `a_count_goes_back_only_…` |
//! | `view/publish.rs`: what is replaced is not told; a subscriber does not look again | `a_removed_record_is_not_read_again` |
//! | `view/publish.rs`: what is replaced does not join the retired | all `…_is_a_pin…` |
//! | `view/publish.rs`: the writer's own handle counts as a pin | all `…_is_a_pin…` |
//! | `view/publish.rs`: `strong_count` for `get_mut`, the count not dropped at once (its drop would synchronise as well) | all `…_is_a_pin…` |
//! | the writer: bytes or entries after the count, or after the view | all `who_sees_…`; `a_new_view_has_…` |
//! | the writer: a cut in the same view, or with the same generation | `a_count_goes_back_only_with_a_new_generation` |
//! | arc-swap: a swap that leaves debts as they are; a relaxed load, return or drop; a swap without release | `a_guard_is_a_pin` and most others |
//! | `group_commit/mod.rs`: the slot given back without waking; never given back | `appends_that_share_a_sync_all_wake` |
//! | `group_commit/rounds.rs`: at the end of a round nobody called, or those not woken whom it covers | `appends_that_share_…` and others |
//! | `group_commit/rounds.rs`: who leaves calls nobody; who is called stays called | `whoever_comes_back_…` |
//! | `group_commit/rounds.rs`: those who wait for the slot itself not woken, or counted for ever | `who_waits_for_the_slot_…` and others |
//! | `group_commit/mod.rs`: waiting in two steps; the slot looked at and taken in two | `appends_that_share_a_sync_all_wake` |
//! | `group_commit/mod.rs`: no verdict after waking, or looked at before the lock; a failure not kept, or told to nobody | `a_failed_sync_reaches_every_waiter` |
//! | `group_commit/mod.rs`: no verdict after leading | `a_failed_write_reaches_…` |
//! | `group_commit/mod.rs`: the durable watermark stored or loaded relaxed | `what_is_called_durable_is_on_the_disk`, `order` |
//! | `group_commit/mod.rs`: acknowledged before the sync | `a_sync_covers_…` |
//! | `group_commit/mod.rs`: a truncation that takes the slot from its holder, or settles nothing | `a_truncation_acknowledges_…` |
//! | `group_commit/mod.rs`: durable or settled looked at before dropped; a cut that goes on in the same stage | `a_truncation_and_a_failed_write_are_told_apart` |
//! | `group_commit/mod.rs`: a cut that is taken back settles what is staged | `what_is_staged_while_a_truncation_is_taken_back_…` |
//! | the log: a sync or a wait for a record without the stage that it is in | `a_waiter_hears_…` and others |
//! | `view/generation.rs`: a cut that was carried out not noted | `a_waiter_hears_…` |
//! | the log: readers see the shorter journal before durable is lowered; appended raised after committed | both of `order` |
//! | the log: a cut that leaves what waiters have asked for as it was | `a_cut_of_what_is_staged_leaves_nobody_asleep` |
//! | `group_commit/mod.rs`: a drop told to one append only, or to those that were kept | `a_failed_write_reaches_…` |
//! | `notify/mod.rs`: nobody woken when something is staged; one at a commit | `who_waits_gets_…` and others; `a_commit_wakes_…` |
//! | `read/waiter.rs`: a failed flush not passed on; no flush | `a_flush_that_fails_…`; most of `following` |
//! | `read/waiter.rs`: whether the journal is closed looked at after its view | `the_end_is_told_…` |
//! | `read/waiter.rs`, `view/generation.rs`: a cut not noted, or the new generation not taken over | `a_cut_is_told_…` |
//! | the log: an `ask` that overlooks what is staged, committed, cut, closed or not durable | one or more of `following` each |
//! | the log: a sync, a cut or a close that wakes nobody | `who_waits_for_the_disk_…`; `a_cut_wakes_…`; `the_end_is_told_…` |
//! | `notify/event.rs`: registered after the look; asleep, or pending, without a look at what was called meanwhile | most of `events` and `following` |
//! | `notify/event.rs`: the wake of one that went away lost; a wake for one that wakes none | `a_wake_for_one_…`, `two_who_wait_…` and others |
//! | `notify/event.rs`: a wake for all that does not mark those it does not call, or does not tell that there are any | `a_wake_for_all_…`, `the_background_thread_wakes_…` |
//! | `notify/mod.rs`: what a wake for all has left is given to nobody | `the_background_thread_wakes_…` |
//! | `notify/mod.rs`: the same after the background thread has ended; requests to it accepted then | `the_end_beside_…` |
//! | `notify/mod.rs`: what the holder of the slot owes not paid; noted or taken relaxed | `what_the_holder_…` |
//! | `notify/mod.rs`, `group_commit/mod.rs`: woken with the slot held; who has it not noted, or cleared after it is free | `a_waker_is_called_…` |
//! | `notify/background.rs`: a request not kept, or done for another; the thread not woken for it, or for its end | `the_background_thread_wakes_…`, `a_task_gets_…` and others |
//! | the log: who ends the background thread does not wake what it has left | `those_who_are_left_…` |
//! | the log: a flush that must not wait for a sync left to nobody, or without asking for its commit; its failure wakes nobody | `a_task_gets_…`, `a_task_hears_…` |
//! | `write/holds.rs`: one that stays away not noted, or not woken | `a_task_that_stays_away_…` |
//! | `write/holds.rs`: a long hold that does not wait for those who enter, or is not told of them; one that enters all the same | `nobody_enters_…` |
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
#[path = "../src/notify/mod.rs"]
mod notify;
#[path = "../src/options.rs"]
mod options;
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
    #[path = "../src/write/holds.rs"]
    pub(crate) mod holds;
    #[path = "loom/log.rs"]
    mod log;

    pub(crate) use log::{Disk, Log};
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
#[path = "loom/events.rs"]
mod events;
#[path = "loom/following.rs"]
mod following;
#[path = "loom/journal.rs"]
mod journal;
#[path = "loom/order.rs"]
mod order;
#[path = "loom/pins.rs"]
mod pins;

/// Explores `f` with at most `preemptions` switches away from a thread that could go on, or `LOOM_MAX_PREEMPTIONS`.
fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 10_000;
    builder.check(f);
}
