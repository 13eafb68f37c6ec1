//! A Kubernetes in memory behind a mock: objects with owners, a garbage collector, and failures on demand.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use flink_k8s_core::kube_client::{
    AccompanyingObject, AnnotateError, CreateObjectError, DeleteError, FlinkObject, ReadError, Version,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

use super::*;

#[derive(Clone, Default)]
pub(super) struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    pub(super) deployment: Option<Deployment>,
    /// Other objects with the uid of their owner.
    pub(super) others: BTreeMap<ObjectReference, Option<String>>,
    /// What is in those that were created.
    pub(super) contents: BTreeMap<ObjectReference, Value>,
    /// Every call that was made, in order.
    pub(super) calls: Vec<&'static str>,
    /// What goes wrong with which call, counted from 0.
    pub(super) faults: BTreeMap<usize, Fault>,
    next: Vec<(&'static str, Fault)>,
    /// The garbage collector does nothing during this many lists.
    pub(super) collector_sleeps: u32,
    /// What the leader wrote into its ConfigMap, and whether it goes on doing so.
    pub(super) leader: Option<String>,
    pub(super) leader_lives: bool,
    versions: u32,
    /// What is changed by somebody after it is read.
    pub(super) changed: Vec<ObjectReference>,
    uids: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The call fails, and did nothing.
    Failure,
    /// The call does its work, but the answer is lost.
    LostAnswer,
    /// The call is forbidden.
    Forbidden,
    /// The quota leaves no room.
    Quota,
    /// There is no such kind.
    UnknownKind,
}

impl Fake {
    pub(super) fn descriptor(&self) -> KubernetesClusterDescriptor {
        KubernetesClusterDescriptor::new(Arc::new(self.kube()))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The names of all objects.
    pub(super) fn names(&self) -> Vec<String> {
        self.state()
            .objects()
            .iter()
            .map(|object| format!("{} {}", object.kind, object.name))
            .collect()
    }

    /// The next call of this name is refused.
    pub(super) fn refuse_next(&self, call: &'static str) {
        self.state().next.push((call, Fault::Forbidden));
    }

    /// The next calls of this name fail.
    pub(super) fn fail_next(&self, call: &'static str, times: usize) {
        self.state()
            .next
            .extend(std::iter::repeat_n((call, Fault::Failure), times));
    }

    pub(super) fn kube(&self) -> MockKubeClient {
        let mut kube = MockKubeClient::new();
        kube.expect_namespace().returning(|| "team-a".parse().unwrap());
        let fake = self.clone();
        kube.expect_create_deployment()
            .returning(move |deployment| fake.state().create_deployment(deployment));
        let fake = self.clone();
        kube.expect_create_accompanying_object()
            .returning(move |object| fake.state().create_accompanying(object));
        let fake = self.clone();
        kube.expect_find_deployment().returning(move |_| {
            let mut state = fake.state();
            match state.fault("find_deployment") {
                None => Ok(state.deployment.clone()),
                Some(fault) => Err(read_error(fault)),
            }
        });
        let fake = self.clone();
        kube.expect_find_object()
            .returning(move |kind, name| fake.state().find_object(&reference(kind, name)));
        let fake = self.clone();
        kube.expect_annotate_deployment()
            .returning(move |_, uid, annotations| fake.state().annotate(uid, annotations));
        let fake = self.clone();
        kube.expect_list_clusters()
            .returning(move || Ok(fake.state().deployment.iter().cloned().collect()));
        let fake = self.clone();
        kube.expect_delete_deployment()
            .returning(move |_, uid| fake.state().delete(uid));
        let fake = self.clone();
        kube.expect_list_labelled_objects()
            .returning(move |_| fake.state().labelled());
        let fake = self.clone();
        kube.expect_delete_object()
            .returning(move |object, version| fake.state().delete_object(object, version));
        let fake = self.clone();
        kube.expect_list_cluster_objects().returning(move |_| {
            let mut state = fake.state();
            match state.fault("list_cluster_objects") {
                None => {
                    state.collect();
                    Ok(state.objects())
                }
                Some(fault) => Err(read_error(fault)),
            }
        });
        kube
    }
}

impl State {
    pub(super) fn objects(&self) -> Vec<ObjectReference> {
        let deployment = self
            .deployment
            .iter()
            .map(|_| reference(ObjectKind::Deployment, "orders"));
        deployment.chain(self.others.keys().cloned()).collect()
    }

