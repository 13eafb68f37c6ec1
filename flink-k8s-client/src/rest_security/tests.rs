use std::net::SocketAddr;

use flink_k8s_core::configuration::Origin;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::rest_client::{RestClient, RestError};

/// An authority, with files that a configuration can name.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        let authority = Self { issuer, directory };
        let (chain, key) = authority.issue("me");
        fs::write(authority.path("me.pem"), chain).unwrap();
        fs::write(authority.path("me.key"), key).unwrap();
        authority
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// A certificate for this name and its key, as PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn identity(&self, name: &str) -> Identity {
        let (chain, key) = self.issue(name);
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>();
        (
            chain.unwrap(),
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
    }
}

fn configuration(settings: &[(&str, &str)]) -> FlinkConfiguration {
    let mut configuration = FlinkConfiguration::new();
    for (key, value) in settings {
        configuration.set(*key, *value, Origin::CommandLine);
    }
    configuration
}

fn server_of(identity: Identity, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(identity.0, identity.1).unwrap()
}

/// A Flink that lets in whoever shows this text in the header `authorization`, behind TLS or not.
async fn flink(tls: Option<ServerConfig>, authorization: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor {
                    None => answer(connection, authorization).await,
                    Some(acceptor) => match acceptor.accept(connection).into_fallible().await {
                        Ok(connection) => answer(connection, authorization).await,
                        // Whoever closes with unread bytes resets, and the other side may miss the alert.
                        Err((_, mut connection)) => {
                            connection.read_to_end(&mut Vec::new()).await.ok();
                        }
                    },
                }
            });
        }
    });
    address
}

