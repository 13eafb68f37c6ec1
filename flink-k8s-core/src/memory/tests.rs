use proptest::prelude::*;

use super::*;
use crate::configuration::{FlinkConfiguration, Origin};
use crate::flink_version::FlinkVersion;

fn configuration(entries: &[(&str, &str)]) -> FlinkConfiguration {
    let mut configuration = FlinkConfiguration::new();
    for (key, text) in entries {
        configuration.set(*key, *text, Origin::CommandLine);
    }
    configuration
}

fn job_manager(entries: &[(&str, &str)]) -> Result<JobManagerProcessMemory, InvalidMemoryConfiguration> {
    JobManagerProcessMemory::from_configuration(&configuration(entries), FlinkVersion::V2_1)
}

fn task_manager(entries: &[(&str, &str)]) -> Result<TaskManagerProcessMemory, InvalidMemoryConfiguration> {
    TaskManagerProcessMemory::from_configuration(&configuration(entries), FlinkVersion::V2_1)
}

/// What a resource manager makes of the configuration.
fn rebuilt(configuration: &FlinkConfiguration) -> TaskExecutorResources {
    let worker = WorkerResourceSpec::default_of(configuration).unwrap();
    TaskExecutorResources::for_worker(&without_total_sizes(configuration), &worker).unwrap()
}

#[test]
fn the_memory_of_a_job_manager_is_divided_to_the_byte() {
    for (option, size, heap, overhead, total) in [
        ("process", "1088m", 536_870_912, 201_326_592, 1_140_850_688),
        ("process", "1600m", 1_073_741_824, 201_326_592, 1_677_721_600),
        ("process", "2048m", 1_530_082_096, 214_748_368, 2_147_483_648),
        ("process", "4096m", 3_462_817_376, 429_496_736, 4_294_967_296),
        ("process", "16384m", 15_703_474_176, 1_073_741_824, 17_179_869_184),
        ("flink", "1280m", 1_207_959_552, 201_326_592, 1_811_939_328),
        ("heap", "1024m", 1_073_741_824, 201_326_592, 1_677_721_600),
    ] {
        let memory = job_manager(&[(&format!("jobmanager.memory.{option}.size"), size)]).unwrap();
        let sizes = [
            memory.heap,
            memory.off_heap,
            memory.metaspace,
            memory.overhead,
            memory.total(),
        ];
        assert_eq!(
            sizes.map(MemorySize::bytes),
            [heap, 134_217_728, 268_435_456, overhead, total],
            "{option} {size}"
        );
    }
}

#[test]
fn the_memory_of_a_task_manager_is_divided_to_the_byte() {
    for (option, size, [flink, task_heap, managed, network, overhead]) in [
        (
            "process",
            "1728m",
            [1_342_177_280, 402_653_174, 536_870_920, 134_217_730, 201_326_592],
        ),
        (
            "process",
            "2048m",
            [1_664_299_824, 563_714_445, 665_719_939, 166_429_984, 214_748_368],
        ),
        (
            "process",
            "2500m",
            [2_090_860_541, 776_994_800, 836_344_228, 209_086_057, 262_144_003],
        ),
        (
            "process",
            "4096m",
            [
                3_597_035_104,
                1_530_082_070,
                1_438_814_063,
                359_703_515,
                429_496_736,
            ],
        ),
        (
            "process",
            "8192m",
            [
                7_462_505_664,
                3_462_817_321,
                2_985_002_310,
                746_250_577,
                858_993_472,
            ],
        ),
        (
            "process",
            "16384m",
            [
                15_837_691_904,
                7_650_410_378,
                6_335_076_856,
                1_583_769_214,
                1_073_741_824,
            ],
        ),
        (
            "flink",
            "4096m",
            [
                4_294_967_296,
                1_879_048_160,
                1_717_986_944,
                429_496_736,
                507_044_758,
            ],
        ),
    ] {
        let memory = task_manager(&[(&format!("taskmanager.memory.{option}.size"), size)]).unwrap();
        let sizes = [
            memory.flink(),
            memory.task_heap,
            memory.managed,
            memory.network,
            memory.overhead,
        ];
        assert_eq!(
            sizes.map(MemorySize::bytes),
            [flink, task_heap, managed, network, overhead],
            "{option} {size}"
        );
    }
}

