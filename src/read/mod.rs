//! The ways to read. A reader takes what is published in a view and nothing else; none of them writes.

pub(crate) mod follow;
pub(crate) mod reader;
pub(crate) mod snapshot;
pub(crate) mod waiter;
