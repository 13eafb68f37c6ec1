//! The volumes of a pod, and where its containers mount them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccount, Volume, VolumeMount, VolumeProjection,
};
use kube::ResourceExt;
use kube::api::{Api, PostParams};

use super::NodeContext;
use super::environment::{EnvironmentError, ObjectReader, PodFields};
use super::volume_directory::{VolumeFile, VolumeFiles, stays_inside, write_volume};
use crate::sandbox::file_system::ContainerMount;

/// Where a container finds its pod's credentials.
pub(super) const SERVICE_ACCOUNT_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Name of the credentials volume that is added to pods which come without one.
const SERVICE_ACCOUNT_VOLUME: &str = "..kube-api-access";
/// Life of a token unless the pod says otherwise.
const TOKEN_SECONDS: i64 = 3607;
/// Mode of files unless the pod says otherwise.
const DEFAULT_MODE: i32 = 0o644;
/// How often tokens are replaced: well before the shortest possible one (ten minutes) expires.
pub(super) const TOKEN_REFRESH_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How long preparing one volume may take.
const VOLUME_LIMIT: Duration = Duration::from_secs(20);

/// Why a volume is not there yet. It is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum VolumeError {
    /// What the volume shows is missing or cannot be read.
    #[error("MountVolume.SetUp failed for volume {volume:?}")]
    Source {
        volume: String,
        source: EnvironmentError,
    },
    /// The token of the pod's `ServiceAccount` was refused.
    #[error("MountVolume.SetUp failed for volume {volume:?}: no token for ServiceAccount {account:?}")]
    Token {
        volume: String,
        account: String,
        source: Box<kube::Error>,
    },
    /// A hostPath is not of the type the pod asks for.
    #[error("MountVolume.SetUp failed for volume {volume:?}: hostPath {} is not {expected}", path.display())]
    HostPath {
        volume: String,
        path: PathBuf,
        expected: &'static str,
    },
    /// The API server does not answer.
    #[error("MountVolume.SetUp failed for volume {volume:?}: no answer from the API server")]
    NoAnswer { volume: String },
    /// A kind of volume that is not supported.
    #[error("volume {volume:?} is of a kind that a local cluster does not have")]
    Unsupported { volume: String },
    /// The volume's directory cannot be written.
    #[error("MountVolume.SetUp failed for volume {volume:?}: cannot write its directory")]
    Write { volume: String, source: std::io::Error },
    /// A container mounts a volume that the pod does not have, or a path that is not in it.
    #[error("container {container:?} cannot mount {path:?} of volume {volume:?}")]
    Mount {
        container: String,
        volume: String,
        path: String,
    },
}

/// The prepared volumes of one pod.
pub(super) struct PodVolumes<'a> {
    context: &'a NodeContext,
    pod: &'a Pod,
    pod_address: String,
}

impl<'a> PodVolumes<'a> {
    pub(super) fn new(context: &'a NodeContext, pod: &'a Pod, pod_address: String) -> Self {
        Self {
            context,
            pod,
            pod_address,
        }
    }

    /// Directory of the pod in memory: what must not reach a disk.
    pub(super) fn memory_directory(context: &NodeContext, uid: &str) -> PathBuf {
        context.run_directory.join("pods").join(uid)
    }

    /// Directory of the pod on disk: what may be large.
    pub(super) fn disk_directory(context: &NodeContext, uid: &str) -> PathBuf {
        context.pods_directory.join(uid)
    }

    /// Names of the pod's volumes that show objects which may change.
    pub(super) fn shows(&self, kind: &str, name: &str) -> bool {
        self.volumes().iter().any(|volume| {
            let of_config_map = |reference: &str| kind == "ConfigMap" && reference == name;
            let of_secret = |reference: &str| kind == "Secret" && reference == name;
            let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
            volume
                .config_map
                .as_ref()
                .is_some_and(|source| of_config_map(&source.name))
                || volume
                    .secret
                    .as_ref()
                    .is_some_and(|s| s.secret_name.as_deref().is_some_and(of_secret))
                || projected
                    .clone()
                    .any(|s| s.config_map.as_ref().is_some_and(|s| of_config_map(&s.name)))
                || projected
                    .clone()
                    .any(|s| s.secret.as_ref().is_some_and(|s| of_secret(&s.name)))
        })
    }

