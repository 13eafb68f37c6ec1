//! What spares are made of, and how they get their orders.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{FlinkConfiguration, flink_k8s_options};
use flink_k8s_core::kube_client::{AnnotateError, BoxError, KubeClient, PodClaim};
use flink_k8s_core::labels;
use flink_k8s_core::parameters::InvalidSpecification;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_core::task_manager::WorkerRequest;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::time::{Instant, sleep, timeout};

use super::kube_calls::{chain, no_answer};
use super::pod_factory::PodFactory;
use crate::bearer_token::BearerToken;
use crate::runner_client::{RunnerClient, RunnerError, SPARE_ARGUMENT};
use crate::workers::{CallFailure, Event, FailureCause, MAIN_CONTAINER, SpareOrder};

/// How long the runner of a spare may be out of reach: its container runs a moment before it listens.
const RUNNER_PATIENCE: Duration = Duration::from_secs(4);
/// How often it is tried meanwhile.
const RUNNER_TRIED_EVERY: Duration = Duration::from_millis(100);

type FindToken = dyn Fn(OwnerReference) -> BoxFuture<'static, Result<BearerToken, BoxError>> + Send + Sync;

/// What a resource manager needs to make spares and to give them orders.
///
/// ```
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
/// # use flink_k8s_rm::bearer_token::BearerToken;
/// # use flink_k8s_rm::driver::{PodFactory, SpareSetup};
/// # fn example(factory: PodFactory) -> Result<(), Box<dyn std::error::Error>> {
/// let mut configuration = FlinkConfiguration::new();
/// configuration.set("taskmanager.memory.process.size", "1728m", Origin::CommandLine);
/// let token = BearerToken::random();
/// let spares = SpareSetup::new(&"orders".parse()?, &configuration, factory, move |_owner| {
///     let token = token.clone();
///     async move { Ok(token) }
/// })?;
/// # let _ = spares;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SpareSetup {
    factory: PodFactory,
    template: WorkerRequest,
    runner_port: u16,
    find_token: Arc<FindToken>,
}

impl fmt::Debug for SpareSetup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SpareSetup")
            .field("template", &self.template)
            .field("runner_port", &self.runner_port)
            .finish_non_exhaustive()
    }
}

impl SpareSetup {
    /// Spares of the size that Flink's TaskManagers have with this configuration. `factory` makes pods whose runner
    /// takes orders ([`with_runners`](crate::rest_source::with_runners)); `find_token` finds their token when
    /// the first spare is needed, and is given the Deployment that owns what it may have to create.
    ///
    /// # Errors
    ///
    /// [`InvalidSpecification`] when the configuration does not describe a TaskManager.
    pub fn new<F, T>(
        cluster_id: &ClusterId,
        configuration: &FlinkConfiguration,
        factory: PodFactory,
        find_token: F,
    ) -> Result<Self, InvalidSpecification>
    where
        F: Fn(OwnerReference) -> T + Send + Sync + 'static,
        T: Future<Output = Result<BearerToken, BoxError>> + Send + 'static,
    {
        let prefix = PodName::of_spares(cluster_id, rand::random());
        Ok(Self {
            factory,
            template: WorkerRequest::from_configuration(prefix, configuration)?,
            runner_port: configuration.get(&flink_k8s_options::RUNNER_PORT)?,
            find_token: Arc::new(move |owner| find_token(owner).boxed()),
        })
    }

    /// The request that a spare could serve. The names of spares begin with its name.
    pub(super) fn template(&self) -> &WorkerRequest {
        &self.template
    }

    /// What the pods of spares are like: the same for pods that differ in nothing but names.
    pub(super) fn shape(&self, cluster_id: &ClusterId) -> Result<String, BoxError> {
        let request = self.template.clone().named(PodName::of_spares(cluster_id, 0));
        let pod = self.factory.build(&request, &OwnerReference::default())?;
        // Should another version of Rust compute something else, spares are made anew.
        let mut hasher = DefaultHasher::new();
        hasher.write(&serde_json::to_vec(&pod)?);
        Ok(format!("{:016x}", hasher.finish()))
    }

