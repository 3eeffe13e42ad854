//! Hostile receivers: whatever the other side does, an attempt ends, reads a bounded number of bytes, and says what it saw.
//!
//! Receivers are loopback listeners that speak raw bytes. Times are limits to be hit, never measured.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use postrider::client::guard::Settings as GuardSettings;
use postrider::client::resolve::{Lookup, Resolve, ResolveError};
use postrider::client::{Client, Exchange, Request, Settings, Wire, check_tls};
use postrider::model::destination::{Method, TlsOptions};
use postrider::model::{DestinationNo, Reason, Secret, TenantId};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);
const HEAD_MAX: u64 = 32 << 10;
const BODY_MAX: u64 = 64 << 10;

fn settings() -> Settings {
    Settings {
        guard: GuardSettings { allow_loopback: true, allow_http: true, ..GuardSettings::default() },
        keep_alive: LONG,
        head_timeout: LONG,
        ..Settings::default()
    }
}

/// Every name is this machine, except those that are something else.
struct Names;

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> Lookup<'a> {
        Box::pin(async move {
            match name {
                "missing.example" => Err(ResolveError::Failed("no such name".to_owned())),
                "slow.example" => std::future::pending().await,
                _ => Ok(vec![IpAddr::from(Ipv4Addr::LOCALHOST)]),
            }
        })
    }
}

fn client(settings: Settings) -> Client {
    Client::with_resolver(settings, Arc::new(Names)).unwrap()
}

fn request(url: impl Into<String>) -> Request {
    Request {
        lane: DestinationNo(1),
        tenant: TenantId::default_tenant(),
        url: url.into().into(),
        method: Method::Post,
        headers: Vec::new(),
        body: Bytes::from_static(b"{\"amount\":\"5.00\"}"),
        timeout: LONG,
        head_timeout: None,
        tls: Arc::default(),
        allow_private: false,
        in_flight_max: 4,
    }
}

async fn send(client: &Client, request: Request) -> Exchange {
    let exchange = tokio::time::timeout(2 * LONG, client.send(request)).await.expect("the attempt ends");
    assert!(exchange.body.len() as u64 <= BODY_MAX);
    assert!(exchange.bytes_read <= HEAD_MAX + BODY_MAX, "{} bytes", exchange.bytes_read);
    assert_eq!(exchange.status.is_none(), exchange.failure.is_some(), "{exchange:?}");
    exchange
}

