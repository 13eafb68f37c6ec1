//! The resource manager as its users see it: the state machine under random events, the driver on a
//! fake cluster, the endpoint over real sockets, and an unmodified JobManager.

#[cfg(test)]
mod driver;
#[cfg(test)]
mod election;
#[cfg(test)]
mod embedded_cluster;
#[cfg(test)]
mod endpoint;
#[cfg(test)]
mod fake_cluster;
#[cfg(test)]
mod flood;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod high_availability;
#[cfg(test)]
mod java_job_manager;
#[cfg(test)]
mod paused_leader;
#[cfg(test)]
mod rest_source;
#[cfg(test)]
mod status_server;
#[cfg(test)]
mod worker_pods;
#[cfg(test)]
mod workers_properties;
