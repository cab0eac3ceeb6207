//! A seam that remembers what a journal asked of the system, refuses what a test wants refused, and holds what a test
//! wants held.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use wally::seam::{Op, Role, Seam, Verdict};

pub const EIO: i32 = 5;
pub const EINTR: i32 = 4;
pub const EFBIG: i32 = 27;
pub const ENOSPC: i32 = 28;

/// An operation, without what it borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `head` is the first 16 bytes at most.
    Write {
        offset: u64,
        len: usize,
        head: Vec<u8>,
    },
    Extend {
        len: u64,
    },
    Sync,
    Truncate {
        len: u64,
    },
    Map {
        len: u64,
    },
    Preserve {
        bytes: u64,
    },
}

impl Kind {
    fn of(op: &Op<'_>) -> Self {
        match *op {
            Op::Write { offset, parts } => {
                let len = parts.iter().map(|part| part.len()).sum();
                let head = parts.iter().flat_map(|part| part.iter().copied()).take(16).collect();
                Self::Write { offset, len, head }
            }
            Op::Extend { len } => Self::Extend { len },
            Op::Sync => Self::Sync,
            Op::Truncate { len } => Self::Truncate { len },
            Op::Map { len } => Self::Map { len },
            Op::Preserve { bytes } => Self::Preserve { bytes },
        }
    }

    pub fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. })
    }

    /// The low byte of the seal that a write begins with.
    pub fn flags(&self) -> Option<u8> {
        match self {
            Self::Write { head, .. } => head.get(12).copied(),
            _ => None,
        }
    }
}

/// An operation that was let through or refused, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub role: Role,
    pub kind: Kind,
    pub done: Option<usize>,
}

type Rule = Box<dyn FnMut(Role, &Kind) -> Verdict + Send>;

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    seen: Vec<Seen>,
    /// Syncs of the journal stop here while this is set.
    hold_syncs: bool,
    /// Syncs that stand there.
    held: usize,
}

/// The seam. By default it lets everything through.
#[derive(Default)]
pub struct Faults {
    state: Mutex<State>,
    changed: Condvar,
}

impl Faults {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `rule` decides.
    pub fn rule(&self, rule: impl FnMut(Role, &Kind) -> Verdict + Send + 'static) {
        self.state().rule = Some(Box::new(rule));
    }

    /// From now on everything goes through.
    pub fn heal(&self) {
        self.state().rule = None;
    }

    /// The write number `nth`, from 0, gets `verdict`; all others go through.
    pub fn at_write(&self, nth: usize, verdict: Verdict) {
        let mut left = nth;
        self.rule(move |_, kind| {
            if !kind.is_write() {
                return Verdict::Proceed;
            }
            let now = left == 0;
            left = left.wrapping_sub(1);
            if now { verdict } else { Verdict::Proceed }
        });
    }

    /// All of a kind fail.
    pub fn fail(&self, code: i32, of_kind: impl Fn(&Kind) -> bool + Send + 'static) {
        self.rule(move |_, kind| if of_kind(kind) { Verdict::Fail(code) } else { Verdict::Proceed });
    }

    /// What was seen since this was asked last.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }

    /// Syncs of the journal now stop before they happen.
    pub fn hold_syncs(&self) {
        self.state().hold_syncs = true;
    }

    /// Returns once a sync stands there.
    pub fn wait_held(&self) {
        let mut state = self.state();
        while state.held == 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns once `found` holds for one of the operations seen.
    pub fn wait_seen(&self, found: impl Fn(&Seen) -> bool) {
        let mut state = self.state();
        while !state.seen.iter().any(&found) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Syncs go on.
    pub fn release_syncs(&self) {
        self.state().hold_syncs = false;
        self.changed.notify_all();
    }
}

impl Seam for Faults {
    fn before(&self, role: Role, op: &Op<'_>) -> Verdict {
        let kind = Kind::of(op);
        let mut state = self.state();
        if role == Role::Journal && kind == Kind::Sync && state.hold_syncs {
            state.held += 1;
            self.changed.notify_all();
            while state.hold_syncs {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.held -= 1;
        }
        match &mut state.rule {
            Some(rule) => rule(role, &kind),
            None => Verdict::Proceed,
        }
    }

    fn after(&self, role: Role, op: &Op<'_>, done: Option<usize>) {
        self.state().seen.push(Seen { role, kind: Kind::of(op), done });
        self.changed.notify_all();
    }
}
