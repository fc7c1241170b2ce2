//! One connection over a real socket: framing, bounds, and how it is closed.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{sync::Arc, time::Duration};

use kurir_protocol::{Malformed, framing::DELIMITER, replies};
use kurir_socket::{Ended, Flow, Options, Outbox, Session, run};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(10);

/// Answers each value with itself, `{"big":N}` with N bytes, `{"array":N}` with an array, `{"quiet":1}` with nothing, leaves
/// `{"quiet":"asks"}` to others, and closes after `{"bye":1}`.
struct Echo {
    /// Is told of each value, and of the end.
    handled: mpsc::UnboundedSender<String>,
    asks: bool,
}

const SAID_ALL: &str = "said all";
const GOODBYE: &str = r#"{"bye":"bye"}"#;

impl Session for Echo {
    async fn received(&mut self, value: &str, replies: &mut Vec<u8>) -> Result<Flow, Malformed> {
        let _ = self.handled.send(value.to_owned());
        self.asks |= value.contains("asks");
        if let Some(bytes) = value.strip_prefix("{\"big\":").and_then(|rest| rest.strip_suffix('}')) {
            let text = "x".repeat(bytes.parse().unwrap());
            replies.extend_from_slice(format!("\"{text}\"\n").as_bytes());
        } else if value.contains("array") {
            replies.extend_from_slice(format!("[{value}]\n").as_bytes());
        } else if !value.contains("quiet") {
            replies.extend_from_slice(value.as_bytes());
            replies.push(b'\n');
        }
        Ok(if value.contains("bye") { Flow::Close } else { Flow::Continue })
    }

    fn is_owed(&self) -> bool {
        self.asks
    }

    fn goodbye(&self) -> String {
        GOODBYE.to_owned()
    }

    async fn said_all(&mut self) {
        let _ = self.handled.send(SAID_ALL.to_owned());
    }
}

struct Served {
    client: TcpStream,
    outbox: Arc<Outbox>,
    shutdown: CancellationToken,
    task: JoinHandle<Ended>,
    handled: mpsc::UnboundedReceiver<String>,
}

impl Served {
    async fn new(outbox_bytes: usize, options: Options) -> Served {
        Served::with_buffers(outbox_bytes, options, 1 << 20).await
    }

    /// With kernel buffers of this size on both sides.
    async fn with_buffers(outbox_bytes: usize, options: Options, buffers: u32) -> Served {
        let socket = || {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_send_buffer_size(buffers).unwrap();
            socket.set_recv_buffer_size(buffers).unwrap();
            socket
        };
        let listener = socket();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1).unwrap();
        let client = socket().connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let outbox = Outbox::new(outbox_bytes);
        let shutdown = CancellationToken::new();
        let (tx, handled) = mpsc::unbounded_channel();
        let task = tokio::spawn({
            let (outbox, shutdown) = (Arc::clone(&outbox), shutdown.clone());
            async move { run(stream, &mut Echo { handled: tx, asks: false }, &outbox, &options, &shutdown).await }
        });
        Served { client, outbox, shutdown, task, handled }
    }

    async fn sends(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn receives(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut got = vec![0; expected.len()];
        timeout(PATIENCE, self.client.read_exact(&mut got)).await.expect("nothing came").unwrap();
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(expected));
    }

    async fn sees_the_end(mut self) -> Ended {
        let mut rest = Vec::new();
        timeout(PATIENCE, self.client.read_to_end(&mut rest)).await.expect("still open").unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
        drop(self.client);
        timeout(PATIENCE, self.task).await.expect("the task goes on").unwrap()
    }

    /// Bytes waiting in the outbox.
    fn waiting(&self) -> usize {
        let shown = format!("{:?}", self.outbox);
        let (_, after) = shown.split_once("waiting_bytes: ").unwrap();
        after.split(',').next().unwrap().parse().unwrap()
    }
}

fn original(value: &str) -> Vec<u8> {
    [value.as_bytes(), DELIMITER].concat()
}

#[tokio::test]
async fn lines_are_answered_in_lines() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends("{\"a\":\"é\"}\n{\"b\":1}\n").await;
    served.receives("{\"a\":\"é\"}\n{\"b\":1}\n").await;
}

#[tokio::test]
async fn the_original_is_answered_with_its_delimiter_in_ascii() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends(original("{\"a\":\"\u{80}\u{81}\u{82}é\"}")).await;
    served.receives(original("{\"a\":\"\\u0080\\u0081\\u0082\\u00e9\"}")).await;
}

#[tokio::test]
async fn without_the_deciding_byte_a_reply_waits_briefly_and_takes_the_originals_framing() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends("{}").await;
    served.receives(original("{}")).await;
    served.sends("\n{}\n").await;
    served.receives(original("{}")).await;
}

