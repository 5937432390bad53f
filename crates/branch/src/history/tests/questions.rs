//! Any question, paged either way, is answered as the model answers it.

use proptest::prelude::*;
use skerry_journal::FaultStorage;

use super::super::*;
use super::model::*;

fn range<T: Copy + PartialOrd + std::fmt::Debug + 'static>(
    values: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Range<T>> {
    (prop::option::weighted(0.3, values.clone()), prop::option::weighted(0.3, values))
        .prop_map(|(from, to)| Range { from, to })
}

fn query() -> impl Strategy<Value = Query> {
    let who = (prop::option::weighted(0.7, 0..7_u8), prop::option::weighted(0.2, any::<bool>()), 0..3_u8);
    let what =
        (prop::option::weighted(0.3, 0..4_u16), prop::option::weighted(0.3, 0..5_u8), range(0..70_u64));
    let when = (range(0..1_200_u64), range(19_988..20_030_i32), range(19_999..20_008_i32));
    (who, what, when, any::<bool>(), 1..12_usize).prop_map(|(who, what, when, oldest, limit)| Query {
        account: who.0.map(account),
        side: who.1.map(|debit| if debit { Side::Debit } else { Side::Credit }),
        kinds: [Kinds::Posted, Kinds::Holds, Kinds::All][usize::from(who.2)],
        code: what.0,
        reference: what.1.map(reference),
        amount: what.2,
        time_us: when.0,
        business_date: Range { from: when.1.from.map(Date), to: when.1.to.map(Date) },
        value_date: Range { from: when.2.from.map(Date), to: when.2.to.map(Date) },
        order: if oldest { Order::OldestFirst } else { Order::NewestFirst },
        limit,
        cursor: None,
        at_least: 0,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn pages_hold_what_the_model_finds(
        batches in batches(),
        queries in prop::collection::vec(query(), 8),
        work: bool,
    ) {
        let bank = Bank::new(&batches);
        let (mut history, mut ids) = bank.open(&FaultStorage::new(1));
        bank.feed(&mut history, &mut ids, u64::MAX, work);
        let handle = history.handle();
        for query in queries {
            let query = Query { side: query.side.filter(|_| query.account.is_some()), ..query };
            let mut expected = bank.answers(&query);
            if query.order == Order::NewestFirst {
                expected.reverse();
            }
            prop_assert_eq!(all_pages(&handle, &query), expected, "{:?}", query);
        }
    }

    #[test]
    fn a_page_can_be_turned_back(batches in batches(), query in query()) {
        let bank = Bank::new(&batches);
        let (mut history, mut ids) = bank.open(&FaultStorage::new(1));
        bank.feed(&mut history, &mut ids, u64::MAX, true);
        let handle = history.handle();
        let first = handle.query(&query).unwrap();
        let Some(cursor) = first.next else { return Ok(()) };
        let second = handle.query(&Query { cursor: Some(cursor), ..query }).unwrap();
        prop_assert_eq!(second.previous, Some(cursor));
        let back = Query { order: query.order.reversed(), cursor: second.previous, ..query };
        let mut back = all_pages(&handle, &back);
        back.reverse();
        prop_assert_eq!(back, first.entries);
    }

    #[test]
    fn balances_as_of_any_dates_are_sums(
        batches in batches(),
        number in 0..6_u8,
        booked in prop::option::of(19_988..20_030_i32),
        value in prop::option::of(19_998..20_008_i32),
        work: bool,
    ) {
        let bank = Bank::new(&batches);
        let (mut history, mut ids) = bank.open(&FaultStorage::new(1));
        bank.feed(&mut history, &mut ids, u64::MAX, work);
        let handle = history.handle();
        let dates = AsOf { business_date: booked.map(Date), value_date: value.map(Date) };
        let entries = bank.answers(&Query::of_account(account(number)));
        let counted = entries.iter().filter(|entry| {
            dates.business_date.is_none_or(|date| entry.moved.business_date <= date)
                && dates.value_date.is_none_or(|date| entry.moved.value_date <= date)
        });
        let sum = counted.fold(Totals::default(), |sum, entry| {
            sum.plus(Totals::of(entry.side.unwrap(), entry.moved.amount))
        });
        prop_assert_eq!(handle.totals(account(number), dates, 0).unwrap(), sum);

        for by in [DayBy::Business, DayBy::Value] {
            let days = handle.days(account(number), by, (Date(19_995), Date(20_020)), 0).unwrap();
            prop_assert!(days.is_sorted_by_key(|day| day.date));
            for day in days {
                let dates = match by {
                    DayBy::Business => AsOf { business_date: Some(day.date), value_date: None },
                    DayBy::Value => AsOf { business_date: None, value_date: Some(day.date) },
                };
                prop_assert_eq!(day.closing, handle.totals(account(number), dates, 0).unwrap());
            }
        }
    }

    #[test]
    fn every_transfer_is_found_by_its_id(batches in batches(), work: bool) {
        let bank = Bank::new(&batches);
        let (mut history, mut ids) = bank.open(&FaultStorage::new(1));
        bank.feed(&mut history, &mut ids, u64::MAX, work);
        let handle = history.handle();
        let records = bank.memory.records.read().unwrap().clone();
        for (position, record) in (0_u64..).zip(&records) {
            let moved = records::Raw(record).moved(position, bank.dates[position as usize]).unwrap();
            let found = handle.transfer(id_at(position)).unwrap();
            prop_assert_eq!(found.map(|found| (found.entry.position, found.entry.moved)), moved.map(|moved| (position, moved)));
            let resolving = (0_u64..).zip(&records).filter(|(_, later)| {
                records::Raw(later).related() == Some(id_at(position))
            });
            let resolved_by = found.and_then(|found| found.resolved_by).map(|entry| entry.position);
            if moved.is_some() {
                prop_assert_eq!(resolved_by, resolving.map(|(position, _)| position).last());
            }
        }
        prop_assert_eq!(handle.transfer(id_at(1 << 40)).unwrap(), None);
    }
}

#[test]
fn a_question_for_the_future_is_told_how_far_the_history_is() {
    let bank = Bank::new(&[]);
    let (history, _ids) = bank.open(&FaultStorage::new(1));
    let answer = history.handle().query(&Query { at_least: 1, ..Query::default() });
    assert!(matches!(answer, Err(HistoryError::Behind { position: 0, wanted: 1 })));
    assert!(history.handle().wait_for(1, std::time::Duration::ZERO).is_err());
}

#[test]
fn a_cursor_is_what_it_prints() {
    for cursor in [Cursor(0), Cursor(0x1234_5678_9abc), Cursor(u64::MAX)] {
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
    for text in ["", "12", "000000000000000g", "+00000000000000a", "00000000000000000"] {
        assert_eq!(text.parse::<Cursor>(), Err(CursorError));
    }
}
