//! `flink-k8s stop`, `savepoint` and `checkpoint`

use flink_k8s_client::rest_client::{CheckpointKind, FollowOptions, SavepointFormat, SavepointOptions};

use super::interrupted;
use crate::args::jobs::{
    CheckpointArguments, SavepointArguments, SavepointFlags, SavepointType, StopArguments,
};
use crate::connection::Rest;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Stops a job with a savepoint, waits for its end, and prints where the savepoint is.
pub(crate) async fn stop(printer: &Printer, arguments: StopArguments) -> anyhow::Result<Outcome> {
    let rest = Rest::open(printer, arguments.job.reaching).await?;
    let job_id = arguments.job.job_id;
    let options = savepoint_options(&arguments.savepoint, arguments.target_directory);
    let stopping = async {
        let within = arguments.savepoint.timeout;
        let savepoint = rest
            .client
            .stop_with_savepoint(&job_id, &options, arguments.drain, within)
            .await
            .map_err(|error| rest.explain(error))?;
        // Known from here on, whatever happens to the job's last steps.
        printer.data(&savepoint);
        let state = rest.client.wait_for_job(job_id, FollowOptions::new()).await;
        let state = state.map_err(|error| rest.explain(error))?;
        printer.talk(format!("job {job_id} is {state}"));
        anyhow::Ok(Outcome::Success)
    };
    tokio::select! {
        outcome = stopping => outcome,
        () = interrupted() => {
            printer.talk(format!("interrupted; if Flink has the request, job {job_id} is being stopped all the same"));
            Ok(Outcome::Interrupted)
        }
    }
}

/// Takes a savepoint of a job that goes on and prints where it is, or deletes one.
pub(crate) async fn savepoint(printer: &Printer, arguments: SavepointArguments) -> anyhow::Result<Outcome> {
    let rest = Rest::open(printer, arguments.reaching).await?;
    let within = arguments.savepoint.timeout;
    let options = savepoint_options(&arguments.savepoint, arguments.target_directory);
    let working = async {
        if let Some(path) = &arguments.dispose {
            let disposed = rest.client.dispose_savepoint(path, within).await;
            disposed.map_err(|error| rest.explain(error))?;
            printer.talk(format!("savepoint {path} is deleted"));
        } else if let Some(job_id) = &arguments.job_id {
            let savepoint = rest.client.savepoint(job_id, &options, within).await;
            printer.data(savepoint.map_err(|error| rest.explain(error))?);
        }
        anyhow::Ok(Outcome::Success)
    };
    tokio::select! {
        outcome = working => outcome,
        () = interrupted() => {
            printer.talk("interrupted; if Flink has the request, it is carried out all the same");
            Ok(Outcome::Interrupted)
        }
    }
}

/// Takes a checkpoint of a job and prints its number.
pub(crate) async fn checkpoint(printer: &Printer, arguments: CheckpointArguments) -> anyhow::Result<Outcome> {
    let rest = Rest::open(printer, arguments.job.reaching).await?;
    let kind = if arguments.full {
        CheckpointKind::Full
    } else {
        CheckpointKind::Configured
    };
    tokio::select! {
        number = rest.client.checkpoint(&arguments.job.job_id, kind, arguments.timeout) => {
            printer.data(number.map_err(|error| rest.explain(error))?.to_string());
            Ok(Outcome::Success)
        }
        () = interrupted() => {
            printer.talk("interrupted; if Flink has the request, the checkpoint is taken all the same");
            Ok(Outcome::Interrupted)
        }
    }
}

fn savepoint_options(flags: &SavepointFlags, target_directory: Option<String>) -> SavepointOptions {
    let options = SavepointOptions::new().with_format(match flags.format {
        SavepointType::Canonical => SavepointFormat::Canonical,
        SavepointType::Native => SavepointFormat::Native,
    });
    match target_directory {
        Some(directory) => options.with_target_directory(directory),
        None => options,
    }
}
