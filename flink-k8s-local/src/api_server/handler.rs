//! From an HTTP request to its answer: authentication, fault rules, and the verb on its target.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header, request::Parts};
use serde_json::Value;

use super::{
    Server,
    authentication::User,
    delete::{self, DeleteOptions, Deleted},
    discovery,
    faults::{Fate, Subject},
    media::{self, Form, accepted_form},
    patch::{self, Patch},
    pod_log, port_forward, proxy, read,
    render::View,
    request::{Query, Target, parse_path},
    selectors::Selector,
    status::{ApiError, bytes_response, json_response},
    subresources::{self, ScaleChange},
    watching::{Watch, wants_web_socket},
    write::{self, FieldValidation, Origin, Part, WriteOptions, Written},
};

/// Path of the fault switches.
const FAULTS_PATH: &str = "/flink-k8s-local/faults";

/// The connection has to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("a fault rule cuts this connection")]
pub(crate) struct CutConnection;

/// Answers a request.
pub(crate) async fn handle(server: Arc<Server>, request: Request<Body>) -> Result<Response, CutConnection> {
    let path = request.uri().path();
    if let "/healthz" | "/livez" | "/readyz" = path {
        return Ok(text_response(StatusCode::OK, "ok"));
    }
    if path.starts_with("/livez/") || path.starts_with("/readyz/") {
        return Ok(text_response(StatusCode::OK, "ok"));
    }
    if path == "/version" {
        return Ok(json_response(StatusCode::OK, &discovery::version()));
    }
    let user = match server
        .authenticator
        .authenticate(request.headers(), &server.store)
    {
        Ok(user) => user,
        Err(error) => return Ok(respond_to_error(error)),
    };
    if path == FAULTS_PATH {
        return Ok(faults(&server, &user, request)
            .await
            .unwrap_or_else(respond_to_error));
    }
    let target = parse_path(path);
    let subject = subject_of(&request, &user, target.as_ref());
    server.request_log.count(&subject);
    match server.faults.fate_of(&subject) {
        Fate::Serve => {}
        Fate::Refuse {
            code,
            message,
            retry_after_seconds,
        } => {
            let error = ApiError::injected(code, message, retry_after_seconds);
            return Ok(respond_to_error(error));
        }
        Fate::Cut => return Err(CutConnection),
        Fate::Delay(delay) => tokio::time::sleep(delay).await,
    }
    let answer = match target {
        Some(target) => serve(&server, target, subject, request).await,
        None => serve_path(&server, &user, request).await,
    };
    Ok(answer.unwrap_or_else(respond_to_error))
}

fn respond_to_error(error: ApiError) -> Response {
    axum::response::IntoResponse::into_response(error)
}

fn text_response(code: StatusCode, text: &'static str) -> Response {
    let mut response = bytes_response(code, text);
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn subject_of(request: &Request<Body>, user: &User, target: Option<&Target>) -> Subject {
    let verb = match (request.method(), target) {
        (&Method::GET | &Method::HEAD, Some(target)) if target.subresource.is_none() => {
            if Query::of(request.uri()).is_set("watch") {
                "watch"
            } else if target.name.is_some() {
                "get"
            } else {
                "list"
            }
        }
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, Some(target)) if target.name.is_none() => "deletecollection",
        (&Method::DELETE, _) => "delete",
        _ => "get",
    };
    Subject {
        verb,
        resource: target
            .map(|target| target.kind.plural.to_owned())
            .unwrap_or_default(),
        user_agent: user_agent(request.headers()).to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        pod: user.pod().map(str::to_owned),
    }
}

fn user_agent(headers: &http::HeaderMap) -> &str {
    headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}

async fn faults(server: &Server, user: &User, request: Request<Body>) -> Result<Response, ApiError> {
    if *user != User::Admin {
        return Err(ApiError::admin_only(FAULTS_PATH));
    }
    let (parts, body) = request.into_parts();
    match parts.method {
        Method::GET => {}
        Method::DELETE => server.faults.clear(),
        Method::POST => {
            let bytes = media::read_body(body).await?;
            let rules = serde_json::from_slice(&bytes).map_err(|error| {
                ApiError::bad_request(format!("cannot understand the fault rules: {error}"))
            })?;
            server.faults.replace(rules)?;
        }
        _ => return Err(ApiError::method_not_allowed()),
    }
    let rules = serde_json::to_value(server.faults.in_force()).map_err(ApiError::internal)?;
    Ok(json_response(StatusCode::OK, &rules))
}

