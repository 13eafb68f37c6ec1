//! Lists that come in pages, all of them as of one version.

use flink_k8s_core::kube_client::Page;
use kube::api::ListParams;
use kube::core::{ObjectList, Request};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{self, Instant};

use super::call::{CallError, LIST_TIMEOUT, call};

/// How many objects one answer holds at most; as many as client-go asks for.
const PAGE_SIZE: u32 = 500;

/// A list under way.
///
/// It asks for the present state, not for what a cache may have: a pod that is missing from a stale list would
/// be taken for lost. A list that expires between two pages begins again as a whole, in one answer, as
/// client-go does it: so it cannot expire twice. The API server would also show the remaining pages as they
/// are now, but then a watch could not follow without missing what changed in the first ones.
pub(super) struct PagedList {
    requests: Request,
    params: ListParams,
}

/// What one answer holds.
pub(super) struct Part<K> {
    pub(super) place: Place,
    pub(super) objects: Vec<K>,
    /// From where a watch misses nothing, once the list is complete.
    pub(super) version: Option<String>,
}

/// Where a part stands in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the list.
    Whole,
    Page(Page),
}

impl PagedList {
    /// A list of what has these labels, or of everything if the selector is empty.
    pub(super) fn new(requests: Request, selector: &str) -> Self {
        let params = ListParams {
            label_selector: (!selector.is_empty()).then(|| selector.to_owned()),
            limit: Some(PAGE_SIZE),
            ..ListParams::default()
        };
        Self { requests, params }
    }

    /// The next part. After a failure it may be asked for again.
    pub(super) async fn next<K>(&mut self, client: &Client) -> Result<Part<K>, CallError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned,
    {
        let was_begun = self.is_begun();
        let answer = call::<ObjectList<K>>(client, self.requests.list(&self.params), LIST_TIMEOUT).await;
        let list = answer.inspect_err(|error| {
            // Whatever is wrong with the page will be wrong the next time.
            if was_begun && !error.is_transient() {
                self.params.continue_token = None;
                self.params.limit = None;
            }
        })?;
        let present = |text: &String| !text.is_empty();
        self.params.continue_token = list.metadata.continue_.filter(present);
        let place = match (was_begun, self.is_begun()) {
            (false, false) => Place::Whole,
            (false, true) => Place::Page(Page::First),
            (true, true) => Place::Page(Page::Next),
            (true, false) => Place::Page(Page::Last),
        };
        Ok(Part {
            place,
            objects: list.items,
            version: list.metadata.resource_version.filter(present),
        })
    }

    /// Whether there was a part, and there are more.
    fn is_begun(&self) -> bool {
        self.params.continue_token.is_some()
    }
}

/// Everything that has these labels, within the time for a list. A page that an API server under load
/// refuses for now is asked for again as soon as it says, so that the pages before it were not in vain.
pub(super) async fn list_all<K>(
    client: &Client,
    requests: Request,
    selector: &str,
) -> Result<Vec<K>, CallError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned,
{
    let deadline = Instant::now() + LIST_TIMEOUT;
    let mut list = PagedList::new(requests, selector);
    let mut objects = Vec::new();
    loop {
        let was_begun = list.is_begun();
        let next = time::timeout_at(deadline, list.next::<K>(client)).await;
        match next.unwrap_or(Err(CallError::Timeout { limit: LIST_TIMEOUT })) {
            Ok(part) => {
                if matches!(part.place, Place::Whole | Place::Page(Page::First)) {
                    objects.clear();
                }
                objects.extend(part.objects);
                if matches!(part.place, Place::Whole | Place::Page(Page::Last)) {
                    return Ok(objects);
                }
            }
            // It begins again.
            Err(error) if error.is_expired() && was_begun => {}
            Err(error) => {
                let again_at = error.retry_after().map(|wish| Instant::now() + wish);
                let again_at = again_at.filter(|at| was_begun && error.code() == Some(429) && *at < deadline);
                time::sleep_until(again_at.ok_or(error)?).await;
            }
        }
    }
}
