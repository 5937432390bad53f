//! Old segments in cold storage: read as before, verified offline, missed with a clear word when the folder is away.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends where it is")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Bank, Folder, SKERRY, block_on, open_account, problem, transfer, uuid7};
use serde_json::{Value, json};

/// A configuration with a cold folder, small segments and frequent snapshots.
fn configure(folder: &Folder) -> (PathBuf, PathBuf) {
    let (cold, file) = (folder.0.join("cold"), folder.0.join("bank.toml"));
    std::fs::create_dir(&cold).unwrap();
    let text = format!(
        "[bank]\nbranches = 1\n[server]\nrequest_timeout_ms = 120000\n\
         [storage]\nsegment_bytes = 1048576\ncold = {:?}\n[branch]\nsnapshot_records = 50000\n",
        cold.display()
    );
    std::fs::write(&file, text).unwrap();
    (cold, file)
}

fn skerry(arguments: &[&str]) -> Output {
    Command::new(SKERRY).args(arguments).env_remove("SKERRY_CONFIG").output().unwrap()
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn said(output: &Output) -> Value {
    assert!(output.status.success(), "{}", words(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("not JSON: {}", words(output)))
}

/// Two accounts, money, and so many payments between them that ids and history have gone to their files: what these still
/// hold in memory is made from the journal, which spares nothing before.
fn fill(bank: &Bank) -> Oldest {
    block_on(async {
        let client = bank.client();
        let (_, payer) = open_account(&client, "Customer 1").await;
        let (_, payee) = open_account(&client, "Customer 2").await;
        let wish = transfer(&uuid7(), "gl:1001", &payer, "90000.00");
        let answer: Value = client.post("/v1/transfers", &wish).await.unwrap();
        for _ in 0..275 {
            let batch: Vec<Value> = (0..2_000).map(|_| transfer(&uuid7(), &payer, &payee, "0.01")).collect();
            let done: Value = client.post("/v1/transfers/batch", &json!({"transfers": batch})).await.unwrap();
            assert_eq!(done["accepted"], 2_000, "{}", done["results"][0]);
        }
        Oldest { payer, location: answer["location"].as_str().unwrap().to_owned(), wish, answer }
    })
}

/// The first payment.
struct Oldest {
    /// Whom it paid, and who paid the others.
    payer: String,
    location: String,
    wish: Value,
    answer: Value,
}

/// The oldest entry, the first payment and its receipt; a retry of the payment is told the same.
fn look(bank: &Bank, Oldest { payer, location, wish, answer }: &Oldest) -> [Value; 3] {
    block_on(async {
        let client = bank.client();
        let again: Value = client.post("/v1/transfers", wish).await.unwrap();
        let mut repeated = answer.clone();
        repeated["repeated"] = json!(true);
        assert_eq!(again, repeated);
        let mut other = wish.clone();
        other["amount"]["amount"] = json!("90000.01");
        let other = problem(client.post::<_, Value>("/v1/transfers", &other).await);
        assert_eq!(other.code, "id_reused");
        let page: Value =
            client.get(&format!("/v1/accounts/{payer}/entries?order=asc&limit=1")).await.unwrap();
        [page["entries"][0].clone(), client.get(location).await.unwrap(), {
            let receipt: Value = client.get(&format!("{location}/receipt")).await.unwrap();
            receipt["position"].clone()
        }]
    })
}

/// What every way to an archived record says while the folder is away; what is newer goes on.
fn check_away(bank: &Bank, Oldest { payer, location, wish, .. }: &Oldest, cold: &Path) {
    block_on(async {
        let client = bank.client();
        let old = [
            format!("/v1/accounts/{payer}/entries?order=asc&limit=1"),
            location.to_owned(),
            format!("{location}/receipt"),
            "/v1/transfers".to_owned(),
        ];
        for path in old {
            let problem = problem(match path.as_str() {
                "/v1/transfers" => client.post::<_, Value>(&path, wish).await,
                _ => client.get::<Value>(&path).await,
            });
            assert_eq!((problem.status, problem.code.as_str()), (503, "archived"), "{path}");
            let detail = problem.detail.unwrap_or_default();
            assert!(
                detail.contains(&cold.display().to_string()) && detail.contains("seg"),
                "{path}: {detail}"
            );
        }
        let newest: Value = client.get(&format!("/v1/accounts/{payer}/entries?limit=1")).await.unwrap();
        assert_eq!(newest["entries"].as_array().unwrap().len(), 1);
        let paid: Value =
            client.post("/v1/transfers", &transfer(&uuid7(), "gl:1001", payer, "1.00")).await.unwrap();
        assert_eq!(paid["status"], "posted");
    });
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| {
        entries
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "seal"))
            .count()
    })
}

