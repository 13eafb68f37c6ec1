//! Ctrl-C and its relatives, so that a task can stop at any moment and still clean up.

use std::future::Future;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Somebody asked the task to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// Tells whether SIGINT, SIGTERM or SIGHUP has arrived.
///
/// The signals only set this; they never end the process. Each wait of a task goes through
/// [`Interrupt::guard`], long computations ask [`Interrupt::check`], and clean-up takes
/// [`Interrupt::next`], which heeds only further signals.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    arrived: watch::Receiver<u32>,
    ignored: u32,
}

impl Interrupt {
    /// Takes over the three signals for the rest of the process.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let (sender, arrived) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hang_up.recv() => {}
                }
                sender.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { arrived, ignored: 0 })
    }

    /// Heeds only signals that arrive from now on.
    pub(crate) fn next(&self) -> Self {
        Self {
            arrived: self.arrived.clone(),
            ignored: *self.arrived.borrow(),
        }
    }

    /// For the last steps of a clean-up, which nothing may cut short.
    pub(crate) fn never() -> Self {
        let (_sender, arrived) = watch::channel(0);
        Self { arrived, ignored: 0 }
    }

    /// Fails if a signal has arrived.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        if *self.arrived.borrow() > self.ignored {
            Err(Interrupted)
        } else {
            Ok(())
        }
    }

    /// Waits for a signal.
    pub(crate) async fn interrupted(&self) {
        let mut arrived = self.arrived.clone();
        if arrived.wait_for(|count| *count > self.ignored).await.is_err() {
            // Nobody is left who could tell of a signal.
            std::future::pending::<()>().await;
        }
    }

    /// The result of `future`, unless a signal comes first; then `future` is dropped.
    pub(crate) async fn guard<T>(&self, future: impl Future<Output = T>) -> Result<T, Interrupted> {
        tokio::select! {
            biased;
            () = self.interrupted() => Err(Interrupted),
            output = future => Ok(output),
        }
    }
}

#[cfg(test)]
impl Interrupt {
    /// An interrupt that the test triggers by changing the number.
    pub(crate) fn by_hand() -> (watch::Sender<u32>, Self) {
        let (sender, arrived) = watch::channel(0);
        (sender, Self { arrived, ignored: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_ends_the_wait_and_the_clean_up_heeds_only_the_next_one() {
        let (signals, interrupt) = Interrupt::by_hand();
        assert_eq!(interrupt.guard(async { 7 }).await, Ok(7));
        signals.send_modify(|count| *count += 1);
        assert_eq!(
            interrupt.guard(std::future::pending::<()>()).await,
            Err(Interrupted)
        );
        let clean_up = interrupt.next();
        assert_eq!(clean_up.check(), Ok(()));
        signals.send_modify(|count| *count += 1);
        assert_eq!(clean_up.check(), Err(Interrupted));
    }
}
