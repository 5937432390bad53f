//! The runbooks: each in the situation that it is about, its commands typed as they stand, and what must then be so.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;
mod place;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{assert_balanced, balance, block_on, open_account, problem, transfer, uuid7};
use place::{Page, Place, shows};
use serde_json::{Value, json};
use skerry_client::{Client, Error};
use skerry_proof::SignatureAlgorithm;
use skerry_proof::signer::from_secret;

/// An account in each of both branches, by branch, with 100.00 on it.
fn accounts(place: &Place) -> [String; 2] {
    let client = place.client();
    let mut found = [None, None];
    for number in 1..20 {
        let (_, account) = block_on(open_account(&client, &format!("Customer {number}")));
        let index = usize::from(account.starts_with("0002"));
        if found[index].is_none() {
            pay(&client, "gl:1001", &account, "100.00");
            found[index] = Some(account);
        }
        if let [Some(one), Some(two)] = &found {
            return [one.clone(), two.clone()];
        }
    }
    panic!("newcomers go to one branch alone");
}

/// Pays, and once more as long as it is told to come again. The id.
fn pay(client: &Client, from: &str, to: &str, amount: &str) -> String {
    let id = uuid7();
    let began = Instant::now();
    while let Err(error) =
        block_on(client.post::<_, Value>("/v1/transfers", &transfer(&id, from, to, amount)))
    {
        assert!(began.elapsed() < Duration::from_secs(60), "{error:?}");
    }
    id
}

fn settled(place: &Place, id: &str) {
    place.until(&format!("/v1/payments/{id}"), |seen| (seen["status"] == "settled").then_some(()));
}

fn posted(place: &Place, account: &str) -> String {
    block_on(balance(&place.client(), account))
}

fn copy_folder(from: &Path, to: &Path) {
    let _gone = std::fs::remove_dir_all(to);
    let done = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(done.success());
}

#[test]
fn every_page_is_run_by_a_test() {
    let tests = [
        include_str!("runbooks.rs"),
        include_str!("standbys.rs"),
        include_str!("receivers.rs"),
        include_str!("buses.rs"),
    ]
    .concat();
    let mut pages = 0;
    for entry in std::fs::read_dir(place::project().join("docs/runbooks")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let page = name.strip_suffix(".md").expect("a page");
        let text = std::fs::read_to_string(place::project().join("docs/runbooks").join(&name)).unwrap();
        assert!(!text.contains("```bash"), "{name}: commands that are run stand in ```sh");
        if page != "README" {
            assert!(tests.contains(&format!("Page::open(\"{page}\")")), "no test runs {name}");
            pages += 1;
        }
    }
    assert!(pages > 10, "{pages} pages");
}

#[test]
fn bank_down() {
    let place = Place::new("bank-down", 1, "");
    let mut page = Page::open("bank-down");
    place.up();
    let (_, account) = block_on(open_account(&place.client(), "Customer 1"));
    pay(&place.client(), "gl:1001", &account, "5.00");
    place.kill();
    let seen = page.step(&place);
    assert!(shows(&seen, "healthy false") && seen.contains("the bank is open"), "{seen}");
    assert!(shows(&page.step(&place), "healthy true"));
    page.end();
    assert_eq!(posted(&place, &account), "5.00");
}

/// Books into branch 1 until its first segment is sealed; that file.
fn seal_a_segment(place: &Place, account: &str) -> PathBuf {
    let client = place.client();
    let sealed = place.data().join("branches/0001/journal/seg-00000000000000000000.seal");
    for _ in 0..40 {
        let many: Vec<Value> =
            (0..1000).map(|_| transfer(&uuid7(), "gl:1001@0001", account, "0.01")).collect();
        let done: Value = block_on(client.post("/v1/transfers/batch", &json!({"transfers": many}))).unwrap();
        assert_eq!(done["accepted"], 1000, "{done}");
        if sealed.exists() {
            return sealed;
        }
    }
    panic!("no segment is sealed");
}

