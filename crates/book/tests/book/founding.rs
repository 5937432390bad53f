//! A branch may be opened under an idempotency key like anything else; orders about its journal are the operator's.

use skerry_book::command::OpenBranch;
use skerry_book::event::{ArchiveBefore, FormatRaised};
use skerry_book::{ARCHIVE_LEVEL, Book, Command, Context, Done, Event, Rejection, Role, Seed};
use skerry_ledger::Stamp;
use skerry_money::Date;

use super::world::{World, operator, person, terms};

#[test]
fn a_branch_opens_with_a_key_and_answers_the_retry() {
    let mut book = Book::new(1, Seed::new([42; 32]));
    let terms = terms(1, 10);
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

#[test]
fn an_order_to_archive_is_an_operator_s_and_waits_for_its_level() {
    let mut world = World::new();
    let terms = terms(1, 10);
    world.command(&Command::OpenBranch(OpenBranch { terms, date: Date(20_000) })).unwrap();
    let order = Command::OrderArchive(ArchiveBefore::Position(9));
    for role in [Role::Service, Role::Auditor, Role::Customer] {
        world.actor = person("somebody", role);
        assert_eq!(world.command(&order), Err(Rejection::RoleNotAllowed), "{role:?}");
    }
    world.actor = operator("one");
    let done = world.command(&order).unwrap();
    assert!(
        matches!(done.events[..], [Event::ArchiveOrdered(order)] if order.before == ArchiveBefore::Position(9))
    );
    let at = Stamp { time_us: world.time_us, business_date: Date(20_000) };
    world.book.evolve(&Event::FormatRaised(FormatRaised { at, level: ARCHIVE_LEVEL - 1 }));
    let refused = Rejection::FormatLevel { level: ARCHIVE_LEVEL - 1, known: ARCHIVE_LEVEL };
    assert_eq!(world.command(&order), Err(refused));
}