    fn fault(&mut self, call: &'static str) -> Option<Fault> {
        let index = self.calls.len();
        self.calls.push(call);
        let next = self.next.iter().position(|(name, _)| *name == call);
        self.faults
            .get(&index)
            .copied()
            .or_else(|| next.map(|index| self.next.remove(index).1))
    }

    fn create_deployment(&mut self, deployment: &Deployment) -> Result<Deployment, CreateObjectError> {
        let object = reference(ObjectKind::Deployment, "orders");
        let fault = self.fault("create_deployment");
        if let Some(fault) = fault.filter(|fault| *fault != Fault::LostAnswer) {
            return Err(create_error(object, fault));
        }
        if self.deployment.is_some() {
            return Err(CreateObjectError::AlreadyExists { object });
        }
        self.uids += 1;
        let mut stored = deployment.clone();
        stored.metadata.uid = Some(format!("uid-{}", self.uids));
        stored.metadata.namespace = Some("team-a".to_owned());
        self.deployment = Some(stored.clone());
        fault.map_or(Ok(stored), |fault| Err(create_error(object, fault)))
    }

    fn find_object(&mut self, object: &ObjectReference) -> Result<Option<Value>, ReadError> {
        if let Some(fault) = self.fault("find_object") {
            return Err(read_error(fault));
        }
        Ok(self
            .others
            .get(object)
            .map(|_| self.contents.get(object).cloned().unwrap_or_default()))
    }

    fn annotate(&mut self, uid: &Uid, annotations: &BTreeMap<String, String>) -> Result<(), AnnotateError> {
        if self.fault("annotate_deployment").is_some() {
            let object = reference(ObjectKind::Deployment, "orders");
            let message = "User \"me\" cannot patch".to_owned();
            return Err(AnnotateError::Forbidden { object, message });
        }
        let found = self
            .deployment
            .as_mut()
            .filter(|stored| stored.metadata.uid.as_deref() == Some(uid.as_str()));
        if let Some(stored) = found {
            let existing = stored.metadata.annotations.get_or_insert_default();
            existing.extend(annotations.clone());
        }
        Ok(())
    }

    fn create_accompanying(&mut self, object: &AccompanyingObject) -> Result<(), CreateObjectError> {
        let (kind, metadata, content) = (object.kind(), object.metadata(), object.to_value());
        let owner = metadata.owner_references.as_ref().unwrap()[0].uid.clone();
        let object = reference(kind, metadata.name.as_ref().unwrap());
        let fault = self.fault("create_accompanying_object");
        if let Some(fault) = fault.filter(|fault| *fault != Fault::LostAnswer) {
            return Err(create_error(object, fault));
        }
        match self.others.get(&object) {
            // As the port promises: one with the same owner counts as created.
            Some(existing) if *existing != Some(owner.clone()) => {
                return Err(CreateObjectError::AlreadyExists { object });
            }
            _ => {
                let mut content = content.unwrap();
                content["metadata"]["namespace"] = "team-a".into();
                self.contents.insert(object.clone(), content);
                self.others.insert(object.clone(), Some(owner));
            }
        }
        fault.map_or(Ok(()), |fault| Err(create_error(object, fault)))
    }