#[tokio::test]
async fn values_in_any_pieces_are_answered_in_order() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    for byte in b"{\"a\":1}\n{\"b\":[1,2]}\n" {
        served.sends([*byte]).await;
    }
    served.receives("{\"a\":1}\n{\"b\":[1,2]}\n").await;
}

#[tokio::test]
async fn three_malformed_values_in_a_row_are_answered_and_then_closed() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends("{}\n!\n{}\n!\n!\n!\n").await;
    served.receives("{}\n").await;
    served.receives(format!("{}\n{{}}\n", replies::BAD_REQUEST)).await;
    served.receives(format!("{}\n", replies::BAD_REQUEST).repeat(3)).await;
    assert!(matches!(served.sees_the_end().await, Ended::ByServer));
}

#[tokio::test]
async fn a_value_that_never_ends_is_refused_before_it_is_buffered_whole() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends(format!("{{\"a\":\"{}", "x".repeat(70_000))).await;
    served.receives(original(replies::TOO_LARGE)).await;
    assert!(matches!(served.sees_the_end().await, Ended::ByServer));
}

#[tokio::test]
async fn the_last_reply_arrives_although_input_is_left_unread() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends(format!("{{\"bye\":1}}\n{}", "{\"a\":1}\n".repeat(1000))).await;
    served.receives("{\"bye\":1}\n").await;
    served.sends("{\"more\":1}\n").await;
    assert!(matches!(served.sees_the_end().await, Ended::ByServer));
}

#[tokio::test]
async fn what_others_push_is_written_and_closing_says_the_last_word() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends("{}\n").await;
    served.receives("{}\n").await;
    served.outbox.push(b"{\"from\":\"esa\"}\n").unwrap();
    served.receives("{\"from\":\"esa\"}\n").await;
    served.outbox.close(replies::CONFLICT);
    served.receives(format!("{}\n", replies::CONFLICT)).await;
    assert!(matches!(served.sees_the_end().await, Ended::ByServer));
}

#[tokio::test]
async fn a_client_that_reads_nothing_while_others_write_is_closed_as_too_slow() {
    let mut served = Served::new(100_000, Options::default()).await;
    served.sends("{}\n").await;
    served.receives("{}\n").await;
    let line = format!("\"{}\"\n", "x".repeat(998));
    while served.outbox.push(line.as_bytes()).is_ok() {
        tokio::task::yield_now().await;
    }
    let mut rest = Vec::new();
    timeout(PATIENCE, served.client.read_to_end(&mut rest)).await.expect("still open").unwrap();
    assert!(rest.ends_with(format!("{}\n", replies::TOO_SLOW).as_bytes()));
    drop(served.client);
    assert!(matches!(served.task.await.unwrap(), Ended::TooSlow));
}

#[tokio::test]
async fn a_client_whose_socket_takes_nothing_is_closed_within_the_linger_all_the_same() {
    let mut served = Served::with_buffers(1 << 20, Options::default(), 16 * 1024).await;
    served.sends("{}\n").await;
    served.receives("{}\n").await;
    let line = format!("\"{}\"\n", "x".repeat(998));
    // More than the kernel takes: the task is left with bytes that it cannot write.
    while served.outbox.push(line.as_bytes()).is_ok() {
        tokio::task::yield_now().await;
    }
    // The client neither reads nor closes.
    let ended = timeout(PATIENCE, served.task).await.expect("the overflow was not noticed").unwrap();
    assert!(matches!(ended, Ended::TooSlow), "{ended:?}");
    drop(served.client);
}

#[tokio::test]
async fn a_client_that_reads_no_replies_is_read_no_further_and_gets_them_all_when_it_does() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends("{\"big\":60000}\n".repeat(300)).await;
    let reply = format!("\"{}\"\n", "x".repeat(60_000));
    for _ in 0..300 {
        // The limit, plus the reply that went over it.
        assert!(served.waiting() <= 2 * (64 * 1024 + reply.len()), "{}", served.waiting());
        served.receives(&reply).await;
    }
}

#[tokio::test]
async fn a_client_that_reads_none_of_many_small_replies_is_read_no_further() {
    const BYTES: usize = 8 << 20;
    let mut served = Served::with_buffers(1 << 20, Options::default(), 16 * 1024).await;
    let requests = "{}\n".repeat(BYTES / 3);
    // Were it read on, it could send everything at once.
    let sent = timeout(Duration::from_secs(1), served.client.write_all(requests.as_bytes())).await;
    assert!(sent.is_err(), "all was read though nothing was written");
    assert!(served.waiting() <= 2 * 64 * 1024, "{}", served.waiting());
    // What was read has been answered.
    served.receives("{}\n".repeat(20_000)).await;
}

