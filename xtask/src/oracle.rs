//! `cargo xtask oracle`: our answers to the questions that upstream's own classes can be asked.
//!
//! One JSON request a line on standard input, one JSON answer a line on standard output, so that both sides can
//! be compared for any configuration. The objects are those of `flink-k8s.resource-manager=flink`.

mod answers;

use std::io::{BufRead, Write};

use anyhow::Context as _;
use flink_k8s_core::flink_version::FlinkVersion;
use serde_json::{Value, json};

/// Arguments of `cargo xtask oracle`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which Flink to answer for: 1.20, 2.1, 2.2 or 2.3
    #[arg(long, value_name = "VERSION", default_value_t)]
    flink_version: FlinkVersion,
}

/// Answers every request of `questions` until its end.
///
/// # Errors
///
/// A line that is not a request, or an answer that cannot be written.
pub(crate) fn run(
    arguments: &Arguments,
    questions: impl BufRead,
    mut answers: impl Write,
) -> anyhow::Result<()> {
    for (index, line) in questions.lines().enumerate() {
        let line = line.context("cannot read the requests")?;
        if line.trim().is_empty() {
            continue;
        }
        let request: Value = serde_json::from_str(&line)
            .with_context(|| format!("line {} of the requests is not JSON", index + 1))?;
        writeln!(answers, "{}", answer(&request, arguments.flink_version))
            .context("cannot write an answer")?;
    }
    answers.flush().context("cannot write the answers")
}

fn answer(request: &Value, version: FlinkVersion) -> Value {
    match answers::answer(request, version) {
        Ok(ok) => json!({"id": request["id"], "ok": ok}),
        Err(refusal) => json!({"id": request["id"], "error": format!("{refusal:#}")}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(requests: &str) -> Vec<Value> {
        let mut answers = Vec::new();
        let arguments = Arguments {
            flink_version: FlinkVersion::V2_1,
        };
        run(&arguments, requests.as_bytes(), &mut answers).unwrap();
        let answers = String::from_utf8(answers).unwrap();
        answers
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn each_request_gets_one_answer_with_its_id() {
        let answers = answers(
            "{\"id\":\"a\",\"op\":\"size\",\"text\":\"2 mb\"}\n\n{\"id\":\"b\",\"op\":\"size\",\"text\":\"2 lemons\"}\n",
        );
        assert_eq!(answers[0], json!({"id": "a", "ok": 2_097_152}));
        assert_eq!(answers[1]["id"], "b");
        let error = answers[1]["error"].as_str().unwrap();
        assert!(error.contains("2 lemons"), "{error}");
    }

    #[test]
    fn a_malformed_direct_memory_limit_spoils_the_arguments_but_not_the_sizes() {
        let request = json!({"id": 1, "op": "memory", "config": {
            "jobmanager.memory.process.size": "1600m",
            "jobmanager.memory.enable-jvm-direct-memory-limit": "perhaps",
        }});
        let answer = &answers(&request.to_string())[0]["ok"];
        assert_eq!(answer["jobmanager"]["heap"], 1_073_741_824);
        assert!(answer["jobmanager"]["jvm_args"].is_null());
        assert!(
            answer["jobmanager"]["error"]
                .as_str()
                .unwrap()
                .contains("perhaps")
        );
        assert!(answer["taskmanager"]["error"].is_string());
    }

    #[test]
    fn a_task_manager_comes_with_the_settings_of_its_command_line() {
        let request = json!({"id": 1, "op": "taskmanager", "config": {
            "taskmanager.memory.process.size": "1728m",
            "taskmanager.rpc.port": "6122",
            "state.checkpoints.dir": "s3://b/with space/#x",
        }});
        let answer = &answers(&request.to_string())[0]["ok"];
        assert_eq!(answer["pod"]["kind"], "Pod");
        assert_eq!(answer["dynamic"]["taskmanager.cpu.cores"], "1.0");
        assert_eq!(answer["dynamic"]["state.checkpoints.dir"], "s3://b/with space/#x");
    }
}