#[test]
fn a_worker_is_rebuilt_from_its_parts_and_not_from_the_process_size() {
    let rounded = configuration(&[("taskmanager.memory.process.size", "2500m")]);
    assert_eq!(rebuilt(&rounded).memory.overhead.bytes(), 262_144_004);
    assert_eq!(rebuilt(&rounded).total().mebibytes(), 2500);

    let pinned = configuration(&[
        ("taskmanager.memory.process.size", "3200m"),
        ("taskmanager.memory.task.heap.size", "1g"),
        ("taskmanager.memory.managed.size", "1g"),
    ]);
    let client = TaskManagerProcessMemory::from_configuration(&pinned, FlinkVersion::V2_1).unwrap();
    assert_eq!(
        (client.network.bytes(), client.overhead.bytes()),
        (268_435_460, 402_653_180)
    );
    let worker = rebuilt(&pinned);
    assert_eq!(worker.memory.overhead.bytes(), 328_087_785);
    assert_eq!(worker.total().mebibytes(), 3128);
}

#[test]
fn whole_mebibytes_survive_the_rebuild() {
    for mebibytes in (1100..12_000).step_by(7) {
        let configuration = configuration(&[("taskmanager.memory.process.size", &format!("{mebibytes}m"))]);
        assert_eq!(rebuilt(&configuration).total().mebibytes(), mebibytes);
    }
}

#[test]
fn memory_that_does_not_add_up_is_refused_and_the_options_are_named() {
    const PROCESS: &str = "jobmanager.memory.process.size";
    const FLINK: &str = "jobmanager.memory.flink.size";
    const HEAP: &str = "jobmanager.memory.heap.size";
    const OFF_HEAP: &str = "jobmanager.memory.off-heap.size";
    for (entries, parts) in [
        (&[][..], &[PROCESS, FLINK, HEAP][..]),
        (&[(PROCESS, "448m")], &["Flink's memory (0 bytes)", OFF_HEAP]),
        (
            &[(PROCESS, "400m")],
            &[PROCESS, "400.000mb", "256.000mb", "192.000mb"],
        ),
        (
            &[(HEAP, "1g"), (FLINK, "1g"), (OFF_HEAP, "128m")],
            &[HEAP, FLINK, OFF_HEAP, "1024.000mb"],
        ),
        (&[(HEAP, "2g"), (FLINK, "1g")], &[HEAP, "2.000gb", "1024.000mb"]),
        (
            &[(HEAP, "1g"), (PROCESS, "1g")],
            &[PROCESS, "1024.000mb", "1.125gb"],
        ),
        (
            &[(HEAP, "1g"), (PROCESS, "9g")],
            &["jobmanager.memory.jvm-overhead.max", "7.625gb"],
        ),
        (&[(PROCESS, "1.5g")], &[PROCESS, "1.5g"]),
        (
            &[(PROCESS, "2g"), ("jobmanager.memory.jvm-overhead.min", "2g")],
            &[
                "jobmanager.memory.jvm-overhead.fraction",
                "jobmanager.memory.jvm-overhead.min",
            ],
        ),
        (
            &[
                (PROCESS, "2g"),
                ("jobmanager.memory.jvm-overhead.fraction", "1.0"),
            ],
            &["jobmanager.memory.jvm-overhead.fraction (1)"],
        ),
        (
            &[
                (FLINK, "999g"),
                ("jobmanager.memory.jvm-overhead.fraction", "0.99999994"),
            ],
            &["jobmanager.memory.jvm-overhead.fraction"],
        ),
    ] {
        let refusal = job_manager(entries).unwrap_err().to_string();
        for part in parts {
            assert!(
                refusal.contains(part),
                "{entries:?} should name {part}: {refusal}"
            );
        }
    }
}

