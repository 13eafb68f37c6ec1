//! What ends calls that change the cluster together with the leadership under which they began.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Until when calls may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission<T = Instant> {
    /// There is nobody else who could act.
    Always,
    /// We lead, and may until then if the lease is not renewed again.
    Until(T),
    /// We do not lead.
    Never,
}

impl<T: PartialOrd> Permission<T> {
    /// Whether a call must not get any further at this time.
    pub(crate) fn is_over(&self, now: &T) -> bool {
        match self {
            Self::Always => false,
            Self::Until(end) => end <= now,
            Self::Never => true,
        }
    }
}

/// Tells calls under way how long they may go on; owned by whoever knows.
#[derive(Debug)]
pub(super) struct Fence(watch::Sender<Permission>);

/// The side of a call.
#[derive(Clone, Debug)]
pub(super) struct FenceGate(watch::Receiver<Permission>);

impl Fence {
    pub(super) fn new(permission: Permission) -> Self {
        Self(watch::Sender::new(permission))
    }

    pub(super) fn set(&self, permission: Permission) {
        self.0
            .send_if_modified(|before| std::mem::replace(before, permission) != permission);
    }

    pub(super) fn gate(&self) -> FenceGate {
        FenceGate(self.0.subscribe())
    }
}

impl FenceGate {
    /// Makes the call for as long as it is permitted; `None` if it ended before there was an answer.
    ///
    /// The clock is read each time before the call gets any further: a process that was paused in the
    /// middle of connecting must not send its request when it wakes up.
    pub(super) async fn guard<T>(mut self, call: impl Future<Output = T>) -> Option<T> {
        let mut call = pin!(call);
        loop {
            let permission = *self.0.borrow_and_update();
            tokio::select! {
                biased;
                () = over(permission) => return None,
                changed = self.0.changed() => changed.ok()?,
                answer = &mut call => return Some(answer),
            }
        }
    }
}

async fn over(permission: Permission) {
    let end = match permission {
        Permission::Always => pending().await,
        Permission::Never => return,
        Permission::Until(end) => end,
    };
    let mut alarm = pin!(sleep_until(end));
    poll_fn(|context| {
        if permission.is_over(&Instant::now()) {
            return Poll::Ready(());
        }
        alarm.as_mut().poll(context)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_goes_on_while_leadership_is_renewed_and_ends_with_it() {
        let now = Instant::now();
        let fence = Fence::new(Permission::Until(now + Duration::from_secs(10)));
        let short = tokio::spawn(fence.gate().guard(sleep(Duration::from_secs(15))));
        let long = tokio::spawn(fence.gate().guard(sleep(Duration::from_secs(60))));
        sleep(Duration::from_secs(8)).await;
        fence.set(Permission::Until(now + Duration::from_secs(18)));
        assert_eq!(short.await.unwrap(), Some(()));
        assert_eq!(long.await.unwrap(), None);
        assert_eq!(now.elapsed(), Duration::from_secs(18));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_not_even_begun_without_permission_or_after_its_end() {
        let over = Permission::Until(Instant::now());
        for permission in [Permission::Never, over] {
            let call = async { panic!("the call was begun") };
            assert_eq!(Fence::new(permission).gate().guard::<()>(call).await, None);
        }
        let call = async { 7 };
        assert_eq!(Fence::new(Permission::Always).gate().guard(call).await, Some(7));
    }
}
