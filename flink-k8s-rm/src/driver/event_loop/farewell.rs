//! What becomes of the workers when the JobManager beside us is told to end: they are left to the next one.

use tracing::info;

use super::Driver;

impl Driver {
    /// From now on nothing is created and nothing deleted. What the JobManager asks for while it ends is noted in its
    /// view alone: it ends its jobs and gives back the workers with which the next JobManager goes on, which may have
    /// taken the lead already.
    pub(super) fn take_leave(&mut self) {
        self.is_leaving = true;
        info!("the JobManager is told to end; its workers are left to the next one");
        if self.election.is_some() {
            self.withdraw();
        } else {
            self.cease();
            self.observer.leads(false);
            self.leading.send_replace(false);
        }
        // It would wait for its workers in vain, and end later for that.
        for reply in std::mem::take(&mut self.waiting_lists) {
            self.list(reply);
        }
    }
}
