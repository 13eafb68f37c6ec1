//! `flink-k8s config check`

use std::error::Error;

use flink_k8s_client::client_files::ClientEnvironment;
use flink_k8s_core::cluster_descriptor::{ClientFiles, ClusterSpecification};
use flink_k8s_core::configuration::check::{Finding, Problem, check};
use serde_json::{Value, json};

use crate::args::OutputFormat;
use crate::args::offline::ConfigCheckArguments;
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Prints what is wrong with the configuration, errors first.
pub(crate) async fn run(printer: &Printer, arguments: ConfigCheckArguments) -> anyhow::Result<Outcome> {
    let environment = ClientEnvironment::from_process();
    let configuration = match &arguments.file {
        Some(file) => effective_configuration::of_file(printer, file, arguments.dynamic)?,
        None => effective_configuration::as_written(printer, &environment, arguments.dynamic).await?,
    };
    // A missing template is an error of its own, which must not hide the others.
    let (files, missing) = match environment.read_files(&configuration).await {
        Ok(files) => (files, None),
        Err(error) => (ClientFiles::default(), Some(error)),
    };
    let findings = check(&ClusterSpecification { configuration, files });
    let missing = missing.filter(|error| !names_an_option_again(error, &findings));
    let errors = findings
        .iter()
        .filter(|finding| finding.problem.is_fatal())
        .count();
    let errors = errors + usize::from(missing.is_some());
    let warnings = findings
        .iter()
        .filter(|finding| !finding.problem.is_fatal())
        .count();
    match arguments.output {
        OutputFormat::Json => {
            let missing = missing
                .iter()
                .map(|error| json!({"severity": "error", "message": with_causes(error)}));
            let findings: Vec<Value> = missing.chain(findings.iter().map(as_json)).collect();
            printer.data(json!({"usable": errors == 0, "findings": findings}).to_string());
        }
        OutputFormat::Table => {
            if let Some(error) = &missing {
                printer.data(format!("error: {}", with_causes(error)));
            }
            for finding in &findings {
                printer.data(line(finding));
            }
            let verdict = if errors == 0 { "usable" } else { "not usable" };
            printer.talk(format!("{verdict}: {errors} errors, {warnings} warnings"));
        }
    }
    Ok(if errors == 0 {
        Outcome::Success
    } else {
        Outcome::UserError
    })
}

/// Which files are needed is said by options, whose values were looked at before.
fn names_an_option_again(error: &dyn Error, findings: &[Finding]) -> bool {
    let message = with_causes(error);
    let fatal = findings.iter().filter(|finding| finding.problem.is_fatal());
    fatal
        .filter_map(|finding| finding.key.as_deref())
        .any(|key| message.contains(key))
}

fn severity(finding: &Finding) -> &'static str {
    if finding.problem.is_fatal() {
        "error"
    } else {
        "warning"
    }
}

fn as_json(finding: &Finding) -> Value {
    json!({
        "severity": severity(finding),
        "key": finding.key,
        "origin": finding.origin.as_ref().map(ToString::to_string),
        "message": with_causes(&finding.problem),
    })
}

fn line(finding: &Finding) -> String {
    let message = with_causes(&finding.problem);
    // Other messages name the key themselves.
    let subject = match (&finding.problem, &finding.key) {
        (Problem::UnknownKey { .. } | Problem::OtherVersion { .. }, Some(key)) => format!("{key} "),
        _ => String::new(),
    };
    let origin = finding
        .origin
        .as_ref()
        .map_or_else(String::new, |origin| format!(" ({origin})"));
    format!("{}: {subject}{message}{origin}", severity(finding))
}

/// The error with its causes, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
