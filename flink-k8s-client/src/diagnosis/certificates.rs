//! Certificates that have expired, or do so soon.

use super::{ClusterFacts, Finding, Problem, Severity};
use crate::certificates::{ClusterCertificates, StoredCertificate};

pub(super) fn findings(facts: &ClusterFacts) -> Vec<Finding> {
    let Some((found, at)) = &facts.certificates else {
        return Vec::new();
    };
    let finding = |certificate: &StoredCertificate| {
        let (severity, ends) = if certificate.not_after <= *at {
            (Severity::Trouble, "has expired: it was valid until")
        } else {
            (Severity::Notice, "expires soon: it is valid until")
        };
        let reason = format!(
            "the certificate {} in {} of Secret {} {ends} {}",
            certificate.subject, certificate.store, found.secret, certificate.not_after
        );
        let object = format!("secret {}", found.secret);
        Finding::new(severity, Problem::CertificateEnds, object, reason)
            .with_advice(found.advice(&facts.cluster_id))
    };
    let ending = found.ending(*at, ClusterCertificates::WARNED_BEFORE);
    ending.map(finding).collect()
}
