//! External signers as shell scripts: one that is honest, and each way in which a command can fail.

#![expect(clippy::unwrap_used, reason = "also in the helpers of tests")]

use std::path::PathBuf;
use std::time::Duration;

use skerry_proof::{Ed25519Signer, Signer};
use skerry_signers::{Answer, External, ExternalSigner};

const MESSAGE: &[u8] = b"a checkpoint";

fn key() -> Ed25519Signer {
    Ed25519Signer::from_seed(&[5; 32])
}

/// The one answer to [`MESSAGE`]: Ed25519 has no chance in it.
fn honest() -> String {
    Answer::Signature(key().sign(MESSAGE).unwrap()).line()
}

fn script(text: &str) -> ExternalSigner {
    patient(text, Duration::from_secs(60))
}

fn patient(text: &str, timeout: Duration) -> ExternalSigner {
    let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    ExternalSigner::new(External { command, public_key: key().public_key(), timeout })
}

fn reason(signer: &ExternalSigner) -> String {
    let error = signer.sign(MESSAGE).unwrap_err();
    assert_eq!(error.key, key().key_id());
    error.reason
}

/// A file of this test that scripts count in.
fn counter(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("skerry-signer-{name}-{}", std::process::id()));
    let _gone = std::fs::remove_file(&path);
    path
}

fn starts(path: &PathBuf) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

/// Whether a process of the group still runs; a zombie does not.
fn group_lives(group: u32) -> bool {
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name in brackets: state, parent, group.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.next().is_some_and(|state| state != "Z") && fields.nth(1) == Some(&group.to_string())
    })
}

#[test]
fn one_process_answers_request_after_request() {
    let counter = counter("lives");
    let signer = script(&format!(
        "echo started >> {}; while read verb key message; do echo '{}'; done",
        counter.display(),
        honest()
    ));
    for _ in 0..5 {
        assert_eq!(signer.sign(MESSAGE).unwrap(), key().sign(MESSAGE).unwrap());
    }
    assert_eq!(starts(&counter), 1);
}

#[test]
fn the_request_names_key_and_message() {
    let expected = format!("sign {} {}", key().key_id(), "6120636865636b706f696e74");
    let signer = script(&format!(
        "read line; if [ \"$line\" = '{expected}' ]; then echo '{}'; else echo error \"$line\"; fi",
        honest()
    ));
    signer.sign(MESSAGE).unwrap();
}

/// A command may live for one request: the next one starts it again.
#[test]
fn a_process_may_go_after_its_answer() {
    let counter = counter("goes");
    let signer = script(&format!("echo started >> {}; read line; echo '{}'", counter.display(), honest()));
    for _ in 0..3 {
        signer.sign(MESSAGE).unwrap();
    }
    assert_eq!(starts(&counter), 3);
}

#[test]
fn death_silence_and_rubbish_are_told_apart() {
    assert!(reason(&script("exit 3")).contains("it has ended"));
    assert!(reason(&script("read line; printf signature")).contains("it has ended"), "within its line");
    assert!(reason(&script("read line; echo hello")).contains("neither 'signature' nor 'error'"));
    assert!(reason(&script("read line; echo signature 00")).contains("128 hexadecimal digits"));
    assert!(reason(&script("read line; echo error the card is out")).contains("it said: the card is out"));
    let absent = External {
        command: vec!["/nonexistent/signer".to_owned()],
        public_key: key().public_key(),
        timeout: Duration::from_secs(60),
    };
    assert!(reason(&ExternalSigner::new(absent)).contains("could not start it"));
}

#[test]
fn endless_output_is_cut() {
    assert!(reason(&script("read line; exec cat /dev/zero")).contains("more than 1024 bytes"));
}

#[test]
fn a_lie_is_not_believed_and_its_teller_is_replaced() {
    let counter = counter("lies");
    let other = Answer::Signature(key().sign(b"another message").unwrap()).line();
    let text = format!(
        "echo started >> {0}; read line; \
         if [ $(wc -l < {0}) = 1 ]; then echo '{other}'; read line; else echo '{1}'; fi",
        counter.display(),
        honest()
    );
    let signer = script(&text);
    assert!(reason(&signer).contains("not that of the pinned key"));
    signer.sign(MESSAGE).unwrap();
    assert_eq!(starts(&counter), 2);
}

/// The child of the child holds the pipe; killing the script alone would leave the call, or its thread, waiting.
#[test]
fn a_stalled_process_is_killed_with_all_it_started() {
    let counter = counter("stalls");
    let text = format!(
        "echo $$ >> {0}; read line; if [ $(wc -l < {0}) = 1 ]; then sleep 1000 & wait; else echo '{1}'; fi",
        counter.display(),
        honest()
    );
    let signer = patient(&text, Duration::from_secs(3));
    let told = reason(&signer);
    assert!(told.contains("did not answer within 3000 ms"), "{told}");
    let group: u32 = std::fs::read_to_string(&counter).unwrap().lines().next().unwrap().parse().unwrap();
    let left = || group_lives(group);
    while left() {
        std::thread::yield_now();
    }
    drop(signer);
    let patient = patient(&text, Duration::from_secs(60));
    patient.sign(MESSAGE).unwrap();
}

#[test]
fn the_contract_holds_over_the_protocol() {
    // The far end is a thread here and a process in the bank's own tests (`skerry key serve`).
    let signer = script(&format!("while read verb key message; do echo '{}'; done", honest()));
    let many: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..4).map(|_| scope.spawn(|| signer.sign(MESSAGE))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(many.into_iter().all(|signed| signed == Ok(key().sign(MESSAGE).unwrap())));
}
