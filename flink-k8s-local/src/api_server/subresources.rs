//! Subresources that are objects of their own: binding, eviction, scale, tokens; and the reviews.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Server,
    authentication::User,
    delete::{self, DeleteOptions},
    kinds::Kind,
    patch::Patch,
    read,
    request::{Query, Target},
    status::{ApiError, success},
    store::Object,
    write::{self, Origin, Part, WriteOptions, now, text},
};

/// How long a token is valid if nobody says, and the least that one may ask for.
const TOKEN_SECONDS: i64 = 3600;
const SHORTEST_TOKEN_SECONDS: i64 = 600;

/// Puts a pod on a node.
pub(crate) fn bind(
    server: &Server,
    target: &Target,
    body: &Value,
    options: &WriteOptions,
) -> Result<Value, ApiError> {
    let node = text(body, "/target/name").to_owned();
    if node.is_empty() {
        return Err(ApiError::bad_request(
            "a Binding needs target.name, the name of the node",
        ));
    }
    let uid = text(body, "/metadata/uid").to_owned();
    let name = target.name.as_deref().unwrap_or("");
    let mut transaction = server.store.begin();
    let current = transaction
        .get(target.kind, target.namespace(), name)
        .ok_or_else(|| ApiError::not_found(target.kind, name))?;
    let mut pod = current.value.clone();
    if !uid.is_empty() && uid != text(&pod, "/metadata/uid") {
        return Err(ApiError::conflict(
            target.kind,
            name,
            "the UID in the Binding is that of another pod",
        ));
    }
    if pod["metadata"].get("deletionTimestamp").is_some() {
        return Err(ApiError::conflict(
            target.kind,
            name,
            &format!("pod {name} is being deleted, cannot be assigned to a host"),
        ));
    }
    let assigned = text(&pod, "/spec/nodeName");
    if !assigned.is_empty() {
        return Err(ApiError::conflict(
            target.kind,
            name,
            &format!("pod {name} is already assigned to node \"{assigned}\""),
        ));
    }
    pod["spec"]["nodeName"] = node.into();
    for (key, value) in body["metadata"]["annotations"].as_object().into_iter().flatten() {
        pod["metadata"]["annotations"][key] = value.clone();
    }
    let scheduled =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now()});
    let mut conditions = pod["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions.retain(|condition| text(condition, "/type") != "PodScheduled");
    conditions.push(scheduled);
    pod["status"]["conditions"] = conditions.into();
    if !options.dry_run {
        transaction.put(target.kind, target.namespace(), name, pod);
    }
    let mut answer = success(Value::Null);
    answer["code"] = 201.into();
    Ok(answer)
}

/// Deletes a pod, politely. Disruption budgets are stored but not consulted.
pub(crate) fn evict(
    server: &Server,
    target: &Target,
    query: &Query,
    body: &Value,
) -> Result<Value, ApiError> {
    let options = DeleteOptions::parse(query, &body["deleteOptions"])?;
    delete::delete(server, target, &options)?;
    let mut answer = success(Value::Null);
    answer["code"] = 201.into();
    Ok(answer)
}

/// `autoscaling/v1` Scale of a workload.
pub(crate) fn scale_of(object: &Object) -> Value {
    let object = &object.value;
    let metadata = &object["metadata"];
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": object["spec"]["replicas"]},
        "status": {
            "replicas": object["status"]["replicas"].as_i64().unwrap_or(0),
            "selector": selector_text(&object["spec"]["selector"]),
        },
    })
}