#[test]
fn archived_pages_are_read_verified_backed_up_missed_and_found_again() {
    let folder = Folder::new("cold");
    let (cold, config) = configure(&folder);
    let config = config.to_str().unwrap();
    let bank = Bank::start(&folder.data(), &["--config", config]);
    let first = fill(&bank);
    // A stop seals the last segment at the next start, and leaves snapshots behind. Two keys sign the bank's checkpoints.
    let data = bank.stop();
    let rotated =
        said(&skerry(&["--json", "key", "rotate", "--config", config, "--data", data.to_str().unwrap()]));
    let bank = Bank::start(&data, &["--config", config]);
    let before = look(&bank, &first);
    let refused = bank.skerry(&["--json", "branch", "archive", "1", "--before", "soon"]);
    assert!(words(&refused).contains("--before"), "{}", words(&refused));
    let archived = said(&bank.skerry(&["--json", "branch", "archive", "1", "--before", "1000000000"]));
    let start = archived["start"].as_u64().unwrap();
    assert!(start > 5_000 && archived["done"] == true, "{archived}");
    assert!(files(&cold.join("0001")) >= 1);
    assert_eq!(look(&bank, &first), before, "read through");

    let aside = folder.0.join("aside");
    std::fs::rename(&cold, &aside).unwrap();
    check_away(&bank, &first, &cold);
    let into_the_void = bank.skerry(&["--json", "branch", "archive", "1", "--before", "1000000000"]);
    assert!(
        !into_the_void.status.success() && words(&into_the_void).contains("cold"),
        "{}",
        words(&into_the_void)
    );
    let bank = Bank::start(&bank.stop(), &["--config", config]);
    check_away(&bank, &first, &cold);
    std::fs::rename(&aside, &cold).unwrap();
    assert_eq!(look(&bank, &first), before, "back without a restart");
    let data = bank.stop();

    let (branch, shelf) = (data.join("branches/0001"), cold.join("0001"));
    let keys: Vec<_> =
        rotated["keys"].as_array().unwrap().iter().map(|key| key["public_key"].as_str().unwrap()).collect();
    let verify = |journal: &Path, key: &str| {
        let (journal, shelf) = (journal.to_str().unwrap(), shelf.to_str().unwrap());
        skerry(&["--json", "verify", journal, "--key", key, "--cold", shelf])
    };
    let alone = skerry(&["--json", "verify", branch.to_str().unwrap(), "--key", keys[0]]);
    assert!(!alone.status.success() && words(&alone).contains("--cold"), "{}", words(&alone));
    let verified = said(&verify(&branch, keys[0]));
    assert!(verified["records"].as_u64().unwrap() > 300_000, "{verified}");
    assert_eq!(said(&verify(&branch, keys[1])), verified, "whichever key one knows");
    check_both_keys(&data, &branch, &keys, &verify);

    let backup = folder.0.join("backup");
    let (backup, data) = (backup.to_str().unwrap(), data.to_str().unwrap());
    said(&skerry(&["--json", "backup", "--config", config, "--data", data, backup]));
    let drill = said(&skerry(&["--json", "restore", backup]));
    assert_eq!(drill["branches"][0]["records"], verified["records"], "a backup holds what is archived too");
    let resting = said(&skerry(&[
        "--json", "branch", "archive", "1", "--before", "0", "--data", data, "--config", config,
    ]));
    assert_eq!(resting["start"], start, "nothing lies before position 0");
}

/// Checkpoints of both keys lie there: without the history of keys neither key alone is enough, and a stranger's never is.
fn check_both_keys(data: &Path, branch: &Path, keys: &[&str], verify: &dyn Fn(&Path, &str) -> Output) {
    let stranger = verify(branch, &"9".repeat(64));
    assert!(!stranger.status.success() && words(&stranger).contains("is not known"), "{}", words(&stranger));
    let (history, aside) = (data.join("signers.toml"), data.join("signers.aside"));
    std::fs::rename(&history, &aside).unwrap();
    for key in keys {
        let one = verify(branch, key);
        assert!(!one.status.success() && words(&one).contains("is not known"), "{}", words(&one));
    }
    std::fs::rename(&aside, &history).unwrap();
}
