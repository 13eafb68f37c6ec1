//! The environment of a container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret};
use kube::api::Api;
use kube::{Client, ResourceExt};

use super::NodeContext;
use super::command_line::expand;
use crate::local_cluster::ImageMapping;

/// Why a container's environment cannot be made. It is tried again: the missing object may yet come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum EnvironmentError {
    /// An object that the container names does not exist.
    #[error("{kind} {name:?} not found")]
    Missing { kind: &'static str, name: String },
    /// An object lacks the key that the container names.
    #[error("{kind} {name:?} has no key {key:?}")]
    MissingKey {
        kind: &'static str,
        name: String,
        key: String,
    },
    /// A field of the pod that cannot be given.
    #[error("field {path:?} cannot be given to a container")]
    UnsupportedField { path: String },
    /// The API server could not be asked.
    #[error("cannot read {kind} {name:?}")]
    Api {
        kind: &'static str,
        name: String,
        source: Box<kube::Error>,
    },
}

/// Reads ConfigMaps and Secrets of one namespace.
pub(super) struct ObjectReader {
    pub(super) client: Client,
    pub(super) namespace: String,
}

impl ObjectReader {
    /// Data of a ConfigMap; `None` if there is none of that name.
    pub(super) async fn config_map(
        &self,
        name: &str,
    ) -> Result<Option<BTreeMap<String, Vec<u8>>>, EnvironmentError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api
            .get_opt(name)
            .await
            .map_err(|error| refused("ConfigMap", name, error))?;
        Ok(found.map(|config_map| {
            let text = config_map
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(k, v)| (k, v.into_bytes()));
            let binary = config_map
                .binary_data
                .unwrap_or_default()
                .into_iter()
                .map(|(k, v)| (k, v.0));
            text.chain(binary).collect()
        }))
    }

    /// Data of a Secret; `None` if there is none of that name.
    pub(super) async fn secret(
        &self,
        name: &str,
    ) -> Result<Option<BTreeMap<String, Vec<u8>>>, EnvironmentError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api
            .get_opt(name)
            .await
            .map_err(|error| refused("Secret", name, error))?;
        Ok(found.map(|secret| {
            secret
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(k, v)| (k, v.0))
                .collect()
        }))
    }
}

fn refused(kind: &'static str, name: &str, error: kube::Error) -> EnvironmentError {
    EnvironmentError::Api {
        kind,
        name: name.to_owned(),
        source: Box::new(error),
    }
}

/// The whole environment of a container: the image's, the cluster's, `envFrom`, `env`, each overriding the
/// ones before.
pub(super) async fn environment(
    context: &NodeContext,
    pod: &Pod,
    container: &Container,
    image: &ImageMapping,
    host_name: &str,
    pod_address: &str,
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let reader = ObjectReader {
        client: context.client.clone(),
        namespace: pod.namespace().unwrap_or_default(),
    };
    let mut variables: BTreeMap<String, String> = image.environment.iter().cloned().collect();
    variables.insert("HOSTNAME".to_owned(), host_name.to_owned());
    let api = context.api_address.address;
    for (name, value) in [
        ("KUBERNETES_SERVICE_HOST", api.ip().to_string()),
        ("KUBERNETES_SERVICE_PORT", api.port().to_string()),
        ("KUBERNETES_SERVICE_PORT_HTTPS", api.port().to_string()),
    ] {
        variables.insert(name.to_owned(), value);
    }
    for source in container.env_from.iter().flatten() {
        let (data, prefix) = if let Some(reference) = &source.config_map_ref {
            (
                required(
                    reader.config_map(&reference.name).await?,
                    reference.optional,
                    "ConfigMap",
                    &reference.name,
                )?,
                &source.prefix,
            )
        } else if let Some(reference) = &source.secret_ref {
            (
                required(
                    reader.secret(&reference.name).await?,
                    reference.optional,
                    "Secret",
                    &reference.name,
                )?,
                &source.prefix,
            )
        } else {
            continue;
        };
        let prefix = prefix.as_deref().unwrap_or_default();
        variables.extend(data.into_iter().map(|(key, value)| {
            (
                format!("{prefix}{key}"),
                String::from_utf8_lossy(&value).into_owned(),
            )
        }));
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) => Some(expand(value, &variables)),
            (None, Some(source)) => {
                let fields = PodFields {
                    pod,
                    pod_address,
                    context,
                };
                value_from(&reader, &fields, container, source).await?
            }
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

fn required<T: Default>(
    found: Option<T>,
    optional: Option<bool>,
    kind: &'static str,
    name: &str,
) -> Result<T, EnvironmentError> {
    match found {
        Some(found) => Ok(found),
        None if optional == Some(true) => Ok(T::default()),
        None => Err(EnvironmentError::Missing {
            kind,
            name: name.to_owned(),
        }),
    }
}

/// A pod and what only the node knows about it.
pub(super) struct PodFields<'a> {
    pub(super) pod: &'a Pod,
    pub(super) pod_address: &'a str,
    pub(super) context: &'a NodeContext,
}

