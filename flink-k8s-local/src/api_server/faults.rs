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
//! Without `verbs`, `resource` or `userAgentContains` a rule is about all of them, and without `forSeconds` it stays
//! in force until it is replaced. Verbs are those of Kubernetes authorization: `get`, `list`, `watch`, `create`,
//! `update`, `patch`, `delete`, `deletecollection`. Actions: `{"status": 500}` answers with that code and a Status, whose
//! words are the rule's `message` if it has one,
//! `{"cut": true}` closes the connection without an answer, `{"delayMilliseconds": 200}` waits first. Open watches
//! that match a `status` or `cut` rule are cut when the rule arrives.

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
    rules: Mutex<Vec<(Rule, Option<Instant>)>>,
    arrived: watch::Sender<u64>,
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
    action: Action,
    message: Option<String>,
    for_seconds: Option<f64>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Action {
    Status(u16),
    Cut(bool),
    DelayMilliseconds(u64),
}

/// A request as the rules see it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) verb: &'static str,
    pub(crate) resource: String,
    pub(crate) user_agent: String,
}

/// What shall happen to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Serve,
    Refuse(StatusCode, Option<String>),
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
            timed.push((rule, lifetime.map(|lifetime| Instant::now() + lifetime)));
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
        let now = Instant::now();
        let living = rules.iter().filter(|(_, end)| end.is_none_or(|end| end > now));
        Rules {
            rules: living.map(|(rule, _)| rule.clone()).collect(),
        }
    }

    /// A signal that fires when rules arrive.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.arrived.subscribe()
    }

    pub(crate) fn fate_of(&self, subject: &Subject) -> Fate {
        let rules = self.in_force().rules;
        let Some(rule) = rules.iter().find(|rule| rule.matches(subject)) else {
            return Fate::Serve;
        };
        match rule.action {
            Action::Status(code) => {
                let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Fate::Refuse(code, rule.message.clone())
            }
            Action::Cut(true) => Fate::Cut,
            Action::Cut(false) => Fate::Serve,
            Action::DelayMilliseconds(delay) => Fate::Delay(Duration::from_millis(delay)),
        }
    }

    /// Whether an open watch has to end now.
    pub(crate) fn cuts(&self, watch: &Subject) -> bool {
        matches!(self.fate_of(watch), Fate::Cut | Fate::Refuse(..))
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
            Fate::Refuse(StatusCode::INTERNAL_SERVER_ERROR, Some("no".to_owned()))
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
    fn a_rule_ends_by_itself() {
        let faults = faults(&json!([{"action": {"cut": true}, "forSeconds": 0}]));
        assert_eq!(faults.fate_of(&subject("watch", "pods")), Fate::Serve);
    }
}
