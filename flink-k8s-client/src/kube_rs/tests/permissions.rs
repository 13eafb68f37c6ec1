use flink_k8s_core::permissions::Permission;

use super::*;

const REVIEWS: &str = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

fn verdict(allowed: bool) -> Answer {
    Answer::Json(
        201,
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {}, "status": {"allowed": allowed},
        }),
    )
}

#[tokio::test]
async fn what_may_not_be_done_is_returned_and_each_question_names_the_subresource() {
    let (kube, server) = api_server(vec![
        (REVIEWS, verdict(true)),
        (REVIEWS, verdict(false)),
        (REVIEWS, verdict(false)),
    ]);
    let asked = [
        Permission::new("list", "", "pods"),
        Permission::new("create", "", "pods/portforward"),
        Permission::new("create", "apps", "deployments"),
    ];
    let missing = kube.missing_permissions(asked).await.unwrap();
    assert_eq!(missing, asked[1..]);
    let bodies = server.await.unwrap();
    assert_eq!(
        bodies[1]["spec"]["resourceAttributes"],
        json!({"namespace": "team-a", "verb": "create", "group": "", "resource": "pods", "subresource": "portforward"})
    );
    assert_eq!(bodies[2]["spec"]["resourceAttributes"]["group"], "apps");
}

#[tokio::test]
async fn an_api_server_that_does_not_say_is_an_error_and_not_a_refusal() {
    let (kube, _server) = api_server(vec![(REVIEWS, refusal(500, "InternalError", "etcd is away"))]);
    let asked = [Permission::new("list", "", "pods")];
    let error = kube.missing_permissions(asked).await.unwrap_err();
    assert!(error.is_transient());
    insta::assert_snapshot!(chain(&error), @"cannot read your own permissions in namespace team-a: the API server answered 500 InternalError: etcd is away");
}
