//! The jobs of `examples/jobs` as a jar, whose main class is `WordCount`.
//!
//! With javac where there is one. A Java runtime alone is enough too: Flink's table runtime contains
//! Janino, a Java compiler with a main class.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use zip::write::SimpleFileOptions;

use crate::flink_distribution::FlinkDistribution;
use crate::interrupt::Interrupt;
use crate::java_runtime::JavaRuntime;
use crate::program::Program;
use crate::terminal::Terminal;

/// The class with `main`.
const MAIN_CLASS: &str = "examples.WordCount";
/// The sources, below the top of the workspace.
const SOURCES: [&str; 4] = [
    "examples/jobs/src/examples/Arguments.java",
    "examples/jobs/src/examples/JobGraphFile.java",
    "examples/jobs/src/examples/TwoJobs.java",
    "examples/jobs/src/examples/WordCount.java",
];
/// The oldest Java that the class files run on.
const TARGET_RELEASE: &str = "11";
/// Janino's replacement for javac.
const JANINO: &str = "org.codehaus.commons.compiler.samples.CompilerDemo";

/// Compiles the jobs against a Flink distribution and returns `<directory>/word-count.jar`.
///
/// The same compiler makes the same bytes each time.
///
/// # Errors
///
/// The compiler fails, a file cannot be written, or the task is interrupted.
pub(crate) async fn build_word_count(
    workspace: &Path,
    flink: &FlinkDistribution,
    java: &JavaRuntime,
    directory: &Path,
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<PathBuf> {
    let classes = tempfile::tempdir_in(directory)
        .with_context(|| format!("cannot create a directory in {}", directory.display()))?;
    let class_path =
        std::env::join_paths(flink.jars()?).context("a jar's path contains the path separator")?;
    let sources = SOURCES.map(|source| workspace.join(source));
    let (compiler, command) = match java.javac() {
        Some(javac) => ("javac", with_javac(javac, class_path, classes.path(), &sources)),
        None => (
            "Janino",
            with_janino(java.java(), class_path, classes.path(), &sources),
        ),
    };
    let output = command.output(interrupt).await?;
    if !output.status.success() {
        bail!(
            "{compiler} cannot compile {}: {}",
            SOURCES.join(", "),
            output.last_words()
        );
    }
    let jar = directory.join("word-count.jar");
    let cannot = || format!("cannot write {}", jar.display());
    // Others may be using the jar of an earlier run.
    let new = tempfile::NamedTempFile::new_in(directory).with_context(cannot)?;
    pack(classes.path(), new.path()).with_context(cannot)?;
    new.persist(&jar).with_context(cannot)?;
    terminal.note(format_args!(
        "{MAIN_CLASS} compiled with {compiler}: {}",
        jar.display()
    ));
    Ok(jar)
}

fn with_javac(javac: PathBuf, class_path: OsString, classes: &Path, sources: &[PathBuf]) -> Program {
    Program::new(javac)
        .args([
            "--release",
            TARGET_RELEASE,
            "-proc:none",
            "-Xlint:none",
            "-encoding",
            "UTF-8",
        ])
        .args([
            OsString::from("-classpath"),
            class_path,
            "-d".into(),
            classes.into(),
        ])
        .args(sources)
}

fn with_janino(java: PathBuf, class_path: OsString, classes: &Path, sources: &[PathBuf]) -> Program {
    Program::new(java)
        .arg(format!(
            "-Dorg.codehaus.janino.UnitCompiler.defaultTargetVersion={TARGET_RELEASE}"
        ))
        .args([
            OsString::from("-classpath"),
            class_path.clone(),
            JANINO.into(),
            "-encoding".into(),
            "UTF-8".into(),
        ])
        .args([
            OsString::from("-classpath"),
            class_path,
            "-d".into(),
            classes.into(),
        ])
        .args(sources)
}

/// Zips the class files, sorted and without times, behind a manifest that names the main class.
fn pack(classes: &Path, jar: &Path) -> anyhow::Result<()> {
    let mut names = Vec::new();
    collect_files(classes, classes, &mut names)?;
    names.sort();
    // The default time of an entry is 1980-01-01, where zip's calendar begins.
    let options = SimpleFileOptions::default();
    let mut zip = zip::ZipWriter::new(File::create(jar)?);
    zip.start_file("META-INF/MANIFEST.MF", options)?;
    write!(zip, "Manifest-Version: 1.0\r\nMain-Class: {MAIN_CLASS}\r\n\r\n")?;
    for name in names {
        zip.start_file(name.to_string_lossy(), options)?;
        zip.write_all(&std::fs::read(classes.join(&name))?)?;
    }
    zip.finish()?;
    Ok(())
}

fn collect_files(top: &Path, directory: &Path, names: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_files(top, &path, names)?;
        } else {
            names.push(path.strip_prefix(top)?.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_jar_has_its_manifest_first_and_is_the_same_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let classes = directory.path().join("classes");
        std::fs::create_dir_all(classes.join("examples")).unwrap();
        for name in ["examples/WordCount.class", "examples/WordCount$Count.class"] {
            std::fs::write(classes.join(name), name).unwrap();
        }
        let jar = |name| {
            let jar = directory.path().join(name);
            pack(&classes, &jar).unwrap();
            std::fs::read(jar).unwrap()
        };
        assert_eq!(jar("one.jar"), jar("two.jar"));
        let mut zip = zip::ZipArchive::new(File::open(directory.path().join("one.jar")).unwrap()).unwrap();
        let names: Vec<String> = (0..zip.len())
            .map(|index| zip.by_index(index).unwrap().name().unwrap().into_owned())
            .collect();
        assert_eq!(
            names,
            [
                "META-INF/MANIFEST.MF",
                "examples/WordCount$Count.class",
                "examples/WordCount.class"
            ]
        );
        let mut manifest = String::new();
        zip.by_name("META-INF/MANIFEST.MF")
            .unwrap()
            .read_to_string(&mut manifest)
            .unwrap();
        assert_eq!(
            manifest,
            "Manifest-Version: 1.0\r\nMain-Class: examples.WordCount\r\n\r\n"
        );
    }
}
