//! Publishing: one writer replaces a value, any number of readers hold on to the one they saw. Generic, so that the
//! models explore this file and nothing else.

use crate::sync::{Arc, ArcSwap, Cache, Guard};

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

impl<T> Publisher<T> {
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
    /// turned into a count, so [`Retired`] misses none.
    pub(crate) fn replace(&self, value: Arc<T>) -> Arc<T> {
        self.current.swap(value)
    }

    pub(crate) fn subscribe(&self) -> Subscriber<T> {
        Subscriber { current: Arc::clone(&self.current), cached: None }
    }
}

/// A reader's end: keeps the value it saw last and looks, with one load, whether it is still the current one.
pub(crate) struct Subscriber<T> {
    current: Arc<ArcSwap<T>>,
    cached: Option<Cache<Arc<ArcSwap<T>>, Arc<T>>>,
}

impl<T> Subscriber<T> {
    /// The current value.
    #[inline]
    pub(crate) fn get(&mut self) -> &Arc<T> {
        self.cached.get_or_insert_with(|| Cache::new(Arc::clone(&self.current))).load()
    }

    /// Lets go of the value.
    pub(crate) fn release(&mut self) {
        self.cached = None;
    }
}

/// Values that were replaced and that someone may still hold. The writer keeps one count of each, so that none is
/// dropped by a reader, and lets go of those that nobody else holds.
#[derive(Debug)]
pub(crate) struct Retired<T> {
    values: Vec<Arc<T>>,
}

impl<T> Retired<T> {
    pub(crate) fn new() -> Self {
        Self { values: Vec::new() }
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

    /// Drops what nobody else holds and returns the rest.
    ///
    /// `Arc::get_mut` synchronises with the drop of the last other count; a bare look at the count would not, and a
    /// reader's last access could then come after what follows here.
    pub(crate) fn held(&mut self) -> &[Arc<T>] {
        self.values.retain_mut(|value| Arc::get_mut(value).is_none());
        &self.values
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_sees_a_new_value_and_keeps_the_old_one_until_then() {
        let publisher = Publisher::new(Arc::new(1));
        let mut subscriber = publisher.subscribe();
        assert_eq!(**subscriber.get(), 1);
        let mut retired = Retired::new();
        retired.add(publisher.replace(Arc::new(2)));
        assert_eq!(retired.held().len(), 1, "the subscriber has not looked yet");
        assert_eq!(**subscriber.get(), 2);
        assert_eq!(retired.held().len(), 0);
    }

    #[test]
    fn every_kind_of_hold_is_seen() {
        let publisher = Publisher::new(Arc::new(0));
        let mut retired = Retired::new();
        let full = publisher.load_full();
        retired.add(publisher.replace(Arc::new(1)));
        let guards: Vec<_> = (0..20).map(|_| publisher.load()).collect();
        retired.add(publisher.replace(Arc::new(2)));
        let mut subscriber = publisher.subscribe();
        subscriber.get();
        retired.add(publisher.replace(Arc::new(3)));
        assert_eq!(retired.held().len(), 3);
        drop(full);
        assert_eq!(retired.held().len(), 2);
        drop(guards);
        assert_eq!(retired.held().len(), 1);
        subscriber.release();
        assert_eq!(retired.held().len(), 0);
    }
}