async fn answer(
    mut connection: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    authorization: Option<&str>,
) {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match connection.read(&mut buffer).await {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
        if !request[0].is_ascii_uppercase() {
            break; // no HTTP
        }
    }
    let request = String::from_utf8_lossy(&request);
    let shown = request
        .lines()
        .find_map(|line| line.strip_prefix("authorization: "));
    let (status, body) = match (authorization, shown) {
        (Some(_), None) => ("401 Unauthorized", "<html>who are you?</html>"),
        (Some(wanted), Some(shown)) if shown != wanted => ("403 Forbidden", "<html>not you</html>"),
        _ => ("200 OK", r#"{"flink-version": "2.1.3"}"#),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    connection.write_all(answer.as_bytes()).await.ok();
    connection.shutdown().await.ok();
}

/// Flink's version, or why it is not known, without the address.
async fn ask(
    scheme: &str,
    address: SocketAddr,
    settings: &[(&str, &str)],
) -> Result<String, (RestError, String)> {
    let security = RestSecurity::from_configuration(&configuration(settings)).unwrap();
    let url = format!("{scheme}://localhost:{}", address.port());
    let rest = RestClient::with_security(url.parse().unwrap(), security).unwrap();
    match rest.configuration().await {
        Ok(configuration) => Ok(configuration.flink_version),
        Err(error) => {
            let text = error.to_string().replace(&format!(":{}", address.port()), "");
            Err((error, text))
        }
    }
}

async fn refusal(scheme: &str, address: SocketAddr, settings: &[(&str, &str)]) -> String {
    let (error, text) = ask(scheme, address, settings).await.unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
    text
}

#[tokio::test]
async fn a_certificate_is_trusted_by_its_authority_whatever_its_name_unless_that_is_asked_for() {
    let (authority, other) = (Authority::new(), Authority::new());
    let address = flink(
        Some(server_of(authority.identity("orders-rest.team-a"), None)),
        None,
    )
    .await;
    let ca = ("flink-k8s.rest.tls.ca-file", authority.path("ca.pem"));
    let trusting = [(ca.0, ca.1.as_str())];
    assert_eq!(ask("https", address, &trusting).await.unwrap(), "2.1.3");

    let wrong = other.path("ca.pem");
    insta::assert_snapshot!(refusal("https", address, &[(ca.0, &wrong)]).await, @"no TLS connection with Flink's REST endpoint https://localhost/v1/config: its certificate is not trusted; security.ssl.rest.truststore or flink-k8s.rest.tls.ca-file name those that are");
    insta::assert_snapshot!(refusal("https", address, &[]).await, @"no TLS connection with Flink's REST endpoint https://localhost/v1/config: its certificate is not trusted; security.ssl.rest.truststore or flink-k8s.rest.tls.ca-file name those that are");
    let strict = [trusting[0], ("flink-k8s.rest.tls.verify-host-name", "true")];
    insta::assert_snapshot!(refusal("https", address, &strict).await, @"no TLS connection with Flink's REST endpoint https://localhost/v1/config: its certificate is made out to another name; one that security.ssl.rest.truststore or flink-k8s.rest.tls.ca-file vouches for may have any, unless flink-k8s.rest.tls.verify-host-name is true");

    let address = flink(Some(server_of(authority.identity("localhost"), None)), None).await;
    assert_eq!(ask("https", address, &strict).await.unwrap(), "2.1.3");
}

#[tokio::test]
async fn javas_stores_prove_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let store = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (p12, jks) = (
        include_bytes!("testdata/identity.p12").as_slice(),
        include_bytes!("testdata/identity.jks").as_slice(),
    );
    let truststores = [
        store("trusted.p12", include_bytes!("testdata/trusted.p12")),
        store("trusted.jks", include_bytes!("testdata/trusted.jks")),
    ];
    // A certificate that vouches only for itself, as `keytool -genkeypair` makes them.
    for (identity, key_password) in [(p12, "changeit"), (jks, "different")] {
        let identity = KeyStore::read(identity, "changeit", key_password)
            .unwrap()
            .identity
            .unwrap();
        let address = flink(Some(server_of(identity, None)), None).await;
        for truststore in &truststores {
            let settings = [
                ("security.ssl.rest.truststore", truststore.as_str()),
                ("security.ssl.truststore-password", "changeit"),
            ];
            assert_eq!(
                ask("https", address, &settings).await.unwrap(),
                "2.1.3",
                "{truststore}"
            );
        }
    }

    // Mutual: the server knows our own by the authority that signed it.
    let authority = Authority::new();
    let server = server_of(authority.identity("orders-rest"), Some(&authority));
    let address = flink(Some(server), None).await;
    let (ca, me, key) = (
        authority.path("ca.pem"),
        authority.path("me.pem"),
        authority.path("me.key"),
    );
    let trusting = ("flink-k8s.rest.tls.ca-file", ca.as_str());
    insta::assert_snapshot!(refusal("https", address, &[trusting]).await, @"no TLS connection with Flink's REST endpoint https://localhost/v1/config: it wants a certificate of ours: set security.ssl.rest.authentication-enabled=true with security.ssl.rest.keystore, or flink-k8s.rest.tls.certificate-file with flink-k8s.rest.tls.key-file");
    let proving = [
        trusting,
        ("flink-k8s.rest.tls.certificate-file", &me),
        ("flink-k8s.rest.tls.key-file", &key),
    ];
    assert_eq!(ask("https", address, &proving).await.unwrap(), "2.1.3");
    let keystore = store("identity.jks", jks);
    let unknown = [
        trusting,
        ("security.ssl.rest.authentication-enabled", "true"),
        ("security.ssl.rest.keystore", &keystore),
        ("security.ssl.rest.keystore-password", "changeit"),
        ("security.ssl.rest.key-password", "different"),
    ];
    insta::assert_snapshot!(refusal("https", address, &unknown).await, @"no TLS connection with Flink's REST endpoint https://localhost/v1/config: it does not accept our certificate, or misses one: security.ssl.rest.keystore and flink-k8s.rest.tls.certificate-file name it");
}

#[tokio::test]
async fn a_process_beside_the_endpoint_knows_its_certificate_from_its_own_keystore() {
    let directory = tempfile::tempdir().unwrap();
    let keystore = directory.path().join("rest.p12").display().to_string();
    fs::write(&keystore, include_bytes!("testdata/identity.p12")).unwrap();
    let settings = [
        ("security.ssl.rest.enabled", "true"),
        ("security.ssl.keystore", keystore.as_str()),
        ("security.ssl.keystore-password", "changeit"),
    ];
    let own = RestSecurity::of_own_endpoint(&configuration(&settings)).unwrap();
    let version = async |address: SocketAddr| {
        let url = format!("https://localhost:{}/", address.port());
        let rest = RestClient::with_security(url.parse().unwrap(), own.clone()).unwrap();
        rest.configuration().await.map(|answer| answer.flink_version)
    };
    let identity = own_identity(&configuration(&settings), "security.ssl.rest.enabled").unwrap();
    assert_eq!(
        version(flink(Some(server_of(identity, None)), None).await)
            .await
            .unwrap(),
        "2.1.3"
    );
    let other = server_of(Authority::new().identity("localhost"), None);
    let refused = version(flink(Some(other), None).await).await.unwrap_err();
    assert!(
        refused.to_string().contains("its certificate is not trusted"),
        "{refused}"
    );
    let error = RestSecurity::of_own_endpoint(&configuration(&settings[..1])).unwrap_err();
    insta::assert_snapshot!(error, @"option security.ssl.rest.enabled needs security.ssl.rest.keystore, which is not set");
}

#[tokio::test]
async fn a_fingerprint_pins_one_certificate() {
    let identity = KeyStore::read(include_bytes!("testdata/identity.p12"), "changeit", "changeit").unwrap();
    let address = flink(Some(server_of(identity.identity.unwrap(), None)), None).await;
    let pinned = |fingerprint| [("security.ssl.rest.cert.fingerprint", fingerprint)];
    assert_eq!(
        ask(
            "https",
            address,
            &pinned("288b11c69213810834cb95eeb04b076ba33a4466")
        )
        .await
        .unwrap(),
        "2.1.3"
    );
    let other = "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33";
    let said = refusal("https", address, &pinned(other)).await;
    assert!(said.contains("its certificate is not trusted"), "{said}");
    let error = RestSecurity::from_configuration(&configuration(&pinned("12:é"))).unwrap_err();
    insta::assert_snapshot!(error, @"option security.ssl.rest.cert.fingerprint is not a SHA-1 fingerprint, 40 hexadecimal digits");
}

#[tokio::test]
async fn tokens_and_passwords_are_sent_and_what_is_missing_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let address = flink(None, Some("Bearer s3cret")).await;
    insta::assert_snapshot!(refusal("http", address, &[]).await, @"GET http://localhost/v1/config is not allowed (HTTP 401): it wants credentials, or others than ours; flink-k8s.rest.auth.bearer-token-file or flink-k8s.rest.auth.basic-auth-file name a file with them");
    let token = file("token", "expired\n");
    let settings = [("flink-k8s.rest.auth.bearer-token-file", token.as_str())];
    insta::assert_snapshot!(refusal("http", address, &settings).await, @"GET http://localhost/v1/config is not allowed (HTTP 403): these credentials may not do that; flink-k8s.rest.auth.bearer-token-file or flink-k8s.rest.auth.basic-auth-file name a file with others");

    // Somebody renews the token while the client lives.
    let security = RestSecurity::from_configuration(&configuration(&settings)).unwrap();
    let url = format!("http://{address}").parse().unwrap();
    let rest = RestClient::with_security(url, security).unwrap();
    assert_eq!(rest.configuration().await.unwrap_err().status(), Some(403));
    fs::write(&token, "s3cret\n").unwrap();
    assert_eq!(rest.configuration().await.unwrap().flink_version, "2.1.3");
    assert!(!format!("{rest:?}").contains("s3cret"), "{rest:?}");
    fs::remove_file(&token).unwrap();
    let error = rest.configuration().await.unwrap_err();
    insta::assert_snapshot!(error, @"cannot read the file of option flink-k8s.rest.auth.bearer-token-file");

    let address = flink(None, Some("Basic bWU6czNjcmV0OjE=")).await;
    let password = file("password", "me:s3cret:1\nfor the gateway");
    let settings = [("flink-k8s.rest.auth.basic-auth-file", password.as_str())];
    assert_eq!(ask("http", address, &settings).await.unwrap(), "2.1.3");
    let security = RestSecurity::from_configuration(&configuration(&settings)).unwrap();
    assert!(!format!("{security:?}").contains("s3cret"), "{security:?}");
}

