//! The arguments of the entrypoints: dynamic properties, and nothing else.

use flink_k8s_core::configuration::{FlinkConfiguration, Origin};

/// An argument is not a dynamic property.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unexpected argument {0:?}: only -Dkey=value and -D key=value are understood")]
pub struct UnexpectedArgument(String);

/// The settings that `-Dkey=value` and `-D key=value` make, in the order given. A key without a value is
/// `true`, as with Flink's own programs.
///
/// # Errors
///
/// [`UnexpectedArgument`] for anything else; Flink's programs refuse it too.
pub fn dynamic_properties(
    arguments: impl IntoIterator<Item = String>,
) -> Result<Vec<(String, String)>, UnexpectedArgument> {
    let mut properties = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let Some(attached) = argument.strip_prefix("-D") else {
            return Err(UnexpectedArgument(argument));
        };
        let property = if attached.is_empty() {
            arguments
                .next()
                .ok_or_else(|| UnexpectedArgument(argument.clone()))?
        } else {
            attached.to_owned()
        };
        let (key, value) = property.split_once('=').unwrap_or((&property, "true"));
        if key.trim().is_empty() {
            return Err(UnexpectedArgument(argument));
        }
        properties.push((key.trim().to_owned(), value.to_owned()));
    }
    Ok(properties)
}

/// `configuration` with these properties laid over it.
#[must_use]
pub fn overlaid(
    mut configuration: FlinkConfiguration,
    properties: &[(String, String)],
) -> FlinkConfiguration {
    for (key, value) in properties {
        configuration.set(key.clone(), value.clone(), Origin::CommandLine);
    }
    configuration
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Vec<(String, String)>, UnexpectedArgument> {
        dynamic_properties(arguments.iter().map(|&argument| argument.to_owned()))
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn both_spellings_are_read_byte_for_byte() {
        assert_eq!(
            parsed(&["-Da.b=x y", "-D", "c=$d;'e'", "-Dflag", "-Durl=k=v"]),
            Ok(vec![
                pair("a.b", "x y"),
                pair("c", "$d;'e'"),
                pair("flag", "true"),
                pair("url", "k=v")
            ])
        );
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        let refusal = parsed(&["-Da=b", "--configDir"]).unwrap_err().to_string();
        assert!(
            refusal.contains("\"--configDir\"") && refusal.contains("-Dkey=value"),
            "{refusal}"
        );
        assert!(parsed(&["-D"]).is_err());
        assert!(parsed(&["-D=x"]).is_err());
    }
}
