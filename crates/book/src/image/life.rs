//! A branch's small state as bytes, field by field in the order of [`Life`].

use alloc::sync::Arc;
use alloc::vec::Vec;

use skerry_ledger::Stamp;
use skerry_money::{Currency, Date};

use crate::actor::Principal;
use crate::book::Life;
use crate::chart::Chart;
use crate::event::{Incarnated, Terms};
use crate::policy::{Matter, Matters, PROPOSALS_MAX, Policy, Proposal, Proposals};
use crate::wire::{Reader, Short, put_count};

const CURRENCIES_MAX: usize = 512;
const LOSSES_MAX: usize = 1 << 16;

impl Life {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.position.to_le_bytes());
        out.extend_from_slice(&self.time_us.to_le_bytes());
        out.push(u8::from(self.terms.is_some()));
        if let Some(terms) = &self.terms {
            put_terms(terms, out);
        }
        out.extend_from_slice(&self.format.to_le_bytes());
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        put_count(out, self.losses.len());
        for loss in &self.losses {
            put_loss(loss, out);
        }
        self.chart.put(out);
        put_currencies(&self.currencies, out);
        for date in [self.day, self.first_day, self.first_native] {
            out.push(u8::from(date.is_some()));
            out.extend_from_slice(&date.unwrap_or_default().0.to_le_bytes());
        }
        for count in [self.days, self.erased, self.policy.four_eyes.bits(), self.policy.retention_days] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        put_count(out, self.proposals.0.len());
        for proposal in &self.proposals.0 {
            put_proposal(proposal, out);
        }
        out.extend_from_slice(&self.moved.to_le_bytes());
        out.extend_from_slice(&self.refused.to_le_bytes());
    }

    pub(super) fn take(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let life = take_life(&mut reader).ok()?;
        reader.is_empty().then_some(life)
    }
}

fn take_life(reader: &mut Reader<'_>) -> Result<Life, Short> {
    let (position, time_us) = (reader.u64()?, reader.u64()?);
    let terms = if take_bool(reader)? { Some(take_terms(reader)?) } else { None };
    let (format, incarnation) = (reader.u16()?, reader.u32()?);
    let losses = (0..reader.count(LOSSES_MAX)?).map(|_| take_loss(reader)).collect::<Result<_, _>>()?;
    let chart = Arc::new(Chart::take(reader)?);
    let currencies = take_currencies(reader)?;
    let (day, first_day, first_native) = (take_date(reader)?, take_date(reader)?, take_date(reader)?);
    let (days, erased) = (reader.u32()?, reader.u32()?);
    let four_eyes = Matters::from_bits(reader.u32()?).ok_or(Short)?;
    let policy = Policy { four_eyes, retention_days: reader.u32()? };
    // Those whose time is over leave only when the next is added.
    let most = PROPOSALS_MAX.saturating_add(1);
    let proposals = (0..reader.count(most)?).map(|_| take_proposal(reader)).collect::<Result<_, _>>()?;
    Ok(Life {
        position,
        time_us,
        terms,
        format,
        incarnation,
        losses,
        chart,
        currencies,
        day,
        days,
        first_day,
        first_native,
        policy,
        proposals: Proposals(proposals),
        erased,
        moved: reader.u64()?,
        refused: reader.u64()?,
    })
}

fn take_bool(reader: &mut Reader<'_>) -> Result<bool, Short> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Short),
    }
}

fn take_date(reader: &mut Reader<'_>) -> Result<Option<Date>, Short> {
    let (some, date) = (take_bool(reader)?, Date(reader.i32()?));
    if some || date == Date::EPOCH { Ok(some.then_some(date)) } else { Err(Short) }
}

fn put_terms(terms: &Terms, out: &mut Vec<u8>) {
    out.extend_from_slice(&terms.institution);
    put_currencies(&terms.currencies, out);
    out.extend_from_slice(&terms.offset_minutes.to_le_bytes());
    out.extend_from_slice(&terms.cutoff_minutes.to_le_bytes());
    out.extend_from_slice(&terms.capacity.to_le_bytes());
}

fn take_terms(reader: &mut Reader<'_>) -> Result<Terms, Short> {
    Ok(Terms {
        institution: reader.array()?,
        currencies: take_currencies(reader)?,
        offset_minutes: reader.array().map(i16::from_le_bytes)?,
        cutoff_minutes: reader.u16()?,
        capacity: reader.u32()?,
    })
}

fn put_currencies(currencies: &[Currency], out: &mut Vec<u8>) {
    put_count(out, currencies.len());
    for currency in currencies {
        out.extend_from_slice(&currency.number().to_le_bytes());
    }
}

fn take_currencies(reader: &mut Reader<'_>) -> Result<Vec<Currency>, Short> {
    let count = reader.count(CURRENCIES_MAX)?;
    (0..count).map(|_| Currency::from_number(reader.u16()?).ok_or(Short)).collect()
}

fn put_loss(loss: &Incarnated, out: &mut Vec<u8>) {
    out.extend_from_slice(&loss.at.time_us.to_le_bytes());
    out.extend_from_slice(&loss.at.business_date.0.to_le_bytes());
    out.extend_from_slice(&loss.incarnation.to_le_bytes());
    out.extend_from_slice(&loss.lost_from.to_le_bytes());
    out.extend_from_slice(&loss.lost_to.to_le_bytes());
}

fn take_loss(reader: &mut Reader<'_>) -> Result<Incarnated, Short> {
    let at = Stamp { time_us: reader.u64()?, business_date: Date(reader.i32()?) };
    Ok(Incarnated { at, incarnation: reader.u32()?, lost_from: reader.u64()?, lost_to: reader.u64()? })
}

fn put_proposal(proposal: &Proposal, out: &mut Vec<u8>) {
    out.extend_from_slice(&proposal.request);
    out.extend_from_slice(&proposal.matter.bit().to_le_bytes());
    out.extend_from_slice(&proposal.time_us.to_le_bytes());
    proposal.proposer.put(out);
    out.push(u8::from(proposal.approver.is_some()));
    if let Some(approver) = proposal.approver {
        approver.put(out);
    }
}

fn take_proposal(reader: &mut Reader<'_>) -> Result<Proposal, Short> {
    let request = reader.array()?;
    let matter = Matter::from_bit(reader.u32()?).ok_or(Short)?;
    let time_us = reader.u64()?;
    let proposer = Principal::take(reader)?;
    let approver = if take_bool(reader)? { Some(Principal::take(reader)?) } else { None };
    Ok(Proposal { request, matter, proposer, approver, time_us })
}
