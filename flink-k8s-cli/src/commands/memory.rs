//! `flink-k8s memory`

use flink_k8s_client::client_files::ClientEnvironment;
use flink_k8s_core::configuration::flink_k8s_options;
use flink_k8s_core::memory::{JobManagerProcessMemory, MemorySize, TaskExecutorResources};
use serde_json::{Map, Value, json};

use crate::args::OutputFormat;
use crate::args::offline::MemoryArguments;
use crate::effective_configuration;
use crate::outcome::Outcome;
use crate::printer::{Printer, table};

/// How many characters the bar has.
const BAR_WIDTH: usize = 64;

/// A part of a process: its name, its letter in the bar, its size.
type Part = (&'static str, char, MemorySize);

/// Shows the memory of a JobManager and of a TaskManager.
pub(crate) async fn run(printer: &Printer, arguments: MemoryArguments) -> anyhow::Result<Outcome> {
    let environment = ClientEnvironment::from_process();
    let configuration = effective_configuration::load(printer, &environment, arguments.dynamic).await?;
    let version = configuration.get(&flink_k8s_options::FLINK_VERSION)?;
    let job_manager = JobManagerProcessMemory::from_configuration(&configuration, version)?;
    let task_manager = TaskExecutorResources::from_configuration(&configuration, version)?;
    let job_manager_parts = [
        ("JVM heap", 'H', job_manager.heap),
        ("off-heap", 'O', job_manager.off_heap),
        ("JVM metaspace", 'M', job_manager.metaspace),
        ("JVM overhead", 'V', job_manager.overhead),
    ];
    let memory = &task_manager.memory;
    let task_manager_parts = [
        ("framework heap", 'F', memory.framework_heap),
        ("task heap", 'T', memory.task_heap),
        ("managed memory", 'G', memory.managed),
        ("framework off-heap", 'f', memory.framework_off_heap),
        ("task off-heap", 't', memory.task_off_heap),
        ("network", 'N', memory.network),
        ("JVM metaspace", 'M', memory.metaspace),
        ("JVM overhead", 'V', memory.overhead),
    ];
    match arguments.output {
        OutputFormat::Json => {
            let mut task_manager_json = as_json(
                &task_manager_parts,
                memory.flink(),
                memory.total(),
                &memory.jvm_options(),
            );
            task_manager_json["slots"] = json!(task_manager.slots);
            let job_manager_json = as_json(
                &job_manager_parts,
                job_manager.flink(),
                job_manager.total(),
                &job_manager.jvm_options(),
            );
            printer
                .data(json!({"jobmanager": job_manager_json, "taskmanager": task_manager_json}).to_string());
        }
        OutputFormat::Table => {
            print(printer, "JobManager", &job_manager_parts, job_manager.total());
            printer.data("");
            let title = format!("TaskManager, slots: {}", task_manager.slots);
            print(printer, &title, &task_manager_parts, memory.total());
        }
    }
    Ok(Outcome::Success)
}

fn as_json(parts: &[Part], flink: MemorySize, total: MemorySize, jvm_options: &[String]) -> Value {
    let parts = parts
        .iter()
        .map(|(name, _, size)| (name.to_lowercase().replace(' ', "-"), json!(size.bytes())));
    let mut sizes: Map<String, Value> = parts.collect();
    sizes.insert("flink".to_owned(), json!(flink.bytes()));
    sizes.insert("process".to_owned(), json!(total.bytes()));
    sizes.insert("jvm-options".to_owned(), json!(jvm_options));
    Value::Object(sizes)
}

fn print(printer: &Printer, title: &str, parts: &[Part], total: MemorySize) {
    printer.data(format!("{title}, process: {}", total.readable()));
    printer.data(format!("[{}]", bar(parts)));
    let rows = parts.iter().map(|(name, letter, size)| {
        [
            letter.to_string(),
            (*name).to_owned(),
            size.readable(),
            share(*size, total),
        ]
    });
    printer.data(table(["", "PART", "SIZE", "SHARE"], rows));
}

fn share(part: MemorySize, total: MemorySize) -> String {
    let thousandths = u128::from(part.bytes()) * 1000 / u128::from(total.bytes().max(1));
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

/// The parts as letters, as wide as their shares; what is there at all has at least one.
fn bar(parts: &[Part]) -> String {
    let total: u128 = parts.iter().map(|(_, _, size)| u128::from(size.bytes())).sum();
    let mut widths: Vec<usize> = parts
        .iter()
        .map(|(_, _, size)| {
            let width = u128::from(size.bytes()) * BAR_WIDTH as u128 / total.max(1);
            let width = usize::try_from(width).unwrap_or(BAR_WIDTH);
            width.max(usize::from(size.bytes() > 0))
        })
        .collect();
    // What rounding took or gave belongs to the widest part, where it is not seen.
    let sum: usize = widths.iter().sum();
    if let Some(widest) = widths.iter_mut().max() {
        *widest = (*widest + BAR_WIDTH).saturating_sub(sum);
    }
    parts
        .iter()
        .zip(widths)
        .map(|((_, letter, _), width)| letter.to_string().repeat(width))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_wide_as_ever_and_shows_the_smallest_part() {
        let size = MemorySize::from_mebibytes;
        let parts = [("a", 'A', size(1)), ("b", 'B', size(0)), ("c", 'C', size(5000))];
        let bar = bar(&parts);
        assert_eq!(bar.len(), BAR_WIDTH);
        assert!(bar.starts_with("AC") && !bar.contains('B'), "{bar}");
    }

    #[test]
    fn shares_are_tenths_of_percents() {
        let size = MemorySize::from_mebibytes;
        assert_eq!(share(size(1), size(3)), "33.3 %");
        assert_eq!(share(size(3), size(3)), "100.0 %");
    }
}