#[tokio::test]
async fn an_endpoint_without_tls_and_one_with_nothing_else_are_told() {
    let plain = flink(None, None).await;
    insta::assert_snapshot!(refusal("https", plain, &[]).await, @"no TLS connection with Flink's REST endpoint https://localhost/v1/config: what answers there does not speak TLS; is security.ssl.rest.enabled meant for this cluster?");
    // Flink sends plain requests on.
    let server = wiremock::MockServer::start().await;
    let moved =
        wiremock::ResponseTemplate::new(301).insert_header("location", "https://10.0.0.7:8081/v1/config");
    let mock = wiremock::Mock::given(wiremock::matchers::any()).respond_with(moved);
    mock.mount(&server).await;
    insta::assert_snapshot!(refusal("http", *server.address(), &[]).await, @"http://localhost/v1/config speaks TLS only: set security.ssl.rest.enabled=true, or give it as https://...");
}

#[test]
fn what_is_incomplete_or_unreadable_is_told_and_nothing_secret_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "no secret").unwrap();
    let path = path.display().to_string();
    let refusal = |settings: &[(&str, &str)]| {
        let error = RestSecurity::from_configuration(&configuration(settings)).unwrap_err();
        error.to_string().replace(&path, "FILE")
    };
    insta::assert_snapshot!(refusal(&[("security.ssl.rest.truststore", &path)]), @"option security.ssl.rest.truststore needs security.ssl.rest.truststore-password, which is not set");
    insta::assert_snapshot!(refusal(&[("security.ssl.rest.authentication-enabled", "true")]), @"option security.ssl.rest.authentication-enabled needs security.ssl.rest.keystore, which is not set");
    insta::assert_snapshot!(refusal(&[("flink-k8s.rest.tls.certificate-file", &path)]), @"option flink-k8s.rest.tls.certificate-file needs flink-k8s.rest.tls.key-file, which is not set");
    insta::assert_snapshot!(refusal(&[("flink-k8s.rest.tls.ca-file", &path)]), @"FILE of option flink-k8s.rest.tls.ca-file has no certificate in PEM form");
    insta::assert_snapshot!(refusal(&[("flink-k8s.rest.tls.ca-file", "/nowhere/ca")]), @"cannot read /nowhere/ca of option flink-k8s.rest.tls.ca-file");
    let truststore = [
        ("security.ssl.rest.truststore", path.as_str()),
        ("security.ssl.rest.truststore-password", "hunter2"),
    ];
    insta::assert_snapshot!(refusal(&truststore), @"cannot open FILE of option security.ssl.rest.truststore");
    // Somebody mistook the name of the file for the secret.
    insta::assert_snapshot!(refusal(&[("flink-k8s.rest.auth.bearer-token-file", "hunter2")]), @"cannot read the file of option flink-k8s.rest.auth.bearer-token-file");
    insta::assert_snapshot!(refusal(&[("flink-k8s.rest.auth.basic-auth-file", &path)]), @"the file of option flink-k8s.rest.auth.basic-auth-file does not begin with a line user:password");
    let both = [
        ("flink-k8s.rest.auth.basic-auth-file", path.as_str()),
        ("flink-k8s.rest.auth.bearer-token-file", path.as_str()),
    ];
    insta::assert_snapshot!(refusal(&both), @"options flink-k8s.rest.auth.bearer-token-file and flink-k8s.rest.auth.basic-auth-file exclude each other");
}

