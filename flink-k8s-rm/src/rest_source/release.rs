//! Freeze, check, act: releases a worker only if it is idle at a moment at which that cannot change.
//!
//! The JobManager decides before a TaskManager accepts a slot request, and the TaskManager accepts before a job
//! gets the slot. A frozen TaskManager accepts nothing. So what the JobManager says after the freeze contains
//! everything that the TaskManager ever accepted.

use std::time::Duration;

use flink_k8s_core::pod_name::PodName;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::observer::{ObserveError, Observer};
use crate::driver::{ResourceManagerHandle, chain};
use crate::runner_client::{FreezeId, Runner, RunnerError};

/// How long the JobManager may take to answer while a TaskManager is frozen; less than a runner freezes it for.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// What came of looking at a frozen worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was idle and was told to end.
    Released {
        /// For how long it was frozen.
        window: Duration,
    },
    /// It was not idle, or was thawed before it could be told; it goes on.
    Kept {
        /// For how long it was frozen.
        window: Duration,
    },
}

/// Why a worker could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReleaseError {
    #[error("its runner did not do as it was told")]
    Runner(#[from] RunnerError),
    #[error("the JobManager did not say whether it is idle")]
    Check(#[from] ObserveError),
    #[error("this resource manager does not lead any more")]
    NotLeading,
}

/// Freezes the worker, asks whether it is idle, and releases or thaws it. After a failure the worker runs on,
/// at the latest when its runner thaws it by itself.
pub(super) async fn freeze_check_act(
    runner: &Runner,
    observer: &Observer,
    manager: &ResourceManagerHandle,
    name: &PodName,
) -> Result<Verdict, ReleaseError> {
    let started = Instant::now();
    let freeze = runner.freeze().await?;
    let checked = timeout(CHECK_TIMEOUT, observer.is_releasable(name)).await;
    match checked.unwrap_or(Err(ObserveError::TooSlow(CHECK_TIMEOUT))) {
        // Another resource manager may have made plans for this worker since ours.
        Ok(true) if !manager.may_act().await.unwrap_or(false) => {
            thaw(runner, freeze, name).await;
            Err(ReleaseError::NotLeading)
        }
        Ok(true) => match runner.release(freeze).await {
            Ok(()) => Ok(Verdict::Released {
                window: started.elapsed(),
            }),
            // The freeze was over, so the answer may be outdated.
            Err(RunnerError::Conflict { .. }) => Ok(Verdict::Kept {
                window: started.elapsed(),
            }),
            Err(failure) => Err(failure.into()),
        },
        Ok(false) => {
            thaw(runner, freeze, name).await;
            Ok(Verdict::Kept {
                window: started.elapsed(),
            })
        }
        Err(failure) => {
            thaw(runner, freeze, name).await;
            Err(failure.into())
        }
    }
}

async fn thaw(runner: &Runner, freeze: FreezeId, name: &PodName) {
    if let Err(failure) = runner.thaw(freeze).await {
        let error = chain(&failure);
        warn!(pod = %name, error, "cannot thaw a TaskManager; its runner does so by itself within seconds");
    }
}
