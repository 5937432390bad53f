//! Tests of bounded bodies and of what is said about wrong ones.

use super::*;
use crate::config::SMALL_BODY;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outer {
    #[expect(dead_code, reason = "only its parsing is tested")]
    inner: Vec<Inner>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    #[expect(dead_code, reason = "only its parsing is tested")]
    count: u16,
}

fn problem(text: &str) -> (String, String) {
    let problem = parse::<Outer>(text.as_bytes()).unwrap_err();
    let document = problem.document(crate::problem::Language::English);
    (document.code.to_owned(), document.field.unwrap_or("").to_owned())
}

#[test]
fn what_is_wrong_is_named() {
    let cases = [
        ("", "malformed_json", ""),
        ("{", "malformed_json", ""),
        ("[]]", "malformed_json", ""),
        ("[[]]", "invalid_field", ""),
        (" 5", "invalid_field", ""),
        ("{\"inner\":[]} x", "malformed_json", ""),
        ("{}", "missing_field", "inner"),
        ("{\"inner\":[],\"more\":1}", "unknown_field", "more"),
        ("{\"inner\":[{\"count\":1},{\"count\":-1}]}", "invalid_field", "inner[1].count"),
        ("{\"inner\":[{\"cuont\":1}]}", "unknown_field", "inner[0].cuont"),
        ("{\"inner\":[{}]}", "missing_field", "inner[0].count"),
        ("{\"inner\":[{\"count\":1.5}]}", "invalid_field", "inner[0].count"),
    ];
    for (text, code, field) in cases {
        assert_eq!(problem(text), (code.to_owned(), field.to_owned()), "{text}");
    }
}

async fn read_chunks(chunks: Vec<&'static [u8]>, most: usize, room: &Arc<Room>) -> Result<Whole, Problem> {
    let stream = http_body_util::StreamBody::new(Chunks(chunks.into()));
    read(&mut Body::new(stream), most, SMALL_BODY, Duration::from_secs(5), room).await
}

struct Chunks(std::collections::VecDeque<&'static [u8]>);

impl futures_core::Stream for Chunks {
    type Item = Result<hyper::body::Frame<Bytes>, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front().map(|chunk| Ok(hyper::body::Frame::data(Bytes::from_static(chunk)))))
    }
}

#[tokio::test]
async fn bodies_are_bounded_alone_and_together() {
    static BIG: [u8; 100_000] = [b'x'; 100_000];
    let room = Arc::new(Room::new(250_000));
    assert_eq!(read_chunks(vec![b"ab", b"cd"], 4, &room).await.unwrap().bytes, "abcd");
    assert_eq!(read_chunks(vec![b"ab", b"cde"], 4, &room).await.unwrap_err().code(), "body_too_large");
    let whole = read_chunks(vec![&BIG], 1_000_000, &room).await.unwrap();
    assert!(room.taken() >= BIG.len());
    assert_eq!(read_chunks(vec![&BIG], 1_000_000, &room).await.unwrap_err().code(), "busy");
    drop(whole);
    assert_eq!(room.taken(), 0);
}

#[tokio::test]
async fn a_body_that_its_connection_has_no_memory_for_takes_room_from_its_first_byte() {
    let room = Arc::new(Room::new(3));
    let body = |text: &'static str| Body::from(text);
    let whole = read(&mut body("ab"), 100, SMALL_BODY, Duration::from_secs(5), &room).await.unwrap();
    assert_eq!((whole.bytes.len(), room.taken()), (2, 0));
    let problem = read(&mut body("ab"), 100, 0, Duration::from_secs(5), &room).await.unwrap_err();
    assert_eq!(problem.code(), "busy");
}

#[tokio::test]
async fn one_chunk_is_not_copied() {
    static TEXT: &[u8] = b"packed";
    let room = Arc::new(Room::new(0));
    let whole = read_chunks(vec![TEXT], 100, &room).await.unwrap();
    assert_eq!(whole.bytes.as_ptr(), TEXT.as_ptr());
}

#[tokio::test]
async fn a_slow_body_times_out() {
    let mut body = Body::new(http_body_util::StreamBody::new(Never));
    let room = Arc::new(Room::new(0));
    let problem = read(&mut body, 100, SMALL_BODY, Duration::from_millis(20), &room).await.unwrap_err();
    assert_eq!(problem.code(), "request_timeout");
}

struct Never;

impl futures_core::Stream for Never {
    type Item = Result<hyper::body::Frame<Bytes>, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}
