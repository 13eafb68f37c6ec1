//! What is to be done about workers.

use std::sync::Arc;

use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::pod_name::PodName;

use super::pod_observation::PodObservation;
use super::reason::Farewell;
use super::spares::SpareOrder;
use super::{Moment, WorkerRequest};

/// Something to do. Each call is answered by exactly one event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Action {
    /// Create the pod of this request; answer with [`Event::CreateSucceeded`](super::Event::CreateSucceeded) or [`Event::CreateFailed`](super::Event::CreateFailed).
    CreatePod(Arc<WorkerRequest>),
    /// Create a pod like that of this request, which waits until it is told to run a worker; answer as to
    /// [`CreatePod`](Self::CreatePod).
    CreateSpare(Arc<WorkerRequest>),
    /// Find out how to give orders to spares; answer with [`Event::SparesPrepared`](super::Event::SparesPrepared).
    PrepareSpares,
    /// Have a spare become a worker; answer with [`Event::SpareAssigned`](super::Event::SpareAssigned) or
    /// [`Event::SpareNotAssigned`](super::Event::SpareNotAssigned).
    AssignSpare(SpareOrder),
    /// Delete this pod and no other of its name; answer with [`Event::DeleteSucceeded`](super::Event::DeleteSucceeded) or
    /// [`Event::DeleteFailed`](super::Event::DeleteFailed).
    DeletePod {
        /// The name of its worker, with which to answer.
        name: PodName,
        /// The name of the pod itself.
        pod: PodName,
        /// Its uid.
        uid: Uid,
        /// Why it goes.
        why: Farewell,
        /// Whether its node is waited for.
        how: Deletion,
    },
    /// Tell the JobManager.
    Notify {
        /// The worker.
        name: PodName,
        /// What is new about it.
        news: News,
    },
    /// Find out whether jobs wait for slots; answer with [`Event::SlotsWanted`](super::Event::SlotsWanted) or
    /// [`Event::DemandUnknown`](super::Event::DemandUnknown).
    LookAtDemand,
    /// Send [`Event::Tick`](super::Event::Tick) at this time; replaces what an earlier one asked for.
    WakeAt(Moment),
}

/// How a pod is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Its node ends its containers within their grace period.
    Graceful,
    /// Its object is removed at once, because its node is dead.
    AtOnce,
}

/// What the JobManager has to learn of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It exists, and this is its pod.
    Changed(PodObservation),
    /// It will never work (again). The JobManager is expected to release it.
    Failed(Farewell),
    /// It does not exist any more.
    Gone(Farewell),
}
