//! A directory that is slow, goes silent and loses asks and answers, from a seed: for tests and for the simulator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::seam::{Answered, Ask, Busy, Directory, Fault, Now, Ticket, Wake};

/// How often what happens, in parts per million of the asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weather {
    /// Asks that never arrive.
    pub lost_ask_ppm: u32,
    /// Answers that never come back.
    pub lost_answer_ppm: u32,
    /// Asks that arrive twice: the second time later, its answer unheard.
    pub doubled_ppm: u32,
    /// Answers come so much later, at most, in microseconds.
    pub delay_us_max: u64,
    /// After so long an ask without an answer ends as unknown.
    pub patience_us: u64,
}

/// What happened to asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Troubles {
    /// Asks that never arrived.
    pub lost_asks: u64,
    /// Asks that were carried out and whose answers were lost.
    pub lost_answers: u64,
    /// Asks that arrived twice.
    pub doubled: u64,
    /// Answers that came later than they were there.
    pub delayed: u64,
    /// Asks into the silence of a directory that cannot be reached.
    pub unreachable: u64,
}

#[derive(Debug, Default)]
struct Sky {
    weather: Weather,
    unreachable: bool,
    troubles: Troubles,
}

/// Wraps a directory. The sky is shared with whoever makes the weather.
#[derive(Debug)]
pub struct FaultyDirectory<D> {
    under: D,
    sky: Arc<Mutex<Sky>>,
    dice: u64,
    next: u64,
    /// Own tickets by those below; none are unheard.
    asked: BTreeMap<Ticket, Option<Ticket>>,
    /// When asks that will not be answered end.
    silent: Vec<(u64, Ticket)>,
    /// Asks without a moment yet, for `submit` is told no time.
    new_silent: Vec<Ticket>,
    /// Asks that arrive once more, and those among them without a moment yet.
    again: Vec<(u64, Ask)>,
    new_again: Vec<Ask>,
    late: Vec<(u64, Answered)>,
}

impl<D: Directory> FaultyDirectory<D> {
    /// Around `under`, under a clear sky.
    #[must_use]
    pub fn new(under: D, seed: u64) -> Self {
        Self {
            under,
            sky: Arc::default(),
            dice: seed,
            next: 0,
            asked: BTreeMap::new(),
            silent: Vec::new(),
            new_silent: Vec::new(),
            again: Vec::new(),
            new_again: Vec::new(),
            late: Vec::new(),
        }
    }

    /// Changes the weather.
    pub fn set_weather(&self, weather: Weather) {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner).weather = weather;
    }

    /// Cuts it off, or connects it again.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner).unreachable = unreachable;
    }

    /// What has happened so far.
    #[must_use]
    pub fn troubles(&self) -> Troubles {
        self.sky.lock().unwrap_or_else(PoisonError::into_inner).troubles
    }

    /// The directory below.
    pub const fn under(&mut self) -> &mut D {
        &mut self.under
    }

    fn roll(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(1_000_000) < u64::from(ppm)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % bound.max(1)
    }

    fn happened(&self, what: impl FnOnce(&mut Troubles)) {
        what(&mut self.sky.lock().unwrap_or_else(PoisonError::into_inner).troubles);
    }

    fn look(&self) -> (Weather, bool) {
        let sky = self.sky.lock().unwrap_or_else(PoisonError::into_inner);
        (sky.weather, sky.unreachable)
    }

    fn pass_down(&mut self, ask: Ask, own: Option<Ticket>) -> Result<(), Busy> {
        let below = self.under.submit(ask)?;
        self.asked.insert(below, own);
        Ok(())
    }

    /// The earliest of those that are due.
    fn due<T>(list: &mut Vec<(u64, T)>, now: u64) -> Option<T> {
        let at = (0..list.len()).filter(|at| list[*at].0 <= now).min_by_key(|at| list[*at].0)?;
        Some(list.remove(at).1)
    }
}

impl<D: Directory> Directory for FaultyDirectory<D> {
    fn submit(&mut self, ask: Ask) -> Result<Ticket, Busy> {
        let (weather, unreachable) = self.look();
        let own = Ticket(self.next + 1);
        if unreachable || self.roll(weather.lost_ask_ppm) {
            self.happened(|t| if unreachable { t.unreachable += 1 } else { t.lost_asks += 1 });
            self.new_silent.push(own);
        } else if self.roll(weather.lost_answer_ppm) {
            self.pass_down(ask, None)?;
            self.happened(|troubles| troubles.lost_answers += 1);
            self.new_silent.push(own);
        } else {
            let doubled = self.roll(weather.doubled_ppm).then(|| ask.clone());
            self.pass_down(ask, Some(own))?;
            self.new_again.extend(doubled);
        }
        self.next += 1;
        Ok(own)
    }

    fn poll(&mut self, now: Now) -> Option<Answered> {
        let (weather, unreachable) = self.look();
        let ends = now.monotonic_us.saturating_add(weather.patience_us);
        self.silent.extend(self.new_silent.drain(..).map(|ticket| (ends, ticket)));
        while let Some(answered) = self.under.poll(now) {
            let Some(Some(ticket)) = self.asked.remove(&answered.ticket) else { continue };
            if unreachable {
                self.happened(|troubles| troubles.lost_answers += 1);
                self.silent.push((ends, ticket));
                continue;
            }
            let delay = if weather.delay_us_max > 0 { self.below(weather.delay_us_max) } else { 0 };
            if delay > 0 {
                self.happened(|troubles| troubles.delayed += 1);
            }
            self.late.push((now.monotonic_us.saturating_add(delay), Answered { ticket, ..answered }));
        }
        for ask in std::mem::take(&mut self.new_again) {
            let later = self.below(weather.delay_us_max.saturating_mul(2));
            self.again.push((now.monotonic_us.saturating_add(later), ask));
        }
        while let Some(ask) = Self::due(&mut self.again, now.monotonic_us).filter(|_| !unreachable) {
            if self.pass_down(ask, None).is_ok() {
                self.happened(|troubles| troubles.doubled += 1);
            }
        }
        if let Some(answered) = Self::due(&mut self.late, now.monotonic_us) {
            return Some(answered);
        }
        let ticket = Self::due(&mut self.silent, now.monotonic_us)?;
        Some(Answered { ticket, outcome: Err(Fault::Unknown("no answer in time".into())) })
    }

    fn next_due(&self) -> Option<u64> {
        let late = self.late.iter().map(|(at, _)| *at);
        let silent = self.silent.iter().map(|(at, _)| *at);
        // What has no moment yet gets one at the next poll.
        let now = (!self.new_silent.is_empty() || !self.new_again.is_empty()).then_some(0);
        let again = self.again.iter().map(|(at, _)| *at);
        late.chain(silent).chain(again).chain(now).chain(self.under.next_due()).min()
    }

    fn on_event(&mut self, wake: Wake) {
        self.under.on_event(wake);
    }
}
