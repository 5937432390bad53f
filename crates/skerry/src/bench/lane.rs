//! One kept-alive HTTP/1.1 connection of the load, as lean as the peer's own load driver.
//!
//! Client and bank share the cores, so every microsecond here is taken from what is measured: requests are bytes
//! laid once, answers are looked at in place. Plain HTTP only, and only what our gateway answers: a
//! `content-length`, no chunks. Everything else in this program speaks through `skerry-client`.

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A head longer than this is not from our gateway.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// One connection; one request at a time.
#[derive(Debug)]
pub(super) struct Lane {
    stream: TcpStream,
    input: Vec<u8>,
}

/// A whole answer, until the next request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    length: usize,
    status: u16,
    body_length: usize,
}

impl Lane {
    /// Connects to `authority`, `host:port`.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub(super) async fn open(authority: &str) -> anyhow::Result<Self> {
        let connect = || format!("could not connect to {authority}");
        let stream = TcpStream::connect(authority).await.with_context(connect)?;
        stream.set_nodelay(true).with_context(connect)?;
        Ok(Self { stream, input: Vec::with_capacity(64 * 1024) })
    }

    /// Sends `head` and `body` as one request and reads the answer whole.
    ///
    /// # Errors
    ///
    /// The connection broke, or the answer is not what our gateway sends.
    pub(super) async fn exchange(&mut self, head: &[u8], body: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.send(head, body).await.context("could not send a request")?;
        self.input.clear();
        let head = loop {
            if let Some(head) = parse(&self.input)? {
                break head;
            }
            ensure!(self.input.len() <= HEAD_BYTES_MAX, "the answer's head does not end");
            self.read().await?;
        };
        let whole = head.length + head.body_length;
        self.input.reserve(whole.saturating_sub(self.input.len()));
        while self.input.len() < whole {
            self.read().await?;
        }
        let body = self.input.get(head.length..whole).context("an answer came with more than its length")?;
        Ok(Answer { status: head.status, body })
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.input).await.context("could not read an answer")?;
        ensure!(read > 0, "the bank closed a connection in the middle of a call");
        Ok(())
    }

    async fn send(&mut self, head: &[u8], body: &[u8]) -> std::io::Result<()> {
        let slices = [std::io::IoSlice::new(head), std::io::IoSlice::new(body)];
        let sent = self.stream.write_vectored(&slices).await?;
        if sent < head.len() {
            self.stream.write_all(&head[sent..]).await?;
        }
        self.stream.write_all(&body[sent.saturating_sub(head.len()).min(body.len())..]).await
    }
}

/// Reads the head of an answer; `None` while it has not ended.
fn parse(input: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(length) = input.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&input[..length]).context("the answer's head is not text")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|rest| rest.get(..3));
    let status = status.and_then(|digits| digits.parse().ok()).context("the answer is not HTTP/1.1")?;
    let mut head = Head { length, status, body_length: 0 };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.body_length = value.parse().context("the answer's content-length is no number")?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("the answer comes in chunks, which the load driver does not read");
        }
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_when_they_are_whole() {
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n").unwrap(), None);
        let text = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 12\r\nRetry-After: 2\r\n\r\n{";
        let head = Head { length: text.len() - 1, status: 503, body_length: 12 };
        assert_eq!(parse(text).unwrap(), Some(head));
        assert!(parse(b"SMTP\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn a_large_request_arrives_whole_and_its_answer_too() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let body = vec![7; 3_000_000];
        let expected = body.len() + 4;
        let bank = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut received = Vec::new();
            while received.len() < expected {
                stream.read_buf(&mut received).await.unwrap();
            }
            let answer =
                [b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n".as_slice(), &[9; 300_000]].concat();
            stream.write_all(&answer).await.unwrap();
            received
        });
        let mut lane = Lane::open(&address).await.unwrap();
        let answer = lane.exchange(b"head", &body).await.unwrap();
        assert_eq!((answer.status, answer.body), (200, [9; 300_000].as_slice()));
        let received = bank.await.unwrap();
        assert!(received[..4] == *b"head" && received[4..] == body[..]);
    }
}
