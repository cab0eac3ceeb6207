//! Publishing: one writer replaces a value, any number of readers hold on to the one they saw. Generic, so that the
//! models explore this file and nothing else.

use crate::sync::{Arc, ArcSwap, Guard};

/// What is published knows whether it was replaced, so that who holds it need not look anywhere else.
pub(crate) trait Published {
    /// It was replaced. Only the publisher calls this.
    fn retire(&self);

    fn is_retired(&self) -> bool;
}

/// The writer's end, and where subscribers come from.
#[derive(Debug)]
pub(crate) struct Publisher<T> {
    current: Arc<ArcSwap<T>>,
}

impl<T> Clone for Publisher<T> {
    fn clone(&self) -> Self {
        Self { current: Arc::clone(&self.current) }
    }
}

impl<T: Published> Publisher<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self { current: Arc::new(ArcSwap::new(value)) }
    }

    /// The current value for a short while: quick, but a thread has only a few quick slots.
    #[inline]
    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        self.current.load()
    }

    /// The current value for long.
    pub(crate) fn load_full(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Publishes `value` and returns the one it replaces. When this returns, every guard on the old one has been
    /// turned into a count, so [`Retired`] misses none, and no subscriber takes the old one for the current one.
    pub(crate) fn replace(&self, value: Arc<T>) -> Arc<T> {
        let old = self.current.swap(value);
        // Behind the swap, so that who sees it finds the new one at once.
        old.retire();
        old
    }

    pub(crate) fn subscribe(&self) -> Subscriber<T> {
        Subscriber { current: Arc::clone(&self.current), seen: None }
    }
}

/// A reader's end: keeps the value it saw last, which tells whether it is still the current one.
pub(crate) struct Subscriber<T> {
    current: Arc<ArcSwap<T>>,
    seen: Option<Arc<T>>,
}

impl<T: Published> Subscriber<T> {
    /// The value that was the current one at the last look, if it was not let go.
    #[inline]
    pub(crate) fn seen(&self) -> Option<&T> {
        self.seen.as_deref()
    }

    /// The current value.
    pub(crate) fn get(&mut self) -> &T {
        self.seen.take_if(|seen| seen.is_retired());
        self.seen.get_or_insert_with(|| self.current.load_full())
    }

    /// Lets go of the value.
    pub(crate) fn release(&mut self) {
        self.seen = None;
    }
}

/// Values that were replaced and that someone may still hold. The writer keeps one count of each, so that none is
/// dropped by a reader, and lets go of those that nobody else holds, once it holds no lock.
#[derive(Debug)]
pub(crate) struct Retired<T> {
    values: Vec<Arc<T>>,
    /// Those that nobody else holds. To drop one takes long, if it is large, so that is left to a caller without locks.
    gone: Vec<Arc<T>>,
}

impl<T: Published> Retired<T> {
    pub(crate) fn new() -> Self {
        Self { values: Vec::new(), gone: Vec::new() }
    }

    /// Publishes `value` in place of `current`, the writer's own handle; what it replaces joins the retired.
    pub(crate) fn replace(&mut self, publisher: &Publisher<T>, current: &mut Arc<T>, value: T) {
        let value = Arc::new(value);
        // The writer's own handle goes first, so that what the retired still count are readers.
        drop(std::mem::replace(current, Arc::clone(&value)));
        self.add(publisher.replace(value));
        self.held();
    }

    fn add(&mut self, value: Arc<T>) {
        self.values.push(value);
    }

    /// Puts aside what nobody else holds and returns the rest.
    ///
    /// `Arc::get_mut` synchronises with the drop of the last other count; a bare look at the count would not, and a
    /// reader's last access could then come after what follows here.
    pub(crate) fn held(&mut self) -> &[Arc<T>] {
        self.gone.extend(self.values.extract_if(.., |value| Arc::get_mut(value).is_some()));
        &self.values
    }

    #[inline]
    pub(crate) fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// What was put aside, to be dropped.
    pub(crate) fn take_gone(&mut self) -> Vec<Arc<T>> {
        std::mem::take(&mut self.gone)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::{AtomicBool, Ordering};

    struct Value(u32, AtomicBool);

    impl Published for Value {
        fn retire(&self) {
            self.1.store(true, Ordering::Release);
        }

        fn is_retired(&self) -> bool {
            self.1.load(Ordering::Acquire)
        }
    }

    fn value(n: u32) -> Arc<Value> {
        Arc::new(Value(n, AtomicBool::new(false)))
    }

    #[test]
    fn a_subscriber_sees_a_new_value_and_keeps_the_old_one_until_then() {
        let publisher = Publisher::new(value(1));
        let mut subscriber = publisher.subscribe();
        assert_eq!(subscriber.get().0, 1);
        let mut retired = Retired::new();
        retired.add(publisher.replace(value(2)));
        assert_eq!(retired.held().len(), 1, "the subscriber has not looked yet");
        assert!(!retired.has_gone());
        assert_eq!(subscriber.get().0, 2);
        assert_eq!(retired.held().len(), 0);
        assert_eq!(retired.take_gone().len(), 1, "it is dropped by the caller");
        assert!(!retired.has_gone());
    }

    #[test]
    fn every_kind_of_hold_is_seen() {
        let publisher = Publisher::new(value(0));
        let mut retired = Retired::new();
        let full = publisher.load_full();
        retired.add(publisher.replace(value(1)));
        let guards: Vec<_> = (0..20).map(|_| publisher.load()).collect();
        retired.add(publisher.replace(value(2)));
        let mut subscriber = publisher.subscribe();
        subscriber.get();
        retired.add(publisher.replace(value(3)));
        assert_eq!(retired.held().len(), 3);
        drop(full);
        assert_eq!(retired.held().len(), 2);
        drop(guards);
        assert_eq!(retired.held().len(), 1);
        subscriber.release();
        assert_eq!(retired.held().len(), 0);
    }
}
