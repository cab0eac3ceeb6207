//! What a user of the journal reads beyond the documentation of its calls, a module a chapter. The modules hold no items.
//!
//! | chapter | what it is about |
//! | --- | --- |
//! | [`durability`] | when a record is safe and from what; sync policies; failed syncs, full disks, `fork`; assumptions |
//! | [`recovery`] | what an open does with a file that does not end cleanly |
//! | [`mod@format`] | the bytes of a file, in full, with a reader of about 40 lines |
//! | [`mod@reference`] | the Go implementation go-wally, whose files are read and written too |
//! | [`tuning`] | the tables of calls and of options, and what each costs in time and memory |
//! | [`recipes`] | short programs for common uses |

pub mod durability {
    #![doc = include_str!("durability.md")]
}

pub mod recovery {
    #![doc = include_str!("recovery.md")]
}

pub mod format {
    #![doc = include_str!("format.md")]
}

pub mod reference {
    #![doc = include_str!("reference.md")]
}

pub mod tuning {
    #![doc = include_str!("tuning.md")]
}

pub mod recipes {
    #![doc = include_str!("recipes.md")]
}
