//! The jar of a job on this machine: what can be known about it before it is uploaded.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

/// Where a jar says what is in it. Java finds it in any case.
const MANIFEST: &str = "META-INF/MANIFEST.MF";
/// The attributes that name the class with `main`, the one that Flink looks at first in front.
const ENTRY_CLASS_ATTRIBUTES: [&str; 2] = ["program-class", "Main-Class"];
/// More of a manifest is not read; those with checksums of each file grow, but have these attributes first.
const MANIFEST_LIMIT: u64 = 1024 * 1024;
/// What Flink's upload wants a file name to end in; the case matters.
const SUFFIX: &str = ".jar";
/// How a zip file begins that has something in it.
const BEGINNING: &[u8] = b"PK\x03\x04";
/// What is near the end of every zip file: the end of its directory.
const END_OF_DIRECTORY: &[u8] = b"PK\x05\x06";
/// The longest that can follow [`END_OF_DIRECTORY`]: the rest of the record, and a comment.
const LONGEST_END: u64 = 22 + 65_535;

/// A jar with a job's program, of which only the directory and the manifest have been read.
///
/// Whatever its size, opening it is quick; it blocks for a few reads of the file.
///
/// ```no_run
/// # use flink_k8s_client::job_jar::JobJar;
/// let jar = JobJar::open("target/orders.jar".as_ref())?;
/// println!("{} is going to run", jar.entry_class(None)?.name);
/// # Ok::<(), flink_k8s_client::job_jar::InvalidJobJar>(())
/// ```
#[derive(Debug)]
pub struct JobJar {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    named_in_manifest: Option<String>,
}

/// The class whose `main` makes the job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryClass {
    /// Its full name.
    pub name: String,
    /// Whether the jar has it. If not, Flink may still find it: in its `lib`, in a jar within the jar, in `pipeline.classpaths`.
    pub origin: EntryClassOrigin,
}

/// Where a class is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryClassOrigin {
    /// In the jar.
    Jar,
    /// Not in the jar, which has classes of the same simple name, or of a name in another case: these.
    Elsewhere {
        /// Full names, sorted.
        similar: Vec<String>,
    },
}

/// Why a file cannot be the jar of a job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJobJar {
    /// It cannot be read.
    #[error("cannot read jar {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The failure below.
        source: io::Error,
    },
    /// It is a directory or a device, or it is empty.
    #[error("{} is not a jar: it is {what}", .path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// Flink accepts only files with this ending.
    #[error("{} is not a jar: Flink accepts only file names that end in .jar", .path.display())]
    WrongName {
        /// The file.
        path: PathBuf,
    },
    /// It is some other kind of file.
    #[error("{} is not a jar (a zip file with Java classes)", .path.display())]
    NotAZip {
        /// The file.
        path: PathBuf,
    },
    /// It begins as a jar does, and does not end as one.
    #[error("jar {} is incomplete: its end, with the list of its contents, is missing", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
    },
    /// It is a jar with something wrong in it.
    #[error("jar {} is damaged", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The failure below.
        source: io::Error,
    },
    /// Nobody said which class is to run.
    #[error("jar {} does not say which class to run: its manifest has neither Main-Class nor program-class", .path.display())]
    NoEntryClass {
        /// The file.
        path: PathBuf,
    },
}

impl JobJar {
    /// Opens a jar and reads its directory and its manifest.
    ///
    /// # Errors
    ///
    /// See [`InvalidJobJar`].
    pub fn open(path: &Path) -> Result<Self, InvalidJobJar> {
        let unreadable = |source| InvalidJobJar::Unreadable {
            path: path.to_owned(),
            source,
        };
        // Opening a pipe would wait for its other end.
        is_a_file_with_content(path, &std::fs::metadata(path).map_err(unreadable)?)?;
        if path.file_name().is_none_or(|name| {
            let name = name.as_encoded_bytes();
            !name.ends_with(SUFFIX.as_bytes()) || name.len() == SUFFIX.len()
        }) {
            let path = path.to_owned();
            return Err(InvalidJobJar::WrongName { path });
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let (begins_well, ends_well) = shape(&mut file).map_err(unreadable)?;
        if !ends_well {
            let path = path.to_owned();
            return Err(if begins_well {
                InvalidJobJar::Truncated { path }
            } else {
                InvalidJobJar::NotAZip { path }
            });
        }
        let damaged = |error: ZipError| match error {
            ZipError::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => unreadable(source),
            other => InvalidJobJar::Damaged {
                path: path.to_owned(),
                source: other.into(),
            },
        };
        let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        let manifest = manifest(&mut archive).map_err(damaged)?;
        Ok(Self {
            path: path.to_owned(),
            named_in_manifest: manifest.as_deref().and_then(entry_class),
            archive,
        })
    }

    /// The class that Flink will run: `named`, or else the one that the manifest names.
    ///
    /// # Errors
    ///
    /// [`InvalidJobJar::NoEntryClass`] when neither is there.
    pub fn entry_class(&self, named: Option<&str>) -> Result<EntryClass, InvalidJobJar> {
        let name = named
            .map(str::to_owned)
            .or_else(|| self.named_in_manifest.clone());
        let name = name.ok_or_else(|| InvalidJobJar::NoEntryClass {
            path: self.path.clone(),
        })?;
        let file = format!("{}.class", name.replace('.', "/"));
        let origin = if self.archive.index_for_name(&file).is_some() {
            EntryClassOrigin::Jar
        } else {
            let similar = self.similar(&name);
            EntryClassOrigin::Elsewhere { similar }
        };
        Ok(EntryClass { name, origin })
    }

    fn similar(&self, class: &str) -> Vec<String> {
        let simple_name = |class: &str| class.rsplit(['.', '$']).next().map(str::to_lowercase);
        let wanted = simple_name(class);
        let names = self.archive.file_names_raw().filter_map(|name| {
            let class = std::str::from_utf8(name).ok()?.strip_suffix(".class")?;
            Some(class.replace('/', "."))
        });
        let mut similar: Vec<String> = names.filter(|name| simple_name(name) == wanted).collect();
        similar.sort();
        similar
    }
}

/// What a file looks like from its beginning and its end, whatever is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JarShape {
    /// It ends as a jar, or another zip file, does.
    Whole,
    /// It begins as one, and its end is missing.
    CutOff,
    /// It is something else, or empty.
    Other,
}

