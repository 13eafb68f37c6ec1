//! `flink-k8s config list` and `flink-k8s config explain`

use anyhow::bail;
use flink_k8s_client::client_files::ClientEnvironment;
use flink_k8s_core::configuration::catalogue::{Catalogue, KeyMeaning, KnownOption};
use flink_k8s_core::configuration::{FlinkConfiguration, Origin, Setting, flink_k8s_options, is_sensitive};
use flink_k8s_core::flink_version::FlinkVersion;
use serde_json::json;

use crate::args::OutputFormat;
use crate::args::offline::{ConfigExplainArguments, ConfigListArguments};
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::{Printer, table};

/// What stands for a value that must not be shown.
const HIDDEN: &str = "******";
/// What stands for a value that nobody set.
const UNSET: &str = "-";

/// An option with the value that counts.
struct Effective<'a> {
    option: &'a KnownOption,
    /// Another key than the option's, under which it is set.
    key: Option<String>,
    value: Option<String>,
    origin: Origin,
}

/// Lists the options of the version that begin with the prefix.
pub(crate) async fn list(printer: &Printer, arguments: ConfigListArguments) -> anyhow::Result<Outcome> {
    let environment = ClientEnvironment::from_process();
    let configuration = effective_configuration::load(printer, &environment, arguments.dynamic).await?;
    let catalogue = Catalogue::of(configuration.get(&flink_k8s_options::FLINK_VERSION)?);
    let options: Vec<Effective<'_>> = catalogue
        .options()
        .filter(|option| option.key.starts_with(&arguments.prefix))
        .map(|option| effective(option, &configuration))
        .filter(|effective| !arguments.set || effective.origin != Origin::Default)
        .collect();
    if options.is_empty() {
        bail!(
            "no option of Flink {} begins with {:?}",
            catalogue.version(),
            arguments.prefix
        );
    }
    match arguments.output {
        OutputFormat::Json => {
            let options: Vec<_> = options
                .iter()
                .map(|effective| {
                    json!({
                        "key": effective.option.key,
                        "value": effective.value,
                        "origin": effective.origin.to_string(),
                    })
                })
                .collect();
            printer.data(json!(options).to_string());
        }
        OutputFormat::Table => {
            let rows = options.iter().map(|effective| {
                let value = effective.value.clone().unwrap_or_else(|| UNSET.to_owned());
                [effective.option.key.clone(), value, effective.origin.to_string()]
            });
            printer.data(table(["KEY", "VALUE", "FROM"], rows));
        }
    }
    Ok(Outcome::Success)
}

/// Explains one option.
pub(crate) async fn explain(printer: &Printer, arguments: ConfigExplainArguments) -> anyhow::Result<Outcome> {
    let environment = ClientEnvironment::from_process();
    let configuration = effective_configuration::load(printer, &environment, arguments.dynamic).await?;
    let version = configuration.get(&flink_k8s_options::FLINK_VERSION)?;
    let catalogue = Catalogue::of(version);
    let key = arguments.key.trim();
    let Some(option) = catalogue.find(key) else {
        bail!(unknown(catalogue, key, version));
    };
    let effective = effective_at(option, key, &configuration);
    match arguments.output {
        OutputFormat::Json => printer.data(
            json!({
                "key": option.key,
                "help": option.help,
                "form": option.expected(),
                "default": option.default,
                "fallback-keys": option.fallback_keys,
                "deprecated-keys": option.deprecated_keys,
                "value": effective.value,
                "set-as": effective.key,
                "origin": effective.origin.to_string(),
            })
            .to_string(),
        ),
        OutputFormat::Table => print_explanation(printer, key, &effective),
    }
    Ok(Outcome::Success)
}

fn print_explanation(printer: &Printer, key: &str, effective: &Effective<'_>) {
    let option = effective.option;
    printer.data(&option.key);
    if let Some(help) = option.help {
        printer.data(format!("  {help}"));
    }
    if option.deprecated_keys.iter().any(|old| old == key) {
        printer.data(format!("  {key} is an old name of it."));
    }
    let line = |name: &str, text: &str| printer.data(format!("  {name:<12} {text}"));
    line("form", &option.expected());
    line("default", option.default.as_deref().unwrap_or("none"));
    if !option.fallback_keys.is_empty() {
        line("else", &option.fallback_keys.join(", "));
    }
    if !option.deprecated_keys.is_empty() {
        line("old names", &option.deprecated_keys.join(", "));
    }
    line("value", effective.value.as_deref().unwrap_or("none"));
    match &effective.key {
        Some(other) => line("from", &format!("{}, as {other}", effective.origin)),
        None => line("from", &effective.origin.to_string()),
    }
}

fn unknown(catalogue: &Catalogue, key: &str, version: FlinkVersion) -> String {
    match catalogue.meaning(key) {
        KeyMeaning::OtherVersions(versions) => {
            let versions: Vec<_> = versions.iter().map(|version| version.as_str()).collect();
            format!(
                "{key} is not an option of Flink {version}, but of {}",
                versions.join(", ")
            )
        }
        KeyMeaning::Foreign => {
            format!("{key} belongs to a file system, a connector or a plugin, not to Flink itself")
        }
        _ => match catalogue.nearest(key) {
            Some(nearest) => format!("{key} is not an option of Flink {version}; did you mean {nearest}?"),
            None => format!(
                "{key} is not an option of Flink {version}; `flink-k8s config list` shows all of them"
            ),
        },
    }
}

fn effective<'a>(option: &'a KnownOption, configuration: &FlinkConfiguration) -> Effective<'a> {
    effective_at(option, &option.key, configuration)
}

/// The value of an option whose key may have names of the user's in it: then `key` is the one that counts.
fn effective_at<'a>(option: &'a KnownOption, key: &str, configuration: &FlinkConfiguration) -> Effective<'a> {
    let own = if option.key.contains('<') {
        key
    } else {
        &option.key
    };
    let others = option.fallback_keys.iter().chain(&option.deprecated_keys);
    let mut keys = std::iter::once(own).chain(others.map(String::as_str));
    let set = keys.find_map(|key| Some((key, configuration.setting(key)?)));
    match set {
        Some((key, Setting { text, origin, .. })) => Effective {
            option,
            key: (key != own).then(|| key.to_owned()),
            value: Some(if is_sensitive(key) {
                HIDDEN.to_owned()
            } else {
                text.clone()
            }),
            origin: origin.clone(),
        },
        None => Effective {
            option,
            key: None,
            value: option.default.clone(),
            origin: Origin::Default,
        },
    }
}
