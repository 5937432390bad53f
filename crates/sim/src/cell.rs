//! One branch with all that belongs to it: its machine, its clients, its witness, its backup.

use skerry_book::Book;
use skerry_branch::Now;
use skerry_branch::keys::{KeyError, KeyRef, Keys};
use skerry_journal::storage::{read_whole, replace_whole};
use skerry_journal::{FaultPlan, FaultStorage, JournalReader, LocalReader, Storage};

use crate::clients::Desk;
use crate::clients::commands::plain;
use crate::dice::Dice;
use crate::inquiry;
use crate::model::Broken;
use crate::oracle::Oracle;
use crate::pairs::Side;
use crate::site::{Opening, Site, seed};
use crate::tally::{State, Tally, Trouble};

/// A branch, its clients and its witness.
pub(crate) struct Cell<D: Storage> {
    pub(crate) site: Site<D>,
    pub(crate) oracle: Oracle,
    pub(crate) desk: Desk,
    /// A copy of the journal on another disk, and how far it goes.
    pub(crate) backup: Option<(FaultStorage, u64)>,
    /// The journal was put back: a rewind is to be noticed where something remembers more.
    pub(crate) put_back: bool,
    /// Trouble with the disk lasts until this step.
    pub(crate) weather_until: u64,
    /// How often the disk fails until then.
    pub(crate) plan: FaultPlan,
    /// How often it has lost what others know.
    pub(crate) lives: u32,
    /// It has, in this life, and the next is not on record yet.
    pub(crate) behind: bool,
    /// The latest of its lives.
    latest: u32,
    /// Nobody opens the branch before this step.
    pub(crate) down_until: u64,
    /// Its sickness was noted.
    is_sick: bool,
    pub(crate) tally: Tally,
}

impl<D: Storage> Cell<D> {
    pub(crate) fn new(site: Site<D>, dice: Dice) -> Self {
        let number = site.number;
        Self {
            site,
            oracle: Oracle::new(number, seed()),
            desk: Desk::new(number, dice),
            backup: None,
            put_back: false,
            weather_until: 0,
            plan: FaultPlan::default(),
            down_until: 0,
            lives: 0,
            behind: false,
            latest: 0,
            is_sick: false,
            tally: Tally::default(),
        }
    }

