//! Jars of the user's machine, with nothing in them that runs.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// A jar that names the class to run, with this besides as it is.
pub(crate) fn write_jar(path: &Path, ballast: &[u8]) {
    let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let class = path.file_name().unwrap().as_encoded_bytes();
    let manifest = b"Manifest-Version: 1.0\nMain-Class: examples.Job\n";
    for (name, content) in [
        ("META-INF/MANIFEST.MF", &manifest[..]),
        ("examples/Job.class", class),
        ("ballast", ballast),
    ] {
        zip.start_file(name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}
