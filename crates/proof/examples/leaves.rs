//! What hashing costs: leaves and root of a full batch with each evidence hash, in nanoseconds a record.
//!
//! `cargo run --release --package skerry-proof --example leaves`
//!
//! Prints the best and the median of many runs. The plain API is beside it to show what the wide
//! entry point is worth; both give the same root.

use std::time::Instant;

use skerry_proof::{
    Hash, HashAlgorithm, RECORD_LENGTH, leaf_hash, leaf_hashes, leaves::record_salt, root, tree,
};

const RECORDS: usize = 8_189;
const RUNS: usize = 400;
const SALT: [u8; 32] = [7; 32];

fn main() {
    let records: Vec<u8> = (0..RECORDS * RECORD_LENGTH).map(|at| (at % 251).to_le_bytes()[0]).collect();
    for algorithm in HashAlgorithm::ALL {
        measure(algorithm, &records);
    }
}

fn measure(algorithm: HashAlgorithm, records: &[u8]) {
    let mut hashes = Vec::with_capacity(RECORDS);
    let mut leaves_ns = Vec::with_capacity(RUNS);
    let mut root_ns = Vec::with_capacity(RUNS);
    let mut made = [0; 32];
    for _ in 0..RUNS {
        hashes.clear();
        let begin = Instant::now();
        leaf_hashes(algorithm, &SALT, records, None, &mut hashes);
        let middle = Instant::now();
        made = root(algorithm, &mut hashes);
        leaves_ns.push((middle - begin).as_nanos());
        root_ns.push(middle.elapsed().as_nanos());
    }
    report(&format!("{}, leaves", algorithm.name()), leaves_ns);
    report(&format!("{}, root", algorithm.name()), root_ns);

    let mut plain_ns = Vec::new();
    for _ in 0..RUNS / 20 {
        let begin = Instant::now();
        let plain = plain_root(algorithm, records);
        plain_ns.push(begin.elapsed().as_nanos());
        assert_eq!(plain, made, "wide and plain hashing differ");
    }
    report(&format!("{}, one by one", algorithm.name()), plain_ns);
}

fn plain_root(algorithm: HashAlgorithm, records: &[u8]) -> Hash {
    let (records, _) = records.as_chunks();
    let mut level: Vec<Hash> = records
        .iter()
        .enumerate()
        .map(|(index, record)| leaf_hash(algorithm, &record_salt(&SALT, index), record, None))
        .collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => tree::record_node(algorithm, left, right),
                odd => odd[0],
            })
            .collect();
    }
    level[0]
}

fn report(what: &str, mut runs: Vec<u128>) {
    runs.sort_unstable();
    let records = u128::try_from(RECORDS).expect("a small number");
    let tenths = |ns: u128| ns * 10 / records;
    let (best, median) = (tenths(runs[0]), tenths(runs[runs.len() / 2]));
    println!(
        "{what:24} best {:3}.{} median {:3}.{} ns/record",
        best / 10,
        best % 10,
        median / 10,
        median % 10
    );
}
