//! What a request asks for: the place in the path, the parameters of the query.

use http::Uri;
use percent_encoding::percent_decode_str;

use super::{
    kinds::{self, Kind},
    status::ApiError,
};

/// Where in the API a path points.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kind: &'static Kind,
    /// Absent for cluster-wide kinds and for lists over all namespaces.
    pub(crate) namespace: Option<String>,
    /// Absent for collections.
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// What follows `proxy/`, still encoded and with its leading slash.
    pub(crate) rest: Option<String>,
}

impl Target {
    /// The namespace as the store writes it.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("")
    }
}

/// Understands a path below `/api` or `/apis`; nothing if no kind lives there.
pub(crate) fn parse_path(path: &str) -> Option<Target> {
    let raw: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let (group, version, raw) = match *raw.first()? {
        "api" => ("", *raw.get(1)?, raw.get(2..)?),
        "apis" => (*raw.get(1)?, *raw.get(2)?, raw.get(3..)?),
        _ => return None,
    };
    let mut segments: Vec<String> = raw
        .iter()
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    if segments.last().is_some_and(String::is_empty) && !raw.contains(&"proxy") {
        segments.pop();
    }
    let (namespace, skip) = match segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["namespaces", namespace, plural, ..]
            if kinds::find(group, version, plural).is_some_and(Kind::is_namespaced) =>
        {
            (Some((*namespace).to_owned()), 2)
        }
        _ => (None, 0),
    };
    let kind = kinds::find(group, version, segments.get(skip)?)?;
    let name = segments.get(skip + 1).cloned();
    let subresource = segments.get(skip + 2).cloned();
    let longest = if subresource.as_deref() == Some("proxy") {
        usize::MAX
    } else {
        skip + 3
    };
    // A name needs its namespace, and nothing but the proxy has a path below it.
    if segments.len() > longest || (kind.is_namespaced() && namespace.is_none() && name.is_some()) {
        return None;
    }
    if subresource
        .as_deref()
        .is_some_and(|subresource| !kind.has_subresource(subresource))
    {
        return None;
    }
    let below = raw.get(skip + 3..).unwrap_or_default();
    let rest = (!below.is_empty()).then(|| format!("/{}", below.join("/")));
    Some(Target {
        kind,
        namespace,
        name,
        subresource,
        rest,
    })
}

/// The query of a request, decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Self {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = uri
            .query()
            .unwrap_or("")
            .split('&')
            .filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (decode(key), decode(value)))
                .collect(),
        )
    }

    /// The first value of a parameter, unless it is empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(found, value)| found == key && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(found, _)| found == key)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a truth-valued parameter is set; present without a value counts.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.all(key)
            .next()
            .is_some_and(|value| matches!(value, "" | "true" | "1" | "True"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(key) else {
            return Ok(None);
        };
        let message = || format!("invalid query parameter {key}={text:?}: not a number");
        text.parse()
            .map(Some)
            .map_err(|_| ApiError::bad_request(message()))
    }

    /// Whether the call shall only be tried.
    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                let message = format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"");
                Err(ApiError::bad_request(message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Query, parse_path};

    fn parsed(path: &str) -> Option<String> {
        let target = parse_path(path)?;
        Some(format!(
            "{} {:?} {:?} {:?} {:?}",
            target.kind.plural, target.namespace, target.name, target.subresource, target.rest
        ))
    }

    #[test]
    fn paths_lead_to_kinds() {
        insta::assert_snapshot!(
            [
                "/api/v1/pods",
                "/api/v1/namespaces/a",
                "/api/v1/namespaces/a/status",
                "/api/v1/namespaces/a/pods",
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                "/api/v1/namespaces/a/services/b:8081/proxy/jars/up%2Fload",
                "/api/v1/namespaces/a/services/b:8081/proxy/",
            ]
            .map(|path| parsed(path).unwrap())
            .join("\n"),
            @r#"
        pods None None None None
        namespaces None Some("a") None None
        namespaces None Some("a") Some("status") None
        pods Some("a") None None None
        deployments Some("a") Some("b") Some("scale") None
        services Some("a") Some("b:8081") Some("proxy") Some("/jars/up%2Fload")
        services Some("a") Some("b:8081") Some("proxy") Some("/")
        "#
        );
    }

    #[test]
    fn paths_that_lead_nowhere_are_not_found() {
        for path in [
            "/api/v2/pods",
            "/api/v1/cats",
            "/api/v1/pods/a",
            "/api/v1/namespaces/a/pods/b/c",
            "/metrics",
        ] {
            assert_eq!(parsed(path), None, "{path}");
        }
    }

    #[test]
    fn a_parameter_without_a_value_is_set() {
        let query = Query::of(&"/x?watch&follow=true&labelSelector=a%3Db+".parse().unwrap());
        assert!(query.is_set("watch") && query.is_set("follow") && !query.is_set("previous"));
        assert_eq!(query.get("labelSelector"), Some("a=b "));
    }
}
