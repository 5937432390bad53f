//! Questions to the history, receipts and checkpoints, each held against the model.

use skerry_branch::evidence::receipts::EvidenceError;
use skerry_branch::history::{
    AsOf, DayBy, Entry, HistoryError, HistoryHandle, Kinds, Order, Query, Range, Side, SideError, Totals,
};
use skerry_journal::{ReadError, Storage};
use skerry_ledger::{AccountRef, TransferId};
use skerry_money::Date;
use skerry_proof::Signer;

use crate::dice::Dice;
use crate::model::{Broken, Fact, Model};
use crate::oracle::Oracle;
use crate::site::{Site, signer, words};
use crate::tally::{State, Tally};

/// What asking came to when it gave no answer.
enum NoAnswer {
    /// The history is not there yet.
    Behind,
    /// A file or the disk failed: that must have a cause.
    Hindered(String),
    Broken(Broken),
}

/// Asks the history of a branch one question.
///
/// # Errors
///
/// In words, what it answers and what the truth is.
pub(crate) fn ask<D: Storage>(
    site: &Site<D>,
    oracle: &Oracle,
    told: u64,
    dice: &mut Dice,
    tally: &mut Tally,
) -> Result<(), Broken> {
    let Some(history) = site.branch().and_then(|branch| branch.history()) else { return Ok(()) };
    let asked = match dice.below(10) {
        0..5 => ask_page(&history, &oracle.model, dice, tally),
        5..7 => ask_totals(&history, &oracle.model, dice, tally),
        7 => ask_days(&history, &oracle.model, dice, tally),
        _ => ask_one(&history, &oracle.model, told, dice, tally),
    };
    excuse(asked, site, tally).map(|_| ())
}

/// An answer, or none for a good reason.
fn excuse<T, D: Storage>(
    asked: Result<T, NoAnswer>,
    site: &Site<D>,
    tally: &mut Tally,
) -> Result<Option<T>, Broken> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(NoAnswer::Behind) => Ok(None),
        // What is archived is read through to the archive, as long as that is there.
        Err(NoAnswer::Hindered(why)) if why.contains("archived") && !site.cold_away && !site.is_excused() => {
            Err(format!("the history does not reach the archive: {why}"))
        }
        Err(NoAnswer::Hindered(why)) if site.may_be_sick(&why) => {
            if why.contains("cold folder") {
                tally.state(State::ArchiveMissed);
            }
            Ok(None)
        }
        Err(NoAnswer::Hindered(why)) => Err(format!("the history does not answer on a sound disk: {why}")),
        Err(NoAnswer::Broken(why)) => Err(why),
    }
}

fn no_answer(error: &HistoryError, tally: &mut Tally) -> NoAnswer {
    match error {
        HistoryError::Behind { .. } => {
            tally.state(State::QueryBehind);
            return NoAnswer::Behind;
        }
        HistoryError::Side(SideError::Damaged { .. }) => tally.state(State::QueryOfADamagedFile),
        _ => {}
    }
    NoAnswer::Hindered(words(error))
}

fn any_account(model: &Model, dice: &mut Dice) -> AccountRef {
    let accounts: Vec<AccountRef> = model
        .accounts
        .values()
        .filter(|account| !account.facts.is_empty())
        .map(|account| account.reference)
        .collect();
    dice.pick(&accounts).copied().unwrap_or_default()
}

fn any_date(model: &Model, dice: &mut Dice) -> Date {
    let today = model.day.unwrap_or(Date::EPOCH);
    Date(today.0 + 3 - i32::try_from(dice.below(12)).unwrap_or(0))
}

fn any_query(model: &Model, dice: &mut Dice) -> Query {
    let mut query = Query { limit: dice.index(12) + 1, ..Query::default() };
    if dice.chance(4, 5) {
        query.account = Some(any_account(model, dice));
    }
    query.kinds = [Kinds::Posted, Kinds::Holds, Kinds::All][dice.index(3)];
    query.order = [Order::OldestFirst, Order::NewestFirst][dice.index(2)];
    query.at_least = [0, model.position][dice.index(2)];
    if dice.chance(1, 5) {
        query.side = Some([Side::Debit, Side::Credit][dice.index(2)]);
    }
    if dice.chance(1, 5) {
        query.code = u16::try_from(dice.below(4)).ok();
    }
    if let Some(fact) = dice.pick(&model.facts).filter(|_| dice_says(query.limit)) {
        query.reference = Some(fact.moved.reference);
        query.time_us = Range { from: Some(fact.moved.time_us), to: None };
    }
    if dice.chance(1, 6) {
        query.amount = Range { from: Some(dice.below(60)), to: Some(200) };
    }
    if dice.chance(1, 6) {
        query.business_date = Range { from: Some(any_date(model, dice)), to: None };
    }
    if dice.chance(1, 6) {
        query.value_date = Range { from: None, to: Some(any_date(model, dice)) };
    }
    query
}