    fn delete(&mut self, uid: &Uid) -> Result<(), DeleteError> {
        let object = reference(ObjectKind::Deployment, "orders");
        let fault = self.fault("delete_deployment");
        if fault == Some(Fault::Forbidden) {
            return Err(DeleteError::Forbidden {
                object,
                message: "User \"me\" cannot delete".to_owned(),
            });
        }
        if fault != Some(Fault::Failure) {
            self.deployment
                .take_if(|stored| stored.metadata.uid.as_deref() == Some(uid.as_str()));
            self.collect();
        }
        fault.map_or(Ok(()), |_| {
            Err(DeleteError::Api {
                object,
                transient: true,
                source: "injected".into(),
            })
        })
    }

    fn labelled(&mut self) -> Result<Vec<FlinkObject>, ReadError> {
        if let Some(fault) = self.fault("list_labelled_objects") {
            return Err(read_error(fault));
        }
        self.versions += u32::from(self.leader_lives);
        let object = |(object, owner): (&ObjectReference, &Option<String>)| {
            let owner = owner.as_ref().map(|uid| OwnerReference {
                uid: uid.clone(),
                ..OwnerReference::default()
            });
            let metadata = ObjectMeta {
                name: Some(object.name.clone()),
                namespace: Some("team-a".to_owned()),
                uid: Some(format!("uid-of-{}", object.name)),
                labels: Some(labels::common(&orders())),
                owner_references: owner.map(|owner| vec![owner]),
                annotations: self
                    .leader
                    .clone()
                    .map(|record| BTreeMap::from([(labels::LEADER_ANNOTATION.to_owned(), record)])),
                resource_version: Some(self.versions.to_string()),
                ..ObjectMeta::default()
            };
            FlinkObject::from_metadata(object.kind, &metadata).unwrap()
        };
        Ok(self.others.iter().map(object).collect())
    }

    fn delete_object(&mut self, object: &FlinkObject, version: Version) -> Result<(), DeleteError> {
        let reference = object.reference.clone();
        match self.fault("delete_object") {
            None => {}
            Some(Fault::Forbidden) => {
                return Err(DeleteError::Forbidden {
                    object: reference,
                    message: "User \"me\" cannot delete".to_owned(),
                });
            }
            Some(_) => {
                return Err(DeleteError::Api {
                    object: reference,
                    transient: true,
                    source: "injected".into(),
                });
            }
        }
        if version == Version::AsRead && self.changed.contains(&reference) {
            return Err(DeleteError::Changed { object: reference });
        }
        self.others.remove(&reference);
        Ok(())
    }

    fn collect(&mut self) {
        if self.collector_sleeps > 0 {
            self.collector_sleeps -= 1;
            return;
        }
        let uid = self
            .deployment
            .as_ref()
            .and_then(|stored| stored.metadata.uid.clone());
        self.others.retain(|_, owner| owner.is_none() || *owner == uid);
    }
}

fn create_error(object: ObjectReference, fault: Fault) -> CreateObjectError {
    match fault {
        Fault::Forbidden => CreateObjectError::Forbidden {
            object,
            message: "User \"me\" cannot create".to_owned(),
        },
        Fault::Quota => CreateObjectError::QuotaExhausted {
            object,
            message: "exceeded quota: small".to_owned(),
        },
        Fault::UnknownKind => CreateObjectError::UnknownKind { object },
        Fault::Failure | Fault::LostAnswer => CreateObjectError::Api {
            object,
            transient: true,
            retry_after_seconds: None,
            source: "injected".into(),
        },
    }
}

fn read_error(fault: Fault) -> ReadError {
    let (what, namespace) = ("the objects".to_owned(), "team-a".parse().unwrap());
    match fault {
        Fault::Forbidden | Fault::Quota | Fault::UnknownKind => ReadError::Forbidden {
            what,
            namespace,
            message: "no".to_owned(),
        },
        Fault::Failure | Fault::LostAnswer => ReadError::Api {
            what,
            namespace,
            transient: true,
            source: "injected".into(),
        },
    }
}