/// A listener that runs a script for each connection, which is told which connection it is, from 1.
struct Receiver {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    async fn run<F, R>(script: F) -> Self
    where
        F: Fn(TcpStream, usize) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(script(stream, count.fetch_add(1, SeqCst) + 1));
            }
        });
        Receiver { address, connections }
    }

    fn url(&self) -> String {
        format!("http://{}/in?x=1", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// What a receiver does once it has read the request and written its bytes.
#[derive(Clone, Copy)]
enum Then {
    Close,
    Hang,
    Reset,
    /// Again and again, as fast as it is taken.
    Repeat(&'static str),
    /// Again and again, with pauses.
    Drip(&'static str),
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut seen = Vec::new();
    loop {
        if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&seen).into_owned();
        let Some(end) = text.find("\r\n\r\n") else { continue };
        let length = text.to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        if seen.len() >= end + 4 + length.parse::<usize>().unwrap() {
            return Some(text);
        }
    }
}

fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

async fn act(mut stream: TcpStream, reply: &[u8], then: Then) {
    read_request(&mut stream).await;
    let _ = stream.write_all(reply).await;
    let _ = stream.flush().await;
    match then {
        Then::Close => {}
        Then::Hang => std::future::pending().await,
        Then::Reset => reset(stream),
        Then::Repeat(text) => {
            let many = text.repeat(1000);
            while stream.write_all(many.as_bytes()).await.is_ok() {}
        }
        Then::Drip(text) => {
            while stream.write_all(text.as_bytes()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// Status or reason, and whether the body was whole.
type Seen = (Option<u16>, Option<Reason>, bool);

async fn seen(client: &Client, reply: Vec<u8>, then: Then, timeout: Duration) -> (Seen, Exchange) {
    let receiver = Receiver::run(move |stream, _| {
        let reply = reply.clone();
        async move { act(stream, &reply, then).await }
    })
    .await;
    let exchange = send(client, Request { timeout, ..request(receiver.url()) }).await;
    let seen = (exchange.status, exchange.failure.as_ref().map(|failure| failure.reason), exchange.body_complete);
    (seen, exchange)
}

fn status(status: u16) -> Seen {
    (Some(status), None, true)
}

fn cut(status: u16) -> Seen {
    (Some(status), None, false)
}

fn failed(reason: Reason) -> Seen {
    (None, Some(reason), false)
}

/// S0.12, S0.13, and every row of the hostile receivers that replies at its own pace.
#[tokio::test]
async fn each_reply_is_what_it_is() {
    fn row(name: &str, reply: impl Into<Vec<u8>>, then: Then, expected: Seen) -> (&str, Vec<u8>, Then, Seen) {
        (name, reply.into(), then, expected)
    }
    let big_header = format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "a".repeat(40 << 10));
    let headers = |count: usize| {
        let lines: String = (0..count).map(|n| format!("x-{n}: y\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
    };
    let (few_headers, many_headers) = (headers(128), headers(129));
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let table = vec![
        row("plain", ok, Then::Hang, status(200)),
        row("no content", "HTTP/1.1 204 No Content\r\n\r\n", Then::Hang, status(204)),
        row("a failure", "HTTP/1.1 503 No\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n", Then::Hang, status(503)),
        row("gone", "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", Then::Hang, status(410)),
        row("the highest status", "HTTP/1.1 599 X\r\ncontent-length: 0\r\n\r\n", Then::Hang, status(599)),
        row("a body that ends with the connection", "HTTP/1.1 200 OK\r\n\r\nOK", Then::Close, status(200)),
        row("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nOK", Then::Close, status(200)),
        row("no reason phrase", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", Then::Hang, status(200)),
        row("an interim reply first", format!("HTTP/1.1 103 Early\r\nlink: x\r\n\r\n{ok}"), Then::Hang, status(200)),
        row("chunks", format!("{chunked}2\r\nOK\r\n0\r\n\r\n"), Then::Hang, status(200)),
        row("as many headers as may be", few_headers, Then::Close, status(200)),
        row("a truncated body", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nOK", Then::Close, cut(200)),
        row("a reset body", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nOK", Then::Reset, cut(200)),
        row("a bad chunk", format!("{chunked}zz\r\n"), Then::Hang, cut(200)),
        row("a chunk that is cut off", format!("{chunked}ff\r\nOK"), Then::Close, cut(200)),
        row("a chunk longer than numbers", format!("{chunked}ffffffffffffffffff\r\n"), Then::Hang, cut(200)),
        row("endless chunks", chunked, Then::Repeat("1\r\na\r\n"), cut(200)),
        row("endless chunk extensions", format!("{chunked}1;"), Then::Repeat("a=b;"), cut(200)),
        row("endless trailers", format!("{chunked}0\r\n"), Then::Repeat("a: b\r\n"), cut(200)),
        row("an endless body", "HTTP/1.1 200 OK\r\n\r\n", Then::Repeat("a"), cut(200)),
        row(
            "a body that is too long",
            "HTTP/1.1 500 X\r\ncontent-length: 999999999\r\n\r\n",
            Then::Repeat("a"),
            cut(500),
        ),
        row(
            "a flood of interim replies",
            "",
            Then::Repeat("HTTP/1.1 103 Early Hints\r\n\r\n"),
            failed(Reason::HeadTooLarge),
        ),
        row("a flood of 100s", "", Then::Repeat("HTTP/1.1 100 Continue\r\n\r\n"), failed(Reason::HeadTooLarge)),
        row("an endless head", "HTTP/1.1 200 OK\r\n", Then::Repeat("a: b\r\n"), failed(Reason::HeadTooLarge)),
        row("an endless status line", "HTTP/1.1 200 ", Then::Repeat("a"), failed(Reason::HeadTooLarge)),
        row("a huge header", big_header, Then::Hang, failed(Reason::HeadTooLarge)),
        row("too many headers", many_headers, Then::Close, failed(Reason::HeadTooLarge)),
        row("NUL in a header", "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n", Then::Close, failed(Reason::ProtocolError)),
        row("NUL in a name", "HTTP/1.1 200 OK\r\nx\0: a\r\n\r\n", Then::Close, failed(Reason::ProtocolError)),
        row("HTTP/0.9", "hello\r\n", Then::Close, failed(Reason::ProtocolError)),
        row("HTTP/2", "HTTP/2 200 OK\r\n\r\n", Then::Close, failed(Reason::ProtocolError)),
        row("status 099", "HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n", Then::Hang, failed(Reason::ProtocolError)),
        row(
            "status 101",
            "HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            Then::Hang,
            failed(Reason::ProtocolError),
        ),
        row("status 999", "HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n", Then::Hang, failed(Reason::ProtocolError)),
        row("status 600", "HTTP/1.1 600 X\r\ncontent-length: 0\r\n\r\n", Then::Hang, failed(Reason::ProtocolError)),
        row("no status", "HTTP/1.1 abc X\r\n\r\n", Then::Hang, failed(Reason::ProtocolError)),
        row(
            "two lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nOK",
            Then::Hang,
            failed(Reason::ProtocolError),
        ),
        row(
            "a negative length",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nOK",
            Then::Hang,
            failed(Reason::ProtocolError),
        ),
        row("nothing", "", Then::Close, failed(Reason::Reset)),
        row("a reset", "", Then::Reset, failed(Reason::Reset)),
        row("half a head", "HTTP/1.1 200 OK\r\nx: ", Then::Close, failed(Reason::Reset)),
        row("an interim reply alone", "HTTP/1.1 103 Early\r\n\r\n", Then::Close, failed(Reason::Reset)),
    ];
    let client = client(settings());
    for (name, reply, then, expected) in table {
        let (seen, exchange) = seen(&client, reply, then, LONG).await;
        assert_eq!(seen, expected, "{name}: {exchange:?}");
    }
}

/// The control: without the budget, the same parser takes a megabyte of interim replies for an answer.
#[tokio::test]
async fn the_parser_alone_swallows_what_the_budget_refuses() {
    let flood =
        [b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40_000), b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()].concat();
    let script_flood = Arc::new(flood);
    let receiver = Receiver::run(move |stream, _| {
        let flood = Arc::clone(&script_flood);
        async move { act(stream, &flood, Then::Hang).await }
    })
    .await;
    let stream = TcpStream::connect(receiver.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(driver);
    let body = http_body_util::Full::new(Bytes::from_static(b"{}"));
    let request = http::Request::post("/").header("host", "x").body(body).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 204);

    let exchange = send(&client(settings()), self::request(receiver.url())).await;
    assert_eq!(exchange.failure.unwrap().reason, Reason::HeadTooLarge);
}

#[tokio::test]
async fn whoever_hangs_is_left() {
    // Long enough for a machine under load to connect and to send a first byte in.
    let head = 5 * SHORT;
    let brief = || Settings { head_timeout: head, ..settings() };
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let table: Vec<(&str, &str, Then, Settings, Seen)> = vec![
        ("before the head", "", Then::Hang, brief(), failed(Reason::TimeoutHead)),
        ("before the head, at last", "", Then::Hang, settings(), failed(Reason::TimeoutTotal)),
        ("in the status line", "HTTP/1", Then::Hang, brief(), failed(Reason::TimeoutTotal)),
        ("in the head", "HTTP/1.1 200 OK\r\nx: ", Then::Hang, brief(), failed(Reason::TimeoutTotal)),
        ("in a dripping head", "HTTP/1.1 200 OK\r\n", Then::Drip("x: y\r\n"), brief(), failed(Reason::TimeoutTotal)),
        ("between interim replies", "", Then::Drip("HTTP/1.1 103 E\r\n\r\n"), brief(), failed(Reason::TimeoutTotal)),
        ("after the head", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", Then::Hang, brief(), cut(200)),
        ("in the body", "HTTP/1.1 404 No\r\ncontent-length: 9\r\n\r\nNo", Then::Hang, brief(), cut(404)),
        ("in a dripping body", chunked, Then::Drip("1\r\na\r\n"), brief(), cut(200)),
    ];
    let mut cases = tokio::task::JoinSet::new();
    for (name, reply, then, settings, expected) in table {
        let client = client(settings);
        cases.spawn(async move {
            let (seen, exchange) = seen(&client, reply.as_bytes().to_vec(), then, 2 * head).await;
            assert_eq!(seen, expected, "{name}: {exchange:?}");
            assert_eq!(exchange.bytes_read > 0, !reply.is_empty() || matches!(then, Then::Drip(_)), "{name}");
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn what_came_of_a_body_is_kept_when_time_runs_out() {
    let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec();
    let (seen, exchange) = seen(&client(settings()), reply, Then::Hang, SHORT).await;
    assert_eq!(seen, cut(200));
    assert_eq!(exchange.body, "half");
    assert!(exchange.phases.connect.is_some() && exchange.phases.head.is_some() && exchange.phases.body.is_some());
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_the_cap() {
    let client = client(settings());
    let (_, exchange) = seen(&client, b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), Then::Repeat("a"), LONG).await;
    assert_eq!(exchange.body.len() as u64, BODY_MAX);
    assert_eq!(client.idle_connections(), 0);
    // A body of just that length is whole.
    let whole = [&b"HTTP/1.1 200 OK\r\ncontent-length: 65536\r\n\r\n"[..], &[b'a'; 65536]].concat();
    let (seen, exchange) = seen(&client, whole, Then::Hang, LONG).await;
    assert_eq!((seen, exchange.body.len() as u64), (status(200), BODY_MAX));
}

#[tokio::test]
async fn a_compressed_body_is_stored_as_it_is() {
    let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1, 1, 1, 0, 0];
    let head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 16\r\n\r\n";
    let (seen, exchange) = seen(&client(settings()), [&head[..], &bomb[..]].concat(), Then::Hang, LONG).await;
    assert_eq!((seen, exchange.body.as_ref()), (status(200), &bomb[..]));
}

/// SX.13: a redirect is a reply like any other, and its target is not asked.
#[tokio::test]
async fn no_redirect_is_followed() {
    let target = Receiver::run(|stream, _| act(stream, b"HTTP/1.1 200 OK\r\n\r\n", Then::Close)).await;
    for code in [301, 302, 303, 307, 308] {
        let reply = format!("HTTP/1.1 {code} Moved\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", target.url());
        let (seen, exchange) = seen(&client(settings()), reply.into_bytes(), Then::Hang, LONG).await;
        assert_eq!(seen, status(code));
        assert_eq!(exchange.headers.find("location"), Some(&*target.url()));
    }
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn a_reply_before_the_request_was_read_counts() {
    let receiver = Receiver::run(|mut stream, _| async move {
        let mut start = [0; 1024];
        stream.read_exact(&mut start).await.unwrap();
        stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
        reset(stream);
    })
    .await;
    let client = client(settings());
    for _ in 0..20 {
        let large = Request { body: vec![b'a'; 8 << 20].into(), ..request(receiver.url()) };
        let exchange = send(&client, large).await;
        assert_eq!(exchange.status, Some(413), "{exchange:?}");
    }
}

#[tokio::test]
async fn a_receiver_that_never_reads_is_left() {
    let receiver = Receiver::run(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let large = Request { body: vec![b'a'; 16 << 20].into(), timeout: SHORT, ..request(receiver.url()) };
    let exchange = send(&client(settings()), large).await;
    assert_eq!(exchange.failure.unwrap().reason, Reason::TimeoutTotal);
}

/// S2.34, S2.55: POST or PUT, and the headers that are the client's own.
#[tokio::test]
async fn what_is_sent_is_what_was_asked_for() {
    let (sender, mut requests) = mpsc::unbounded_channel();
    let receiver = Receiver::run(move |mut stream, _| {
        let sender = sender.clone();
        async move {
            while let Some(text) = read_request(&mut stream).await {
                sender.send(text).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        }
    })
    .await;
    let client = client(settings());
    let headers = [
        ("x-custom", "1"),
        ("host", "elsewhere.example"),
        ("transfer-encoding", "chunked"),
        ("accept-encoding", "gzip"),
        ("content-length", "999"),
    ];
    let headers =
        headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).to_vec();
    let put = Request { method: Method::Put, headers, ..request(receiver.url()) };
    assert_eq!(send(&client, put).await.status, Some(200));
    let text = requests.recv().await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "PUT /in?x=1 HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", receiver.address);
    assert_eq!(lines, ["accept-encoding: identity", "content-length: 17", host.as_str(), "x-custom: 1"]);
    assert_eq!(body, "{\"amount\":\"5.00\"}");

    let empty = Request { body: Bytes::new(), ..request(receiver.url()) };
    assert_eq!(send(&client, empty).await.status, Some(200));
    assert!(requests.recv().await.unwrap().contains("content-length: 0\r\n"));
}

#[tokio::test]
async fn a_connection_is_kept_for_its_lane_alone() {
    let receiver = Receiver::run(|mut stream, _| async move {
        while read_request(&mut stream).await.is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK").await.unwrap();
        }
    })
    .await;
    let client = client(settings());
    for _ in 0..5 {
        let exchange = send(&client, request(receiver.url())).await;
        assert_eq!((exchange.status, exchange.reconnected), (Some(200), false));
        assert_eq!(exchange.address, Some(receiver.address));
    }
    assert_eq!((receiver.connections(), client.idle_connections()), (1, 1));
    send(&client, Request { lane: DestinationNo(2), ..request(receiver.url()) }).await;
    assert_eq!((receiver.connections(), client.idle_connections()), (2, 2));
}

#[tokio::test]
async fn a_connection_with_more_to_say_is_not_used_again() {
    let with = |extra: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK{extra}");
    let both =
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n".to_owned();
    let close = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nOK".to_owned();
    for reply in [with("HTTP/1.1 500 X\r\n\r\n"), with("x"), both, close] {
        let receiver = Receiver::run(move |stream, _| {
            let reply = reply.clone();
            async move { act(stream, reply.as_bytes(), Then::Hang).await }
        })
        .await;
        let client = client(settings());
        for round in 1..=3 {
            let exchange = send(&client, request(receiver.url())).await;
            assert_eq!((exchange.status, exchange.body.as_ref()), (Some(200), &b"OK"[..]));
            assert_eq!((receiver.connections(), client.idle_connections()), (round, 0));
        }
    }
}

#[tokio::test]
async fn an_idle_connection_with_bytes_waiting_is_not_used_again() {
    let (ready, mut spoken) = mpsc::unbounded_channel();
    let go = Arc::new(tokio::sync::Notify::new());
    let script_go = Arc::clone(&go);
    let receiver = Receiver::run(move |mut stream, connection| {
        let (ready, go) = (ready.clone(), Arc::clone(&script_go));
        async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK").await.unwrap();
            if connection == 1 {
                go.notified().await;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await.unwrap();
                ready.send(()).unwrap();
            }
            std::future::pending::<()>().await;
        }
    })
    .await;
    let client = client(settings());
    send(&client, request(receiver.url())).await;
    assert_eq!(client.idle_connections(), 1);
    go.notify_one();
    spoken.recv().await.unwrap();
    let exchange = send(&client, request(receiver.url())).await;
    assert_eq!((exchange.body.as_ref(), exchange.reconnected, receiver.connections()), (&b"OK"[..], false, 2));
}

#[tokio::test]
async fn a_kept_connection_that_closes_on_us_is_redialled_once() {
    let receiver = Receiver::run(|mut stream, connection| async move {
        read_request(&mut stream).await;
        if connection == 2 {
            return;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK").await.unwrap();
        // Takes a second request and says nothing to it.
        read_request(&mut stream).await;
    })
    .await;
    let client = client(settings());
    assert!(!send(&client, request(receiver.url())).await.reconnected);
    let exchange = send(&client, request(receiver.url())).await;
    assert!(exchange.reconnected);
    assert_eq!(exchange.failure.unwrap().reason, Reason::Reset);
    assert_eq!(receiver.connections(), 2);
    assert_eq!(send(&client, request(receiver.url())).await.status, Some(200));
    let exchange = send(&client, request(receiver.url())).await;
    assert_eq!((exchange.status, exchange.reconnected, receiver.connections()), (Some(200), true, 4));
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_time_is_over() {
    let (sender, mut closed) = mpsc::unbounded_channel();
    let receiver = Receiver::run(move |mut stream, _| {
        let sender = sender.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            sender.send(stream.read(&mut [0; 1]).await.unwrap()).unwrap();
        }
    })
    .await;
    let client = client(Settings { keep_alive: Duration::from_millis(50), ..settings() });
    send(&client, request(receiver.url())).await;
    assert_eq!(tokio::time::timeout(LONG, closed.recv()).await.unwrap(), Some(0));
    assert_eq!(client.idle_connections(), 0);
}

#[tokio::test]
async fn idle_connections_are_bounded_over_all_lanes() {
    let receiver =
        Receiver::run(|stream, _| act(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Then::Hang)).await;
    let client = client(Settings { idle_total_max: 3, ..settings() });
    for lane in 0..10 {
        send(&client, Request { lane: DestinationNo(lane), ..request(receiver.url()) }).await;
    }
    assert_eq!(client.idle_connections(), 3);
}

#[tokio::test]
async fn an_exchange_that_is_dropped_closes_its_connection() {
    let (sender, mut events) = mpsc::unbounded_channel();
    let receiver = Receiver::run(move |mut stream, _| {
        let sender = sender.clone();
        async move {
            read_request(&mut stream).await;
            sender.send(None).unwrap();
            sender.send(Some(stream.read(&mut [0; 1]).await.unwrap_or(0))).unwrap();
        }
    })
    .await;
    let client = client(settings());
    let under_way = tokio::spawn({
        let (client, url) = (client.clone(), receiver.url());
        async move { client.send(request(url)).await }
    });
    assert_eq!(events.recv().await, Some(None));
    under_way.abort();
    assert_eq!(events.recv().await, Some(Some(0)));
    assert_eq!(client.idle_connections(), 0);
}

#[tokio::test]
async fn who_speaks_first_is_no_http_receiver() {
    let receiver = Receiver::run(|mut stream, _| async move {
        stream.write_all(b"220 mail.example ready\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let exchange = send(&client(settings()), request(receiver.url())).await;
    let reason = exchange.failure.unwrap().reason;
    assert!(matches!(reason, Reason::ProtocolError | Reason::Reset), "{reason:?}");
}

#[tokio::test]
async fn a_closed_port_is_refused_and_a_full_one_times_out() {
    let free = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let exchange = send(&client(settings()), request(format!("http://{free}/"))).await;
    assert_eq!(exchange.failure.unwrap().reason, Reason::Refused);
    assert_eq!(exchange.address, Some(free));

    // A backlog that is full and never emptied swallows the SYN.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        held.push(stream);
    }
    let brief = Settings { connect_timeout: SHORT, ..settings() };
    let exchange = send(&client(brief), request(format!("http://{address}/"))).await;
    assert_eq!(exchange.failure.unwrap().reason, Reason::TimeoutConnect);
}

#[tokio::test]
async fn a_name_without_an_answer_is_a_dns_failure() {
    let brief = client(Settings { dns_timeout: SHORT, ..settings() });
    for name in ["missing.example", "slow.example"] {
        let exchange = send(&brief, request(format!("http://{name}:8080/"))).await;
        assert_eq!(exchange.failure.unwrap().reason, Reason::Dns);
        assert!(exchange.phases.dns.is_some());
    }
}

/// Answers with this machine once, and then with a private address.
struct Rebinding(Mutex<u32>);

impl Resolve for Rebinding {
    fn resolve<'a>(&'a self, _name: &'a str) -> Lookup<'a> {
        let mut asked = self.0.lock().unwrap();
        *asked += 1;
        let address = if *asked == 1 { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(10, 0, 0, 1) };
        Box::pin(std::future::ready(Ok(vec![address.into()])))
    }
}

#[tokio::test]
async fn a_name_that_is_bound_anew_is_vetted_anew() {
    let receiver =
        Receiver::run(|stream, _| act(stream, b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", Then::Close)).await;
    let client = Client::with_resolver(settings(), Arc::new(Rebinding(Mutex::new(0)))).unwrap();
    let url = format!("http://rebind.example:{}/", receiver.address.port());
    assert_eq!(send(&client, request(&*url)).await.status, Some(200));
    let exchange = send(&client, request(&*url)).await;
    assert_eq!(exchange.failure.unwrap().reason, Reason::BlockedDestination);
    assert_eq!(exchange.address, None);
}

#[tokio::test]
async fn the_source_address_is_used() {
    let (sender, mut peers) = mpsc::unbounded_channel();
    let receiver = Receiver::run(move |stream, _| {
        sender.send(stream.peer_addr().unwrap().ip()).unwrap();
        act(stream, b"HTTP/1.1 200 OK\r\n\r\n", Then::Close)
    })
    .await;
    let source = IpAddr::from([127, 0, 0, 9]);
    let client = client(Settings { source_address: Some(source), ..settings() });
    send(&client, request(receiver.url())).await;
    assert_eq!(peers.recv().await, Some(source));
}

/// No bytes, in whatever order, do more than fail an attempt.
#[tokio::test]
async fn random_replies_do_no_harm() {
    let pieces: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 ",
        b"HTTP/1.0 404 X\r\n",
        b"HTTP/1.1 101 X\r\n",
        b"HTTP/1.1 103 X\r\n\r\n",
        b"content-length: 5\r\n",
        b"content-length: 18446744073709551616\r\n",
        b"transfer-encoding: chunked\r\n",
        b"transfer-encoding: gzip\r\n",
        b"connection: upgrade, close\r\n",
        b": \r\n",
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"fffffffffffffffe\r\n",
        b"\0\xff\xfe",
        b" folded\r\n",
    ];
    let client = client(settings());
    let mut chance = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let mut reply = Vec::new();
        for _ in 0..chance.usize(1..12) {
            if chance.u8(..) < 40 {
                reply.extend(std::iter::repeat_with(|| chance.u8(..)).take(9));
            } else {
                reply.extend_from_slice(pieces[chance.usize(..pieces.len())]);
            }
        }
        let then = if chance.bool() { Then::Close } else { Then::Reset };
        seen(&client, reply, then, LONG).await;
    }
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { der: certificate.der().clone(), pem: certificate.pem(), key }
    }
}

struct Identity {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl Identity {
    fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        Identity { der: certificate.der().clone(), pem: certificate.pem(), key }
    }

    fn pin(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }
}

/// A TLS receiver with this certificate, which asks clients for one of `clients` when there is such an authority.
async fn tls_receiver(identity: &Identity, clients: Option<&Authority>) -> Receiver {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let config = builder.with_single_cert(vec![identity.der.clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    Receiver::run(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                serve_tls(&mut stream).await;
            }
        }
    })
    .await
}

async fn serve_tls(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    while read_request(stream).await.is_some() {
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nOK").await.is_err()
            || stream.flush().await.is_err()
        {
            return;
        }
    }
}

async fn over_tls(client: &Client, receiver: &Receiver, name: &str, tls: TlsOptions) -> Result<u16, Reason> {
    assert_eq!(check_tls(&tls), Ok(()));
    let url = format!("https://{name}:{}/", receiver.address.port());
    let exchange = send(client, Request { tls: Arc::new(tls), ..request(url) }).await;
    match exchange.failure {
        None => Ok(exchange.status.unwrap()),
        Some(failure) => {
            assert!(failure.message.len() > 20, "{failure:?}");
            Err(failure.reason)
        }
    }
}

fn trusting(authority: &Authority) -> TlsOptions {
    TlsOptions { ca: Some(authority.pem()), ..TlsOptions::default() }
}

/// What a receiver shows is noted when it is believed, the last one of a lane in the place of the one before.
#[tokio::test]
async fn the_first_certificate_to_expire_is_known() {
    let name = "hooks.example.com";
    let authority = Authority::new();
    let until = |year| authority.issue(name, move |params| params.not_after = rcgen::date_time_ymd(year, 5, 7));
    let client = client(settings());
    assert_eq!(client.certificate_expires(|_| true), None);
    let table = [
        (until(3031), trusting(&authority), Ok(200), Some(33_492_787_200)),
        (until(3000), TlsOptions::default(), Err(Reason::TlsUntrusted), Some(33_492_787_200)),
        (until(3032), trusting(&authority), Ok(200), Some(33_524_409_600)),
    ];
    for (identity, tls, expected, soonest) in table {
        let receiver = tls_receiver(&identity, None).await;
        assert_eq!(over_tls(&client, &receiver, name, tls).await, expected);
        assert_eq!(client.certificate_expires(|lane| lane == DestinationNo(1)), soonest);
    }
    assert_eq!(client.certificate_expires(|_| false), None, "what is gone warns nobody");
}

/// SX.15, S0.9: certificates are checked; a private authority or a pin can be set, and nothing switches the check off.
#[tokio::test]
async fn a_certificate_must_be_trusted_current_and_for_the_name() {
    let name = "hooks.example.com";
    let authority = Authority::new();
    let good = authority.issue(name, |_| {});
    let stranger = Authority::new().issue(name, |_| {});
    let expired = authority.issue(name, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let early = authority.issue(name, |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1));
    let other = authority.issue("other.example.com", |_| {});
    let itself = Identity::self_signed(name);
    let pin = |identity: &Identity| TlsOptions { pin: Some(identity.pin()), ..TlsOptions::default() };
    let table = [
        ("a private authority", &good, trusting(&authority), Ok(200)),
        ("an unknown authority", &good, TlsOptions::default(), Err(Reason::TlsUntrusted)),
        ("a stranger's authority", &stranger, trusting(&authority), Err(Reason::TlsUntrusted)),
        ("a self-signed one", &itself, trusting(&authority), Err(Reason::TlsUntrusted)),
        ("an expired one", &expired, trusting(&authority), Err(Reason::TlsExpired)),
        ("one of the future", &early, trusting(&authority), Err(Reason::TlsExpired)),
        ("another's name", &other, trusting(&authority), Err(Reason::TlsName)),
        ("the pinned one", &good, pin(&good), Ok(200)),
        ("the pinned one, self-signed", &itself, pin(&itself), Ok(200)),
        ("not the pinned one", &good, pin(&itself), Err(Reason::TlsPin)),
        (
            "not the pinned one, though trusted",
            &good,
            TlsOptions { ca: Some(authority.pem()), ..pin(&other) },
            Err(Reason::TlsPin),
        ),
    ];
    let client = client(settings());
    for (case, identity, tls, expected) in table {
        let receiver = tls_receiver(identity, None).await;
        assert_eq!(over_tls(&client, &receiver, name, tls).await, expected, "{case}");
    }
}

#[tokio::test]
async fn tls_connections_are_kept_apart_by_their_options() {
    let authority = Authority::new();
    let identity = authority.issue("hooks.example.com", |_| {});
    let receiver = tls_receiver(&identity, None).await;
    let client = client(settings());
    for _ in 0..3 {
        // A trailing dot is the same name.
        assert_eq!(over_tls(&client, &receiver, "hooks.example.com", trusting(&authority)).await, Ok(200));
        assert_eq!(over_tls(&client, &receiver, "hooks.example.com.", trusting(&authority)).await, Ok(200));
    }
    assert_eq!(receiver.connections(), 1);
    let refused = over_tls(&client, &receiver, "hooks.example.com", TlsOptions::default()).await;
    assert_eq!(refused, Err(Reason::TlsUntrusted));
}

#[tokio::test]
async fn a_certificate_of_ours_is_shown_where_it_is_asked_for() {
    let authority = Authority::new();
    let identity = authority.issue("hooks.example.com", |_| {});
    let ours = authority.issue("gateway.example.com", |_| {});
    let receiver = tls_receiver(&identity, Some(&authority)).await;
    let client = client(settings());
    let with = TlsOptions {
        client_cert: Some(ours.pem.clone()),
        client_key: Some(Secret::new(ours.key.serialize_pem())),
        ..trusting(&authority)
    };
    assert_eq!(over_tls(&client, &receiver, "hooks.example.com", with.clone()).await, Ok(200));
    let without = over_tls(&client, &receiver, "hooks.example.com", trusting(&authority)).await;
    assert!(matches!(without, Err(Reason::TlsHandshake | Reason::Reset)), "{without:?}");

    // What is forgotten is closed, with its key; the next request dials anew.
    assert_eq!(over_tls(&client, &receiver, "hooks.example.com", with.clone()).await, Ok(200));
    assert_eq!(client.idle_connections(), 1);
    let connections = receiver.connections();
    client.forget(DestinationNo(u32::MAX));
    assert_eq!(client.idle_connections(), 1, "another lane's stay");
    client.forget(DestinationNo(1));
    assert_eq!(client.idle_connections(), 0);
    assert_eq!(over_tls(&client, &receiver, "hooks.example.com", with.clone()).await, Ok(200));
    assert_eq!((receiver.connections(), client.idle_connections()), (connections + 1, 1));
    client.forget_all();
    assert_eq!(client.idle_connections(), 0);

    assert!(check_tls(&TlsOptions { client_key: None, ..with.clone() }).is_err());
    assert!(check_tls(&TlsOptions { client_cert: Some("no PEM".to_owned()), ..with.clone() }).is_err());
    assert!(check_tls(&TlsOptions { client_cert: Some(identity.pem.clone()), ..with }).is_err());
    assert!(check_tls(&TlsOptions { ca: Some(String::new()), ..TlsOptions::default() }).is_err());
}

#[tokio::test]
async fn what_is_no_tls_is_a_failed_handshake() {
    let brief = client(Settings { tls_timeout: SHORT, ..settings() });
    let options = TlsOptions::default;
    let plain = Receiver::run(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Plain HTTP\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_eq!(over_tls(&brief, &plain, "a.example", options()).await, Err(Reason::TlsHandshake));
    let closing = Receiver::run(|stream, _| async move { drop(stream) }).await;
    assert_eq!(over_tls(&brief, &closing, "a.example", options()).await, Err(Reason::TlsHandshake));
    let silent = Receiver::run(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    assert_eq!(over_tls(&brief, &silent, "a.example", options()).await, Err(Reason::TimeoutTls));
    let endless = Receiver::run(|mut stream, _| async move {
        // A handshake record of warnings without end.
        while stream.write_all(&[21, 3, 3, 0, 2, 1, 90].repeat(1000)).await.is_ok() {}
    })
    .await;
    assert!(over_tls(&brief, &endless, "a.example", options()).await.is_err());
}

/// A proxy that makes every tunnel it is asked for, and tells what it was asked.
async fn proxy() -> (Receiver, mpsc::UnboundedReceiver<String>) {
    let (sender, asked) = mpsc::unbounded_channel();
    let receiver = Receiver::run(move |mut stream, _| {
        let sender = sender.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            let head = String::from_utf8(head).unwrap();
            let address = head.split(' ').nth(1).unwrap().to_owned();
            sender.send(head).unwrap();
            let mut target = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut target).await;
        }
    })
    .await;
    (receiver, asked)
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_vetted_address() {
    let authority = Authority::new();
    let target = tls_receiver(&authority.issue("hooks.example.com", |_| {}), None).await;
    let plain =
        Receiver::run(|stream, _| act(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Then::Hang)).await;
    let (proxy, mut asked) = proxy().await;
    let url = format!("http://us:er@localhost:{}", proxy.address.port());
    let client = client(Settings { proxy: Some(url.parse().unwrap()), ..settings() });

    for _ in 0..2 {
        assert_eq!(over_tls(&client, &target, "hooks.example.com", trusting(&authority)).await, Ok(200));
    }
    let head = asked.recv().await.unwrap();
    let (line, rest) = head.split_once("\r\n").unwrap();
    assert_eq!(line, format!("CONNECT {} HTTP/1.1", target.address));
    assert_eq!(rest, format!("Host: {}\r\nProxy-Authorization: Basic dXM6ZXI=\r\n\r\n", target.address));

    let exchange = send(&client, request(format!("http://a.example:{}/", plain.address.port()))).await;
    assert_eq!((exchange.status, exchange.address), (Some(200), Some(plain.address)));
    assert_eq!(proxy.connections(), 2);

    // What the guard closes is not asked of the proxy either.
    let exchange = send(&client, request("http://10.0.0.1/")).await;
    assert_eq!(exchange.failure.unwrap().reason, Reason::BlockedDestination);
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn a_proxy_that_makes_no_tunnel_is_a_failed_connection() {
    let table: Vec<(&str, Then, Reason)> = vec![
        ("HTTP/1.1 403 Forbidden\r\n\r\n", Then::Hang, Reason::Refused),
        ("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Then::Hang, Reason::Refused),
        ("hello\r\n\r\n", Then::Hang, Reason::Refused),
        ("", Then::Close, Reason::Refused),
        ("", Then::Repeat("a"), Reason::Refused),
        ("", Then::Hang, Reason::TimeoutConnect),
    ];
    for (answer, then, reason) in table {
        let proxy = Receiver::run(move |mut stream, _| async move {
            let mut head = [0; 8];
            stream.read_exact(&mut head).await.unwrap();
            let _ = stream.write_all(answer.as_bytes()).await;
            match then {
                Then::Close => {}
                Then::Repeat(text) => while stream.write_all(text.repeat(1000).as_bytes()).await.is_ok() {},
                Then::Hang | Then::Reset | Then::Drip(_) => std::future::pending().await,
            }
        })
        .await;
        let proxy = format!("http://{}", proxy.address).parse().unwrap();
        let client = client(Settings { proxy: Some(proxy), connect_timeout: SHORT, ..settings() });
        let exchange = send(&client, request("http://127.0.0.1:8080/")).await;
        assert_eq!(exchange.failure.unwrap().reason, reason, "{answer:?}");
    }
}
