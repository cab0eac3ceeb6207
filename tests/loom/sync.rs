//! Takes the place of `src/sync.rs` in the models: the same names with the same contracts, made of loom's primitives.
//!
//! What is modelled has no clock and no SeqCst accesses, which loom would treat as AcqRel; so nothing here offers them. A stand-in of its own has each happens-before edge that the real one promises and none besides: what
//! loom should not see, such as who owns memory, is kept in std's types, which order nothing between loom's threads.
//!
//! # arc-swap
//!
//! arc-swap has no support for loom, and its debts rest on one order of all SeqCst accesses, which loom does not have.
//! [`ArcSwap`] and [`Guard`] keep its contract by other means (places in arc-swap 1.9):
//!
//! | contract | arc-swap | here |
//! | --- | --- | --- |
//! | a load reads the pointer and sees what its swap saw | `HybridProtection::attempt` in `strategy/hybrid.rs`, the first load | the acquire load of `pointer` |
//! | it then puts down a debt, with no count, unless the value was swapped out since | the same: the debt slot, `confirm` | a ticket at the node's `gate`, unless that is closed |
//! | a load that meets a swap sees the new value the next time | the same: `confirm` differs | the gate is closed with release after the pointer was stored; the ticket is drawn with acquire |
//! | a swap turns each debt on the old value into a count before it returns | `Debt::pay_all` in `debt/mod.rs` | closing the gate tells how many tickets there are; each gets a count |
//! | a guard that goes gives its debt back, so that the swap comes after what it read; or drops the count it was given, after the swap gave it | `Debt::pay`, called by the drop of `HybridProtection` | the compare-exchange in `Debt::settle` |
//!
//! As in arc-swap no two readers meet at a location that either of them releases anything to: slots are one a guard,
//! and tickets are drawn with acquire only. So a reader learns nothing from another one. A swap learns less from readers
//! than arc-swap's, which also synchronises with those whose guards it pays.

use std::fmt;
use std::ops::Deref;

pub(crate) use loom::sync::MutexGuard;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
pub(crate) use loom::thread::yield_now;

/// A mutex as in `src/sync.rs`.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// The condition variable that goes with [`Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap()
    }

    /// There is no clock: nothing that is modelled gets here.
    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _: std::time::Duration,
    ) -> MutexGuard<'a, T> {
        self.wait(guard)
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A number that no other living thread of the model has, and never 0.
pub(crate) fn thread_number() -> usize {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    loom::thread::current().id().hash(&mut hasher);
    hasher.finish() as usize | 1
}

/// A thread, as in `src/sync.rs`.
#[derive(Debug)]
pub(crate) struct JoinHandle<T>(loom::thread::JoinHandle<T>);

impl<T> JoinHandle<T> {
    pub(crate) fn join(self) -> std::thread::Result<T> {
        self.0.join()
    }
}

pub(crate) type StartThread = Box<dyn Fn() -> std::io::Result<JoinHandle<()>>>;

pub(crate) fn spawn(_: &str, work: impl FnOnce() + 'static) -> std::io::Result<JoinHandle<()>> {
    Ok(JoinHandle(loom::thread::spawn(work)))
}

/// Padding is nothing that a model sees.
#[derive(Debug)]
pub(crate) struct CachePadded<T>(T);

impl<T> CachePadded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// std's has an acquire load that tells whether there is a value, and a release store that says so. Only one thread of
/// a model sets one, so nobody ever waits here.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    set: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { set: AtomicBool::new(false), value: std::sync::OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.set.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.set.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn take(&mut self) -> Option<T> {
        self.value.take()
    }
}

/// The count of an [`Arc`], with the orderings that std's has.
#[derive(Debug, Clone)]
struct Count(std::sync::Arc<AtomicUsize>);

impl Count {
    fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn down(&self) {
        if self.0.fetch_sub(1, Ordering::Release) == 1 {
            // What is dropped is dropped after every other holder's last access.
            self.0.load(Ordering::Acquire);
        }
    }
}

/// std's `Arc`, with a count that loom sees. The memory is held by std's, so that an alias without a count, as arc-swap
/// has them while a debt is open, is safe to use.
pub struct Arc<T> {
    value: std::sync::Arc<T>,
    count: Count,
    /// Whether this one is among the `count`.
    counted: bool,
}

impl<T> Arc<T> {
    pub(crate) fn new(value: T) -> Self {
        let count = Count(std::sync::Arc::new(AtomicUsize::new(1)));
        Self { value: std::sync::Arc::new(value), count, counted: true }
    }

    /// Nobody here needs what std's lends to be mutable.
    pub(crate) fn get_mut(this: &mut Self) -> Option<&T> {
        (this.count.0.load(Ordering::Acquire) == 1).then_some(&*this.value)
    }

    /// What [`get_mut`](Self::get_mut) must not be replaced by.
    pub(crate) fn strong_count(this: &Self) -> usize {
        this.count.0.load(Ordering::Relaxed)
    }

