//! The thread around a [`Host`]: carries its orders out and tells it what came of them.
//!
//! ```text
//! directory's answers ─┐                         ┌─► asks to the directory
//! branches that opened ├─► queue ─► this thread ─┼─► a thread for each opening, following and closing
//! branches that closed ┘                Host     └─► leases, post, holder
//! ```
//!
//! # Invariants
//!
//! - It waits for nothing but its queue: a lease that is not renewed in time is a branch lost.
//! - After every word to the host each branch's lease says what the host relies on.
//! - A branch is answered for only while it is open here; it is taken away from holder and post before it is closed, and its lease
//!   is given up only once its journal is let go.
//! - A branch's folder is one thread's at a time: a follower becomes the branch, or is closed before anything else is opened there.

mod own;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use skerry_branch::{BranchThread, Condition};
use skerry_directory::{Ask, BranchRow, BranchState, BusRow, Fault, Name, NodeRow, Sent, Told, Where};
use skerry_gateway::hosting::{HostReport, HostedBranch, Reports};
use skerry_node::Hosted;
use skerry_node::host::{Host, HostOptions, Order, Seen};
use skerry_node::lease::{Lease, boot_us};
use skerry_node::remote::Holder;
use skerry_post::Post;
use tokio::sync::oneshot;

use self::own::{End, Own, State};
use super::Process;
use crate::up::branches::{fill, follow_leased, found_if_new, open_leased, promote};

/// Branches that a node takes at most.
const CAPACITY: u16 = 1_000;
/// An opening or a closing that takes so long is told, again and again.
const LONG: Duration = Duration::from_secs(10);
/// The thread looks around at least so often.
const TICK: Duration = Duration::from_millis(50);

/// What the thread is told.
enum News {
    Heard(u64, Result<Told, Fault>),
    Opened(u16, anyhow::Result<BranchThread>),
    Followed(u16, anyhow::Result<BranchThread>),
    Released(u16),
    Closed(u16),
    Stop,
}

/// The thread.
pub(super) struct Driver {
    news: Sender<News>,
    thread: JoinHandle<()>,
    report: Arc<Mutex<HostReport>>,
    /// Ends with the thread, which ends only when it is told to.
    pub(super) died: oneshot::Receiver<()>,
}

impl Driver {
    /// Begins to host, as the node `name`; if it is `gray`, only what operators place on it.
    ///
    /// # Errors
    ///
    /// The name; the machine gives no thread.
    pub(super) fn start(
        process: Arc<Process>,
        (name, gray): (&str, bool),
        holder: Holder,
    ) -> anyhow::Result<Self> {
        let row = NodeRow {
            name: Name::new(name)?,
            address: Where::new(&format!("seat.{name}"))?,
            capacity: CAPACITY,
            version: Where::new(env!("CARGO_PKG_VERSION"))?,
            draining: false,
        };
        let mut life = [0; 8];
        fill(&mut life);
        // The directory's numbers have a sign.
        let incarnation = u64::from_le_bytes(life) >> 1;
        // Bounded by the host: it remembers so many asks, and has an opening and a closing of each branch.
        let (news, taken) = channel();
        let post = process.post.post();
        let report = Arc::new(Mutex::new(HostReport::new(name)));
        let hosting = Hosting {
            process,
            post,
            holder,
            host: Host::new(HostOptions { gray, ..HostOptions::new(row, incarnation) }),
            own: BTreeMap::new(),
            news: news.clone(),
            report: Arc::clone(&report),
            version: 0,
            misled: None,
        };
        let (life, died) = oneshot::channel();
        let work = move || {
            hosting.run(&taken);
            drop(life);
        };
        let thread = std::thread::Builder::new()
            .name("host".to_owned())
            .spawn(work)
            .context("could not start the thread that hosts branches")?;
        Ok(Self { news, thread, report, died })
    }

