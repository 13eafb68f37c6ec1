//! Objects of kinds that Kubernetes learns from others, and that k8s-openapi therefore lacks.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use serde::{Deserialize, Serialize};

/// An object that somebody's `CustomResourceDefinition` describes; what it is follows from its specification.
///
/// Written, it has its `apiVersion` and `kind`. Its status, and fields that the specification does not know, are not
/// read.
///
/// ```
/// # use flink_k8s_core::custom_object::CustomObject;
/// # use flink_k8s_core::pod_group::VolcanoPodGroupSpec;
/// let group = CustomObject { metadata: Default::default(), spec: VolcanoPodGroupSpec::default() };
/// assert_eq!(serde_json::to_value(&group)?["apiVersion"], "scheduling.volcano.sh/v1beta1");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct CustomObject<S> {
    /// Name, labels, owners.
    pub metadata: ObjectMeta,
    /// What it says.
    #[serde(default)]
    pub spec: S,
}

/// Of which kind an object with this specification is. All kinds are namespaced.
pub trait CustomKind {
    /// Group and version, such as `gateway.networking.k8s.io/v1`.
    const API_VERSION: &'static str;
    /// The API group.
    const GROUP: &'static str;
    /// The version within the group.
    const VERSION: &'static str;
    /// The kind, such as `HTTPRoute`.
    const KIND: &'static str;
    /// The kind in paths, such as `httproutes`.
    const PLURAL: &'static str;
}

/// Says of which kind objects with this specification are.
macro_rules! custom_kind {
    ($specification:ty, $group:literal / $version:literal, $kind:literal, $plural:literal) => {
        impl $crate::custom_object::CustomKind for $specification {
            const API_VERSION: &'static str = concat!($group, "/", $version);
            const GROUP: &'static str = $group;
            const VERSION: &'static str = $version;
            const KIND: &'static str = $kind;
            const PLURAL: &'static str = $plural;
        }
    };
}

pub(crate) use custom_kind;

impl<S: CustomKind> Resource for CustomObject<S> {
    const API_VERSION: &'static str = S::API_VERSION;
    const GROUP: &'static str = S::GROUP;
    const KIND: &'static str = S::KIND;
    const VERSION: &'static str = S::VERSION;
    const URL_PATH_SEGMENT: &'static str = S::PLURAL;
    type Scope = NamespaceResourceScope;
}

impl<S: CustomKind> Metadata for CustomObject<S> {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<S: CustomKind + Serialize> Serialize for CustomObject<S> {
    fn serialize<W: serde::Serializer>(&self, serializer: W) -> Result<W::Ok, W::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Typed<'a, S> {
            api_version: &'static str,
            kind: &'static str,
            metadata: &'a ObjectMeta,
            spec: &'a S,
        }
        Typed {
            api_version: S::API_VERSION,
            kind: S::KIND,
            metadata: &self.metadata,
            spec: &self.spec,
        }
        .serialize(serializer)
    }
}