#[test]
fn sick_branch() {
    let place = Place::new("damage", 2, "");
    let mut page = Page::open("sick-branch");
    place.up();
    let [one, two] = accounts(&place);
    let sealed = seal_a_segment(&place, &one);
    place.shell("skerry backup /srv/skerry/backup");
    pay(&place.client(), &one, &two, "1.00");
    let had = posted(&place, &one);
    place.kill();
    let mut bytes = std::fs::read(&sealed).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&sealed, &bytes).unwrap();
    place.up();
    let waiting = pay(&place.client(), &two, &one, "2.00");

    let seen = page.step(&place);
    assert!(seen.contains("journal damaged in") && seen.contains("seg-00000000000000000000.seal"), "{seen}");
    place.until_metric("skerry_branch_open{branch=\"1\"} 0");
    place.until_metric("skerry_branch_payments_in_transit{branch=\"2\"} 1");
    let refused = page.refused(&place);
    assert!(refused.contains("journal damaged in"), "opening it again mends nothing: {refused}");
    let seen = page.step(&place);
    assert!(!seen.contains("sick"), "{seen}");
    settled(&place, &waiting);
    let (whole, cents) = had.split_once('.').unwrap();
    let two_more = format!("{}.{cents}", whole.parse::<u64>().unwrap() + 2);
    assert_eq!(posted(&place, &one), two_more, "nothing was lost, and what waited has come");
    place.until_metric("skerry_branch_payments_in_transit{branch=\"2\"} 0");
    assert!(shows(&page.step(&place), "valid true"));
    page.end();
    assert_eq!(
        std::fs::read(place.path("/var/lib/skerry.damaged/seg-00000000000000000000.seal")).unwrap(),
        bytes
    );
    block_on(assert_balanced(&place.client()));
}

