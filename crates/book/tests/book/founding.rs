//! A branch may be opened under an idempotency key like anything else.

use skerry_book::command::OpenBranch;
use skerry_book::event::Terms;
use skerry_book::{Book, Command, Context, Done, Event, Seed};
use skerry_ledger::Stamp;
use skerry_money::{Currency, Date};

use super::world::operator;

#[test]
fn a_branch_opens_with_a_key_and_answers_the_retry() {
    let mut book = Book::new(1, Seed::new([42; 32]));
    let terms = Terms {
        institution: [1; 16],
        currencies: vec![Currency::CNY],
        offset_minutes: 0,
        cutoff_minutes: 0,
        capacity: 10,
    };
    let open = Command::OpenBranch(OpenBranch { terms, date: Date(20_000) });
    let stamp = Stamp { time_us: 1, business_date: Date(20_000) };
    let context = Context { stamp, actor: operator("one"), key: Some(7) };
    let decision = book.decide(&open, &context).unwrap();
    assert!(
        matches!(decision.events.first(), Some(Event::BranchOpened(_))),
        "the first event of every journal"
    );
    assert!(matches!(decision.events.last(), Some(Event::DayOpened(_))), "the last event of its batch");
    decision.events.iter().for_each(|event| book.evolve(event));
    let again = book.decide(&open, &context).unwrap();
    assert!(again.repeated && again.events.is_empty());
    assert_eq!(again.done, Done::Plain);
}