/// Answers what is no stored object: discovery, `OpenAPI`, reviews.
async fn serve_path(server: &Server, user: &User, request: Request<Body>) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_end_matches('/').to_owned();
    if parts.method == Method::POST {
        let bytes = media::read_body(body).await?;
        let value = if bytes.is_empty() {
            Value::Null
        } else {
            media::decode(media::content_type(&parts.headers), &bytes)?
        };
        return match subresources::review(server, &path, user, value) {
            Some(answer) => Ok(json_response(StatusCode::CREATED, &answer)),
            None => Ok(page_not_found()),
        };
    }
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Ok(page_not_found());
    }
    let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
    let document = match segments.as_slice() {
        ["api" | "apis"] if wants_aggregated_discovery(&parts) => {
            let mut response = json_response(StatusCode::OK, &discovery::aggregated(path == "/api"));
            let media_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
            return Ok(response);
        }
        ["api"] => Some(discovery::core_versions()),
        ["apis"] => Some(discovery::groups()),
        ["api", version] => discovery::resources("", version),
        ["apis", group] => discovery::group(group),
        ["apis", group, version] => discovery::resources(group, version),
        ["openapi", "v3"] => Some(discovery::open_api_index()),
        ["openapi", "v3", below @ ..] => discovery::open_api_document(&below.join("/")),
        _ => None,
    };
    Ok(document.map_or_else(page_not_found, |document| {
        json_response(StatusCode::OK, &document)
    }))
}

fn wants_aggregated_discovery(parts: &Parts) -> bool {
    let accept = parts
        .headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    accept.flat_map(|value| value.split(',')).any(|media_type| {
        let compact: String = media_type
            .chars()
            .filter(|character| !character.is_whitespace())
            .collect();
        compact.starts_with("application/json;")
            && ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"]
                .iter()
                .all(|wanted| compact.split(';').any(|part| part == *wanted))
    })
}