impl JarShape {
    /// Looks at a file of any name; it blocks for a few reads.
    ///
    /// ```no_run
    /// # use flink_k8s_client::job_jar::JarShape;
    /// let is_whole = JarShape::of("/tmp/orders.jar".as_ref())? == JarShape::Whole;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(match shape(&mut File::open(path)?)? {
            (_, true) => Self::Whole,
            (true, false) => Self::CutOff,
            (false, false) => Self::Other,
        })
    }
}

fn is_a_file_with_content(path: &Path, metadata: &Metadata) -> Result<(), InvalidJobJar> {
    let what = match metadata {
        directory if directory.is_dir() => "a directory",
        other if !other.is_file() => "not a regular file",
        empty if empty.len() == 0 => "empty",
        _ => return Ok(()),
    };
    Err(InvalidJobJar::NotAFile {
        path: path.to_owned(),
        what,
    })
}

/// Whether a file begins and ends as zip files do. Java accepts other content in front, such as a script.
fn shape(file: &mut File) -> io::Result<(bool, bool)> {
    let mut beginning = Vec::new();
    let length = BEGINNING.len() as u64;
    Read::by_ref(file).take(length).read_to_end(&mut beginning)?;
    let end = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(end.saturating_sub(LONGEST_END)))?;
    let mut tail = Vec::new();
    Read::by_ref(file).take(LONGEST_END).read_to_end(&mut tail)?;
    file.rewind()?;
    let mut windows = tail.windows(END_OF_DIRECTORY.len());
    Ok((
        beginning == BEGINNING,
        windows.any(|window| window == END_OF_DIRECTORY),
    ))
}

fn manifest(archive: &mut ZipArchive<BufReader<File>>) -> Result<Option<String>, ZipError> {
    let is_manifest = |name: &[u8]| name.eq_ignore_ascii_case(MANIFEST.as_bytes());
    let Some(index) = archive.file_names_raw().position(is_manifest) else {
        return Ok(None);
    };
    let mut content = Vec::new();
    let mut file = archive.by_index(index)?.take(MANIFEST_LIMIT);
    file.read_to_end(&mut content)?;
    Ok(Some(String::from_utf8_lossy(&content).into_owned()))
}

