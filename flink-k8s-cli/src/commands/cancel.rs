//! `flink-k8s cancel`

use flink_k8s_client::rest_client::{FollowOptions, JobState};

use super::interrupted;
use crate::args::CancelArguments;
use crate::connection::Rest;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Cancels a job and waits for its end.
pub(crate) async fn run(printer: &Printer, arguments: CancelArguments) -> anyhow::Result<Outcome> {
    let rest = Rest::open(printer, arguments.reaching).await?;
    let job_id = arguments.job_id;
    rest.client
        .cancel_job(&job_id)
        .await
        .map_err(|error| rest.explain(error))?;
    tokio::select! {
        state = rest.client.wait_for_job(job_id, FollowOptions::new()) => {
            let state = state.map_err(|error| rest.explain(error))?;
            printer.talk(format!("job {job_id} is {state}"));
            Ok(if state == JobState::Canceled { Outcome::Success } else { Outcome::UserError })
        }
        () = interrupted() => {
            printer.talk(format!("interrupted; job {job_id} is being cancelled all the same"));
            Ok(Outcome::Interrupted)
        }
    }
}
