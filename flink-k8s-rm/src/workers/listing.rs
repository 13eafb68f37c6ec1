//! The list of the pods that exist, whole or page by page.

use std::collections::BTreeMap;

use flink_k8s_core::kube_client::{Page, Uid};
use flink_k8s_core::pod_name::PodName;

use super::worker::{Seen, Source, Worker};
use super::{Action, Moment, PodObservation, Workers};

/// A list of which not all pages have come.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// The pods that have to be on a page, or are gone. Those that become known meanwhile are newer than the list.
    expected: BTreeMap<PodName, Uid>,
    /// The spares that were on a page. Which worker a spare runs matters less than that a pod has its name, so
    /// they are taken in last.
    spares: Vec<PodObservation>,
}

impl Workers {
    /// A pod that is missing from the list is gone, unless the list may be older than its creation.
    pub(super) fn relist(&mut self, pods: Vec<PodObservation>, now: Moment, actions: &mut Vec<Action>) {
        self.begin_list();
        self.take_in_page(pods, now, actions);
        self.list_is_complete(now, actions);
    }

    /// A page says which pods exist; only all of them together say which are gone.
    pub(super) fn page_listed(
        &mut self,
        page: Page,
        pods: Vec<PodObservation>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        if page == Page::First {
            self.begin_list();
        }
        self.take_in_page(pods, now, actions);
        if page == Page::Last {
            self.list_is_complete(now, actions);
        }
    }

    fn begin_list(&mut self) {
        let expected = |(name, worker): (&PodName, &Worker)| {
            let pod = worker.pod.as_ref()?;
            let was_seen = pod.seen == Seen::ByWatch || (worker.pod_must_go() && pod.deletions > 0);
            was_seen.then(|| (name.clone(), pod.observation.uid.clone()))
        };
        self.listing = Some(Listing {
            expected: self.by_name.iter().filter_map(expected).collect(),
            spares: Vec::new(),
        });
    }

    fn take_in_page(&mut self, pods: Vec<PodObservation>, now: Moment, actions: &mut Vec<Action>) {
        // The beginning was before somebody else led, so the rest says nothing.
        let Some(mut listing) = self.listing.take() else {
            return;
        };
        let (spares, others): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| pod.spare.is_some());
        listing.spares.extend(spares);
        for pod in others {
            let name = self.observe(pod, Source::Watch, now, actions);
            listing.expected.remove(&name);
        }
        self.listing = Some(listing);
    }

    fn list_is_complete(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(mut listing) = self.listing.take() else {
            return;
        };
        for pod in listing.spares {
            let name = self.observe(pod, Source::Watch, now, actions);
            listing.expected.remove(&name);
        }
        let was_listed = std::mem::replace(&mut self.is_listed, true);
        for (name, uid) in listing.expected {
            self.pod_gone(&name, &uid, now, actions);
        }
        if !was_listed {
            let names: Vec<PodName> = self.by_name.keys().cloned().collect();
            for name in names {
                self.advance(&name, now, actions);
            }
        }
        self.api_server_answers(now, actions);
    }
}
