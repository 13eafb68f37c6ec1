//! What a JVM, or our entrypoint before it, says about its own end: read from the last lines of a log.

/// How a program says that it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramFailure {
    /// The root of it, in one line: the deepest exception that says something, or the JVM's own words.
    pub root: String,
    /// What was thrown at last, in one line, where that is something else.
    pub thrown: Option<String>,
    /// Whether storage that could not be reached is the root of it.
    pub is_storage: bool,
}

/// Words by which the JVM itself, or our entrypoints, refuse to start.
const LAST_WORDS: [&str; 11] = [
    "Unrecognized VM option",
    "Unrecognized option:",
    "Invalid maximum heap size",
    "Could not find or load main class",
    "Could not reserve enough space",
    "insufficient memory for the Java Runtime",
    "Conflicting collector combinations",
    "Error opening zip file or JAR manifest missing",
    "the JobManager cannot run:",
    "the TaskManager cannot run:",
    "Error occurred during initialization of VM",
];
/// Words by which storage, most of all that of high availability, is known to be the cause. They stand in the
/// messages of Flink's own exceptions and in those of file systems.
const STORAGE: [&str; 10] = [
    "highly available storage",
    "high-availability.storageDir",
    "Could not find a file system implementation for scheme",
    "UnsupportedFileSystemSchemeException",
    "Could not create FileSystem",
    "NoSuchBucket",
    "AccessDenied",
    "No FileSystem for scheme",
    "blob storage",
    "Failed to create directory for blob store",
];
/// Exceptions that only carry others.
const CARRIERS: [&str; 5] = [
    "java.util.concurrent.CompletionException",
    "java.util.concurrent.ExecutionException",
    "java.lang.reflect.UndeclaredThrowableException",
    "java.lang.reflect.InvocationTargetException",
    "org.apache.flink.util.SerializedThrowable",
];

impl ProgramFailure {
    /// What the lines of a log, oldest first, say about the end of their program; `None` if nothing.
    ///
    /// ```
    /// # use flink_k8s_client::diagnosis::ProgramFailure;
    /// let log = "ERROR Fatal error\njava.lang.RuntimeException: no luck\n\tat a.b.C.d(C.java:1)\n\
    ///            Caused by: java.net.UnknownHostException: nowhere\n\tat e.f.G.h(G.java:2)";
    /// let lines: Vec<String> = log.lines().map(str::to_owned).collect();
    /// let failure = ProgramFailure::find(&lines).unwrap();
    /// assert_eq!(failure.root, "java.net.UnknownHostException: nowhere");
    /// assert_eq!(failure.thrown.as_deref(), Some("java.lang.RuntimeException: no luck"));
    /// ```
    pub fn find(lines: &[String]) -> Option<Self> {
        // What says most stands first.
        let last_words = LAST_WORDS.iter().find_map(|words| {
            let (line, start) = lines
                .iter()
                .rev()
                .find_map(|line| line.find(words).map(|start| (line, start)))?;
            Some(Self {
                root: line[start..].trim().to_owned(),
                thrown: None,
                is_storage: false,
            })
        });
        last_words.or_else(|| Self::of_chain(&last_chain(lines)))
    }

    fn of_chain(chain: &[String]) -> Option<Self> {
        let thrown = chain.first()?;
        let says_something = |line: &&String| {
            let class = line.split(':').next().unwrap_or_default();
            !CARRIERS.contains(&class)
        };
        let root = chain.iter().rev().find(says_something).unwrap_or(thrown);
        let is_storage = chain
            .iter()
            .any(|line| STORAGE.iter().any(|words| line.contains(words)));
        Some(Self {
            root: root.clone(),
            thrown: (thrown != root).then(|| thrown.clone()),
            is_storage,
        })
    }
}

/// The exceptions of the last stack trace, the one that was thrown first, without the word `Caused by`.
fn last_chain(lines: &[String]) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    let mut candidate: Option<String> = None;
    for line in lines {
        let text = line.trim_end();
        if let Some(cause) = text.trim_start().strip_prefix("Caused by: ") {
            // The beginning of the trace may be further up than the lines reach.
            chain.push(cause.to_owned());
        } else if text.starts_with("\tat ") || text.starts_with("\t... ") {
            if let Some(thrown) = candidate.take() {
                chain = vec![thrown];
            }
        } else {
            candidate = thrown_in(text).or(candidate.filter(|_| is_continuation(text)));
        }
    }
    chain
}

/// The exception in a line that begins a stack trace, such as `a.b.CException: message`, perhaps after `Exception in
/// thread "main"`.
fn thrown_in(line: &str) -> Option<String> {
    let line = match line.strip_prefix("Exception in thread \"") {
        Some(rest) => rest.split_once("\" ")?.1,
        None => line,
    };
    let class = line.split([':', ' ']).next()?;
    let is_class = class.contains('.')
        && (class.ends_with("Exception") || class.ends_with("Error") || class.ends_with("Throwable"))
        && class
            .chars()
            .all(|letter| letter.is_alphanumeric() || matches!(letter, '.' | '$' | '_'));
    is_class.then(|| line.to_owned())
}

/// Whether a line may belong to the message of the exception before it.
fn is_continuation(line: &str) -> bool {
    !line.starts_with(|first: char| first.is_ascii_digit())
}