#[test]
fn a_task_manager_whose_parts_do_not_fit_is_refused() {
    const PROCESS: &str = "taskmanager.memory.process.size";
    const FLINK: &str = "taskmanager.memory.flink.size";
    const TASK_HEAP: &str = "taskmanager.memory.task.heap.size";
    const MANAGED: &str = "taskmanager.memory.managed.size";
    const NETWORK_MIN: &str = "taskmanager.memory.network.min";
    for (entries, parts) in [
        (&[][..], &[PROCESS, FLINK, TASK_HEAP, MANAGED][..]),
        (
            &[(PROCESS, "1000m"), (MANAGED, "900m")],
            &[MANAGED, "900.000mb", "552.000mb"],
        ),
        (
            &[(FLINK, "1g"), (TASK_HEAP, "300m"), (MANAGED, "420m")],
            &[NETWORK_MIN, "48.000mb", "64.000mb"],
        ),
        (&[(PROCESS, "1.5g")], &[PROCESS, "1.5g"]),
        (
            &[(PROCESS, "2g"), ("taskmanager.memory.managed.fraction", "-0.1")],
            &["managed.fraction"],
        ),
        (
            &[(TASK_HEAP, "9223372036854775807"), (MANAGED, "1")],
            &[TASK_HEAP, MANAGED],
        ),
    ] {
        let refusal = task_manager(entries).unwrap_err().to_string();
        for part in parts {
            assert!(
                refusal.contains(part),
                "{entries:?} should name {part}: {refusal}"
            );
        }
    }
}

#[test]
fn a_deprecated_key_counts_as_set() {
    let memory = task_manager(&[
        ("taskmanager.memory.flink.size", "1g"),
        ("taskmanager.memory.size", "100m"),
    ]);
    assert_eq!(memory.unwrap().managed, MemorySize::from_mebibytes(100));
}

#[test]
fn cpu_cores_come_from_flink_then_from_kubernetes_then_from_the_slots() {
    const SIZE: (&str, &str) = ("taskmanager.memory.process.size", "2g");
    const SLOTS: (&str, &str) = ("taskmanager.numberOfTaskSlots", "3");
    const KUBERNETES: (&str, &str) = ("kubernetes.taskmanager.cpu", "1.5");
    const CORES: (&str, &str) = ("taskmanager.cpu.cores", "0.123456789");
    for (entries, cores) in [
        (&[SIZE, SLOTS][..], "3"),
        (&[SIZE, SLOTS, KUBERNETES], "1.5"),
        (&[SIZE, SLOTS, KUBERNETES, CORES], "0.12345678"),
    ] {
        assert_eq!(rebuilt(&configuration(entries)).cpu.to_string(), cores);
    }
    let none = configuration(&[SIZE, ("taskmanager.cpu.cores", "0")]);
    let refusal = TaskExecutorResources::from_configuration(&none, FlinkVersion::V2_1).unwrap_err();
    assert!(refusal.to_string().contains("taskmanager.cpu.cores"), "{refusal}");
}

#[test]
fn names_of_external_resources_come_in_the_order_of_a_java_hash_map() {
    for (names, expected) in [
        ("x y;gpu", "x y;gpu"),
        ("gpu;fpga;tpu", "fpga;tpu;gpu"),
        ("gpu;a.b;npu", "npu;a.b;gpu"),
        ("gpu1;gpu10;gpu2", "gpu1;gpu2;gpu10"),
        ("Z;a", "a;Z"),
    ] {
        let mut settings = configuration(&[
            ("taskmanager.memory.process.size", "2500m"),
            ("external-resources", names),
        ]);
        for name in names.split(';') {
            let key = format!("external-resource.{name}.amount");
            settings.set(key, "1", Origin::CommandLine);
        }
        let properties = rebuilt(&settings).dynamic_properties();
        let written = properties.iter().find(|(key, _)| key == "external-resources");
        assert_eq!(written.unwrap().1, expected);
    }
}

