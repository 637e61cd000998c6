//! Waking the task of a connection from elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use atomic_waker::AtomicWaker;

/// Wakes the task of a connection from elsewhere; a wake is never lost, many are one.
#[derive(Debug, Default)]
pub struct Signal {
    raised: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    /// Wakes the task.
    pub fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Whether it was raised since it was asked last; if not, the task is woken when it is.
    pub fn poll(&self, context: &mut Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.raised.swap(false, Ordering::AcqRel)
    }
}
