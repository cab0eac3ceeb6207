//! The fault seam of the tests: it logs what a journal asks of the system and what came of it, refuses the calls that a
//! test wants refused, and holds those that a test wants held.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use wally::seam::{Op, Role, Verdict};

pub const EINTR: i32 = 4;
pub const EIO: i32 = 5;
pub const ENOMEM: i32 = 12;
pub const EACCES: i32 = 13;
pub const EFBIG: i32 = 27;
pub const ENOSPC: i32 = 28;

/// What is asked of the system: an [`Op`] that borrows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    /// So many zeros at the file's end.
    Extend(u64),
    Sync,
    Truncate(u64),
    Map(u64),
    Preserve(u64),
    /// The file got a name. No journal asks for that: a test does it, and says so with [`Seam::renamed`].
    Rename,
}

impl Call {
    fn of(op: &Op<'_>) -> Self {
        match *op {
            Op::Write { offset, parts } => {
                let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
                Self::Write { offset, bytes: parts.concat() }
            }
            Op::Extend { len } => Self::Extend(len),
            Op::Sync => Self::Sync,
            Op::Truncate { len } => Self::Truncate(len),
            Op::Map { len } => Self::Map(len),
            Op::Preserve { bytes } => Self::Preserve(bytes),
        }
    }

    pub fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. })
    }

    pub fn is_sync(&self) -> bool {
        matches!(self, Self::Sync)
    }

    pub fn is_extend(&self) -> bool {
        matches!(self, Self::Extend(_))
    }

    pub fn is_truncate(&self) -> bool {
        matches!(self, Self::Truncate(_))
    }

    pub fn is_map(&self) -> bool {
        matches!(self, Self::Map(_))
    }

    pub fn is_preserve(&self) -> bool {
        matches!(self, Self::Preserve(_))
    }

    /// Returns `true` if the call writes, syncs or cuts: those are the calls whose order matters to a crash.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Extend(_) | Self::Sync | Self::Truncate(_))
    }

    /// Returns how many bytes the call writes; 0 if it is no write.
    pub fn written(&self) -> usize {
        match self {
            Self::Write { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    /// Returns the low byte of the seal that a write begins with.
    pub fn flags(&self) -> Option<u8> {
        match self {
            Self::Write { bytes, .. } => bytes.get(12).copied(),
            _ => None,
        }
    }
}

/// A call that has returned, whether it was refused or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub role: Role,
    pub call: Call,
    /// How many bytes were written, or 0 for other calls; `None` if the call failed.
    pub done: Option<usize>,
}

impl Seen {
    /// Returns `true` if the call changed, or made durable, the journal's file or its entry in the directory.
    pub fn changed_the_disk(&self) -> bool {
        let io = self.call.is_io() || self.call == Call::Rename;
        self.done.is_some() && io && self.role != Role::Quarantine
    }
}

type Rule = Box<dyn FnMut(Role, &Call) -> Verdict + Send>;
type Holds = Box<dyn FnMut(Role, &Call) -> bool + Send>;

#[derive(Default)]
struct State {
    log: Vec<Seen>,
    rule: Option<Rule>,
    holds: Option<Holds>,
    /// Only the first call that is to be held is.
    holds_one: bool,
    /// How many calls are held.
    held: usize,
    /// How often held calls were released.
    releases: usize,
    /// Calls meet no rule and are not logged.
    aside: bool,
}

/// The seam. By default every call proceeds.
#[derive(Default)]
pub struct Seam {
    state: Mutex<State>,
    changed: Condvar,
}

impl Seam {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        self.changed.wait_while(state, |state| !until(state)).unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `rule` decides on every call, in place of the rule before.
    pub fn rule(&self, rule: impl FnMut(Role, &Call) -> Verdict + Send + 'static) {
        self.state().rule = Some(Box::new(rule));
    }

    /// From now on every call proceeds.
    pub fn allow_all(&self) {
        self.state().rule = None;
    }

    /// Each write gets the verdict that `verdict` returns for its number, counted from 0; other calls proceed.
    pub fn writes(&self, mut verdict: impl FnMut(usize) -> Verdict + Send + 'static) {
        let mut at = 0;
        self.rule(move |_, call| {
            if !call.is_write() {
                return Verdict::Proceed;
            }
            at += 1;
            verdict(at - 1)
        });
    }

    /// The write number `nth`, from 0, gets `verdict`; all other calls proceed.
    pub fn at_write(&self, nth: usize, verdict: Verdict) {
        self.writes(move |at| if at == nth { verdict } else { Verdict::Proceed });
    }

    /// All calls for which `failing` holds fail.
    pub fn fail(&self, code: i32, failing: impl Fn(&Call) -> bool + Send + 'static) {
        self.rule(move |_, call| if failing(call) { Verdict::Fail(code) } else { Verdict::Proceed });
    }

    /// The calls fail for which `failing` holds, counted from 0 among those that are [I/O](Call::is_io).
    pub fn fail_io(&self, code: i32, failing: impl Fn(usize) -> bool + Send + 'static) {
        let mut at = 0;
        self.rule(move |_, call| {
            if !call.is_io() {
                return Verdict::Proceed;
            }
            at += 1;
            if failing(at - 1) { Verdict::Fail(code) } else { Verdict::Proceed }
        });
    }

    /// Returns what was logged since the log was last taken.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().log)
    }

    /// The same, of the [I/O](Call::is_io) on the journal's own file.
    pub fn take_io(&self) -> Vec<Call> {
        let of_the_file = |seen: &Seen| seen.role == Role::Journal && seen.call.is_io();
        self.take().into_iter().filter(of_the_file).map(|seen| seen.call).collect()
    }

    /// The same, of what [changed the disk](Seen::changed_the_disk).
    pub fn take_changes(&self) -> Vec<Seen> {
        self.take().into_iter().filter(Seen::changed_the_disk).collect()
    }

    /// Returns how many calls in the log [changed the disk](Seen::changed_the_disk).
    pub fn changes(&self) -> usize {
        self.state().log.iter().filter(|seen| seen.changed_the_disk()).count()
    }

    /// A test is about to give the file a name.
    pub fn renamed(&self) {
        let seen = Seen { role: Role::Directory, call: Call::Rename, done: Some(0) };
        self.state().log.push(seen);
    }

    /// The calls that `act` makes meet no rule and are not logged.
    pub fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        self.state().aside = true;
        let done = act();
        self.state().aside = false;
        done
    }

    /// From now on each call for which `held` holds stops before it happens, until [`release`](Self::release).
    pub fn hold(&self, held: impl FnMut(Role, &Call) -> bool + Send + 'static) {
        let mut state = self.state();
        state.holds = Some(Box::new(held));
        state.holds_one = false;
    }

    /// The next call for which `held` holds stops before it happens, until [`release`](Self::release); those after it do
    /// not stop.
    pub fn hold_one(&self, held: impl FnMut(Role, &Call) -> bool + Send + 'static) {
        let mut state = self.state();
        state.holds = Some(Box::new(held));
        state.holds_one = true;
    }

    /// Holds the syncs of the journal's own file.
    pub fn hold_syncs(&self) {
        self.hold(|role, call| role == Role::Journal && call.is_sync());
    }

    /// Returns once a call is held.
    pub fn wait_held(&self) {
        drop(self.wait(self.state(), |state| state.held > 0));
    }

    /// Calls that are held go on, and no more are held.
    pub fn release(&self) {
        let mut state = self.state();
        (state.holds, state.held) = (None, 0);
        state.releases += 1;
        self.changed.notify_all();
    }

    /// Returns once `found` holds for one of the calls in the log.
    pub fn wait_seen(&self, found: impl Fn(&Seen) -> bool) {
        drop(self.wait(self.state(), |state| state.log.iter().any(&found)));
    }
}

impl wally::seam::Seam for Seam {
    fn before(&self, role: Role, op: &Op<'_>) -> Verdict {
        let call = Call::of(op);
        let mut state = self.state();
        if state.aside {
            return Verdict::Proceed;
        }
        if state.holds.as_mut().is_some_and(|holds| holds(role, &call)) {
            if state.holds_one {
                state.holds = None;
            }
            state.held += 1;
            self.changed.notify_all();
            let releases = state.releases;
            state = self.wait(state, |state| state.releases > releases);
        }
        state.rule.as_mut().map_or(Verdict::Proceed, |rule| rule(role, &call))
    }

    fn after(&self, role: Role, op: &Op<'_>, done: Option<usize>) {
        let seen = Seen { role, call: Call::of(op), done };
        let mut state = self.state();
        if !state.aside {
            state.log.push(seen);
            self.changed.notify_all();
        }
    }
}