#[test]
fn full_disk() {
    let mut place = Place::new("room", 1, "");
    let disk = place.path("/var/lib");
    let mount = ["-t", "tmpfs", "-o", "size=48m", "tmpfs", disk.to_str().unwrap()];
    let mounted = Command::new("mount").args(mount).output().unwrap();
    if !mounted.status.success() {
        let why = String::from_utf8_lossy(&mounted.stderr).into_owned();
        eprintln!("skipped: no file system can be mounted here: {}", why.trim());
        return;
    }
    place.mounted = Some(disk.clone());
    let mut page = Page::open("full-disk");
    place.up();
    let (_, account) = block_on(open_account(&place.client(), "Customer 1"));
    let filler = disk.join("filler");
    let _full =
        Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler.display())).output();
    let client = place.client();
    let mut acknowledged = 0;
    loop {
        let wish = transfer(&uuid7(), "gl:1001", &account, "0.01");
        match block_on(client.post::<_, Value>("/v1/transfers", &wish)) {
            Ok(_) => acknowledged += 1,
            Err(Error::Problem(problem)) => {
                assert_eq!(problem.status, 503, "{problem:?}");
                break;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(acknowledged < 100_000, "the disk never fills");
    }
    let seen = page.step(&place).to_lowercase();
    assert!(seen.contains("full") || seen.contains("no space left"), "{seen}");
    let free = place.metrics();
    let free = free.lines().find_map(|line| line.strip_prefix("skerry_disk_free_bytes ")).unwrap().to_owned();
    assert!(free.parse::<u64>().unwrap() < 2_000_000, "{free} bytes are free");
    std::fs::remove_file(filler).unwrap();
    let seen = page.step(&place);
    assert!(!seen.contains("sick"), "{seen}");
    page.end();
    let have: u64 = posted(&place, &account).replace('.', "").parse().unwrap();
    assert!(have == acknowledged || have == acknowledged + 1, "{have} cents, {acknowledged} acknowledged");
    pay(&place.client(), "gl:1001", &account, "1.00");
}

#[test]
fn rewind_and_stopped_channel() {
    let place = Place::new("rewind", 2, "");
    let mut page = Page::open("rewind");
    let mut channels = Page::open("stopped-channel");
    place.up();
    let [one, two] = accounts(&place);
    settled(&place, &pay(&place.client(), &one, &two, "10.00"));
    settled(&place, &pay(&place.client(), &two, &one, "3.00"));
    place.shell("skerry down");
    let (journal, old) = (place.data().join("branches/0001/journal"), place.path("/srv/skerry/old"));
    copy_folder(&journal, &old);
    place.up();
    settled(&place, &pay(&place.client(), &one, &two, "20.00"));
    settled(&place, &pay(&place.client(), &two, &one, "5.00"));
    settled(&place, &pay(&place.client(), &one, &two, "7.00"));
    place.kill();
    copy_folder(&old, &journal);
    place.up();
    // The other branch shows it when they meet, or with its next payment at the latest.
    let waiting = pay(&place.client(), &two, &one, "0.50");
    place.until("/v1/branches", |seen| {
        seen["branches"][0]["reason"].as_str()?.contains("journal_rewound").then_some(())
    });
    assert!(page.step(&place).contains("ends at position"));
    let seen = page.step(&place);
    assert!(seen.contains("lost_to") && !seen.contains("sick"), "{seen}");

    let seen = channels.step(&place);
    assert!(seen.contains("incarnation"), "{seen}");
    channels.step(&place);
    channels.end();
    for branch in [1, 2] {
        place.until(&format!("/v1/branches/{branch}/channels"), |seen| {
            let channel = &seen["channels"][0];
            let rests = channel["outgoing_stopped"].is_null() && channel["incoming_stopped"].is_null();
            (rests && channel["resuming"] == false && channel["open"] == 0).then_some(())
        });
        place.until_metric(&format!("skerry_branch_channels_stopped{{branch=\"{branch}\"}} 0"));
    }
    let seen = page.step(&place);
    assert!(seen.contains("payment.taken_back"), "{seen}");
    page.end();
    settled(&place, &waiting);
    // 100 − 10 + 3 − 20 + 5 − 7 + 0.50 and its mirror image: what branch 1 has lost, branch 2 held.
    assert_eq!((posted(&place, &one), posted(&place, &two)), ("71.50".to_owned(), "128.50".to_owned()));
    settled(&place, &pay(&place.client(), &two, &one, "1.00"));
    assert!(place.path("/srv/skerry/before-the-loss/bank.toml").exists());
    block_on(assert_balanced(&place.client()));
}

fn newcomer(place: &Place, number: u32) -> Result<Value, Error> {
    let wish = json!({"name": format!("Customer {number}"), "document": {"kind": "passport", "number": format!("P{number}")}});
    block_on(place.client().post("/v1/customers", &wish))
}

#[test]
fn lost_directory() {
    let place = Place::new("lost-directory", 2, "");
    let mut page = Page::open("lost-directory");
    place.up();
    let ids: Vec<Value> = (0..10).map(|number| newcomer(&place, number).unwrap()["id"].clone()).collect();
    assert!(shows(&page.step(&place), "rebuilding false"));
    assert!(shows(&page.step(&place), "customers 10"));
    // Unreadable: the bank would not open it.
    let log = std::fs::read_dir(place.data().join("directory")).unwrap();
    for file in log.map(|entry| entry.unwrap().path()).filter(|path| path.to_string_lossy().contains("log-"))
    {
        std::fs::write(file, b"nonsense").unwrap();
    }
    assert!(shows(&page.step(&place), "rebuilding false"));
    for (number, id) in (0..).zip(&ids) {
        let known = problem(newcomer(&place, number));
        assert_eq!((known.code.as_str(), &known.more["existing"]), ("document_known", id));
    }
    page.step(&place);
    page.end();
    let shown: Value = serde_json::from_str(&place.shell("skerry --json directory show")).unwrap();
    assert_eq!(
        (&shown["branches"][0]["weight"], &shown["branches"][1]["newcomers"]),
        (&json!(50), &json!(false))
    );
    newcomer(&place, 10).unwrap();
}

#[test]
fn no_room() {
    let place = Place::new("no-room", 2, "");
    let mut page = Page::open("no-room");
    place.up();
    place.until_metric("skerry_directory_branches_for_newcomers 2");
    place.shell("skerry branch close 1\nskerry branch close 2");
    assert_eq!(problem(newcomer(&place, 1)).code, "no_open_branch");
    place.until_metric("skerry_directory_branches_for_newcomers 0");
    let seen = page.step(&place);
    assert!(shows(&seen, "2 open scattered 100 false false local"), "{seen}");
    page.step(&place);
    place.until_metric("skerry_directory_branches_for_newcomers 1");
    newcomer(&place, 1).unwrap();
    page.step(&place);
    page.end();
    place.until_metric("skerry_directory_branches_for_newcomers 3");
    newcomer(&place, 2).unwrap();
}

#[test]
fn slow() {
    let place = Place::new("slow", 1, "[quota]\nin_flight = 1\n");
    let mut page = Page::open("slow");
    place.up();
    let (_, account) = block_on(open_account(&place.client(), "Customer 1"));
    let turned_away = || {
        let text = place.metrics();
        let name = "skerry_branch_busy_quota_total{branch=\"1\"} ";
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse::<u64>().unwrap()
    };
    let began = Instant::now();
    while turned_away() == 0 {
        // One principal asks for more at once than it may.
        block_on(async {
            let mut running = tokio::task::JoinSet::new();
            for _ in 0..50 {
                let (client, wish) = (place.client(), transfer(&uuid7(), "gl:1001", &account, "0.01"));
                running.spawn(async move { client.post::<_, Value>("/v1/transfers", &wish).await });
            }
            running.join_all().await
        });
        assert!(began.elapsed() < Duration::from_secs(60), "nobody is turned away");
    }
    let seen = page.step(&place);
    assert!(seen.contains("skerry_branch_busy_quota_total{branch=\"1\"}"), "{seen}");
    assert!(seen.contains("\"principals\""), "meters name who asks: {seen}");
    let seen = page.step(&place);
    assert!(shows(&seen, "1 open scattered 100 false false local"), "nobody comes to it for a while: {seen}");
    page.end();
    newcomer(&place, 1).unwrap();
}

#[test]
fn late_checkpoints() {
    let place = Place::new("late-checkpoints", 1, "[branch]\ncheckpoint_seconds = 1\n");
    let mut page = Page::open("late-checkpoints");
    place.up();
    place.shell("skerry down");
    // From now on a command signs, and only while a file is there.
    let key = from_secret(SignatureAlgorithm::Ed25519, &[7; 32]).unwrap().public_key().to_string();
    let hex = "07".repeat(32);
    place.shell(&format!("umask 077\nprintf {hex} > /etc/skerry/vault.key\ntouch /etc/skerry/open"));
    let vault = "[ -e /etc/skerry/open ] || { read line; echo error the vault is shut; exit; }; \
                 exec skerry key serve --file /etc/skerry/vault.key";
    let signer = format!(
        "[evidence.signer]\ncommand = [\"/bin/sh\", \"-c\", {:?}]\npublic_key = \"{key}\"\n",
        place.here(vault)
    );
    let config = place.path("/etc/skerry/skerry.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(place.path("/etc/skerry/next.toml"), text + &signer).unwrap();
    place.shell(
        "skerry key rotate --next /etc/skerry/next.toml\nmv /etc/skerry/next.toml /etc/skerry/skerry.toml",
    );
    std::fs::remove_file(place.path("/etc/skerry/open")).unwrap();
    place.up();
    let (_, account) = block_on(open_account(&place.client(), "Customer 1"));
    pay(&place.client(), "gl:1001", &account, "1.00");
    place.until_metric("skerry_branch_checkpoints_late{branch=\"1\"} 1");
    let seen = page.step(&place);
    assert!(seen.contains("the vault is shut") && seen.contains("checkpoint_failures_total"), "{seen}");
    assert!(seen.contains("could not sign a checkpoint"), "the log has it too: {seen}");
    std::fs::write(place.path("/etc/skerry/open"), "").unwrap();
    let seen = page.step(&place);
    assert!(!seen.contains("the vault is shut"), "{seen}");
    page.end();
    place.until_metric("skerry_branch_checkpoints_late{branch=\"1\"} 0");
}

#[test]
fn restore() {
    let place = Place::new("restore", 2, "");
    let mut page = Page::open("restore");
    place.up();
    let [one, two] = accounts(&place);
    page.step(&place);
    assert!(shows(&page.step(&place), "drill true"), "a drill");
    pay(&place.client(), &one, &two, "1.00");
    place.kill();
    std::fs::remove_dir_all(place.data().join("branches")).unwrap();
    let seen = page.step(&place);
    assert!(shows(&seen, "healthy true"), "{seen}");
    page.end();
    assert_eq!((posted(&place, &one), posted(&place, &two)), ("100.00".to_owned(), "100.00".to_owned()));
    settled(&place, &pay(&place.client(), &one, &two, "1.00"));
    block_on(assert_balanced(&place.client()));
}

/// A certificate for this machine's loopback, and its key, in two files.
fn certificate(place: &Place, pem: &str, key: &str) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(place.path(pem), made.cert.pem()).unwrap();
    std::fs::write(place.path(key), made.signing_key.serialize_pem()).unwrap();
}

#[test]
fn key_rotation() {
    let place = Place::with_tls("key-rotation", 1);
    let mut page = Page::open("key-rotation");
    certificate(&place, "/etc/skerry/server.pem", "/etc/skerry/server.key");
    place.up();
    let before: Value = serde_json::from_str(&place.shell("skerry --json key list")).unwrap();
    page.step(&place);
    let after: Value = serde_json::from_str(&place.shell("skerry --json key list")).unwrap();
    assert_ne!(before["public_key"], after["public_key"], "{after}");
    assert!(place.path("/srv/skerry/after-rotation/bank.toml").exists());

    let (_, account) = block_on(open_account(&place.client(), "Customer 1"));
    place.shell("skerry --json token create --principal till --role service > old.json");
    let old: Value = serde_json::from_str(&std::fs::read_to_string(place.path("old.json")).unwrap()).unwrap();
    let works = |token: &str| {
        std::fs::write(place.path("one.token"), token).unwrap();
        place.try_shell(&format!("SKERRY_TOKEN_FILE=one.token skerry account show {account}")).done
    };
    assert!(works(old["token"].as_str().unwrap()));
    page.step(&place);
    let till = std::fs::read_to_string(place.path("till.token")).unwrap();
    assert!(works(&till), "the new one");
    assert!(!works(old["token"].as_str().unwrap()), "the old one");

    let stolen = std::fs::read_to_string(place.data().join("operator.token")).unwrap();
    page.step(&place);
    assert!(!works(&stolen));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(place.path("till.token")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o077, 0, "tokens are for their owner alone");

    certificate(&place, "new.pem", "other.key");
    std::fs::copy(place.path("other.key"), place.path("new.key")).unwrap();
    let config = place.path("/etc/skerry/skerry.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    // A pair that does not belong together is found before the bank is stopped for it.
    let mixed = text.replace(
        place.path("/etc/skerry/server.pem").to_str().unwrap(),
        place.path("new.pem").to_str().unwrap(),
    );
    std::fs::write(place.path("mixed.toml"), mixed).unwrap();
    let checked = place.try_shell("skerry config check --config mixed.toml");
    assert!(!checked.done && checked.text.contains("tls_certificate"), "{}", checked.text);
    let pinned = std::fs::read(place.path("/etc/skerry/server.pem")).unwrap();
    assert!(shows(&page.step(&place), "healthy true"));
    page.end();
    std::fs::write(place.path("pinned.pem"), pinned).unwrap();
    assert!(
        !place.try_shell("SKERRY_CERTIFICATE=pinned.pem skerry chart").done,
        "the old certificate is gone"
    );
}