    /// What the node says of itself, at any time.
    pub(super) fn reports(&self) -> Reports {
        let report = Arc::clone(&self.report);
        Arc::new(move || report.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Closes all branches and gives their leases up.
    pub(super) fn stop(self) {
        // A thread that is gone hosts nothing.
        let _told = self.news.send(News::Stop);
        let _panicked = self.thread.join();
    }
}

fn now() -> Sent {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Sent { boot_us: boot_us(), wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX) }
}

struct Hosting {
    process: Arc<Process>,
    post: Post,
    holder: Holder,
    host: Host,
    own: BTreeMap<u16, Own>,
    news: Sender<News>,
    /// What others are told of all this.
    report: Arc<Mutex<HostReport>>,
    /// Of the map that post was told of.
    version: u64,
    /// The chosen bus that is none of ours, which was said once.
    misled: Option<BusRow>,
}

impl Hosting {
    fn run(mut self, taken: &Receiver<News>) {
        let mut stopping = false;
        while !stopping || !self.host.is_empty() {
            self.host.turn(now());
            self.settle();
            let due = Duration::from_micros(self.host.next_due().saturating_sub(boot_us()));
            match taken.recv_timeout(TICK.min(due)) {
                Ok(news) => {
                    stopping |= self.take(news);
                    while let Ok(news) = taken.try_recv() {
                        stopping |= self.take(news);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            self.look();
        }
        self.settle();
    }

    /// After every word to the host: leases first, then its orders.
    fn settle(&mut self) {
        let boot_us = boot_us();
        for (number, own) in &self.own {
            own.lease.holds_until(self.host.relied_until(*number, boot_us));
        }
        while let Some(order) = self.host.poll() {
            match order {
                Order::Ask(number, ask) => self.ask(number, ask),
                Order::Open(row) => self.open(row),
                Order::Close(number) => self.close(number, End::Close),
                Order::HandOver(number) => self.close(number, End::HandOver),
                Order::Follow(row) => self.follow(row),
                Order::Unfollow(number) => self.unfollow(number),
            }
        }
    }

    /// Whether it is to stop.
    fn take(&mut self, news: News) -> bool {
        match news {
            News::Heard(number, outcome) => {
                self.tell(|report| match &outcome {
                    Ok(_) => report.heard = Some(Instant::now()),
                    Err(_) => report.unanswered += 1,
                });
                self.host.heard(number, outcome, now());
                self.read();
            }
            News::Opened(number, opened) => self.opened(number, opened),
            News::Followed(number, followed) => self.followed(number, followed),
            News::Released(number) => self.host.seen(number, Seen::Released, now()),
            News::Closed(number) => self.closed(number),
            News::Stop => {
                self.host.stop();
                self.settle();
                return true;
            }
        }
        self.settle();
        false
    }

    fn ask(&self, number: u64, ask: Ask) {
        let news = self.news.clone();
        let answer = Box::new(move |told| drop(news.send(News::Heard(number, told))));
        // What was not asked is asked again in its time.
        if let Err(error) = self.process.directory.handle().ask(ask, answer) {
            tracing::warn!(%error, "the directory was not asked");
        }
    }

    /// What the map says beyond leases: who there is to pay, and over which bus.
    fn read(&mut self) {
        let map = self.host.map();
        if map.version == self.version {
            return;
        }
        self.version = map.version;
        let all: Vec<u16> = map.branches.iter().map(|entry| entry.row.number).collect();
        self.post.know(&all);
        let chosen = map.bus.as_ref().map(|row| row.name.as_str());
        if let Err(error) = self.post.choose(chosen) {
            if self.misled != map.bus {
                tracing::error!(%error, usual = self.post.usual(), "the chosen bus cannot be taken here");
                self.misled.clone_from(&map.bus);
            }
            // The usual one is always there.
            let _changed = self.post.choose(None);
        }
    }

    /// Opens a branch: from its follower, if there is one.
    fn open(&mut self, row: BranchRow) {
        let number = row.number;
        let own = self.own.entry(number).or_insert_with(|| Own {
            row: row.clone(),
            lease: Arc::new(Lease::new(boot_us)),
            state: State::Opening,
            under_way: Instant::now(),
        });
        own.under_way = Instant::now();
        let lease = Arc::clone(&own.lease);
        lease.holds_until(self.host.relied_until(number, boot_us()));
        match std::mem::replace(&mut own.state, State::Opening) {
            State::Beginning { .. } => own.state = State::Beginning { opens: true },
            State::Following(follower) => {
                self.opens(number, move |process| {
                    let branch = promote(follower)?;
                    tracing::info!(branch = number, "a follower took over");
                    founded(process, &row, branch)
                });
            }
            _ => self.opens(number, move |process| {
                let (config, folder, place) =
                    (&process.config, &process.folder, (number, row.store.as_str()));
                let branch = open_leased(config, folder, &process.stores, place, (&process.key, lease))?;
                founded(process, &row, branch)
            }),
        }
    }

    fn opens(
        &mut self,
        number: u16,
        open: impl FnOnce(&Process) -> anyhow::Result<BranchThread> + Send + 'static,
    ) {
        let begun = self.begin(format!("open-{number}"), move |process| {
            News::Opened(number, guarded("opening", || open(process)))
        });
        if let Err(error) = begun {
            self.opened(number, Err(error));
        }
    }

    /// Does something that takes time on a thread of its own; what came of it comes as news, whatever it is: a lease that nobody opens
    /// under would be renewed for ever.
    fn begin(
        &self,
        name: String,
        work: impl FnOnce(&Process) -> News + Send + 'static,
    ) -> anyhow::Result<()> {
        let (process, news) = (Arc::clone(&self.process), self.news.clone());
        let work = move || drop(news.send(work(&process)));
        std::thread::Builder::new().name(name).spawn(work).context("could not start a thread")?;
        Ok(())
    }

    /// Begins to follow a branch.
    fn follow(&mut self, row: BranchRow) {
        let (number, lease) = (row.number, Arc::new(Lease::new(boot_us)));
        if self.own.contains_key(&number) {
            // It is here in another way.
            return;
        }
        let state = State::Beginning { opens: false };
        self.own.insert(
            number,
            Own { row: row.clone(), lease: Arc::clone(&lease), state, under_way: Instant::now() },
        );
        let begun = self.begin(format!("follow-{number}"), move |process| {
            let (config, folder, place) = (&process.config, &process.folder, (number, row.store.as_str()));
            let held = (&process.key, lease as Arc<dyn skerry_branch::Leash>);
            let follow = || follow_leased(config, folder, &process.stores, place, held);
            News::Followed(number, guarded("beginning to follow", follow))
        });
        if let Err(error) = begun {
            self.followed(number, Err(error));
        }
    }

    fn followed(&mut self, number: u16, followed: anyhow::Result<BranchThread>) {
        let Some(own) = self.own.get_mut(&number) else { return };
        let (row, opens) = (own.row.clone(), matches!(own.state, State::Beginning { opens: true }));
        let unwanted = matches!(own.state, State::Unwanted);
        match followed {
            Ok(follower) if unwanted => self.end(number, follower, End::Unfollow),
            Ok(follower) => {
                own.state = State::Following(follower);
                if opens {
                    self.open(row);
                }
            }
            Err(error) => {
                tracing::warn!(branch = number, error = format!("{error:#}"), "the branch is not followed");
                self.own.remove(&number);
                if opens {
                    return self.open(row);
                }
                self.host.seen(number, if unwanted { Seen::Closed } else { Seen::Sick }, now());
            }
        }
    }

    /// Follows a branch no more.
    fn unfollow(&mut self, number: u16) {
        let Some(own) = self.own.get_mut(&number) else {
            return self.host.seen(number, Seen::Closed, now());
        };
        match std::mem::replace(&mut own.state, State::Unwanted) {
            State::Following(follower) => self.end(number, follower, End::Unfollow),
            State::Beginning { .. } => {}
            other => own.state = other,
        }
    }

    fn opened(&mut self, number: u16, opened: anyhow::Result<BranchThread>) {
        let Some(own) = self.own.get_mut(&number) else { return };
        let unwanted = matches!(own.state, State::Unwanted);
        match opened {
            Ok(branch) if unwanted => self.end(number, branch, End::Close),
            Err(error) if unwanted => {
                tracing::warn!(branch = number, error = format!("{error:#}"), "the branch did not open");
                self.tell(|report| report.failed += 1);
                self.closed(number);
            }
            Ok(branch) => {
                let handle = branch.handle();
                own.state = State::Open(branch);
                self.post.host(&handle);
                let store = self.host.map().branch(number).map(|entry| entry.row.store.to_string());
                let seat = Hosted::new(handle).signed_with(Arc::clone(&self.process.folder.signing.history));
                self.holder.add(Arc::new(seat.kept_in(store)));
                tracing::info!(branch = number, "the branch is open here");
                self.tell(|report| report.opened += 1);
                self.host.seen(number, Seen::Open, now());
            }
            Err(error) => {
                tracing::error!(branch = number, error = format!("{error:#}"), "the branch did not open");
                own.state = State::Failed;
                self.tell(|report| report.failed += 1);
                self.host.seen(number, Seen::Sick, now());
            }
        }
    }

    fn close(&mut self, number: u16, how: End) {
        let Some(own) = self.own.get_mut(&number) else {
            // Nothing of it is here.
            return self.host.seen(number, Seen::Closed, now());
        };
        match std::mem::replace(&mut own.state, State::Unwanted) {
            State::Opening | State::Beginning { .. } | State::Unwanted => {}
            State::Closing => own.state = State::Closing,
            State::Failed => self.closed(number),
            State::Following(follower) => self.end(number, follower, End::Unfollow),
            State::Open(branch) => {
                self.end(number, branch, how);
                self.tell(|report| report.closed += 1);
            }
        }
    }

    /// Takes a branch away and closes it.
    fn end(&mut self, number: u16, branch: BranchThread, how: End) {
        self.holder.remove(number);
        self.post.leave(number);
        if let Some(own) = self.own.get_mut(&number) {
            (own.state, own.under_way) = (State::Closing, Instant::now());
        }
        let (news, flush) = (self.news.clone(), self.holder.flush());
        let closing = move |_: &Process| {
            // A panic has been printed; nothing of it is left here either way.
            let _panicked = guarded("closing", || {
                match how {
                    End::Close | End::Unfollow => branch.close(),
                    End::HandOver => branch.hand_over(|| {
                        // Who waits for an answer hears it before anybody hears of the next holder.
                        flush();
                        drop(news.send(News::Released(number)));
                    }),
                }
                Ok(())
            });
            match how {
                End::Close | End::HandOver => tracing::info!(branch = number, "the branch is closed here"),
                End::Unfollow => tracing::info!(branch = number, "the branch is followed here no more"),
            }
            News::Closed(number)
        };
        if let Err(error) = self.begin(format!("close-{number}"), closing) {
            // The branch went with the closure, which ends it as well.
            tracing::error!(branch = number, error = format!("{error:#}"), "could not close it in order");
            self.closed(number);
        }
    }

    fn closed(&mut self, number: u16) {
        self.own.remove(&number);
        self.host.seen(number, Seen::Closed, now());
    }

    fn tell(&self, change: impl FnOnce(&mut HostReport)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells others how all this is.
    fn report(&self) {
        let (boot_us, host) = (boot_us(), &self.host);
        let branches = self.own.iter().map(|(number, own)| HostedBranch {
            number: *number,
            state: own.state.name(),
            lease_left_us: host.relied_until(*number, boot_us).saturating_sub(boot_us),
            behind: own.state.behind(),
        });
        let branches = branches.collect();
        self.tell(|report| {
            (report.drained, report.clock_off, report.cut_off) =
                (host.is_drained(), host.is_clock_off(), host.is_deaf());
            (report.looked, report.branches) = (Instant::now(), branches);
        });
    }

    /// Whether gateways reach this node, and its branches others: over the usual bus and over the chosen one.
    fn is_reached(&self) -> bool {
        let usual = self.post.usual();
        let chosen = self.host.map().bus.as_ref().map_or(usual, |row| row.name.as_str());
        // One that is none of ours was told when it was chosen.
        [usual, chosen].into_iter().all(|bus| self.post.is_up(bus).unwrap_or(true))
    }

    /// Tells the host how the branches are, and others what takes long: nobody else has the branch meanwhile.
    fn look(&mut self) {
        self.host.reached(self.is_reached());
        for (number, own) in &mut self.own {
            let rests = matches!(own.state, State::Open(_) | State::Following(_) | State::Failed);
            if !rests && own.under_way.elapsed() >= LONG {
                own.under_way = Instant::now();
                tracing::warn!(branch = number, "the branch has been {} for {LONG:?} more", own.state.name());
            }
            let seen = match &own.state {
                State::Following(_) => Seen::Follows(own.state.behind()),
                State::Open(branch) => match branch.handle().condition() {
                    Condition::Open => Seen::Open,
                    Condition::Sick(_) | Condition::Closed => Seen::Sick,
                },
                _ => continue,
            };
            self.host.seen(*number, seen, now());
        }
        self.settle();
        self.report();
    }
}

/// Does what may panic, which is told as a failure of `what`.
fn guarded<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(anyhow!("{what} panicked")))
}

/// A branch that has just opened, with its book opened if it had none.
fn founded(process: &Process, row: &BranchRow, branch: BranchThread) -> anyhow::Result<BranchThread> {
    if row.state == BranchState::Founding {
        // Whoever added it founds it, in their own name.
        return Ok(branch);
    }
    match found_if_new(&process.config, &process.folder, &branch.handle(), &process.key) {
        Ok(()) => Ok(branch),
        Err(error) => {
            branch.close();
            Err(error)
        }
    }
}
