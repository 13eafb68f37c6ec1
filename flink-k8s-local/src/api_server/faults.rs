//! Fault switches: lets a test make the server refuse, delay or cut chosen requests.
//!
//! `POST /flink-k8s-local/faults` with the administrator's token and a body of rules replaces the rules in force;
//! `DELETE` removes them; `GET` shows them.
//!
//! ```json
//! {"rules": [{
//!   "verbs": ["watch", "list"],
//!   "resource": "pods",
//!   "userAgentContains": "fabric8",
//!   "action": {"status": 500},
//!   "forSeconds": 10
//! }]}
//! ```
//!
//! Without `verbs`, `resource`, `userAgentContains`, `queryContains` or `pod` (the name of the pod whose token the request
//! has, so that a test can cut one pod off) a rule is about all of them, and without
//! `forSeconds` or `times` it stays in force until it is replaced. Verbs are those of Kubernetes authorization: `get`,
//! `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`. Actions: `{"status": 500}` answers with
//! that code and a Status, whose words are the rule's `message` and whose wish for the next attempt its
//! `retryAfterSeconds`, if it has them; `{"cut": true}` closes the connection without an answer,
//! `{"cutWithinEvent": true}` closes that of a watch in the middle of its next event, `{"delayMilliseconds": 200}` waits
//! first. Open watches that match a `status` or `cut` rule are cut when the rule arrives.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::status::ApiError;

/// The rules in force.
#[derive(Debug)]
pub(crate) struct Faults {
    rules: Mutex<Vec<RuleInForce>>,
    arrived: watch::Sender<u64>,
}

/// A rule, and when it is over.
#[derive(Debug)]
struct RuleInForce {
    rule: Rule,
    ends_at: Option<Instant>,
    times_left: Option<u64>,
}

/// The body of a POST.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    verbs: Vec<String>,
    resource: Option<String>,
    user_agent_contains: Option<String>,
    query_contains: Option<String>,
    pod: Option<String>,
    action: Action,
    message: Option<String>,
    for_seconds: Option<f64>,
    times: Option<u64>,
    retry_after_seconds: Option<u32>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Action {
    Status(u16),
    Cut(bool),
    CutWithinEvent(bool),
    DelayMilliseconds(u64),
}

/// A request as the rules see it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) verb: &'static str,
    pub(crate) resource: String,
    pub(crate) user_agent: String,
    /// As the client wrote it.
    pub(crate) query: String,
    /// In which pod it comes from, as its token says.
    pub(crate) pod: Option<String>,
}

/// What shall happen to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Serve,
    Refuse {
        code: StatusCode,
        message: Option<String>,
        retry_after_seconds: Option<u32>,
    },
    Cut,
    Delay(Duration),
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self {
            rules: Mutex::new(Vec::new()),
            arrived: watch::Sender::new(0),
        }
    }

    pub(crate) fn replace(&self, rules: Rules) -> Result<(), ApiError> {
        let mut timed = Vec::new();
        for rule in rules.rules {
            if let Action::Status(code) = rule.action
                && !(400..600).contains(&code)
            {
                let message = format!("a fault rule's status is a code from 400 to 599, not {code}");
                return Err(ApiError::bad_request(message));
            }
            let lifetime = rule.for_seconds.map(Duration::try_from_secs_f64).transpose();
            let lifetime = lifetime.map_err(|error| ApiError::bad_request(format!("forSeconds: {error}")))?;
            timed.push(RuleInForce {
                ends_at: lifetime.map(|lifetime| Instant::now() + lifetime),
                times_left: rule.times,
                rule,
            });
        }
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = timed;
        self.arrived.send_modify(|count| *count += 1);
        Ok(())
    }

    pub(crate) fn clear(&self) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn in_force(&self) -> Rules {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let living = rules.iter().filter(|rule| !rule.is_over());
        Rules {
            rules: living.map(|rule| rule.rule.clone()).collect(),
        }
    }

    /// A signal that fires when rules arrive.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.arrived.subscribe()
    }

    pub(crate) fn fate_of(&self, subject: &Subject) -> Fate {
        let is_about_answers = |action: &Action| !matches!(action, Action::CutWithinEvent(_));
        let Some(rule) = self.use_rule(subject, is_about_answers) else {
            return Fate::Serve;
        };
        match rule.action {
            Action::Status(code) => Fate::Refuse {
                code: StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                message: rule.message,
                retry_after_seconds: rule.retry_after_seconds,
            },
            Action::Cut(true) => Fate::Cut,
            Action::Cut(false) | Action::CutWithinEvent(_) => Fate::Serve,
            Action::DelayMilliseconds(delay) => Fate::Delay(Duration::from_millis(delay)),
        }
    }

    /// The first rule that matches, used once.
    fn use_rule(&self, subject: &Subject, is_wanted: impl Fn(&Action) -> bool) -> Option<Rule> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let found = rules
            .iter_mut()
            .filter(|rule| !rule.is_over())
            .find(|rule| is_wanted(&rule.rule.action) && rule.rule.matches(subject))?;
        found.times_left = found.times_left.map(|left| left - 1);
        Some(found.rule.clone())
    }

    /// Whether an open watch has to end now.
    pub(crate) fn cuts(&self, watch: &Subject) -> bool {
        matches!(self.fate_of(watch), Fate::Cut | Fate::Refuse { .. })
    }

    /// Whether the event that an open watch is about to send has to break off.
    pub(crate) fn cuts_within_event(&self, watch: &Subject) -> bool {
        let is_it = |action: &Action| matches!(action, Action::CutWithinEvent(true));
        self.use_rule(watch, is_it).is_some()
    }
}