    /// How it is compared with another branch.
    pub(crate) fn side(&self) -> Side<'_> {
        let open = self.site.is_open() && !self.site.disk.is_dark();
        let end = self.site.reader().filter(|_| open).map(|reader| reader.head().position.0);
        Side {
            number: self.site.number,
            oracle: &self.oracle,
            lives: self.lives,
            is_lost: self.put_back || self.behind,
            is_whole: end == Some(self.oracle.position()),
            book: self.site.branch().filter(|_| open && !self.put_back).and_then(|branch| branch.book()),
        }
    }

    /// Whether it is open and its book has not even a first day.
    pub(crate) fn is_unfounded(&self) -> bool {
        self.site.branch().and_then(|branch| branch.book()).is_some_and(|book| book.day().is_none())
    }

    /// After anything has happened: what has become durable is walked, what was answered is heard.
    pub(crate) fn observe(&mut self) -> Result<(), Broken> {
        if self.site.disk.is_dark() {
            // The machine is off: no reply leaves it any more.
            return Ok(());
        }
        self.walk()?;
        self.behind = self.oracle.is_behind(self.behind, &mut self.latest);
        let taken_back = std::mem::take(&mut self.oracle.model.taken_back);
        if !taken_back.is_empty() {
            self.desk.forget_withdrawn(&taken_back);
        }
        self.follow_archiving()?;
        self.desk.hear(&mut self.tally)?;
        self.desk.confirm(&self.oracle.model)
    }

    /// The witness reads with steady hands.
    fn walk(&mut self) -> Result<(), Broken> {
        let Some(reader) = self.site.reader() else { return Ok(()) };
        self.site.disk.set_plan(FaultPlan::default());
        let walked = self.oracle.advance(&reader, &self.desk.asked);
        self.site.disk.set_plan(self.plan);
        walked
    }

    /// Power gone, process dead, or sick: what must be done before it can be opened again.
    pub(crate) fn after_the_fall(&mut self) -> Result<(), Broken> {
        if self.site.disk.is_dark() {
            self.cut_power();
        }
        if let Some(why) = self.site.sickness().map(str::to_owned) {
            if !std::mem::replace(&mut self.is_sick, true) {
                self.tally.state(State::Sick);
            }
            if why.starts_with("panicked") {
                return Err(format!("stops: {why}"));
            }
            if why.starts_with("journal_rewound") && self.behind {
                self.tally.state(State::LossShown);
            } else if !self.site.may_be_sick(&why) {
                return Err(format!("stops on a sound disk: {why}"));
            }
        }
        Ok(())
    }

    pub(crate) fn cut_power(&mut self) {
        self.site.cut_power();
        self.calm();
        self.desk.hang_up(&mut self.tally);
    }

    pub(crate) fn kill(&mut self) {
        self.site.kill();
        self.desk.hang_up(&mut self.tally);
    }

    /// Closes the branch in good order and hears its last replies. `false` if a fault came in between.
    pub(crate) fn close(&mut self, world: Now) -> Result<bool, Broken> {
        if !self.site.drain(world)? {
            return Ok(false);
        }
        self.observe()?;
        self.site.close(world);
        self.observe()?;
        if self.site.disk.is_dark() {
            return Ok(false);
        }
        if self.desk.open_tickets() > 0 {
            return Err(format!("closes with {} requests unanswered", self.desk.open_tickets()));
        }
        self.site.kill();
        Ok(true)
    }

    /// No more trouble with the disk.
    pub(crate) fn calm(&mut self) {
        self.site.calm();
        self.plan = FaultPlan::default();
        self.weather_until = 0;
    }

    /// No more trouble at all with the machine.
    pub(crate) fn steady(&mut self) {
        self.calm();
        self.site.steady();
    }

    /// Opens the branch and holds it against everything that is known. `false` if it stays shut for a good reason.
    pub(crate) fn open(&mut self, world: Now, verify_sealed: bool) -> Result<bool, Broken> {
        // Whoever mends what was damaged brings the archive, from which it is made again.
        if self.site.cold_away && self.site.ever_flipped && !self.site.disk.is_dark() {
            self.site.take_cold_away(false);
            self.tally.trouble(Trouble::ColdBack);
        }
        let again = self.site.branch().is_some();
        match self.site.open(world, verify_sealed)? {
            Opening::Excused => {
                self.tally.state(State::OpeningFailed);
                Ok(false)
            }
            Opening::Damaged(why) => Err(format!("finds damage that nobody did: {why}")),
            Opening::Rewound if self.put_back || self.behind => {
                self.tally.state(State::Rewound);
                self.declare_loss(world)
            }
            Opening::Rewound => Err("says that its journal was rewound, but nobody did".to_owned()),
            Opening::Open(found) => {
                self.tally.state(if again { State::OpenedAgainAfterAFault } else { State::Opened });
                self.tally.states(State::OpenedFromASnapshot, u64::from(found.snapshot > 0));
                self.tally.states(State::OpenedWithATornTail, u64::from(found.torn.is_some()));
                if self.put_back {
                    self.tally.state(State::LossUnnoticed);
                }
                self.check_opened()
            }
        }
    }

    pub(crate) fn declare_loss(&mut self, world: Now) -> Result<bool, Broken> {
        match self.site.declare_loss(world)? {
            Opening::Open(_) => {
                self.tally.state(State::LossDeclared);
                self.check_opened()
            }
            _ => Ok(false),
        }
    }

    fn check_opened(&mut self) -> Result<bool, Broken> {
        self.is_sick = false;
        let Some(reader) = self.site.reader() else { return Ok(false) };
        self.site.disk.set_plan(FaultPlan::default());
        let lossy = std::mem::take(&mut self.put_back);
        if lossy {
            self.oracle.rewind(&reader, &self.desk.asked)?;
            self.lives += 1;
            self.behind = true;
            let lost = self.desk.forget_lost(&self.oracle.model);
            self.tally.states(State::LostAcknowledged, lost);
        } else {
            self.oracle.recheck(&reader, &self.desk.asked)?;
        }
        let checked = self.check_state(lossy || self.behind);
        self.site.disk.set_plan(self.plan);
        checked?;
        self.desk.hear(&mut self.tally)?;
        self.desk.check_kept(&self.oracle.model)?;
        Ok(true)
    }

    /// Right after opening the book stands where the journal ends, but for a loss that is being journaled.
    fn check_state(&self, lossy: bool) -> Result<(), Broken> {
        let book: &Book =
            self.site.branch().and_then(|branch| branch.book()).ok_or("an open branch has a book")?;
        if !lossy {
            self.oracle.check_book(book)?;
        }
        self.check_keys()
    }

    /// Erased customers cannot be read any more, the others can.
    fn check_keys(&self) -> Result<(), Broken> {
        let Some(keys) = &self.site.keys else { return Ok(()) };
        for customer in &self.oracle.model.customers {
            let unsealed = keys.unseal(KeyRef(customer.key_ref), &customer.sealed);
            match unsealed {
                Err(KeyError::Erased) => {}
                _ if customer.erased => {
                    return Err(format!("key {} of an erased customer lives", customer.key_ref));
                }
                Ok(text) if text == plain(customer.key_ref).as_bytes() => {}
                other => {
                    return Err(format!("customer with key {} is unsealed as {other:?}", customer.key_ref));
                }
            }
        }
        Ok(())
    }

    /// Copies the journal to another disk.
    pub(crate) fn back_up(&mut self, dice: &mut Dice) -> Result<(), Broken> {
        let Some(reader) = self.site.reader().filter(|_| self.site.is_open()) else { return Ok(()) };
        let troubled = self.plan != FaultPlan::default() || self.site.is_excused();
        if troubled || self.oracle.model.archived > 0 {
            return Ok(());
        }
        let disk = FaultStorage::new(dice.next());
        let target = self.site.journal_folder(&disk);
        let head = skerry_journal::export(&reader, &target)
            .map_err(|error| format!("cannot be exported: {error}"))?;
        self.backup = Some((disk, head.position.0));
        Ok(())
    }

    /// What an archiving has moved so far, and how it ended.
    fn follow_archiving(&mut self) -> Result<(), Broken> {
        let start = self.site.reader().map_or(0, |reader| reader.start().0);
        if start > self.oracle.model.archived {
            self.tally.state(State::Archived);
            self.oracle.model.archived = start;
            self.desk.archived = start;
            // A backup of before would have to bring the whole journal back; of after, no journal that begins at 0.
            self.backup = None;
        }
        let Some(start) = self.site.archived()?.filter(|start| *start > 0 && !self.site.cold_away) else {
            return Ok(());
        };
        if self.site.ever_flipped || self.plan != FaultPlan::default() {
            return Ok(());
        }
        let reader = LocalReader::open_existing(&self.site.cold_folder(), self.site.number)
            .map_err(|error| format!("the archive does not open: {error}"))?;
        if reader.head().position.0 != start {
            return Err(format!(
                "the archive ends at {}, the journal begins at {start}",
                reader.head().position
            ));
        }
        self.oracle.compare(&reader)
    }

    /// Puts the backup in the place of the journal: on this machine, or on an empty one with the keys of this.
    pub(crate) fn restore(&mut self, onto_empty: bool, dice: &mut Dice) -> Result<bool, Broken> {
        let Some((backup, _)) = &self.backup else { return Ok(false) };
        let copied =
            |result: Result<(), skerry_journal::StorageError>| result.map_err(|error| error.to_string());
        let from = self.site.journal_folder(backup);
        self.kill();
        self.steady();
        if onto_empty {
            let disk = FaultStorage::new(dice.next());
            copied(copy_all(&self.site.disk, &disk, "keys"))?;
            self.tally.disk(&self.site.disk.counts());
            self.site.move_to(disk);
        }
        let to = self.site.journal_folder(&self.site.disk);
        for name in to.list().map_err(|error| error.to_string())? {
            copied(to.remove(&name))?;
        }
        for name in from.list().map_err(|error| error.to_string())? {
            let bytes = read_whole(&from, &name).map_err(|error| error.to_string())?;
            copied(replace_whole(&to, &name, &bytes))?;
        }
        self.put_back = true;
        Ok(true)
    }

    /// Fetches a receipt for a random record.
    pub(crate) fn check_receipt(&mut self, position: u64) -> Result<(), Broken> {
        inquiry::receipt(&self.site, &self.oracle, position, &mut self.tally)
    }
}

fn copy_all(
    from: &FaultStorage,
    to: &FaultStorage,
    folder: &str,
) -> Result<(), skerry_journal::StorageError> {
    let (from, to) = (from.folder(folder)?, to.folder(folder)?);
    for name in from.list()? {
        replace_whole(&to, &name, &read_whole(&from, &name)?)?;
    }
    Ok(())
}
