//! What is admitted, and that the queue never makes a request wait.

use super::*;

fn queue(below: u64, room: usize) -> (Queue, Receiver<Traced>) {
    let (sender, receiver) = sync_channel(room);
    let sender = RwLock::new(Some(sender));
    (Queue { sender, seen: AtomicU64::new(7), below, meters: Arc::default() }, receiver)
}

fn request() -> Traced {
    Traced {
        parent: None,
        begun: std::time::SystemTime::UNIX_EPOCH,
        took: Duration::ZERO,
        method: hyper::Method::GET,
        route: None,
        principal: None,
        status: None,
        problem: None,
        steps: Vec::new(),
        left_out: 0,
    }
}

#[test]
fn a_parent_decides_and_without_one_the_share() {
    let (none, _receiver) = queue(0, 1);
    let parent = |flags| format!("00-{:032x}-{:016x}-{flags}", 5, 6);
    assert_eq!(none.admit(Some(&parent("01"))), Verdict::Under { trace: 5, span: 6 });
    assert_eq!(none.admit(Some(&parent("03"))), Verdict::Under { trace: 5, span: 6 });
    let (all, _receiver) = queue(1_000_000, 1);
    assert_eq!(all.admit(Some(&parent("00"))), Verdict::Pass);
    for told in [None, Some("rubbish"), Some("00-0-0-01")] {
        assert_eq!(none.admit(told), Verdict::Pass);
        assert_eq!(all.admit(told), Verdict::Root);
    }
    let (some, _receiver) = queue(10_000, 1);
    let taken = (0..1_000_000).filter(|_| some.admit(None) == Verdict::Root).count();
    assert!((9_000..11_000).contains(&taken), "{taken} of a million at 1 %");
}

#[test]
fn a_full_or_closed_queue_drops_and_counts() {
    let (queue, receiver) = queue(0, 2);
    for _ in 0..5 {
        queue.tell(request());
    }
    assert_eq!((queue.meters.traces_dropped.get(), receiver.try_iter().count()), (3, 2));
    drop(queue.sender.write().unwrap().take());
    queue.tell(request());
    assert_eq!(queue.meters.traces_dropped.get(), 4);
}

#[test]
fn a_request_in_the_words_of_opentelemetry() {
    let mut next = 0;
    let mut random = || {
        next += 1;
        next
    };
    let gone = Traced { method: hyper::Method::from_bytes(b"Customer").unwrap(), ..request() };
    let spans = spans::of(&gone, &mut random);
    let [span] = &spans[..] else { panic!("one span") };
    assert_eq!((span.name.as_str(), &span.trace_id[8..]), ("HTTP", &2_u64.to_be_bytes()[..]));
    assert!(!format!("{span:?}").contains("Customer"), "a method may be any word: {span:?}");
    assert!(format!("{span:?}").contains("cancelled"), "{span:?}");
}
