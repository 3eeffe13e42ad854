//! The writer's inbox. Whoever hands something in wakes the writer only where it waits for that.
//!
//! While the writer lets a batch of outcomes linger, further outcomes only lie down beside it: waking it for each one cost a
//! tenth of a delivery's time.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::writer::Job;

/// Lingering jobs that wake the writer all the same.
const LINGERING_MAX: usize = 1024;

/// What comes to the writer's thread.
pub(super) enum Message {
    /// Something to do.
    Job(Box<dyn Job>),
    /// Nothing more comes.
    Close,
}

/// The writer is gone.
pub(super) struct Gone;

/// Messages on their way to the writer. How many there are is bounded by the room before the writer.
#[derive(Default)]
pub(super) struct Inbox {
    // Held for a push or a take.
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    waits: Waits,
    is_gone: bool,
}

/// What the writer waits for.
#[derive(Default, PartialEq, Eq)]
enum Waits {
    #[default]
    Nothing,
    Anything,
    /// For what does not linger, or for a crowd of what does.
    Work,
}

impl Inbox {
    /// Puts a message in.
    pub(super) fn send(&self, message: Message) -> Result<(), Gone> {
        let lingers = matches!(&message, Message::Job(job) if job.lingers());
        let mut state = self.lock();
        if state.is_gone {
            return Err(Gone);
        }
        state.messages.push_back(message);
        let wakes = match state.waits {
            Waits::Nothing => false,
            Waits::Anything => true,
            Waits::Work => !lingers || state.messages.len() >= LINGERING_MAX,
        };
        if wakes {
            state.waits = Waits::Nothing;
            drop(state);
            self.woken.notify_one();
        }
        Ok(())
    }

    /// The next message; waits for it.
    pub(super) fn next(&self) -> Message {
        let mut state = self.lock();
        loop {
            if let Some(message) = state.messages.pop_front() {
                return message;
            }
            state.waits = Waits::Anything;
            state = self.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next message; waits for it no longer than this.
    pub(super) fn next_within(&self, time: Duration) -> Option<Message> {
        let mut state = self.lock();
        if state.messages.is_empty() {
            state.waits = Waits::Anything;
            let waits = |state: &mut State| state.waits == Waits::Anything;
            (state, _) = self.woken.wait_timeout_while(state, time, waits).unwrap_or_else(PoisonError::into_inner);
            state.waits = Waits::Nothing;
        }
        state.messages.pop_front()
    }

    /// The next message, if there is one.
    pub(super) fn next_now(&self) -> Option<Message> {
        self.lock().messages.pop_front()
    }

    /// Waits until something comes that does not linger, or much that does, or the time is over.
    pub(super) fn linger(&self, time: Duration) {
        let mut state = self.lock();
        if !state.messages.is_empty() {
            return;
        }
        state.waits = Waits::Work;
        let waits = |state: &mut State| state.waits == Waits::Work;
        let (mut state, _) = self.woken.wait_timeout_while(state, time, waits).unwrap_or_else(PoisonError::into_inner);
        state.waits = Waits::Nothing;
    }

    /// The writer goes: what is still in here is dropped, which answers whoever waits for it, and nothing more is taken.
    pub(super) fn leave(&self) {
        let left = {
            let mut state = self.lock();
            state.is_gone = true;
            std::mem::take(&mut state.messages)
        };
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::store::writer::{ApplyError, Batch};
    use crate::store::{Receipt, StoreFailed};

    /// Whether it lingers.
    struct Dummy(bool);

    impl Job for Dummy {
        fn bytes(&self) -> usize {
            1
        }
        fn lingers(&self) -> bool {
            self.0
        }
        fn apply(&mut self, _: &mut Batch<'_>) -> Result<(), ApplyError> {
            Ok(())
        }
        fn settle(self: Box<Self>, _: Result<Receipt, StoreFailed>) {}
    }

    fn job(lingers: bool) -> Message {
        Message::Job(Box::new(Dummy(lingers)))
    }

    /// Longer than any test runs: a wait that ends before has been woken.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn messages_come_out_in_their_order_and_whoever_waits_for_the_first_is_woken() {
        let inbox = Arc::new(Inbox::default());
        let waiting = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || matches!(inbox.next(), Message::Job(job) if job.lingers()))
        };
        assert!(inbox.send(job(true)).is_ok());
        assert!(waiting.join().unwrap(), "also by what lingers");
        for lingers in [true, false, true] {
            assert!(inbox.send(job(lingers)).is_ok());
        }
        let within = inbox.next_within(Duration::ZERO);
        assert!(
            matches!(within, Some(Message::Job(job)) if job.lingers()),
            "it takes the first, also when it may not wait"
        );
        assert!(inbox.send(job(true)).is_ok());
        let order: Vec<_> = std::iter::from_fn(|| inbox.next_now())
            .map(|message| matches!(message, Message::Job(job) if job.lingers()))
            .collect();
        assert_eq!(order, [false, true, true]);
        assert!(inbox.next_within(Duration::from_millis(1)).is_none());
    }

    #[test]
    fn a_lingering_writer_is_woken_by_work_and_by_a_crowd_and_by_the_clock() {
        let crowd = vec![true; LINGERING_MAX];
        for wakers in [vec![true, true, false], crowd] {
            let inbox = Arc::new(Inbox::default());
            let lingering = {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || inbox.linger(LONG))
            };
            let wakers: Vec<_> = wakers.into_iter().map(job).collect();
            // What comes before the writer lingers ends its lingering, too.
            wakers.into_iter().for_each(|message| assert!(inbox.send(message).is_ok()));
            lingering.join().unwrap();
        }
        Inbox::default().linger(Duration::from_millis(1));
    }

    #[test]
    fn a_writer_that_is_gone_takes_nothing_and_keeps_nothing() {
        let inbox = Inbox::default();
        assert!(inbox.send(job(false)).is_ok());
        inbox.leave();
        assert!(inbox.next_now().is_none());
        assert!(inbox.send(Message::Close).is_err());
    }
}