#[tokio::test]
async fn an_endpoint_with_other_certificates_than_the_secret_that_the_cluster_names_is_told_of() {
    let none = FlinkConfiguration::new();
    let stores = |configuration: &FlinkConfiguration| -> BTreeMap<String, ByteString> {
        let drawn = crate::certificates::draw(configuration).unwrap();
        drawn
            .into_iter()
            .map(|(name, store)| (name, ByteString(store)))
            .collect()
    };
    let (served, found) = (stores(&none), stores(&none));
    let password = tls::STORE_PASSWORD;
    let store = KeyStore::read(&served[tls::REST_KEYSTORE].0, password, password).unwrap();
    let address = flink(Some(server_of(store.identity.unwrap(), None)), None).await;
    let ask = async |stores: &BTreeMap<String, ByteString>| {
        let security = RestSecurity::of_cluster(&none, "orders-tls", stores).unwrap();
        let url = format!("https://localhost:{}", address.port());
        let rest = RestClient::with_security(url.parse().unwrap(), security).unwrap();
        rest.configuration().await
    };
    assert_eq!(ask(&served).await.unwrap().flink_version, "2.1.3");
    let error = ask(&found).await.unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
    let said = error.to_string().replace(&format!(":{}", address.port()), "");
    insta::assert_snapshot!(said, @"the JobManager at https://localhost/v1/config has other certificates than Secret orders-tls, from which clients take them: one of the two was replaced without the other");
}