async fn value_from(
    reader: &ObjectReader,
    fields: &PodFields<'_>,
    container: &Container,
    source: &EnvVarSource,
) -> Result<Option<String>, EnvironmentError> {
    if let Some(field) = &source.field_ref {
        return fields.field(&field.field_path).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return fields
            .resource(
                container,
                &resource.resource,
                resource.divisor.as_ref().map(|d| d.0.as_str()),
            )
            .map(Some);
    }
    let (kind, name, key, optional, data) = if let Some(reference) = &source.config_map_key_ref {
        let data = reader.config_map(&reference.name).await?;
        (
            "ConfigMap",
            &reference.name,
            &reference.key,
            reference.optional,
            data,
        )
    } else if let Some(reference) = &source.secret_key_ref {
        let data = reader.secret(&reference.name).await?;
        (
            "Secret",
            &reference.name,
            &reference.key,
            reference.optional,
            data,
        )
    } else {
        return Ok(Some(String::new()));
    };
    let Some(data) = data else {
        return match optional {
            Some(true) => Ok(None),
            _ => Err(EnvironmentError::Missing {
                kind,
                name: name.clone(),
            }),
        };
    };
    match data.get(key) {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if optional == Some(true) => Ok(None),
        None => Err(EnvironmentError::MissingKey {
            kind,
            name: name.clone(),
            key: key.clone(),
        }),
    }
}

impl PodFields<'_> {
    /// A field of the pod, by the paths that the downward API knows.
    pub(super) fn field(&self, path: &str) -> Result<String, EnvironmentError> {
        let metadata = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let value = match path {
            "metadata.name" => metadata.name.clone(),
            "metadata.namespace" => metadata.namespace.clone(),
            "metadata.uid" => metadata.uid.clone(),
            "metadata.labels" => Some(listing(metadata.labels.as_ref())),
            "metadata.annotations" => Some(listing(metadata.annotations.as_ref())),
            "spec.nodeName" => Some(self.context.name.clone()),
            "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
            "status.hostIP" | "status.hostIPs" => Some(self.context.node_address.to_string()),
            "status.podIP" | "status.podIPs" => Some(self.pod_address.to_owned()),
            _ => match path.strip_suffix("']").and_then(|path| path.split_once("['")) {
                Some(("metadata.labels", key)) => metadata
                    .labels
                    .as_ref()
                    .map(|m| m.get(key).cloned().unwrap_or_default()),
                Some(("metadata.annotations", key)) => Some(
                    metadata
                        .annotations
                        .as_ref()
                        .and_then(|m| m.get(key).cloned())
                        .unwrap_or_default(),
                ),
                _ => {
                    return Err(EnvironmentError::UnsupportedField {
                        path: path.to_owned(),
                    });
                }
            },
        };
        Ok(value.unwrap_or_default())
    }

    /// A limit or request of a container, divided and rounded up. Without a limit, what the node offers.
    pub(super) fn resource(
        &self,
        container: &Container,
        resource: &str,
        divisor: Option<&str>,
    ) -> Result<String, EnvironmentError> {
        let unsupported = || EnvironmentError::UnsupportedField {
            path: resource.to_owned(),
        };
        let (list, name) = resource.split_once('.').ok_or_else(unsupported)?;
        let resources = container.resources.as_ref();
        let list = match list {
            "limits" => resources.and_then(|resources| resources.limits.as_ref()),
            "requests" => resources.and_then(|resources| resources.requests.as_ref()),
            _ => return Err(unsupported()),
        };
        let quantity = list
            .and_then(|list| list.get(name))
            .map(|quantity| quantity.0.as_str());
        let milli = match (quantity.and_then(milli_units), name) {
            (Some(milli), _) => milli,
            (None, "cpu") => u128::from(self.context.capacity.millicpu),
            (None, "memory") => u128::from(self.context.capacity.memory) * 1000,
            (None, _) => 0,
        };
        let divisor = divisor
            .filter(|text| *text != "0")
            .and_then(milli_units)
            .unwrap_or(1000)
            .max(1);
        Ok(milli.div_ceil(divisor).to_string())
    }
}

/// Labels or annotations as the downward API writes them.
fn listing(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A quantity such as `500m`, `2`, `1.5` or `2Gi`, in thousandths.
fn milli_units(quantity: &str) -> Option<u128> {
    let split = quantity
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(quantity.len());
    let (number, suffix) = quantity.split_at(split);
    let factor: u128 = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1000 * 1000,
        "M" => 1000 * 1000 * 1000,
        "G" => 1000 * 1000 * 1000 * 1000,
        "T" => 1000 * 1000 * 1000 * 1000 * 1000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut value = whole.parse::<u128>().ok()? * factor;
    let mut place = factor;
    for digit in fraction.chars() {
        place /= 10;
        value += u128::from(digit.to_digit(10)?) * place;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_exactly() {
        for (text, milli) in [
            ("500m", 500),
            ("2", 2000),
            ("1.5", 1500),
            ("1Ki", 1_024_000),
            ("0.5Gi", 1000 << 29),
            ("3k", 3_000_000),
        ] {
            assert_eq!(milli_units(text), Some(milli), "{text}");
        }
        assert_eq!(milli_units("many"), None);
    }

    #[test]
    fn labels_are_listed_quoted_and_sorted() {
        let labels = BTreeMap::from([
            ("b".to_owned(), "x\"y".to_owned()),
            ("a".to_owned(), "1".to_owned()),
        ]);
        assert_eq!(listing(Some(&labels)), "a=\"1\"\nb=\"x\\\"y\"");
    }
}
