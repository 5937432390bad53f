//! One contract, every implementation of the seam that lives here.

use skerry_directory::contract::{Rig, check_contract};
use skerry_directory::{Directory, Embedded, EmbeddedOptions, FaultyDirectory, Now, Weather};
use skerry_journal::{FaultStorage, RealStorage, Storage};

/// Time goes on only when nothing else does; a restart is a power cut.
struct Cut {
    disk: FaultStorage,
    seed: u64,
    now: u64,
    options: EmbeddedOptions,
    taken: bool,
}

impl Cut {
    fn new(options: EmbeddedOptions) -> Self {
        Self { disk: FaultStorage::new(1), seed: 1, now: 1_000_000, options, taken: false }
    }

    fn open(&mut self) -> Option<Embedded<FaultStorage>> {
        (!std::mem::replace(&mut self.taken, true))
            .then(|| Embedded::open(&self.disk, self.options).expect("as set up"))
    }
}

fn now(us: u64) -> Now {
    Now { wall_us: 1_767_585_600_000_000 + us, monotonic_us: us }
}

impl Rig for Cut {
    type Directory = Embedded<FaultStorage>;

    fn begin(&mut self) {
        self.seed += 1;
        self.disk = FaultStorage::new(self.seed);
        self.taken = false;
    }

    fn endpoint(&mut self) -> Option<Self::Directory> {
        self.open()
    }

    fn restart(&mut self) {
        self.disk.power_cut();
        self.taken = false;
    }

    fn now(&mut self) -> Now {
        now(self.now)
    }

    fn idle(&mut self) {
        self.now += 5_000;
    }
}

#[test]
fn embedded_under_power_cuts() {
    check_contract(&mut Cut::new(EmbeddedOptions::default()));
    // A log that is cut off after every frame.
    check_contract(&mut Cut::new(EmbeddedOptions { log_bytes_max: 4096, ..EmbeddedOptions::default() }));
}

/// The same behind a bad line: answers are lost, doubled and late, so everything is asked again.
struct Stormy(Cut);

impl Rig for Stormy {
    type Directory = FaultyDirectory<Embedded<FaultStorage>>;

    fn begin(&mut self) {
        self.0.begin();
    }

    fn endpoint(&mut self) -> Option<Self::Directory> {
        let faulty = FaultyDirectory::new(self.0.open()?, self.0.seed);
        faulty.set_weather(Weather { patience_us: 20_000, ..Weather::default() });
        Some(faulty)
    }

    fn restart(&mut self) {
        self.0.restart();
    }

    fn now(&mut self) -> Now {
        self.0.now()
    }

    fn idle(&mut self) {
        self.0.idle();
    }
}

#[test]
fn the_wrapper_adds_nothing_under_a_clear_sky() {
    check_contract(&mut Stormy(Cut::new(EmbeddedOptions::default())));
}

/// A real folder, and real time.
struct Files {
    folder: std::path::PathBuf,
    begun: std::time::Instant,
    taken: bool,
}

impl Rig for Files {
    type Directory = Box<dyn Directory>;

    fn begin(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.folder);
        self.taken = false;
    }

    fn endpoint(&mut self) -> Option<Self::Directory> {
        if std::mem::replace(&mut self.taken, true) {
            return None;
        }
        let storage = RealStorage::open(&self.folder).expect("as set up");
        Some(Box::new(
            Embedded::open(&storage.folder("directory").expect("as set up"), EmbeddedOptions::default())
                .expect("as set up"),
        ))
    }

    fn restart(&mut self) {
        self.taken = false;
    }

    fn now(&mut self) -> Now {
        now(u64::try_from(self.begun.elapsed().as_micros()).expect("as set up"))
    }

    fn idle(&mut self) {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn embedded_on_real_files() {
    let folder = std::env::temp_dir().join(format!("skerry-directory-{}", std::process::id()));
    check_contract(&mut Files { folder: folder.clone(), begun: std::time::Instant::now(), taken: false });
    std::fs::remove_dir_all(folder).expect("as set up");
}
