//! Spares as the driver makes and uses them.

use flink_k8s_core::task_manager::WorkerRequest;
use tracing::{info, warn};

use super::super::kube_calls::chain;
use super::super::spares::{self, SpareSetup};
use super::{Driver, Happening};
use crate::runner_client::RunnerClient;
use crate::workers::{CallFailure, Event, FailureCause, SpareOrder};

/// What is known of spares beyond the state machine.
pub(super) struct Spares {
    setup: SpareSetup,
    shape: String,
    /// Gives orders to them, once that was needed.
    runners: Option<RunnerClient>,
}

impl Spares {
    pub(super) fn new(setup: SpareSetup, shape: String) -> Self {
        let runners = None;
        Self {
            setup,
            shape,
            runners,
        }
    }
}

impl Driver {
    /// Finds out how to give orders to spares, unless that is known.
    pub(super) fn prepare_spares(&mut self) -> Option<Event> {
        let (Some(spares), Some(owner)) = (&self.spares, &self.owner) else {
            return Some(Event::SparesPrepared(false));
        };
        if spares.runners.is_some() {
            return Some(Event::SparesPrepared(true));
        }
        let preparation = spares
            .setup
            .prepare(owner.reference.clone(), self.options.call_timeout);
        self.under_way
            .spawn(async { Happening::SparesPrepared(preparation.await) });
        None
    }

    pub(super) fn spares_prepared(&mut self, runners: Result<RunnerClient, String>) {
        let is_possible = runners.is_ok();
        match (runners, &mut self.spares) {
            (Ok(runners), Some(spares)) => spares.runners = Some(runners),
            (Err(error), _) => warn!(
                error,
                "there are no spares: the token of the TaskManagers' runners is not to be had"
            ),
            (Ok(_), None) => {}
        }
        self.handle(Event::SparesPrepared(is_possible));
    }

    /// Starts the creation of a spare, or says at once why it cannot succeed.
    pub(super) fn create_spare(&mut self, request: &WorkerRequest) -> Option<Event> {
        let Some(spares) = &self.spares else {
            return Some(Event::CreateFailed {
                name: request.name.clone(),
                failure: CallFailure::Permanent {
                    cause: FailureCause::Invalid,
                    message: "nobody said how spares are made".to_owned(),
                },
            });
        };
        let (setup, shape) = (spares.setup.clone(), spares.shape.clone());
        self.create(request, "creating a spare pod", |request, owner| {
            setup.build(request, owner, &shape)
        })
    }

    /// Has a spare pod become a worker.
    pub(super) fn assign_spare(&mut self, order: SpareOrder) -> Option<Event> {
        let name = order.worker.clone();
        let Some((setup, runners)) = self
            .spares
            .as_ref()
            .and_then(|spares| Some((&spares.setup, spares.runners.clone()?)))
        else {
            let message = "it is not known how to give orders to spares".to_owned();
            let (cause, retry_after) = (FailureCause::SpareNotAssigned, None);
            let failure = CallFailure::Transient {
                cause,
                retry_after,
                message,
            };
            return Some(Event::SpareNotAssigned { name, failure });
        };
        info!(pod = %name, spare = %order.pod, "a spare pod becomes a worker");
        let limit = self.options.call_timeout;
        let assigning = spares::assign(self.kube.clone(), runners, setup.runner_port(), order, limit);
        self.write(name, assigning, |name, failure| Event::SpareNotAssigned {
            name,
            failure,
        });
        None
    }
}

/// The shape of the spares, or nothing, if their pods cannot be built: then there are none.
pub(super) fn shape_of(
    setup: &SpareSetup,
    cluster_id: &flink_k8s_core::cluster_id::ClusterId,
) -> Option<String> {
    match setup.shape(cluster_id) {
        Ok(shape) => Some(shape),
        Err(error) => {
            let error = chain(error.as_ref());
            warn!(error, "there are no spares: their pods cannot be built");
            None
        }
    }
}