/// One limit in six brings the filters that few transfers pass.
fn dice_says(limit: usize) -> bool {
    limit.is_multiple_of(6)
}

/// Pages of one question, one after another, and one page back.
fn ask_page(
    history: &HistoryHandle,
    model: &Model,
    dice: &mut Dice,
    tally: &mut Tally,
) -> Result<(), NoAnswer> {
    let query = any_query(model, dice);
    let mut asked = query;
    let mut found: Vec<Entry> = Vec::new();
    let mut pages = 0;
    loop {
        let page = history.query(&asked).map_err(|error| no_answer(&error, tally))?;
        let before = found.len();
        found.extend(page.entries);
        let truth = model.entries(&query, page.as_of);
        let expected = truth.get(..found.len()).unwrap_or_default();
        if found != expected || (page.next.is_none() && found.len() != truth.len()) {
            let what = format!("{query:?} finds {found:?}, should find {truth:?}");
            return Err(NoAnswer::Broken(what));
        }
        pages += 1;
        if pages == 2 && page.previous.is_some() {
            let back = Query { order: query.order.reversed(), cursor: page.previous, ..query };
            let page = history.query(&back).map_err(|error| no_answer(&error, tally))?;
            let expected: Vec<Entry> = found[..before].iter().rev().take(query.limit).copied().collect();
            if page.entries != expected {
                let what = format!("{back:?} finds {:?}, should find {expected:?}", page.entries);
                return Err(NoAnswer::Broken(what));
            }
        }
        if page.next.is_none() || pages == 6 {
            tally.state(State::QueryChecked);
            return Ok(());
        }
        asked.cursor = page.next;
    }
}

fn ask_totals(
    history: &HistoryHandle,
    model: &Model,
    dice: &mut Dice,
    tally: &mut Tally,
) -> Result<(), NoAnswer> {
    let account = any_account(model, dice);
    let date = any_date(model, dice);
    let by = match dice.below(3) {
        0 => AsOf { business_date: Some(date), value_date: None },
        1 => AsOf { business_date: None, value_date: Some(date) },
        _ => AsOf::default(),
    };
    // Asked for everything, it either has everything or says that it is behind.
    let totals = history.totals(account, by, model.position).map_err(|error| no_answer(&error, tally))?;
    let truth = model.totals(account, &by, history.position());
    if totals != truth {
        let what = format!("{by:?} of {:016x} is {totals:?}, should be {truth:?}", account.0);
        return Err(NoAnswer::Broken(what));
    }
    tally.state(State::BalanceAsOfChecked);
    Ok(())
}

fn ask_days(
    history: &HistoryHandle,
    model: &Model,
    dice: &mut Dice,
    tally: &mut Tally,
) -> Result<(), NoAnswer> {
    let account = any_account(model, dice);
    let by = [DayBy::Business, DayBy::Value][dice.index(2)];
    let from = any_date(model, dice);
    let to = Date(from.0 + 4);
    let days =
        history.days(account, by, (from, to), model.position).map_err(|error| no_answer(&error, tally))?;
    let mut closing = Totals::default();
    let mut truth = Vec::new();
    for (date, moved) in model.days(account, by, history.position()) {
        closing.debits += moved.debits;
        closing.credits += moved.credits;
        if (from..=to).contains(&date) {
            truth.push((date, moved, closing));
        }
    }
    let found: Vec<_> = days.iter().map(|day| (day.date, day.moved, day.closing)).collect();
    if found != truth {
        let what = format!("days of {:016x} by {by:?} are {found:?}, should be {truth:?}", account.0);
        return Err(NoAnswer::Broken(what));
    }
    tally.state(State::DaysChecked);
    Ok(())
}