impl RuleInForce {
    fn is_over(&self) -> bool {
        self.times_left == Some(0) || self.ends_at.is_some_and(|end| end <= Instant::now())
    }
}

impl Rule {
    fn matches(&self, subject: &Subject) -> bool {
        (self.verbs.is_empty() || self.verbs.iter().any(|verb| verb == subject.verb))
            && self
                .resource
                .as_ref()
                .is_none_or(|resource| *resource == subject.resource)
            && self
                .user_agent_contains
                .as_ref()
                .is_none_or(|part| subject.user_agent.contains(part.as_str()))
            && self
                .query_contains
                .as_ref()
                .is_none_or(|part| subject.query.contains(part.as_str()))
            && (self.pod.is_none() || self.pod == subject.pod)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;
    use serde_json::{Value, json};

    use super::{Fate, Faults, Subject};

    fn faults(rules: &Value) -> Faults {
        let faults = Faults::new();
        faults
            .replace(serde_json::from_value(json!({"rules": rules})).unwrap())
            .unwrap();
        faults
    }

    fn subject(verb: &'static str, resource: &str) -> Subject {
        Subject {
            verb,
            resource: resource.to_owned(),
            user_agent: "fabric8-kubernetes-client/6.13".to_owned(),
            query: "limit=500&continue=abc".to_owned(),
            pod: Some("orders-1".to_owned()),
        }
    }

    #[test]
    fn a_rule_is_about_what_it_names() {
        let faults = faults(&json!([
            {"verbs": ["watch"], "resource": "pods", "action": {"status": 500}, "message": "no"},
            {"userAgentContains": "kubectl", "action": {"cut": true}},
            {"resource": "nodes", "action": {"delayMilliseconds": 5}},
        ]));
        assert_eq!(
            faults.fate_of(&subject("watch", "pods")),
            Fate::Refuse {
                code: StatusCode::INTERNAL_SERVER_ERROR,
                message: Some("no".to_owned()),
                retry_after_seconds: None,
            }
        );
        assert_eq!(faults.fate_of(&subject("list", "pods")), Fate::Serve);
        assert_eq!(
            faults.fate_of(&subject("get", "nodes")),
            Fate::Delay(Duration::from_millis(5))
        );
        faults.clear();
        assert_eq!(faults.fate_of(&subject("watch", "pods")), Fate::Serve);
    }

    #[test]
    fn one_pod_can_be_cut_off() {
        let of = |pod: &str| faults(&json!([{"pod": pod, "action": {"cut": true}}]));
        assert_eq!(of("orders-1").fate_of(&subject("get", "pods")), Fate::Cut);
        assert_eq!(of("orders-2").fate_of(&subject("get", "pods")), Fate::Serve);
    }

    #[test]
    fn a_rule_ends_by_itself() {
        let faults = faults(&json!([{"action": {"cut": true}, "forSeconds": 0}]));
        assert_eq!(faults.fate_of(&subject("watch", "pods")), Fate::Serve);
    }

    #[test]
    fn a_rule_about_some_queries_is_used_as_often_as_it_says() {
        let faults = faults(&json!([
            {"queryContains": "watch=true", "action": {"cut": true}},
            {"queryContains": "continue=", "action": {"status": 429}, "retryAfterSeconds": 3, "times": 2},
        ]));
        let refused = Fate::Refuse {
            code: StatusCode::TOO_MANY_REQUESTS,
            message: None,
            retry_after_seconds: Some(3),
        };
        let fates = [(); 3].map(|()| faults.fate_of(&subject("list", "pods")));
        assert_eq!(fates, [refused.clone(), refused, Fate::Serve]);
    }

    #[test]
    fn a_rule_about_events_is_no_rule_about_answers() {
        let faults = faults(&json!([{"action": {"cutWithinEvent": true}, "times": 1}]));
        let watch = subject("watch", "pods");
        assert_eq!(faults.fate_of(&watch), Fate::Serve);
        assert!(faults.cuts_within_event(&watch) && !faults.cuts_within_event(&watch));
    }
}