    /// Makes every volume hold what it should hold now. Fine to repeat.
    pub(super) async fn prepare(&self) -> Result<(), VolumeError> {
        for volume in self.volumes() {
            match tokio::time::timeout(VOLUME_LIMIT, self.prepare_volume(&volume)).await {
                Ok(prepared) => prepared?,
                Err(_) => return Err(VolumeError::NoAnswer { volume: volume.name }),
            }
        }
        Ok(())
    }

    /// The pod's volumes, and its credentials if it lacks them although it wants them.
    fn volumes(&self) -> Vec<Volume> {
        let mut volumes: Vec<Volume> = self
            .pod
            .spec
            .iter()
            .flat_map(|s| s.volumes.iter().flatten())
            .cloned()
            .collect();
        if self.wants_credentials() {
            volumes.push(Volume {
                name: SERVICE_ACCOUNT_VOLUME.to_owned(),
                ..Volume::default()
            });
        }
        volumes
    }

    /// Whether a container lacks the credentials that admission adds on other clusters.
    fn wants_credentials(&self) -> bool {
        let Some(spec) = &self.pod.spec else { return false };
        let containers = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten());
        spec.automount_service_account_token != Some(false)
            && containers
                .into_iter()
                .any(|container| !mounts_credentials(container))
    }

    async fn prepare_volume(&self, volume: &Volume) -> Result<(), VolumeError> {
        let name = &volume.name;
        let refused = |source| VolumeError::Source {
            volume: name.clone(),
            source,
        };
        let path = self.path_of(volume);
        let written = |result: std::io::Result<()>| {
            result.map_err(|source| VolumeError::Write {
                volume: name.clone(),
                source,
            })
        };
        if volume.empty_dir.is_some() {
            written(fs::create_dir_all(&path))?;
            return written(fs::set_permissions(&path, fs::Permissions::from_mode(0o777)));
        }
        if let Some(source) = &volume.host_path {
            return check_host_path(name, &path, source.type_.as_deref().unwrap_or_default());
        }
        let mut files = VolumeFiles::new();
        if let Some(source) = &volume.config_map {
            let items = Items {
                kind: "ConfigMap",
                name: &source.name,
                chosen: source.items.as_deref(),
                optional: source.optional,
                mode: source.default_mode,
            };
            let data = self.reader().config_map(&source.name).await.map_err(refused)?;
            items.add(data, &mut files).map_err(refused)?;
        } else if let Some(source) = &volume.secret {
            let secret = source.secret_name.as_deref().unwrap_or_default();
            let items = Items {
                kind: "Secret",
                name: secret,
                chosen: source.items.as_deref(),
                optional: source.optional,
                mode: source.default_mode,
            };
            let data = self.reader().secret(secret).await.map_err(refused)?;
            items.add(data, &mut files).map_err(refused)?;
        } else if let Some(source) = &volume.downward_api {
            self.add_fields(source.items.as_deref(), source.default_mode, &mut files)
                .map_err(refused)?;
        } else if let Some(source) = &volume.projected {
            for projection in source.sources.iter().flatten() {
                self.add_projection(name, projection, source.default_mode, &mut files)
                    .await?;
            }
        } else if name == SERVICE_ACCOUNT_VOLUME {
            self.add_credentials(&mut files).await?;
        } else {
            return Err(VolumeError::Unsupported { volume: name.clone() });
        }
        written(write_volume(&path, &files))
    }

    async fn add_projection(
        &self,
        volume: &str,
        projection: &VolumeProjection,
        mode: Option<i32>,
        files: &mut VolumeFiles,
    ) -> Result<(), VolumeError> {
        let refused = |source| VolumeError::Source {
            volume: volume.to_owned(),
            source,
        };
        if let Some(source) = &projection.config_map {
            let items = Items {
                kind: "ConfigMap",
                name: &source.name,
                chosen: source.items.as_deref(),
                optional: source.optional,
                mode,
            };
            let data = self.reader().config_map(&source.name).await.map_err(refused)?;
            items.add(data, files).map_err(refused)?;
        }
        if let Some(source) = &projection.secret {
            let items = Items {
                kind: "Secret",
                name: &source.name,
                chosen: source.items.as_deref(),
                optional: source.optional,
                mode,
            };
            let data = self.reader().secret(&source.name).await.map_err(refused)?;
            items.add(data, files).map_err(refused)?;
        }
        if let Some(source) = &projection.downward_api {
            self.add_fields(source.items.as_deref(), mode, files)
                .map_err(refused)?;
        }
        if let Some(source) = &projection.service_account_token {
            let token = self
                .token(volume, source.audience.as_deref(), source.expiration_seconds)
                .await?;
            files.insert(
                source.path.clone(),
                VolumeFile {
                    content: token.into_bytes(),
                    mode: mode_bits(mode),
                },
            );
        }
        Ok(())
    }

    async fn add_credentials(&self, files: &mut VolumeFiles) -> Result<(), VolumeError> {
        let token = self.token(SERVICE_ACCOUNT_VOLUME, None, None).await?;
        for (path, content) in [
            ("token", token),
            ("ca.crt", self.context.api_address.ca_certificate.clone()),
            ("namespace", self.pod.namespace().unwrap_or_default()),
        ] {
            files.insert(
                path.to_owned(),
                VolumeFile {
                    content: content.into_bytes(),
                    mode: mode_bits(None),
                },
            );
        }
        Ok(())
    }

    /// A token of the pod's `ServiceAccount`, bound to the pod.
    async fn token(
        &self,
        volume: &str,
        audience: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<String, VolumeError> {
        let account = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.clone());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let accounts: Api<ServiceAccount> = Api::namespaced(
            self.context.client.clone(),
            &self.pod.namespace().unwrap_or_default(),
        );
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: audience.map(str::to_owned).into_iter().collect(),
                expiration_seconds: Some(seconds.unwrap_or(TOKEN_SECONDS)),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: self.pod.metadata.name.clone(),
                    uid: self.pod.metadata.uid.clone(),
                }),
            },
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(&account, &PostParams::default(), &request)
            .await;
        let answer = answer.map_err(|error| VolumeError::Token {
            volume: volume.to_owned(),
            account,
            source: Box::new(error),
        })?;
        Ok(answer.status.map(|status| status.token).unwrap_or_default())
    }

    fn add_fields(
        &self,
        items: Option<&[DownwardAPIVolumeFile]>,
        mode: Option<i32>,
        files: &mut VolumeFiles,
    ) -> Result<(), EnvironmentError> {
        let fields = PodFields {
            pod: self.pod,
            pod_address: &self.pod_address,
            context: self.context,
        };
        for item in items.unwrap_or_default() {
            let content = if let Some(field) = &item.field_ref {
                fields.field(&field.field_path)?
            } else if let Some(resource) = &item.resource_field_ref {
                let name = resource.container_name.as_deref();
                let containers = self.pod.spec.iter().flat_map(|spec| &spec.containers);
                let container = containers
                    .into_iter()
                    .find(|container| Some(container.name.as_str()) == name);
                let container = container.ok_or_else(|| EnvironmentError::UnsupportedField {
                    path: resource.resource.clone(),
                })?;
                fields.resource(
                    container,
                    &resource.resource,
                    resource.divisor.as_ref().map(|d| d.0.as_str()),
                )?
            } else {
                continue;
            };
            let mode = mode_bits(item.mode.or(mode));
            files.insert(
                item.path.clone(),
                VolumeFile {
                    content: content.into_bytes(),
                    mode,
                },
            );
        }
        Ok(())
    }

    fn reader(&self) -> ObjectReader {
        ObjectReader {
            client: self.context.client.clone(),
            namespace: self.pod.namespace().unwrap_or_default(),
        }
    }

    /// Where a volume's content is on this machine.
    fn path_of(&self, volume: &Volume) -> PathBuf {
        let uid = self.pod.uid().unwrap_or_default();
        let in_memory = Self::memory_directory(self.context, &uid)
            .join("volumes")
            .join(&volume.name);
        if let Some(source) = &volume.host_path {
            return PathBuf::from(&source.path);
        }
        match &volume.empty_dir {
            Some(source) if source.medium.as_deref() != Some("Memory") => {
                Self::disk_directory(self.context, &uid)
                    .join("volumes")
                    .join(&volume.name)
            }
            _ => in_memory,
        }
    }

    /// What a container mounts, outer directories before inner ones.
    pub(super) fn mounts_of(
        &self,
        container: &Container,
        environment: &BTreeMap<String, String>,
    ) -> Result<Vec<ContainerMount>, VolumeError> {
        let volumes = self.volumes();
        let mut mounts = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            let failed = |path: &str| VolumeError::Mount {
                container: container.name.clone(),
                volume: mount.name.clone(),
                path: path.to_owned(),
            };
            let volume = volumes.iter().find(|volume| volume.name == mount.name);
            let volume = volume.ok_or_else(|| failed(""))?;
            let mut source = self.path_of(volume);
            if let Some(sub_path) = sub_path(mount, environment) {
                if !stays_inside(&sub_path) {
                    return Err(failed(&sub_path));
                }
                source = resolve_sub_path(volume, &source, &sub_path).ok_or_else(|| failed(&sub_path))?;
            }
            let read_only = mount.read_only == Some(true)
                || volume.config_map.is_some()
                || volume.secret.is_some()
                || volume.projected.is_some()
                || volume.downward_api.is_some();
            mounts.push(ContainerMount::Bind {
                source,
                target: PathBuf::from(&mount.mount_path),
                read_only,
            });
        }
        let implicit = volumes
            .iter()
            .find(|volume| volume.name == SERVICE_ACCOUNT_VOLUME);
        if let (Some(volume), false) = (implicit, mounts_credentials(container)) {
            mounts.push(ContainerMount::Bind {
                source: self.path_of(volume),
                target: PathBuf::from(SERVICE_ACCOUNT_DIRECTORY),
                read_only: true,
            });
        }
        mounts.sort_by_key(|mount| mount.target().components().count());
        Ok(mounts)
    }
}