#[tokio::test]
async fn a_reply_over_the_high_water_to_the_last_byte_read_is_not_taken_for_the_clients_end() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    // Without a separator after it the value is all that there is to read.
    served.sends("{}\n{\"big\":200000}").await;
    served.receives("{}\n").await;
    served.receives(format!("\"{}\"\n", "x".repeat(200_000))).await;
    served.sends("{\"still\":1}").await;
    served.receives("{\"still\":1}\n").await;
}

#[tokio::test]
async fn t4_the_trackers_first_reply_has_no_delimiter() {
    let options = Options { first_reply_without_delimiter: true, ..Options::default() };
    let mut served = Served::new(1 << 20, options).await;
    served.sends("{\"array\":1}").await;
    served.receives("[{\"array\":1}]").await;
    // Were there a delimiter after it, there would be two now.
    served.sends("{\"array\":2}").await;
    served.receives([DELIMITER, b"[{\"array\":2}]", DELIMITER].concat()).await;
}

#[tokio::test]
async fn answers_that_others_give_for_a_client_that_reads_none_stop_its_reading_too() {
    const QUIET: &str = "{\"quiet\":1}\n";
    let mut served = Served::with_buffers(1 << 20, Options::default(), 16 * 1024).await;
    served.sends("{}\n").await;
    served.receives("{}\n").await;
    let line = format!("\"{}\"\n", "x".repeat(998));
    // Until the kernel takes no more and the high water is passed.
    while served.waiting() <= 64 * 1024 {
        served.outbox.push_replies(line.as_bytes());
        served.outbox.wake();
        tokio::task::yield_now().await;
    }
    let more = QUIET.repeat((8 << 20) / QUIET.len());
    let sent = timeout(Duration::from_secs(1), served.client.write_all(more.as_bytes())).await;
    assert!(sent.is_err(), "all was read though nothing was written");
}

#[tokio::test]
async fn a_client_that_never_stops_sending_is_stopped_with_the_process() {
    let served = Served::new(1 << 20, Options::default()).await;
    let Served { client, shutdown, task, .. } = served;
    let (mut reading, mut writing) = client.into_split();
    let flood = tokio::spawn(async move {
        let values = "{\"quiet\":1}\n".repeat(10_000);
        while writing.write_all(values.as_bytes()).await.is_ok() {}
    });
    shutdown.cancel();
    let mut rest = Vec::new();
    timeout(PATIENCE, reading.read_to_end(&mut rest)).await.expect("still open").ok();
    let ended = timeout(PATIENCE, task).await.expect("the task goes on").unwrap();
    assert!(matches!(ended, Ended::Shutdown), "{ended:?}");
    timeout(PATIENCE, flood).await.expect("still open").unwrap();
}

#[tokio::test]
async fn shutdown_writes_what_waits_and_closes() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends("{}\n").await;
    served.receives("{}\n").await;
    served.outbox.push_quietly(b"{\"last\":1}\n").unwrap();
    served.shutdown.cancel();
    served.receives(format!("{{\"last\":1}}\n{GOODBYE}\n")).await;
    assert!(matches!(served.sees_the_end().await, Ended::Shutdown));
}

#[tokio::test]
async fn a_client_that_parts_is_answered_until_it_closes_its_side() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends("{}\n").await;
    served.receives("{}\n").await;
    served.outbox.push_quietly(b"{\"waited\":1}\n").unwrap();
    served.outbox.part(replies::CONFLICT.to_owned(), PATIENCE * 2);
    assert!(served.outbox.is_closed() && served.outbox.push(b"{}\n").is_err());
    served.receives("{\"waited\":1}\n").await;
    served.sends("{\"late\":1}\n").await;
    served.receives("{\"late\":1}\n").await;
    // As others answer what was sent before.
    served.outbox.push_replies(b"{\"answer\":1}\n");
    served.outbox.wake();
    served.receives("{\"answer\":1}\n").await;
    served.sends("{\"last\":1}\n").await;
    served.client.shutdown().await.unwrap();
    served.receives(format!("{{\"last\":1}}\n{}\n", replies::CONFLICT)).await;
    assert!(matches!(served.sees_the_end().await, Ended::ByClient));
}

#[tokio::test]
async fn a_client_that_parts_is_answered_though_the_process_stops() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends("{}\n").await;
    served.receives("{}\n").await;
    served.outbox.part(replies::CONFLICT.to_owned(), PATIENCE * 2);
    served.shutdown.cancel();
    for _ in 0..2 {
        served.sends("{\"late\":1}\n").await;
        served.receives("{\"late\":1}\n").await;
    }
    served.client.shutdown().await.unwrap();
    served.receives(format!("{}\n", replies::CONFLICT)).await;
    assert!(matches!(served.sees_the_end().await, Ended::ByClient));
}

