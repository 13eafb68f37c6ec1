//! `pods/portforward` over a WebSocket: byte streams to ports of a pod.
//!
//! Subprotocol `v4.channel.k8s.io`: every binary message starts with a channel number. Port number *n* of the request
//! has channel `2n` for data and `2n+1` for an error text, and each channel starts with a message that repeats the port
//! (16 bits, little endian). kubectl tunnels SPDY through its WebSocket instead, which this server does not speak.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{
        FromRequestParts as _,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::{IntoResponse as _, Response},
};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use http::Request;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};

use super::{
    Server, pod_address, read,
    request::{Query, Target},
    status::ApiError,
    watching::wants_web_socket,
};

const PROTOCOL: &str = "v4.channel.k8s.io";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_BUFFER: usize = 32 * 1024;
/// Messages that may wait for a slow client or a slow pod.
const QUEUE: usize = 16;

/// Answers with a WebSocket that is connected to the pod's ports.
pub(crate) async fn serve(
    server: &Arc<Server>,
    target: &Target,
    query: &Query,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let pod = read::get(server, target)?;
    let ports: Vec<u16> = query
        .all("ports")
        .flat_map(|list| list.split(','))
        .map(|port| {
            port.parse()
                .map_err(|_| ApiError::bad_request(format!("invalid port {port:?} in ports")))
        })
        .collect::<Result<_, _>>()?;
    let (mut head, _) = request.into_parts();
    if !wants_web_socket(&head) {
        let message = "this server forwards ports only over WebSocket with the subprotocol v4.channel.k8s.io, not over SPDY";
        return Err(ApiError::bad_request(message));
    }
    if ports.is_empty() {
        return Err(ApiError::bad_request(
            "query parameter \"ports\" is required: the ports to forward to",
        ));
    }
    let address = pod_address::of_pod(&pod.value)?;
    let addresses: Vec<_> = ports.iter().map(|port| SocketAddr::new(address, *port)).collect();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut head, &()).await {
        Ok(upgrade) => upgrade.protocols([PROTOCOL]),
        Err(rejection) => return Ok(rejection.into_response()),
    };
    if upgrade.selected_protocol().is_none() {
        let message = "this server forwards ports with the WebSocket subprotocol v4.channel.k8s.io only; kubectl \
                       port-forward tunnels SPDY, use the service proxy or `flink-k8s` instead";
        return Err(ApiError::bad_request(message));
    }
    let server = Arc::clone(server);
    Ok(upgrade.on_upgrade(move |socket| async move {
        tokio::select! {
            () = server.shutdown.cancelled() => {}
            () = forward(socket, addresses) => {}
        }
    }))
}

async fn forward(socket: WebSocket, addresses: Vec<SocketAddr>) {
    let (mut sink, mut source) = socket.split();
    let (to_client, mut from_ports) = mpsc::channel::<Message>(QUEUE);
    let mut to_ports = Vec::new();
    // Ends every port when this function ends.
    let mut ports = JoinSet::new();
    for (index, address) in addresses.into_iter().enumerate() {
        let (sender, receiver) = mpsc::channel(QUEUE);
        to_ports.push(sender);
        let Ok(channel) = u8::try_from(2 * index) else {
            break;
        };
        ports.spawn(serve_port(channel, address, receiver, to_client.clone()));
    }
    drop(to_client);
    let writing = async {
        while let Some(message) = from_ports.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // Every port has ended.
        let _: Result<(), axum::Error> = sink.send(Message::Close(None)).await;
    };
    let reading = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(bytes) => {
                    let Some((&channel, _)) = bytes.split_first() else {
                        continue;
                    };
                    if let (true, Some(port)) = (channel % 2 == 0, to_ports.get(usize::from(channel / 2))) {
                        // A port that has ended reads nothing more.
                        let _: Result<(), mpsc::error::SendError<Bytes>> = port.send(bytes.slice(1..)).await;
                    }
                }
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}

/// Moves bytes between one port of the pod and its channel until the pod ends the connection.
async fn serve_port(
    channel: u8,
    address: SocketAddr,
    from_client: mpsc::Receiver<Bytes>,
    to_client: mpsc::Sender<Message>,
) {
    for channel in [channel, channel + 1] {
        let mut first = BytesMut::new();
        first.put_u8(channel);
        first.put_u16_le(address.port());
        if to_client.send(Message::Binary(first.freeze())).await.is_err() {
            return;
        }
    }
    let connected = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream
            .set_nodelay(true)
            .map(|()| stream)
            .map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(elapsed) => Err(elapsed.to_string()),
    };
    match connected {
        Ok(stream) => {
            let (reader, writer) = stream.into_split();
            tokio::join!(
                copy_to_client(channel, reader, to_client),
                copy_to_port(writer, from_client)
            );
        }
        Err(error) => {
            let text = format!(
                "cannot connect to port {} of the pod at {}: {error}",
                address.port(),
                address.ip()
            );
            let _: Result<(), mpsc::error::SendError<Message>> =
                to_client.send(message(channel + 1, text.as_bytes())).await;
        }
    }
}

async fn copy_to_client(channel: u8, mut reader: OwnedReadHalf, to_client: mpsc::Sender<Message>) {
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if to_client.send(message(channel, &buffer[..length])).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn copy_to_port(mut writer: OwnedWriteHalf, mut from_client: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = from_client.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut framed = BytesMut::with_capacity(bytes.len() + 1);
    framed.put_u8(channel);
    framed.put_slice(bytes);
    Message::Binary(framed.freeze())
}
