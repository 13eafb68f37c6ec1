//! An endpoint that takes uploads and keeps nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::write;

/// How much is read at once.
const READ_BYTES: usize = 1024 * 1024;
/// What Flink answers.
const ANSWER: &str = r#"{"filename":"/tmp/flink-web-upload/u1_job.jar","status":"success"}"#;

/// Says where it is, and then serves one connection after the other for as long as the process lives.
pub(crate) fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    write(&format!("http://{address}/"));
    let mut buffer = vec![0; READ_BYTES];
    for connection in listener.incoming() {
        let connection = connection.expect("a connection");
        while take(&connection, &mut buffer).is_some() {}
    }
}

/// Takes one request and answers it; nothing once the client has gone.
fn take(mut connection: &TcpStream, buffer: &mut [u8]) -> Option<()> {
    let mut reader = BufReader::with_capacity(16 * 1024, connection);
    let (mut length, mut wants_to_be_asked) = (0_usize, false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().expect("a length");
        }
        wants_to_be_asked |= line == "expect: 100-continue";
    }
    if wants_to_be_asked {
        connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    assert!(length > 0, "an upload says how long it is");
    while length > 0 {
        let wanted = length.min(buffer.len());
        match reader.read(&mut buffer[..wanted]).ok()? {
            0 => return None,
            count => length -= count,
        }
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{ANSWER}", ANSWER.len());
    connection.write_all(answer.as_bytes()).ok()
}
