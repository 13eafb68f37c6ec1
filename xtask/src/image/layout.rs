//! An image of one layer, as OCI image layout and as archive for `docker load`.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::tape::{self, Entry};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Nothing in an image says when it was made: the same programs are the same image.
const CREATED: &str = "1970-01-01T00:00:00Z";
/// The user of Flink's images, as a number, so that Kubernetes can see that it is not root.
const USER: &str = "9999:9999";

/// What registries and engines show of an image.
#[derive(Clone, Debug)]
pub(crate) struct Labels(Value);

impl Labels {
    /// Those of what is checked out.
    pub(crate) fn of_this_version() -> Self {
        Self(json!({
            "org.opencontainers.image.title": "flink-k8s",
            "org.opencontainers.image.description": "Runs Apache Flink on Kubernetes",
            "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.image.licenses": "Apache-2.0",
        }))
    }
}

/// A complete image.
#[derive(Debug)]
pub(crate) struct Image {
    layer: Vec<u8>,
    configuration: Vec<u8>,
    manifest: Vec<u8>,
    tag: String,
}

impl Image {
    /// An image with this archive as its only layer.
    ///
    /// # Errors
    ///
    /// It cannot be compressed.
    pub(crate) fn of_layer(archive: &[u8], labels: &Labels, tag: &str) -> anyhow::Result<Self> {
        let mut compressor = GzBuilder::new()
            .mtime(0)
            .write(Vec::new(), Compression::default());
        compressor
            .write_all(archive)
            .context("cannot compress the layer")?;
        let layer = compressor.finish().context("cannot compress the layer")?;
        let configuration = json!({
            "created": CREATED,
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "User": USER,
                "Entrypoint": [format!("/{}/flink-k8s", super::PROGRAM_DIRECTORY)],
                "WorkingDir": "/",
                "Labels": labels.0,
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(archive)]},
            "history": [{"created": CREATED, "created_by": "cargo xtask image"}],
        });
        let configuration = configuration.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described(CONFIGURATION, &configuration),
            "layers": [described(LAYER, &layer)],
            "annotations": labels.0,
        });
        Ok(Self {
            layer,
            configuration,
            manifest: manifest.to_string().into_bytes(),
            tag: tag.to_owned(),
        })
    }

    /// By which the image is known wherever it is.
    pub(crate) fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// Writes the image layout.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub(crate) fn write_layout(&self, directory: &Path) -> anyhow::Result<()> {
        for (name, content) in self.files() {
            let path = directory.join(name);
            let parent = path.parent().context("a file of the layout has a directory")?;
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&path, content))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// The layout as one archive, with what older versions of `docker load` look for.
    ///
    /// # Errors
    ///
    /// It does not fit the format of the archive.
    pub(crate) fn archive(&self) -> anyhow::Result<Vec<u8>> {
        let for_docker = json!([{
            "Config": blob_path(&self.configuration),
            "RepoTags": [self.tag],
            "Layers": [blob_path(&self.layer)],
        }]);
        let mut files = self.files();
        files.push(("manifest.json".to_owned(), for_docker.to_string().into_bytes()));
        let mut entries = vec![
            Entry::directory("blobs", 0o755),
            Entry::directory("blobs/sha256", 0o755),
        ];
        entries.extend(
            files
                .iter()
                .map(|(name, content)| Entry::file(name, 0o644, content)),
        );
        tape::written(&entries)
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut manifest = described(MANIFEST, &self.manifest);
        manifest["platform"] = json!({"architecture": "amd64", "os": "linux"});
        // Engines know the image by the one, tools for layouts by the other.
        let version = self.tag.rsplit_once(':').map_or("latest", |(_, version)| version);
        manifest["annotations"] = json!({
            "io.containerd.image.name": self.tag,
            "org.opencontainers.image.ref.name": version,
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
        let layout = json!({"imageLayoutVersion": "1.0.0"});
        let mut files: Vec<(String, Vec<u8>)> = [&self.layer, &self.configuration, &self.manifest]
            .map(|blob| (blob_path(blob), blob.clone()))
            .into();
        files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        files.push(("oci-layout".to_owned(), layout.to_string().into_bytes()));
        files
    }
}

fn described(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn blob_path(blob: &[u8]) -> String {
    format!("blobs/{}", digest(blob).replace(':', "/"))
}

fn digest(blob: &[u8]) -> String {
    let hash = Sha256::digest(blob);
    let hex: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn everything_is_found_by_its_digest_from_the_index_down_to_the_layer() {
        let archive = tape::written(&[Entry::directory("tmp", 0o1777)]).unwrap();
        let image = Image::of_layer(&archive, &Labels::of_this_version(), "x/flink-k8s:1").unwrap();
        let directory = tempfile::tempdir().unwrap();
        image.write_layout(directory.path()).unwrap();
        let read = |path: &str| fs::read(directory.path().join(path)).unwrap();
        let parsed = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
        let blob = |descriptor: &Value| {
            let wanted = descriptor["digest"].as_str().unwrap();
            let bytes = read(&format!("blobs/{}", wanted.replace(':', "/")));
            assert_eq!(digest(&bytes), wanted);
            assert_eq!(bytes.len(), descriptor["size"]);
            bytes
        };
        assert_eq!(parsed(read("oci-layout"))["imageLayoutVersion"], "1.0.0");
        let index = parsed(read("index.json"));
        assert_eq!(index["manifests"][0]["digest"], image.digest());
        assert_eq!(
            index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"],
            "1"
        );
        let manifest = parsed(blob(&index["manifests"][0]));
        let configuration = parsed(blob(&manifest["config"]));
        assert_eq!(configuration["config"]["User"], USER);
        assert_eq!(
            configuration["config"]["Labels"]["org.opencontainers.image.licenses"],
            "Apache-2.0"
        );
        let mut layer = Vec::new();
        let compressed = blob(&manifest["layers"][0]);
        GzDecoder::new(&*compressed).read_to_end(&mut layer).unwrap();
        assert_eq!(layer, archive);
        assert_eq!(configuration["rootfs"]["diff_ids"][0], digest(&layer));
    }
}
