//! Every command there is.

use skerry_book::command::{
    ChangeCustomer, ChangeLimits, Freeze, Incarnate, OpenAccount, OpenBranch, OpenChannel, OpenCustomer,
    Propose, StopChannel, Unfreeze,
};
use skerry_book::event::{ArchiveBefore, StopReason, Terms};
use skerry_book::policy::{Matter, Matters, Policy};
use skerry_book::{Chart, Command};
use skerry_ledger::{AccountRef, Sides};
use skerry_money::{Currency, Date};

/// See the module.
pub(crate) fn all() -> Vec<Command> {
    let account = AccountRef::customer(7, 1);
    let sides = Sides { debit: true, credit: false };
    let terms = Terms {
        institution: [1; 16],
        currencies: vec![Currency::CNY, Currency::from_alpha("USD").unwrap()],
        offset_minutes: -480,
        cutoff_minutes: 1_380,
        capacity: 5_000_000,
    };
    let sealed: Box<[u8]> = vec![0xab; 300].into();
    vec![
        Command::OpenBranch(OpenBranch { terms, date: Date(-20_000) }),
        Command::Incarnate(Incarnate { incarnation: 2, lost_from: 5, lost_to: u64::MAX }),
        Command::RaiseFormat(4),
        Command::AdoptChart(Box::new(Chart::standard())),
        Command::OpenCurrency(Currency::CNY),
        Command::OpenDay(Date(1)),
        Command::GoLive(Date(2)),
        Command::OpenChannel(OpenChannel { peer: 2, incarnation: 3 }),
        Command::StopChannel(StopChannel {
            peer: 2,
            reason: StopReason::HashDiffers,
            outgoing: true,
            incoming: false,
            n: 9,
            expected: u128::MAX,
            found: 1,
        }),
        Command::ResumeChannel(2),
        Command::GoOn(OpenChannel { peer: 2, incarnation: 3 }),
        Command::SetPolicy(Policy { four_eyes: Matters::NONE.with(Matter::Erasure), retention_days: 30 }),
        Command::OrderArchive(ArchiveBefore::Day(Date(5))),
        Command::OrderArchive(ArchiveBefore::Position(5)),
        Command::OpenCustomer(OpenCustomer {
            document: [0xff; 32],
            key_ref: u64::MAX,
            line: 3,
            opened: Some(Date(4)),
            sealed: sealed.clone(),
        }),
        Command::ChangeCustomer(ChangeCustomer { customer: 1, document: Some([0x80; 32]), sealed }),
        Command::EraseCustomer(1),
        Command::OpenAccount(OpenAccount {
            customer: 1,
            product: 2,
            currency: Currency::CNY,
            opened: None,
            floor: i64::MIN,
            daily_limit: u64::MAX,
        }),
        Command::ChangeLimits(ChangeLimits { account, floor: Some(-1), daily_limit: None }),
        Command::Freeze(Freeze { account, sides, reason: 255 }),
        Command::Unfreeze(Unfreeze { account, sides }),
        Command::CloseAccount(account),
        Command::ReopenAccount(account),
        Command::Propose(Propose { request: [1; 16], matter: Matter::DeclaredLoss }),
        Command::Approve([2; 16]),
        Command::EndProposal([3; 16]),
    ]
}