fn selector_text(selector: &Value) -> String {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut parts: Vec<_> = labels
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = text(expression, "/key");
        let values = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let values = values.collect::<Vec<_>>().join(",");
        parts.push(match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.join(",")
}

/// What a client does to a Scale.
pub(crate) enum ScaleChange {
    Replace(Value),
    Patch(Patch),
}

/// Changes the number of replicas.
pub(crate) fn change_scale(
    server: &Server,
    target: &Target,
    change: ScaleChange,
    options: &WriteOptions,
) -> Result<Value, ApiError> {
    let kind: &Kind = target.kind;
    let current = read::get(server, target)?;
    let scale = scale_of(&current);
    let scale = match change {
        ScaleChange::Replace(scale) => scale,
        ScaleChange::Patch(patch @ Patch::Apply { .. }) => {
            let Patch::Apply { configuration, .. } = patch else {
                return Err(ApiError::method_not_allowed());
            };
            let mut scale = scale;
            json_patch::merge(&mut scale, &configuration);
            scale
        }
        ScaleChange::Patch(patch) => patch.apply_to(kind, Some("scale"), scale, options)?.0,
    };
    let name = target.name.as_deref().unwrap_or("");
    let found = text(&scale, "/metadata/name");
    if !found.is_empty() && found != name {
        let message = format!("the name of the object ({found}) does not match the name on the URL ({name})");
        return Err(ApiError::bad_request(message));
    }
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    let version = text(&scale, "/metadata/resourceVersion").to_owned();
    let written = write::update(server, target, Part::Main, options, |mut object| {
        object["spec"]["replicas"] = replicas.into();
        if !version.is_empty() {
            object["metadata"]["resourceVersion"] = version.into();
        }
        Ok((object, Origin::Update))
    })?;
    Ok(scale_of(&written.object))
}

/// Makes a token for a service account.
pub(crate) fn request_token(server: &Server, target: &Target, mut body: Value) -> Result<Value, ApiError> {
    let name = target.name.as_deref().unwrap_or("");
    let asked = body["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or(TOKEN_SECONDS);
    if asked < SHORTEST_TOKEN_SECONDS {
        return Err(ApiError::bad_request(
            "spec.expirationSeconds: may not specify a duration less than 10 minutes",
        ));
    }
    read::get(server, target)?;
    let bound = &body["spec"]["boundObjectRef"];
    let pod = (text(bound, "/kind") == "Pod")
        .then(|| (text(bound, "/name").to_owned(), text(bound, "/uid").to_owned()));
    if let Some((pod, uid)) = &pod {
        let found = server.store.get(super::kinds::POD, target.namespace(), pod);
        let found = found.ok_or_else(|| ApiError::not_found(super::kinds::POD, pod))?;
        if !uid.is_empty() && text(&found.value, "/metadata/uid") != uid {
            let why =
                format!("the UID in the bound object reference ({uid}) does not match the UID in record");
            return Err(ApiError::conflict(super::kinds::POD, pod, &why));
        }
    }
    let pod = pod.map(|(pod, uid)| {
        let known = server.store.get(super::kinds::POD, target.namespace(), &pod);
        let known = known
            .map(|known| text(&known.value, "/metadata/uid").to_owned())
            .unwrap_or_default();
        (pod, if uid.is_empty() { known } else { uid })
    });
    let lifetime = Duration::from_secs(asked.unsigned_abs());
    let token = server
        .authenticator
        .issue(target.namespace(), name, pod, lifetime);
    let end = Timestamp::now()
        .saturating_add(SignedDuration::from_secs(asked))
        .unwrap_or(Timestamp::MAX);
    body["kind"] = "TokenRequest".into();
    body["apiVersion"] = "authentication.k8s.io/v1".into();
    body["metadata"] = json!({"name": name, "namespace": target.namespace(), "creationTimestamp": now()});
    body["spec"]["expirationSeconds"] = asked.into();
    if body["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
        body["spec"]["audiences"] = json!(["https://kubernetes.default.svc"]);
    }
    let end = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    body["status"] = json!({"token": token, "expirationTimestamp": end});
    Ok(body)
}

/// Answers a question about the sender itself; nothing for another path.
pub(crate) fn review(server: &Server, path: &str, user: &User, mut body: Value) -> Option<Value> {
    let information = |user: &User| json!({"username": user.name(), "groups": user.groups()});
    let (version, kind, status) = match path {
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => (
            "authorization.k8s.io/v1",
            "SelfSubjectAccessReview",
            json!({"allowed": true, "reason": "RBAC is not evaluated"}),
        ),
        "/apis/authentication.k8s.io/v1/selfsubjectreviews" => (
            "authentication.k8s.io/v1",
            "SelfSubjectReview",
            json!({"userInfo": information(user)}),
        ),
        "/apis/authentication.k8s.io/v1/tokenreviews" => {
            let status = match server
                .authenticator
                .user_of(text(&body, "/spec/token"), &server.store)
            {
                Some(user) => json!({"authenticated": true, "user": information(&user)}),
                None => json!({"authenticated": false, "error": "invalid bearer token"}),
            };
            ("authentication.k8s.io/v1", "TokenReview", status)
        }
        _ => return None,
    };
    if !body.is_object() {
        body = json!({});
    }
    body["kind"] = kind.into();
    body["apiVersion"] = version.into();
    body["metadata"] = json!({"creationTimestamp": now()});
    body["status"] = status;
    Some(body)
}
