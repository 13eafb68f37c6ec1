//! What is linked into the programs, in the format of `CycloneDX`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::interrupt::Interrupt;
use crate::workspace::Workspace;

/// The packages whose programs an image has.
const ROOTS: [&str; 2] = ["flink-k8s-cli", "flink-k8s-entrypoint"];

/// The bill of materials of the programs for this target, as cargo resolves them.
///
/// # Errors
///
/// cargo fails or is interrupted.
pub(crate) async fn of_programs(
    workspace: &Workspace,
    target: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<String> {
    let question = workspace.cargo().args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform",
        target,
    ]);
    let output = question.output(interrupt).await?;
    if !output.status.success() {
        bail!("`{}` failed: {}", question.as_typed(), output.last_words());
    }
    let metadata =
        serde_json::from_str(&output.stdout).context("cannot read the answer of cargo metadata")?;
    let bill = bill(&metadata);
    serde_json::to_string_pretty(&bill).context("cannot write the bill of materials")
}

/// Every package that is reached from the roots by what is linked: not what only tests and build scripts use.
fn bill(metadata: &Value) -> Value {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> = list(&metadata["packages"])
        .into_iter()
        .map(|package| (text(&package["id"]), package))
        .collect();
    let nodes: BTreeMap<String, Value> = list(&metadata["resolve"]["nodes"])
        .into_iter()
        .map(|node| (text(&node["id"]), node))
        .collect();
    let is_macro = |id: &str| {
        let targets = packages.get(id).map(|package| list(&package["targets"]));
        targets
            .unwrap_or_default()
            .iter()
            .any(|target| list(&target["kind"]).contains(&json!("proc-macro")))
    };
    let mut open: Vec<String> = packages
        .iter()
        .filter(|(_, package)| ROOTS.iter().any(|root| package["name"] == *root))
        .map(|(id, _)| id.clone())
        .collect();
    let mut linked = BTreeSet::new();
    while let Some(id) = open.pop() {
        if is_macro(&id) || !linked.insert(id.clone()) {
            continue;
        }
        for dependency in list(&nodes.get(&id).cloned().unwrap_or_default()["deps"]) {
            let is_linked = list(&dependency["dep_kinds"])
                .iter()
                .any(|kind| kind["kind"].is_null());
            if is_linked {
                open.push(text(&dependency["pkg"]));
            }
        }
    }
    let component = |id: &String| {
        let package = packages.get(id)?;
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let mut component = json!({
            "type": "library",
            "name": name,
            "version": version,
            "purl": format!("pkg:cargo/{name}@{version}"),
        });
        if let Some(license) = package["license"].as_str() {
            // Cargo also takes the separator of old.
            component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
        }
        Some(component)
    };
    let mut components: Vec<Value> = linked.iter().filter_map(component).collect();
    components.sort_by_key(|component| component["purl"].to_string());
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {
            "type": "container",
            "name": "flink-k8s",
            "version": env!("CARGO_PKG_VERSION"),
        }},
        "components": components,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_and_what_only_builds_or_tests_is_not() {
        let package = |name: &str, kind: &str| json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "targets": [{"kind": [kind]}]});
        let needs = |name: &str, kind: Value| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [
                package("flink-k8s-cli", "bin"), package("serde", "lib"), package("derive", "proc-macro"),
                package("cc", "lib"), package("insta", "lib"), package("xtask", "bin"),
            ],
            "resolve": {"nodes": [
                {"id": "flink-k8s-cli", "deps": [
                    needs("serde", Value::Null), needs("cc", json!("build")), needs("insta", json!("dev")),
                ]},
                {"id": "serde", "deps": [needs("derive", Value::Null)]},
                {"id": "xtask", "deps": [needs("insta", Value::Null)]},
            ]},
        });
        let bill = bill(&metadata);
        let purls: Vec<&str> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|component| component["purl"].as_str().unwrap())
            .collect();
        assert_eq!(purls, ["pkg:cargo/flink-k8s-cli@1.0.0", "pkg:cargo/serde@1.0.0"]);
        assert_eq!(
            bill["components"][1]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
    }
}
