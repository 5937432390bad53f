//! How long decide and evolve take, without ids, journal or network around them.
//!
//! `cargo run --release --package skerry-ledger --example hot_path`
//!
//! Plain transfers between uniformly random customer accounts, one day, no chain. Prints nanoseconds per
//! transfer of the best and the median of nine rounds, for few and for many accounts, with and without
//! [`Ledger::warm`]; then the same while pages are shared with an image.

use std::hint::black_box;
use std::time::Instant;

use skerry_ledger::{
    AccountCommand, AccountRef, Ledger, Limit, NoPast, Stamp, Transfer, TransferId, UNLIMITED,
};
use skerry_money::{Currency, Date};

const TRANSFERS: usize = 1_000_000;
const BATCH: usize = 8_189;
const STAMP: Stamp = Stamp { time_us: 1_700_000_000_000_000, business_date: Date(19_675) };

fn main() {
    for accounts in [10_000, 1_000_000, 5_000_000] {
        let mut ledger = bank(accounts);
        let transfers = random_transfers(accounts);
        measure("cold", &mut ledger, &transfers, 0, accounts);
        measure("warmed by 32", &mut ledger, &transfers, 32, accounts);
        freeze(&mut ledger, &transfers, accounts);
        freeze(&mut ledger, &transfers, accounts);
    }
}

fn bank(accounts: u64) -> Ledger {
    let currency = Currency::from_alpha("CNY").expect("CNY is a currency");
    let mut ledger = Ledger::new(1, [1, 2]);
    let head = AccountRef::head(1, 2001, currency);
    run(&mut ledger, AccountCommand::OpenHead { head, opened: Date(0), limit: Limit::None });
    for serial in 1..=accounts {
        run(
            &mut ledger,
            AccountCommand::Open {
                owner: u32::try_from(serial).expect("few accounts"),
                product: 1,
                head,
                currency,
                opened: Date(0),
                limit: Limit::Debits,
                floor: i64::MIN / 2,
                daily_limit: UNLIMITED,
            },
        );
    }
    ledger
}

fn run(ledger: &mut Ledger, command: AccountCommand) {
    let event = ledger.decide_account(&command).expect("the command is in order");
    ledger.evolve_account(&event);
}

fn random_transfers(accounts: u64) -> Vec<Transfer> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..TRANSFERS)
        .map(|_| {
            let debit = random() % accounts;
            let credit = (debit + 1 + random() % (accounts - 1)) % accounts;
            let millis = u128::from(STAMP.time_us / 1000);
            Transfer {
                id: TransferId((millis << 80) | (7 << 76) | u128::from(random())),
                debit: AccountRef::customer(1, debit + 1),
                credit: AccountRef::customer(1, credit + 1),
                amount: random() % 1_000 + 1,
                ..Transfer::default()
            }
        })
        .collect()
}

fn apply(ledger: &mut Ledger, transfers: &[Transfer], warm: usize) {
    for group in transfers.chunks(if warm == 0 { BATCH } else { warm }) {
        if warm != 0 {
            black_box(ledger.warm(group));
        }
        for transfer in group {
            let moved = ledger.decide(transfer, STAMP, &NoPast).expect("nothing is refused");
            ledger.evolve(black_box(&moved));
        }
    }
}

fn measure(name: &str, ledger: &mut Ledger, transfers: &[Transfer], warm: usize, accounts: u64) {
    let mut rounds: Vec<f64> = (0..9)
        .map(|_| {
            let start = Instant::now();
            apply(ledger, transfers, warm);
            start.elapsed().as_secs_f64() * 1e9 / TRANSFERS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{accounts:>9} accounts, {name:<13} best {:6.1} ns, median {:6.1} ns", rounds[0], rounds[4]);
}

fn freeze(ledger: &mut Ledger, transfers: &[Transfer], accounts: u64) {
    let batch = &transfers[..BATCH];
    let start = Instant::now();
    apply(ledger, batch, 32);
    let before = start.elapsed();
    let start = Instant::now();
    let image = ledger.freeze();
    let mark = start.elapsed();
    let start = Instant::now();
    apply(ledger, batch, 32);
    let after = start.elapsed();
    let start = Instant::now();
    let mut bytes = 0;
    image.write(&mut |piece| bytes += piece.len());
    let write = start.elapsed();
    println!(
        "{accounts:>9} accounts, a batch of {BATCH}: {before:.1?}; mark {mark:.1?}; first batch after it {after:.1?}; \
         image of {bytes} bytes written in {write:.1?}"
    );
}