fn page_not_found() -> Response {
    text_response(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// Answers a request for stored objects and their subresources.
async fn serve(
    server: &Arc<Server>,
    target: Target,
    subject: Subject,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let query = Query::of(request.uri());
    match target.subresource.as_deref() {
        Some("proxy") => return proxy::forward(server, &target, request).await,
        Some("log") => return pod_log::serve(server, &target, &query, request.method()),
        Some("portforward") => return port_forward::serve(server, &target, &query, request).await,
        _ => {}
    }
    let (mut parts, body) = request.into_parts();
    let form = match accepted_form(&parts.headers)? {
        // A written object is shown whole even to those who print tables of lists.
        Form::Table if !matches!(parts.method, Method::GET | Method::HEAD) => Form::Plain,
        form => form,
    };
    let view = View::new(target.kind, form, &query);
    if subject.verb == "watch" {
        let watch = Watch::open(server, &target, &query, view, subject)?;
        return Ok(if wants_web_socket(&parts) {
            watch.into_web_socket(&mut parts).await
        } else {
            watch.into_response()
        });
    }
    let bytes = media::read_body(body).await?;
    let call = Call {
        server,
        target,
        query,
        parts,
        bytes,
        view,
    };
    match call.parts.method {
        Method::GET | Method::HEAD => call.read(),
        Method::POST => call.create(),
        Method::PUT => call.replace(),
        Method::PATCH => call.patch(),
        Method::DELETE => call.delete(),
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// A request whose body is read.
struct Call<'a> {
    server: &'a Server,
    target: Target,
    query: Query,
    parts: Parts,
    bytes: Bytes,
    view: View,
}

impl Call<'_> {
    fn subresource(&self) -> Option<&str> {
        self.target.subresource.as_deref()
    }

    fn body(&self) -> Result<Value, ApiError> {
        media::decode(media::content_type(&self.parts.headers), &self.bytes)
    }

    fn write_options(&self) -> Result<WriteOptions, ApiError> {
        let field_validation = match self.query.get("fieldValidation") {
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            None | Some("Warn") => FieldValidation::Warn,
            Some(other) => {
                let message = format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                );
                return Err(ApiError::bad_request(message));
            }
        };
        let agent = user_agent(&self.parts.headers);
        let field_manager = self
            .query
            .get("fieldManager")
            .unwrap_or(agent.split('/').next().unwrap_or(""));
        Ok(WriteOptions {
            dry_run: self.query.dry_run()?,
            field_validation,
            field_manager: if field_manager.is_empty() {
                "unknown"
            } else {
                field_manager
            }
            .to_owned(),
        })
    }

    fn read(&self) -> Result<Response, ApiError> {
        if self.target.name.is_none() {
            let list = read::list(self.server, &self.target, &self.query, self.view)?;
            return Ok(self.view.respond(StatusCode::OK, list));
        }
        match self.subresource() {
            None | Some("status") => {
                let object = read::get(self.server, &self.target)?;
                Ok(self.view.respond(StatusCode::OK, self.view.object(&object)))
            }
            Some("scale") => {
                let object = read::get(self.server, &self.target)?;
                Ok(json_response(StatusCode::OK, &subresources::scale_of(&object)))
            }
            Some(_) => Err(ApiError::method_not_allowed()),
        }
    }

    fn create(&self) -> Result<Response, ApiError> {
        let options = self.write_options()?;
        let created = |answer: &Value| json_response(StatusCode::CREATED, answer);
        match (self.target.name.as_deref(), self.subresource()) {
            (None, None) => {
                if self.target.kind.is_namespaced() && self.target.namespace.is_none() {
                    return Err(ApiError::method_not_allowed());
                }
                let written =
                    write::create(self.server, &self.target, self.body()?, &options, Origin::Update)?;
                Ok(self.written(&written))
            }
            (Some(_), Some("binding")) => {
                subresources::bind(self.server, &self.target, &self.body()?, &options)
                    .map(|answer| created(&answer))
            }
            (Some(_), Some("eviction")) => {
                subresources::evict(self.server, &self.target, &self.query, &self.body()?)
                    .map(|answer| created(&answer))
            }
            (Some(_), Some("token")) => subresources::request_token(self.server, &self.target, self.body()?)
                .map(|answer| created(&answer)),
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    fn part(&self) -> Result<Part, ApiError> {
        match self.subresource() {
            None => Ok(Part::Main),
            Some("status") => Ok(Part::Status),
            Some("finalize") => Ok(Part::Finalize),
            Some(_) => Err(ApiError::method_not_allowed()),
        }
    }

    fn replace(&self) -> Result<Response, ApiError> {
        if self.target.name.is_none() {
            return Err(ApiError::method_not_allowed());
        }
        let options = self.write_options()?;
        let body = self.body()?;
        if self.subresource() == Some("scale") {
            let scale =
                subresources::change_scale(self.server, &self.target, ScaleChange::Replace(body), &options)?;
            return Ok(json_response(StatusCode::OK, &scale));
        }
        let written = write::update(self.server, &self.target, self.part()?, &options, |_| {
            Ok((body, Origin::Update))
        })?;
        Ok(self.written(&written))
    }

    fn patch(&self) -> Result<Response, ApiError> {
        if self.target.name.is_none() {
            return Err(ApiError::method_not_allowed());
        }
        let options = self.write_options()?;
        let force = self.query.is_set("force");
        let patch = Patch::read(media::content_type(&self.parts.headers), &self.bytes, force)?;
        if self.subresource() == Some("scale") {
            let scale =
                subresources::change_scale(self.server, &self.target, ScaleChange::Patch(patch), &options)?;
            return Ok(json_response(StatusCode::OK, &scale));
        }
        let part = self.part()?;
        let is_apply = matches!(patch, Patch::Apply { .. });
        if is_apply && self.query.get("fieldManager").is_none() {
            let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
            return Err(ApiError::bad_request(message));
        }
        if is_apply && part == Part::Main && read::get(self.server, &self.target).is_err() {
            let (object, origin) =
                patch
                    .clone()
                    .apply_to(self.target.kind, None, patch::nothing(), &options)?;
            match write::create(self.server, &self.target, object, &options, origin) {
                // Somebody else was faster, so there is something to apply to.
                Err(error) if error.is_already_exists() => {}
                created => return created.map(|written| self.written(&written)),
            }
        }
        let subresource = self.subresource().map(str::to_owned);
        let kind = self.target.kind;
        let written = write::update(self.server, &self.target, part, &options, |current| {
            patch.apply_to(kind, subresource.as_deref(), current, &options)
        })?;
        Ok(self.written(&written))
    }

    fn delete(&self) -> Result<Response, ApiError> {
        if self.subresource().is_some() {
            return Err(ApiError::method_not_allowed());
        }
        let body = if self.bytes.is_empty() {
            Value::Null
        } else {
            self.body()?
        };
        let options = DeleteOptions::parse(&self.query, &body)?;
        if self.target.name.is_none() {
            let selector = Selector::parse(
                self.target.kind,
                self.query.get("labelSelector"),
                self.query.get("fieldSelector"),
            )?;
            let deleted = delete::delete_collection(self.server, &self.target, &selector, &options)?;
            let revision = self.server.store.begin().revision();
            let metadata = super::render::ListMetadata {
                revision,
                ..Default::default()
            };
            let list = self.view.list(&metadata, deleted.iter().map(AsRef::as_ref));
            return Ok(self.view.respond(StatusCode::OK, list));
        }
        let kind = self.target.kind;
        match delete::delete(self.server, &self.target, &options)? {
            Deleted::Gone(object) if !kind.delete_returns_object => Ok(json_response(
                StatusCode::OK,
                &delete::gone_status(kind, &object.value),
            )),
            Deleted::Gone(object) | Deleted::Marked(object) => {
                Ok(self.view.respond(StatusCode::OK, self.view.object(&object)))
            }
        }
    }

    fn written(&self, written: &Written) -> Response {
        let code = if written.created {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        let mut response = self.view.respond(code, self.view.object(&written.object));
        for warning in &written.warnings {
            let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
                response.headers_mut().append(header::WARNING, value);
            }
        }
        response
    }
}
