//! Who sends a request: bearer tokens of the administrator and of service accounts.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use rand::Rng as _;

use super::{kinds, status::ApiError, store::Store, write::text};

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// The tokens that the server has given out.
#[derive(Debug)]
pub(crate) struct Authenticator {
    admin_token: String,
    accounts: Mutex<HashMap<String, AccountToken>>,
}

/// What a service account's token stands for.
#[derive(Clone, Debug)]
pub(crate) struct AccountToken {
    pub(crate) namespace: String,
    pub(crate) account: String,
    /// Name and uid of the pod whose end is the token's end.
    pub(crate) pod: Option<(String, String)>,
    pub(crate) expires: Instant,
}

/// The sender of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum User {
    Admin,
    ServiceAccount {
        namespace: String,
        name: String,
        /// The pod that its token is bound to.
        pod: Option<String>,
    },
}

impl User {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Admin => "flink-k8s-local-admin".to_owned(),
            Self::ServiceAccount { namespace, name, .. } => {
                format!("system:serviceaccount:{namespace}:{name}")
            }
        }
    }

    /// The pod that it speaks for.
    pub(crate) fn pod(&self) -> Option<&str> {
        match self {
            Self::Admin => None,
            Self::ServiceAccount { pod, .. } => pod.as_deref(),
        }
    }

    pub(crate) fn groups(&self) -> Vec<String> {
        match self {
            Self::Admin => vec!["system:masters".to_owned(), "system:authenticated".to_owned()],
            Self::ServiceAccount { namespace, .. } => vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        }
    }
}

impl Authenticator {
    pub(crate) fn new() -> Self {
        Self {
            admin_token: random_token(),
            accounts: Mutex::new(HashMap::new()),
        }
    }

    pub(crate) fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// Makes a token for a service account.
    pub(crate) fn issue(
        &self,
        namespace: &str,
        account: &str,
        pod: Option<(String, String)>,
        lifetime: Duration,
    ) -> String {
        let token = random_token();
        let now = Instant::now();
        let entry = AccountToken {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            pod,
            expires: now + lifetime,
        };
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|_, token| token.expires > now);
        accounts.insert(token.clone(), entry);
        token
    }

    /// Finds out who sent a request.
    pub(crate) fn authenticate(&self, headers: &HeaderMap, store: &Store) -> Result<User, ApiError> {
        let authorization = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let (scheme, token) = authorization
            .and_then(|value| value.split_once(' '))
            .ok_or_else(ApiError::unauthorized)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::unauthorized());
        }
        self.user_of(token.trim(), store)
            .ok_or_else(ApiError::unauthorized)
    }

    /// Whose token this is, if it is one that still counts.
    pub(crate) fn user_of(&self, token: &str, store: &Store) -> Option<User> {
        if token == self.admin_token {
            return Some(User::Admin);
        }
        let found = self
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(token)
            .cloned();
        let found = found.filter(|token| token.expires > Instant::now())?;
        if let Some((pod, uid)) = &found.pod
            && store
                .get(kinds::POD, &found.namespace, pod)
                .is_none_or(|pod| text(&pod.value, "/metadata/uid") != uid)
        {
            return None;
        }
        Some(User::ServiceAccount {
            namespace: found.namespace,
            name: found.account,
            pod: found.pod.map(|(name, _)| name),
        })
    }
}

fn random_token() -> String {
    let mut bytes = [0; TOKEN_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}