fn mounts_credentials(container: &Container) -> bool {
    container
        .volume_mounts
        .iter()
        .flatten()
        .any(|mount| mount.mount_path == SERVICE_ACCOUNT_DIRECTORY)
}

fn sub_path(mount: &VolumeMount, environment: &BTreeMap<String, String>) -> Option<String> {
    let expanded = mount
        .sub_path_expr
        .as_ref()
        .map(|text| super::command_line::expand(text, environment));
    expanded
        .or_else(|| mount.sub_path.clone())
        .filter(|path| !path.is_empty())
}

/// A path inside a volume. Directories that may be written to are made when they are missing.
fn resolve_sub_path(volume: &Volume, source: &Path, sub_path: &str) -> Option<PathBuf> {
    let path = source.join(sub_path);
    let is_own = volume.empty_dir.is_some() || volume.host_path.is_some();
    if is_own && !path.exists() {
        fs::create_dir_all(&path).ok()?;
    }
    // A file of a ConfigMap is a chain of links, and only its end can be mounted.
    path.canonicalize().ok()
}

fn check_host_path(volume: &str, path: &Path, kind: &str) -> Result<(), VolumeError> {
    let found = fs::metadata(path);
    if kind == "DirectoryOrCreate" && found.is_err() {
        return fs::create_dir_all(path).map_err(|source| VolumeError::Write {
            volume: volume.to_owned(),
            source,
        });
    }
    if kind == "FileOrCreate" && found.is_err() {
        return fs::write(path, "").map_err(|source| VolumeError::Write {
            volume: volume.to_owned(),
            source,
        });
    }
    let expected = match kind {
        "Directory" | "DirectoryOrCreate" if !found.as_ref().is_ok_and(fs::Metadata::is_dir) => "a directory",
        "File" | "FileOrCreate" if !found.as_ref().is_ok_and(fs::Metadata::is_file) => "a file",
        _ if found.is_err() => "there",
        _ => return Ok(()),
    };
    Err(VolumeError::HostPath {
        volume: volume.to_owned(),
        path: path.to_owned(),
        expected,
    })
}

