//! No text makes a parser of values panic, and what a duration or a size prints reads as the same.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use flink_k8s_core::configuration::{
    OptionValue, duration_text, parse_dynamic_property, parse_without_iso_8601,
};
use flink_k8s_core::memory::MemorySize;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(duration) = Duration::parse(text) {
        assert_eq!(Duration::parse(&duration_text(duration)), Ok(duration));
    }
    let _ = parse_without_iso_8601(text);
    if let Ok(size) = MemorySize::parse(text) {
        assert_eq!(MemorySize::parse(&size.to_string()), Ok(size));
    }
    let _ = Vec::<String>::parse(text);
    let _ = BTreeMap::<String, String>::parse(text);
    let _ = Vec::<BTreeMap<String, String>>::parse(text);
    let _ = f64::parse(text);
    let _ = f32::parse(text);
    let _ = i64::parse(text);
    let _ = bool::parse(text);
    let _ = parse_dynamic_property(text);
});
