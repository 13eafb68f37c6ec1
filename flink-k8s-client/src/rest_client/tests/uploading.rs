use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn file(name: &str, content: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, content).unwrap();
    (directory, path)
}

async fn upload(rest: &RestClient, path: &std::path::Path) -> Result<JarId, UploadError> {
    rest.upload_jar(path, |_| ()).await
}

/// A message without the directory that differs from run to run.
fn message(error: &UploadError, path: &std::path::Path) -> String {
    chain(error).replace(&path.display().to_string(), "words.jar")
}

#[tokio::test]
async fn a_jar_arrives_whole_with_its_name_and_length_and_its_id_comes_back() {
    let (server, rest) = flink().await;
    let answer = json!({"filename": "/tmp/flink-web-x/flink-web-upload/u1_words.jar", "status": "success"});
    serve(&server, "POST", "/v1/jars/upload", json_answer(200, answer)).await;
    let content: Vec<u8> = (0..1_000_000_u32)
        .map(|index| u8::try_from(index % 251).unwrap())
        .collect();
    let (_directory, path) = file("words.jar", &content);
    let progress = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&progress);
    let jar = rest
        .upload_jar(&path, move |progress| seen.lock().unwrap().push(progress))
        .await
        .unwrap();
    assert_eq!(jar.as_str(), "u1_words.jar");

    let request = &server.received_requests().await.unwrap()[0];
    let length: usize = request.headers["content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(length, request.body.len());
    assert!(
        request
            .body
            .windows(content.len())
            .any(|window| window == content)
    );
    let head = String::from_utf8_lossy(&request.body[..300]);
    assert!(
        head.contains("name=\"jarfile\"; filename=\"words.jar\""),
        "{head}"
    );
    assert!(head.contains("application/x-java-archive"), "{head}");

    let progress = progress.lock().unwrap();
    assert!(progress.windows(2).all(|pair| pair[0].sent < pair[1].sent));
    assert_eq!(
        progress.last().unwrap(),
        &UploadProgress {
            sent: 1_000_000,
            total: 1_000_000
        }
    );
    assert!(progress.len() > 1);
}

#[tokio::test]
async fn no_more_is_read_than_the_connection_takes() {
    const LENGTH: u64 = 512 * 1024 * 1024;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("huge.jar");
    std::fs::File::create(&path).unwrap().set_len(LENGTH).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rest = RestClient::new(
        format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap(),
    )
    .unwrap();
    let sent = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let seen = Arc::clone(&sent);
    let upload = tokio::spawn(async move {
        rest.upload_jar(&path, move |progress| {
            seen.store(progress.sent, std::sync::atomic::Ordering::SeqCst);
        })
        .await
    });
    // The server takes one byte and then no more: what is sent is what fits into the sockets' buffers.
    let (mut connection, _) = listener.accept().await.unwrap();
    connection.read_u8().await.unwrap();
    let mut before = u64::MAX;
    loop {
        let now = sent.load(std::sync::atomic::Ordering::SeqCst);
        if now == before && now > 0 {
            break;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(before < LENGTH / 8, "{before} of {LENGTH} bytes were read");
    upload.abort();
}

#[tokio::test]
async fn a_name_that_a_header_cannot_hold_is_made_plain() {
    let (server, rest) = flink().await;
    serve(
        &server,
        "POST",
        "/v1/jars/upload",
        json_answer(200, json!({"filename": "/x/u1", "status": "success"})),
    )
    .await;
    let (_directory, path) = file("wörter \"1\".jar", b"PK");
    upload(&rest, &path).await.unwrap();
    let request = &server.received_requests().await.unwrap()[0];
    assert!(String::from_utf8_lossy(&request.body).contains("filename=\"w_rter _1_.jar\""));
}

#[tokio::test]
async fn what_is_not_a_jar_is_refused_before_anything_is_sent() {
    let (server, rest) = flink().await;
    let (directory, path) = file("words.zip", b"PK");
    insta::assert_snapshot!(message(&upload(&rest, &path).await.unwrap_err(), &path), @"words.jar is not a jar: Flink accepts only file names that end in .jar");
    let (_empty, path) = file("words.jar", b"");
    insta::assert_snapshot!(message(&upload(&rest, &path).await.unwrap_err(), &path), @"words.jar is not a jar: it is empty");
    let path = directory.path().join("directory.jar");
    std::fs::create_dir(&path).unwrap();
    insta::assert_snapshot!(message(&upload(&rest, &path).await.unwrap_err(), &path), @"words.jar is not a jar: it is a directory");
    let path = directory.path().join("missing.jar");
    let error = upload(&rest, &path).await.unwrap_err();
    assert!(!error.is_transient());
    insta::assert_snapshot!(message(&error, &path), @"cannot read jar words.jar: No such file or directory (os error 2)");
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn flinks_refusal_of_a_jar_is_passed_on() {
    let (server, rest) = flink().await;
    let answer = json_answer(400, json!({"errors": ["Only Jar files are allowed."]}));
    serve(&server, "POST", "/v1/jars/upload", answer).await;
    let (_directory, path) = file("words.jar", b"PK");
    let error = upload(&rest, &path).await.unwrap_err();
    insta::assert_snapshot!(at_flink(&server, &message(&error, &path)), @"cannot upload words.jar: POST http://flink/v1/jars/upload was refused with HTTP 400: Only Jar files are allowed.");
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_does_not_move_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rest = RestClient::new(
        format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap(),
    )
    .unwrap();
    let (_directory, path) = file("words.jar", b"PK");
    // The paused clock runs ahead as soon as everybody waits, so the connection is made first.
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 64 * 1024];
        while connection.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
        drop(connection.shutdown().await);
    });
    let error = upload(&rest, &path).await.unwrap_err();
    assert!(error.is_transient());
    let text = message(&error, &path);
    assert!(
        text.starts_with("the upload of words.jar stalled after "),
        "{text}"
    );
    server.abort();
}