/// The class that the main section of a manifest names. Lines end as on any system; one that begins with
/// a space continues the one before, because no line is longer than 72 bytes.
fn entry_class(manifest: &str) -> Option<String> {
    let text = manifest.replace("\r\n", "\n").replace('\r', "\n");
    let main_section = text.split("\n\n").next().unwrap_or_default();
    let main_section = main_section.replace("\n ", "");
    ENTRY_CLASS_ATTRIBUTES.iter().find_map(|wanted| {
        let value = main_section.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        });
        value.filter(|value| !value.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::io::Write as _;

    use tempfile::TempDir;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn written(name: &str, content: &[u8]) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        (directory, path)
    }

    fn jar(files: &[(&str, &str)]) -> Vec<u8> {
        let mut zip = ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, content) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn refusal(name: &str, content: &[u8]) -> String {
        let (_directory, path) = written(name, content);
        let error = JobJar::open(&path).unwrap_err();
        error.to_string().replace(&path.display().to_string(), name)
    }

    const MANIFEST_OF_WORDS: (&str, &str) = (
        "META-INF/MANIFEST.MF",
        "Manifest-Version: 1.0\r\nMain-Class: com.example.Words\r\n\r\n",
    );

    #[test]
    fn the_class_to_run_comes_from_the_manifest_or_by_name() {
        let content = jar(&[
            MANIFEST_OF_WORDS,
            ("com/example/Words.class", "x"),
            ("Other.class", "y"),
        ]);
        let (_directory, path) = written("words.jar", &content);
        let jar = JobJar::open(&path).unwrap();
        let in_jar = |name: &str| EntryClass {
            name: name.to_owned(),
            origin: EntryClassOrigin::Jar,
        };
        assert_eq!(jar.entry_class(None).unwrap(), in_jar("com.example.Words"));
        assert_eq!(jar.entry_class(Some("Other")).unwrap(), in_jar("Other"));
    }

    #[test]
    fn a_class_that_the_jar_has_not_comes_with_those_that_may_be_meant() {
        let content = jar(&[
            ("org/example/Words.class", "x"),
            ("a/WORDS.class", "y"),
            ("b/Wordy.class", "z"),
        ]);
        let (_directory, path) = written("words.jar", &content);
        let class = JobJar::open(&path)
            .unwrap()
            .entry_class(Some("com.example.Words"));
        let similar = vec!["a.WORDS".to_owned(), "org.example.Words".to_owned()];
        assert_eq!(class.unwrap().origin, EntryClassOrigin::Elsewhere { similar });
    }

    #[test]
    fn a_jar_that_names_no_class_needs_one() {
        for files in [
            vec![],
            vec![(
                "META-INF/MANIFEST.MF",
                "Manifest-Version: 1.0\n\nName: x\nMain-Class: A\n",
            )],
        ] {
            let (_directory, path) = written("words.jar", &jar(&[&files[..], &[("A.class", "x")]].concat()));
            let jar = JobJar::open(&path).unwrap();
            let error = jar.entry_class(None).unwrap_err().to_string();
            let error = error.replace(&path.display().to_string(), "words.jar");
            assert_eq!(
                error,
                "jar words.jar does not say which class to run: its manifest has neither Main-Class nor program-class"
            );
            assert_eq!(jar.entry_class(Some("A")).unwrap().origin, EntryClassOrigin::Jar);
        }
    }

    #[test]
    fn manifests_are_read_as_java_and_flink_read_them() {
        let class = |manifest: &str| entry_class(manifest);
        assert_eq!(class("main-class: a.B\n").as_deref(), Some("a.B"));
        assert_eq!(
            class("Main-Class: a.very.lo\r\n ng.Name\r\nX: y\r\n").as_deref(),
            Some("a.very.long.Name")
        );
        assert_eq!(
            class("Main-Class: a.B\rprogram-class: c.D\r").as_deref(),
            Some("c.D")
        );
        assert_eq!(class("Main-Class:\n"), None);
        assert_eq!(class("Created-By: Main-Class\n"), None);
    }

    #[test]
    fn what_is_no_jar_is_refused_with_the_reason() {
        let whole = jar(&[MANIFEST_OF_WORDS, ("com/example/Words.class", &"x".repeat(5000))]);
        assert_eq!(
            refusal("a.jar", b"hello"),
            "a.jar is not a jar (a zip file with Java classes)"
        );
        assert_eq!(refusal("a.jar", b""), "a.jar is not a jar: it is empty");
        assert_eq!(
            refusal("a.zip", &whole),
            "a.zip is not a jar: Flink accepts only file names that end in .jar"
        );
        assert_eq!(
            refusal("a.jar", &whole[..whole.len() - 30]),
            "jar a.jar is incomplete: its end, with the list of its contents, is missing"
        );
        let (directory, _) = written("a.jar", b"");
        let error = JobJar::open(directory.path()).unwrap_err().to_string();
        assert!(error.ends_with("is not a jar: it is a directory"), "{error}");
        let error = JobJar::open("nowhere/a.jar".as_ref()).unwrap_err();
        assert_eq!(error.to_string(), "cannot read jar nowhere/a.jar");
        assert!(error.source().unwrap().to_string().contains("No such file"));
    }

    #[test]
    fn a_jar_whose_directory_points_nowhere_is_damaged() {
        let whole = jar(&[MANIFEST_OF_WORDS]);
        let end = whole
            .windows(4)
            .position(|window| window == END_OF_DIRECTORY)
            .unwrap();
        let mut broken = whole.clone();
        broken[end + 12..end + 20].fill(0x7f);
        assert_eq!(refusal("a.jar", &broken), "jar a.jar is damaged");
    }

    #[test]
    fn a_script_in_front_of_a_jar_is_accepted_as_java_accepts_it() {
        let content = jar(&[MANIFEST_OF_WORDS, ("com/example/Words.class", "x")]);
        let (_directory, path) = written(
            "a.jar",
            &[b"#!/bin/sh\nexec java -jar $0\n", &content[..]].concat(),
        );
        let class = JobJar::open(&path).unwrap().entry_class(None).unwrap();
        assert_eq!(class.origin, EntryClassOrigin::Jar);
    }
}
