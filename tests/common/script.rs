//! A seam that writes down what a journal asks of the system, and lets a rule refuse it.

use std::sync::{Arc, Mutex};

use wally::seam::{Op, Role, Seam, Verdict};

/// What a journal asked of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Write { offset: u64, bytes: Vec<u8> },
    Extend(u64),
    Sync,
    Truncate(u64),
    Map(u64),
    Preserve(u64),
}

type Rule = Box<dyn FnMut(&Call) -> Verdict + Send>;

/// Sees what is asked of the journal's own file.
#[derive(Default)]
pub struct Script {
    calls: Mutex<Vec<Call>>,
    rule: Mutex<Option<Rule>>,
}

impl Script {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on `rule` decides.
    pub fn rule(&self, rule: impl FnMut(&Call) -> Verdict + Send + 'static) {
        *self.rule.lock().unwrap() = Some(Box::new(rule));
    }

    /// From now on everything goes.
    pub fn lift(&self) {
        *self.rule.lock().unwrap() = None;
    }

    /// Refuses the calls, counted from 0 among those that [change the file](is_io), for which `refused` holds.
    pub fn refuse(&self, code: i32, refused: impl Fn(usize) -> bool + Send + 'static) {
        let mut at = 0;
        self.rule(move |call| {
            if !is_io(call) {
                return Verdict::Proceed;
            }
            at += 1;
            if refused(at - 1) { Verdict::Fail(code) } else { Verdict::Proceed }
        });
    }

    /// What was asked since the last time, of what [changes the file](is_io).
    pub fn take(&self) -> Vec<Call> {
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls.retain(is_io);
        calls
    }
}

/// Whether a call writes, syncs or cuts, which are those that have an order.
pub fn is_io(call: &Call) -> bool {
    matches!(call, Call::Write { .. } | Call::Extend(_) | Call::Sync | Call::Truncate(_))
}

impl Seam for Script {
    fn before(&self, role: Role, op: &Op<'_>) -> Verdict {
        if role != Role::Journal {
            return Verdict::Proceed;
        }
        let call = match op {
            Op::Write { offset, parts } => {
                let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
                Call::Write { offset: *offset, bytes: parts.concat() }
            }
            Op::Extend { len } => Call::Extend(*len),
            Op::Sync => Call::Sync,
            Op::Truncate { len } => Call::Truncate(*len),
            Op::Map { len } => Call::Map(*len),
            Op::Preserve { bytes } => Call::Preserve(*bytes),
        };
        let verdict = self.rule.lock().unwrap().as_mut().map_or(Verdict::Proceed, |rule| rule(&call));
        self.calls.lock().unwrap().push(call);
        verdict
    }
}
