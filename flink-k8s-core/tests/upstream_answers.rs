//! What upstream's own classes answered to the same questions, in `data/oracle`.
//!
//! `requests.jsonl` holds the questions, `answers.jsonl` the answers of Flink 2.1.3 and 2.3.0, which are the
//! same, and `answers-1.20.jsonl` those of Flink 1.20.5 where they differ. That there is an error counts,
//! not its text; the order of arguments does not count.

#![expect(clippy::unwrap_used, reason = "the files are part of the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use flink_k8s_core::configuration::{FlinkConfiguration, OptionValue, Origin, parse_without_iso_8601};
use flink_k8s_core::flink_version::FlinkVersion;
use flink_k8s_core::memory::{JobManagerProcessMemory, MemorySize, TaskExecutorResources};
use serde_json::{Value, json};

const REQUESTS: &str = include_str!("data/oracle/requests.jsonl");
const ANSWERS: &str = include_str!("data/oracle/answers.jsonl");
const ANSWERS_1_20: &str = include_str!("data/oracle/answers-1.20.jsonl");

fn by_id(lines: &str) -> BTreeMap<String, Value> {
    lines
        .lines()
        .map(|line| {
            let answer: Value = serde_json::from_str(line).unwrap();
            (answer["id"].as_str().unwrap().to_owned(), answer)
        })
        .collect()
}

fn configuration(request: &Value) -> FlinkConfiguration {
    let mut configuration = FlinkConfiguration::new();
    for (key, text) in request["config"].as_object().unwrap() {
        configuration.set(key, text.as_str().unwrap(), Origin::CommandLine);
    }
    configuration
}

fn ok_or_error<T, E>(result: &Result<T, E>, show: impl Fn(&T) -> Value) -> Value {
    result.as_ref().map_or_else(|_| json!("error"), show)
}

fn dynamic_property((key, value): (String, String)) -> String {
    let quote = if key == "external-resources" && value != "none" {
        "\""
    } else {
        ""
    };
    format!("-D{key}={quote}{value}{quote}")
}

fn sorted(mut words: Vec<String>) -> Value {
    words.sort();
    json!(words)
}

fn job_manager(memory: &JobManagerProcessMemory) -> Value {
    json!({
        "heap": memory.heap.bytes(),
        "off_heap": memory.off_heap.bytes(),
        "metaspace": memory.metaspace.bytes(),
        "overhead": memory.overhead.bytes(),
        "flink": memory.flink().bytes(),
        "process": memory.total().bytes(),
        "jvm_args": sorted(memory.jvm_options()),
        "dynamic": sorted(memory.dynamic_properties().into_iter().map(dynamic_property).collect()),
    })
}

fn task_manager(resources: &TaskExecutorResources) -> Value {
    let memory = &resources.memory;
    json!({
        "cpu": resources.cpu.to_string(),
        "framework_heap": memory.framework_heap.bytes(),
        "framework_off_heap": memory.framework_off_heap.bytes(),
        "task_heap": memory.task_heap.bytes(),
        "task_off_heap": memory.task_off_heap.bytes(),
        "network": memory.network.bytes(),
        "managed": memory.managed.bytes(),
        "metaspace": memory.metaspace.bytes(),
        "overhead": memory.overhead.bytes(),
        "flink": memory.flink().bytes(),
        "process": memory.total().bytes(),
        "slots": resources.slots,
        "jvm_args": sorted(memory.jvm_options()),
        "dynamic": sorted(resources.dynamic_properties().into_iter().map(dynamic_property).collect()),
    })
}

fn our_answer(request: &Value, version: FlinkVersion) -> Value {
    let text = || request["text"].as_str().unwrap();
    match request["op"].as_str().unwrap() {
        "size" => ok_or_error(&MemorySize::parse(text()), |size| json!(size.bytes())),
        "duration" => {
            let duration = if version > FlinkVersion::V1_20 {
                Duration::parse(text())
            } else {
                parse_without_iso_8601(text())
            };
            ok_or_error(&duration, |duration| {
                {
                    // The question is for 64-bit nanoseconds, although Flink's durations can be longer.
                    i64::try_from(duration.as_nanos()).map_or(json!("error"), |nanos| json!(nanos))
                }
            })
        }
        "yaml" => {
            let text = request["conf_files"]["config.yaml"].as_str().unwrap();
            ok_or_error(
                &FlinkConfiguration::from_yaml(text, &Origin::Default),
                |configuration: &FlinkConfiguration| {
                    configuration
                        .iter()
                        .map(|(key, setting)| (key.to_owned(), json!(setting.text)))
                        .collect()
                },
            )
        }
        "memory" => json!({
            "jobmanager": ok_or_error(&JobManagerProcessMemory::from_configuration(&configuration(request), version), job_manager),
            "taskmanager": ok_or_error(&TaskExecutorResources::from_current_options(&configuration(request)), task_manager),
        }),
        op => panic!("unknown op {op}"),
    }
}

/// The parts of an answer that count.
fn comparable(answer: &Value) -> Value {
    let Some(ok) = answer.get("ok") else {
        return json!("error");
    };
    let mut ok = ok.clone();
    for role in ["jobmanager", "taskmanager"] {
        let Some(role) = ok.get_mut(role) else { continue };
        if role.get("error").is_some() {
            *role = json!("error");
            continue;
        }
        for key in ["jvm_args", "dynamic"] {
            let joined = role[key].as_str().unwrap().replace("-D ", "-D");
            role[key] = sorted(joined.split_whitespace().map(str::to_owned).collect());
        }
    }
    ok
}

fn answers_are_equal(answers: &BTreeMap<String, Value>, version: FlinkVersion) {
    let mut different = Vec::new();
    let mut count = 0;
    for line in REQUESTS.lines() {
        let request: Value = serde_json::from_str(line).unwrap();
        let expected = comparable(&answers[request["id"].as_str().unwrap()]);
        let actual = our_answer(&request, version);
        count += 1;
        if actual != expected {
            different.push(format!("{request}\n  want {expected}\n  got  {actual}"));
        }
    }
    assert_eq!(count, 700);
    assert!(
        different.is_empty(),
        "{} of {count} differ:\n{}",
        different.len(),
        different[..different.len().min(5)].join("\n")
    );
}

#[test]
fn flink_2_answers_alike() {
    answers_are_equal(&by_id(ANSWERS), FlinkVersion::V2_1);
    answers_are_equal(&by_id(ANSWERS), FlinkVersion::V2_3);
}

#[test]
fn flink_1_20_answers_alike() {
    let mut answers = by_id(ANSWERS);
    answers.extend(by_id(ANSWERS_1_20));
    answers_are_equal(&answers, FlinkVersion::V1_20);
}