fn mode_bits(mode: Option<i32>) -> u32 {
    mode.unwrap_or(DEFAULT_MODE).cast_unsigned() & 0o777
}

/// Which keys of an object become which files.
struct Items<'a> {
    kind: &'static str,
    name: &'a str,
    chosen: Option<&'a [KeyToPath]>,
    optional: Option<bool>,
    mode: Option<i32>,
}

impl Items<'_> {
    fn add(
        &self,
        data: Option<BTreeMap<String, Vec<u8>>>,
        files: &mut VolumeFiles,
    ) -> Result<(), EnvironmentError> {
        let optional = self.optional == Some(true);
        let Some(mut data) = data else {
            if optional {
                return Ok(());
            }
            return Err(EnvironmentError::Missing {
                kind: self.kind,
                name: self.name.to_owned(),
            });
        };
        let Some(items) = self.chosen.filter(|items| !items.is_empty()) else {
            let mode = mode_bits(self.mode);
            files.extend(
                data.into_iter()
                    .map(|(key, content)| (key, VolumeFile { content, mode })),
            );
            return Ok(());
        };
        for item in items {
            match data.remove(&item.key) {
                Some(content) => {
                    let mode = mode_bits(item.mode.or(self.mode));
                    files.insert(item.path.clone(), VolumeFile { content, mode });
                }
                None if optional => {}
                None => {
                    return Err(EnvironmentError::MissingKey {
                        kind: self.kind,
                        name: self.name.to_owned(),
                        key: item.key.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(entries: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect()
    }

    fn items(items: Option<&[KeyToPath]>, optional: Option<bool>) -> Items<'_> {
        Items {
            kind: "ConfigMap",
            name: "conf",
            chosen: items,
            optional,
            mode: None,
        }
    }

    #[test]
    fn items_choose_keys_and_name_their_files() {
        let chosen = [KeyToPath {
            key: "a".to_owned(),
            path: "x/y".to_owned(),
            mode: Some(0o600),
        }];
        let mut files = VolumeFiles::new();
        items(Some(&chosen), None)
            .add(Some(data(&[("a", "1"), ("b", "2")])), &mut files)
            .unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(
            files["x/y"],
            VolumeFile {
                content: b"1".to_vec(),
                mode: 0o600
            }
        );
    }

    #[test]
    fn what_is_missing_is_an_error_unless_it_is_optional() {
        let mut files = VolumeFiles::new();
        let error = items(None, None).add(None, &mut files).unwrap_err();
        assert_eq!(error.to_string(), "ConfigMap \"conf\" not found");
        items(None, Some(true)).add(None, &mut files).unwrap();
        let chosen = [KeyToPath {
            key: "a".to_owned(),
            path: "a".to_owned(),
            mode: None,
        }];
        let error = items(Some(&chosen), None)
            .add(Some(data(&[])), &mut files)
            .unwrap_err();
        assert_eq!(error.to_string(), "ConfigMap \"conf\" has no key \"a\"");
    }

    #[test]
    fn a_host_path_of_the_wrong_type_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = check_host_path("v", directory.path(), "File").unwrap_err();
        assert!(error.to_string().contains("is not a file"), "{error}");
        check_host_path("v", directory.path(), "Directory").unwrap();
        check_host_path("v", &directory.path().join("new"), "DirectoryOrCreate").unwrap();
        assert!(directory.path().join("new").is_dir());
    }
}