/// `{"quiet":"asks"}`, its last word; once it is handled.
async fn asks_and_closes_its_side(served: &mut Served) {
    served.sends("{\"quiet\":\"asks\"}\n").await;
    served.client.shutdown().await.unwrap();
    timeout(PATIENCE, served.handled.recv()).await.expect("it is not handled").unwrap();
}

#[tokio::test]
async fn a_client_that_has_closed_its_side_hears_what_others_answer() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    asks_and_closes_its_side(&mut served).await;
    let is_taken_for_gone = async {
        while !served.outbox.is_closed() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, is_taken_for_gone).await.expect("others could still write to it");
    served.outbox.push_replies(b"{\"answer\":1}\n");
    served.outbox.wake();
    served.receives("{\"answer\":1}\n").await;
    served.outbox.close("");
    assert!(matches!(served.sees_the_end().await, Ended::ByClient));
}

#[tokio::test]
async fn so_does_one_that_parts() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.outbox.part(String::new(), PATIENCE * 2);
    asks_and_closes_its_side(&mut served).await;
    served.outbox.push_replies(b"{\"answer\":1}\n");
    served.outbox.wake();
    served.receives("{\"answer\":1}\n").await;
}

#[tokio::test]
async fn a_client_that_does_not_close_its_side_is_known_to_have_been_told_all() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends("{\"bye\":1}\n").await;
    served.receives("{\"bye\":1}\n").await;
    assert_eq!(served.handled.recv().await.as_deref(), Some("{\"bye\":1}"));
    assert_eq!(served.handled.recv().await.as_deref(), Some(SAID_ALL));
}

#[tokio::test]
async fn what_a_client_that_parts_sends_before_it_can_know_is_handled_though_not_answered() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends("{}\n").await;
    served.receives("{}\n").await;
    served.outbox.part(String::new(), Duration::ZERO);
    let mut rest = Vec::new();
    timeout(PATIENCE, served.client.read_to_end(&mut rest)).await.expect("still open").unwrap();
    assert_eq!(rest, b"");
    served.sends("{\"under way\":").await;
    served.sends("1}\n").await;
    served.client.shutdown().await.unwrap();
    let ended = timeout(PATIENCE, served.task).await.expect("the task goes on").unwrap();
    assert!(matches!(ended, Ended::ByServer), "{ended:?}");
    for expected in ["{}", SAID_ALL, "{\"under way\":1}"] {
        assert_eq!(served.handled.recv().await.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn a_client_that_is_sent_away_was_ended_by_the_shutdown() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends("{}\n").await;
    served.receives("{}\n").await;
    served.outbox.send_away(replies::CONFLICT.to_owned());
    served.receives(format!("{}\n", replies::CONFLICT)).await;
    assert!(matches!(served.sees_the_end().await, Ended::Shutdown));
}

#[tokio::test]
async fn what_a_client_that_is_closed_sends_is_not_handled() {
    let mut served = Served::new(1 << 20, Options::default()).await;
    served.sends("{}\n").await;
    served.receives("{}\n").await;
    served.outbox.close("");
    let mut rest = Vec::new();
    timeout(PATIENCE, served.client.read_to_end(&mut rest)).await.expect("still open").unwrap();
    served.sends("{\"late\":1}\n").await;
    served.client.shutdown().await.unwrap();
    timeout(PATIENCE, served.task).await.expect("the task goes on").unwrap();
    for expected in [Some("{}"), Some(SAID_ALL), None] {
        assert_eq!(served.handled.recv().await.as_deref(), expected);
    }
}

#[tokio::test]
async fn a_client_that_parts_and_sends_for_ever_is_closed_when_the_patience_ends() {
    let served = Served::new(1 << 20, Options::default()).await;
    let Served { client, outbox, task, .. } = served;
    let (mut reading, mut writing) = client.into_split();
    let flood = tokio::spawn(async move {
        let values = "{\"quiet\":1}\n".repeat(1000);
        while writing.write_all(values.as_bytes()).await.is_ok() {}
    });
    outbox.part(replies::CONFLICT.to_owned(), Duration::from_millis(10));
    let mut rest = Vec::new();
    timeout(PATIENCE, reading.read_to_end(&mut rest)).await.expect("still open").ok();
    assert!(String::from_utf8_lossy(&rest).starts_with(replies::CONFLICT));
    let ended = timeout(PATIENCE, task).await.expect("the task goes on").unwrap();
    assert!(matches!(ended, Ended::ByServer | Ended::Failed(_)), "{ended:?}");
    timeout(PATIENCE, flood).await.expect("still open").unwrap();
}