    pub(crate) fn ptr_eq(this: &Self, other: &Self) -> bool {
        std::sync::Arc::ptr_eq(&this.value, &other.value)
    }

    /// The same with or without a count, which changes hands or is accounted for otherwise.
    fn alias(&self, counted: bool) -> Self {
        Self { value: std::sync::Arc::clone(&self.value), count: self.count.clone(), counted }
    }
}

/// What does not keep its value. Only what is alive is ever asked for here.
#[derive(Debug)]
pub(crate) struct Weak<T> {
    value: std::sync::Weak<T>,
    count: Count,
}

impl<T> Weak<T> {
    pub(crate) fn upgrade(&self) -> Option<Arc<T>> {
        let value = self.value.upgrade()?;
        self.count.up();
        Some(Arc { value, count: self.count.clone(), counted: true })
    }
}

impl<T> Arc<T> {
    pub(crate) fn downgrade(this: &Self) -> Weak<T> {
        Weak { value: std::sync::Arc::downgrade(&this.value), count: this.count.clone() }
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        self.count.up();
        self.alias(true)
    }
}

impl<T> Drop for Arc<T> {
    fn drop(&mut self) {
        if self.counted && !std::thread::panicking() {
            self.count.down();
        }
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Arc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Arc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// Loads of one value that a model can make before it is swapped out.
const TICKETS: usize = 24;

/// Set in a node's gate once its value was swapped out.
const CLOSED: usize = 1 << 16;

const OWED: usize = 0;
const RETURNED: usize = 1;
const PAID: usize = 2;

/// What the guards of one value share with the swap that takes the value out.
#[derive(Debug)]
struct Debts {
    /// Tickets drawn, and whether the value is out.
    gate: AtomicUsize,
    /// What became of each ticket's debt.
    slots: [AtomicUsize; TICKETS],
    count: Count,
}

#[derive(Debug)]
struct Node<T> {
    value: Arc<T>,
    debts: std::sync::Arc<Debts>,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct ArcSwap<T> {
    /// Which of the nodes is the current one.
    pointer: AtomicUsize,
    nodes: std::sync::Mutex<Vec<Node<T>>>,
}

impl<T> ArcSwap<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        let this = Self { pointer: AtomicUsize::new(0), nodes: std::sync::Mutex::default() };
        this.push(value);
        this
    }

    /// Takes over the count of `value`.
    fn push(&self, mut value: Arc<T>) -> usize {
        value.counted = false;
        let slots = std::array::from_fn(|_| AtomicUsize::new(OWED));
        let debts = Debts { gate: AtomicUsize::new(0), slots, count: value.count.clone() };
        let mut nodes = self.nodes.lock().unwrap();
        nodes.push(Node { value, debts: std::sync::Arc::new(debts) });
        nodes.len() - 1
    }

    fn node(&self, at: usize) -> (Arc<T>, std::sync::Arc<Debts>) {
        let nodes = self.nodes.lock().unwrap();
        (nodes[at].value.alias(false), std::sync::Arc::clone(&nodes[at].debts))
    }

    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        loop {
            let at = self.pointer.load(Ordering::Acquire);
            let (value, debts) = self.node(at);
            let ticket = debts.gate.fetch_add(1, Ordering::Acquire);
            if ticket & CLOSED == 0 {
                assert!(ticket < TICKETS, "a model that loads more often needs more tickets");
                return Guard { value, debt: Some(Debt { debts, ticket }) };
            }
        }
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        self.load().into_inner()
    }

    pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
        let at = self.pointer.swap(self.push(value), Ordering::AcqRel);
        let (value, debts) = self.node(at);
        let tickets = debts.gate.fetch_or(CLOSED, Ordering::Release);
        for slot in &debts.slots[..tickets] {
            debts.count.up();
            if slot.compare_exchange(OWED, PAID, Ordering::AcqRel, Ordering::Acquire).is_err() {
                debts.count.down();
            }
        }
        value.alias(true)
    }
}

/// What a guard owes as long as it lives.
#[derive(Debug)]
struct Debt {
    debts: std::sync::Arc<Debts>,
    ticket: usize,
}

impl Debt {
    /// Gives the debt back, or, if the swap has turned it into a count, that count.
    fn settle(self) {
        let slot = &self.debts.slots[self.ticket];
        if slot.compare_exchange(OWED, RETURNED, Ordering::Release, Ordering::Acquire).is_err() {
            self.debts.count.down();
        }
    }
}

/// A value that was loaded, on a debt.
#[derive(Debug)]
pub(crate) struct Guard<A> {
    value: A,
    debt: Option<Debt>,
}

impl<T> Guard<Arc<T>> {
    fn into_inner(mut self) -> Arc<T> {
        let value = self.value.clone();
        if let Some(debt) = self.debt.take() {
            debt.settle();
        }
        value
    }
}

impl<A> Drop for Guard<A> {
    fn drop(&mut self) {
        if let Some(debt) = self.debt.take()
            && !std::thread::panicking()
        {
            debt.settle();
        }
    }
}

impl<A> Deref for Guard<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.value
    }
}