/// A transfer by its id, with what resolved it; or an id that nobody used.
fn ask_one(
    history: &HistoryHandle,
    model: &Model,
    told: u64,
    dice: &mut Dice,
    tally: &mut Tally,
) -> Result<(), NoAnswer> {
    let known = dice.pick(&model.facts).map(|fact| fact.key);
    let id = known.filter(|_| dice.chance(7, 8)).unwrap_or(TransferId(u128::from(dice.next())));
    if id == TransferId::NONE {
        return Ok(());
    }
    look_up(history, model, told, id, tally).map(|_| ())
}

/// A look-up knows at least all that clients were told of: what became durable since then it may know or not.
fn look_up(
    history: &HistoryHandle,
    model: &Model,
    told: u64,
    id: TransferId,
    tally: &mut Tally,
) -> Result<Option<u64>, NoAnswer> {
    let found = history.transfer(id).map_err(|error| no_answer(&error, tally))?;
    let of = |fact: &Fact| (fact.position, fact.moved);
    let of_entry = |entry: Entry| (entry.position, entry.moved);
    let truth = model.fact(id).map(|fact| (of(fact), model.resolution(id).map(of)));
    let answer = found.map(|found| (of_entry(found.entry), found.resolved_by.map(of_entry)));
    let since = |place: Option<u64>| place.is_some_and(|position| position >= told);
    let (own, end) = (truth.map(|(own, _)| own.0), truth.and_then(|(_, end)| end).map(|end| end.0));
    let not_yet =
        (answer.is_none() && since(own)) || (since(end) && answer == truth.map(|(own, _)| (own, None)));
    if answer != truth && !not_yet {
        return Err(NoAnswer::Broken(format!("{:032x} is found as {answer:?}, should be {truth:?}", id.0)));
    }
    tally.state(State::LookUpChecked);
    Ok(answer.map(|((position, _), _)| position))
}

/// Where the transfer with this id is recorded, if the history answers at all.
///
/// # Errors
///
/// In words, what it answers and what the truth is.
pub(crate) fn find<D: Storage>(
    site: &Site<D>,
    oracle: &Oracle,
    told: u64,
    id: TransferId,
    tally: &mut Tally,
) -> Result<Option<Option<u64>>, Broken> {
    let Some(history) = site.branch().and_then(|branch| branch.history()) else { return Ok(None) };
    excuse(look_up(&history, &oracle.model, told, id, tally), site, tally)
}

/// Fetches a receipt and verifies it as a customer would; looks at the last checkpoint too.
///
/// # Errors
///
/// In words, what does not verify.
pub(crate) fn receipt<D: Storage>(
    site: &Site<D>,
    oracle: &Oracle,
    position: u64,
    tally: &mut Tally,
) -> Result<(), Broken> {
    let Some(branch) = site.branch().filter(|_| site.is_open()) else { return Ok(()) };
    let keys = [signer().public_key()];
    if let Some(signed) = branch.workshop().and_then(|workshop| workshop.latest()) {
        signed.verify(&keys).map_err(|error| format!("a checkpoint does not verify: {error}"))?;
        oracle.check_checkpoint(&signed.checkpoint)?;
        tally.state(State::CheckpointChecked);
    }
    let receipt = match branch.receipt(position) {
        Ok(receipt) => receipt,
        Err(EvidenceError::NotYet { .. }) => {
            tally.state(State::ReceiptTooEarly);
            return Ok(());
        }
        // Of what is archived only the archive can tell.
        Err(EvidenceError::Read(ReadError::ColdAway { .. })) if site.cold_away => {
            tally.state(State::ArchiveMissed);
            return Ok(());
        }
        Err(EvidenceError::Unproven { .. }) if site.ever_flipped || oracle.model.archived > 0 => {
            tally.state(State::ReceiptUnproven);
            return Ok(());
        }
        Err(_) if site.is_excused() => return Ok(()),
        Err(error) => return Err(format!("no receipt for {position}: {}", words(&error))),
    };
    receipt.verify(&keys).map_err(|error| format!("the receipt for {position} does not verify: {error}"))?;
    let record = usize::try_from(position).ok().and_then(|index| oracle.records.get(index));
    if record != Some(&receipt.record) {
        return Err(format!("the receipt for {position} is about another record"));
    }
    if position < oracle.model.archived {
        tally.state(State::ReadThroughToTheArchive);
    }
    tally.state(State::ReceiptVerified);
    Ok(())
}
