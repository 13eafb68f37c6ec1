//! No text makes the readers of configuration files panic, and what is written reads as the same settings.
#![no_main]

use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
use libfuzzer_sys::fuzz_target;

fn texts(configuration: &FlinkConfiguration) -> Vec<(String, String)> {
    let settings = configuration.iter();
    settings
        .map(|(key, setting)| (key.to_owned(), setting.text.clone()))
        .collect()
}

fuzz_target!(|text: &str| {
    let origin = Origin::File("config.yaml".to_owned());
    let _ = FlinkConfiguration::from_flat_lines(text, &origin);
    if let Ok(read) = FlinkConfiguration::from_yaml(text, &origin)
        && let Ok(written) = read.to_yaml()
    {
        let again = FlinkConfiguration::from_yaml(&written, &origin);
        let again = again.unwrap_or_else(|error| panic!("{error:?} in {written:?}"));
        // Old keys are written under their new names, so only the number of settings is sure to shrink.
        assert!(texts(&again).len() <= texts(&read).len());
        assert_eq!(again.to_yaml().as_deref(), Ok(written.as_str()));
    }
});