    /// The pod of a spare.
    pub(super) fn build(
        &self,
        request: &WorkerRequest,
        owner: &OwnerReference,
        shape: &str,
    ) -> Result<Pod, BoxError> {
        let mut pod = self.factory.build(request, owner)?;
        let all_labels = pod.metadata.labels.get_or_insert_default();
        all_labels.insert(labels::SPARE.to_owned(), shape.to_owned());
        let containers = pod.spec.iter_mut().flat_map(|spec| &mut spec.containers);
        for main in containers.filter(|container| container.name == MAIN_CONTAINER) {
            main.args
                .get_or_insert_default()
                .insert(0, SPARE_ARGUMENT.to_owned());
        }
        Ok(pod)
    }

    pub(super) fn runner_port(&self) -> u16 {
        self.runner_port
    }

    /// A client that can give orders to spares, or why there is none.
    pub(super) fn prepare(
        &self,
        owner: OwnerReference,
        limit: Duration,
    ) -> impl Future<Output = Result<RunnerClient, String>> + Send + use<> {
        let finding = (self.find_token)(owner);
        async move {
            let token = match timeout(limit, finding).await {
                Ok(token) => token.map_err(|error| chain(error.as_ref()))?,
                Err(_) => return Err(format!("no answer within {limit:?}")),
            };
            RunnerClient::new(token).map_err(|error| chain(&error))
        }
    }
}

/// What helps when a spare may not be used; without, a pod is made for each worker.
const RIGHTS: &str = "`flink-k8s rbac`, with the options of the cluster, prints the Role that allows it";

/// Marks a spare pod and tells its runner. The future may be dropped: what it tells may be told again.
pub(super) async fn assign(
    kube: Arc<dyn KubeClient>,
    runners: RunnerClient,
    runner_port: u16,
    order: SpareOrder,
    limit: Duration,
) -> Event {
    let name = order.worker.clone();
    let carried_out = async {
        if !order.is_marked {
            mark(&*kube, &order, limit).await?;
        }
        tell(&runners, runner_port, &order).await
    };
    match carried_out.await {
        Ok(()) => Event::SpareAssigned(name),
        Err(failure) => Event::SpareNotAssigned { name, failure },
    }
}

async fn mark(kube: &dyn KubeClient, order: &SpareOrder, limit: Duration) -> Result<(), CallFailure> {
    let text = serde_json::to_string(&*order.assignment).map_err(|error| refused(chain(&error)))?;
    let claim = kube.claim_pod(&order.pod, &order.uid, labels::SPARE_ASSIGNMENT, &text);
    match timeout(limit, claim).await {
        Ok(Ok(PodClaim::Granted)) => Ok(()),
        Ok(Ok(PodClaim::Taken(by))) => Err(refused(format!("pod {} was claimed before: {by}", order.pod))),
        Ok(Ok(_)) => Err(refused(format!("pod {} is gone", order.pod))),
        Ok(Err(error @ AnnotateError::Forbidden { .. })) => Err(CallFailure::Permanent {
            cause: FailureCause::Forbidden,
            message: format!("{}; {RIGHTS}", chain(&error)),
        }),
        Ok(Err(error)) => Err(CallFailure::Transient {
            cause: FailureCause::ApiServer,
            retry_after: None,
            message: chain(&error),
        }),
        Err(_) => Err(no_answer(limit)),
    }
}

async fn tell(runners: &RunnerClient, port: u16, order: &SpareOrder) -> Result<(), CallFailure> {
    let address: IpAddr = order
        .ip
        .parse()
        .map_err(|_| refused(format!("pod {} has no usable address: {:?}", order.pod, order.ip)))?;
    let runner = runners.at(SocketAddr::new(address, port));
    let patience_ends = Instant::now() + RUNNER_PATIENCE;
    loop {
        match runner.assign(&order.assignment).await {
            Ok(_) => return Ok(()),
            Err(RunnerError::Unreachable { .. }) if Instant::now() < patience_ends => {
                sleep(RUNNER_TRIED_EVERY).await;
            }
            Err(error @ RunnerError::Unreachable { .. }) => {
                return Err(CallFailure::Transient {
                    cause: FailureCause::SpareNotAssigned,
                    retry_after: None,
                    message: chain(&error),
                });
            }
            Err(error) => return Err(refused(chain(&error))),
        }
    }
}

fn refused(message: String) -> CallFailure {
    CallFailure::Permanent {
        cause: FailureCause::SpareNotAssigned,
        message,
    }
}