#[test]
fn a_started_task_manager_reads_back_what_it_was_given() {
    let configuration = configuration(&[
        ("taskmanager.memory.process.size", "2500m"),
        ("taskmanager.numberOfTaskSlots", "2"),
        ("external-resources", "gpu;fpga;none-of-it"),
        ("external-resource.gpu.amount", "2"),
        ("external-resource.fpga.amount", "1"),
        ("external-resource.none-of-it.amount", "0"),
    ]);
    let given = rebuilt(&configuration);
    let mut seen = configuration;
    for (key, value) in given.dynamic_properties() {
        seen.set(key, value, Origin::CommandLine);
    }
    assert_eq!(
        TaskExecutorResources::from_explicit_resources(&seen).unwrap(),
        given
    );
    assert_eq!(seen.setting("external-resources").unwrap().text, "fpga;gpu");

    seen.remove_key("taskmanager.memory.network.max");
    let refusal = TaskExecutorResources::from_explicit_resources(&seen).unwrap_err();
    assert!(
        refusal.to_string().contains("taskmanager.memory.network.max"),
        "{refusal}"
    );
}

#[test]
fn old_heap_options_count_up_to_flink_1_20_and_mean_other_things_in_the_pod() {
    let old = configuration(&[("jobmanager.heap.size", "1g"), ("taskmanager.heap.mb", "2048")]);
    let job_manager = JobManagerProcessMemory::from_configuration(&old, FlinkVersion::V1_20).unwrap();
    assert_eq!(job_manager.total().mebibytes(), 1024);
    let in_pod = JobManagerProcessMemory::from_configuration_in_pod(&old, FlinkVersion::V1_20).unwrap();
    assert_eq!(in_pod.heap.mebibytes(), 1024);
    let task_manager = TaskManagerProcessMemory::from_configuration(&old, FlinkVersion::V1_20).unwrap();
    assert_eq!(task_manager.total().mebibytes(), 2048);
    assert!(JobManagerProcessMemory::from_configuration(&old, FlinkVersion::V2_1).is_err());

    let negative = configuration(&[("jobmanager.heap.mb", "-1")]);
    let refusal = JobManagerProcessMemory::from_configuration(&negative, FlinkVersion::V1_20).unwrap_err();
    assert!(
        refusal.to_string().contains("jobmanager.heap.mb (-1)"),
        "{refusal}"
    );
}

proptest! {
    #[test]
    fn the_parts_of_a_task_manager_add_up(
        process in 1100_u64..100_000,
        managed in proptest::option::of(0.0_f32..0.6),
        overhead in proptest::option::of(0.0_f32..0.2),
    ) {
        let process = process << 20;
        let mut configuration = configuration(&[("taskmanager.memory.process.size", &format!("{process}b"))]);
        if let Some(fraction) = managed {
            configuration.set("taskmanager.memory.managed.fraction", fraction.to_string(), Origin::CommandLine);
        }
        if let Some(fraction) = overhead {
            configuration.set("taskmanager.memory.jvm-overhead.fraction", fraction.to_string(), Origin::CommandLine);
        }
        if let Ok(memory) = TaskManagerProcessMemory::from_configuration(&configuration, FlinkVersion::V2_1) {
            prop_assert_eq!(memory.total().bytes(), process);
            prop_assert_eq!(memory.jvm_heap().bytes() + memory.jvm_direct().bytes() + memory.managed.bytes(),
                memory.flink().bytes());
        }
    }

    #[test]
    fn the_parts_of_a_job_manager_add_up(process in 0_u64..1 << 40, fraction in 0.0_f32..1.0) {
        let configuration = configuration(&[
            ("jobmanager.memory.process.size", &process.to_string()),
            ("jobmanager.memory.jvm-overhead.fraction", &fraction.to_string()),
        ]);
        if let Ok(memory) = JobManagerProcessMemory::from_configuration(&configuration, FlinkVersion::V2_1) {
            prop_assert_eq!(memory.total().bytes(), process);
            prop_assert_eq!(memory.flink().bytes(), memory.heap.bytes() + memory.off_heap.bytes());
        }
    }

    #[test]
    fn cpu_cores_print_as_they_read(hundredths in 1_u32..1_000_000) {
        let cores = CpuCores::from_f64(f64::from(hundredths) / 100.0).unwrap();
        prop_assert_eq!(CpuCores::from_f64(cores.to_string().parse().unwrap()), Some(cores));
    }
}
