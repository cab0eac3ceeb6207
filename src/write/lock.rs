//! The append lock, held.

use std::ops::{Deref, DerefMut};

use crate::notify::{Change, Notifier};
use crate::sync::{Arc, MutexGuard};
use crate::view::View;
use crate::write::writer::Writer;

/// The writer, locked. When it is given up, the waiters that asked for it are woken: after the lock is free again,
/// which they want next. After that, views that nobody holds any more are dropped: to unmap one takes milliseconds.
pub(crate) struct Locked<'a> {
    // In this order: the fields of a struct are dropped from first to last.
    writer: MutexGuard<'a, Writer>,
    wakes: Wakes<'a>,
    gone: Vec<Arc<View>>,
}

struct Wakes<'a> {
    notifier: &'a Notifier,
    change: Change,
}

impl<'a> Locked<'a> {
    #[inline]
    pub(crate) fn new(writer: MutexGuard<'a, Writer>, notifier: &'a Notifier) -> Self {
        Self { writer, wakes: Wakes { notifier, change: Change::None }, gone: Vec::new() }
    }
}

impl Deref for Locked<'_> {
    type Target = Writer;

    #[inline]
    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl DerefMut for Locked<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        self.wakes.change = self.writer.take_change();
        if self.writer.retired.has_gone() {
            self.gone = self.writer.retired.take_gone();
        }
    }
}

impl Drop for Wakes<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.change != Change::None {
            self.notifier.wake(self.change);
        }
    }
}
