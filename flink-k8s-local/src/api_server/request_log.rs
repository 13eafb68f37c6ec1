//! Counts what was asked of the server, so that a test can tell who asked what.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::faults::Subject;

/// How often one client asked one kind of thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServedRequests {
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// The verb of Kubernetes authorization: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// The plural of the kind, such as `pods`; empty for what is not about objects.
    pub resource: String,
    /// How many requests there were, whatever they were answered.
    pub count: u64,
}

/// Every request so far, counted.
#[derive(Debug, Default)]
pub(crate) struct RequestLog(Mutex<BTreeMap<(String, &'static str, String), u64>>);

impl RequestLog {
    pub(crate) fn count(&self, subject: &Subject) {
        let key = (subject.user_agent.clone(), subject.verb, subject.resource.clone());
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(key).or_default() += 1;
    }

    pub(crate) fn served(&self) -> Vec<ServedRequests> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|((user_agent, verb, resource), count)| ServedRequests {
                user_agent: user_agent.clone(),
                verb,
                resource: resource.clone(),
                count: *count,
            })
            .collect()
    }
}
