//! Deliberate bugs, so that the simulator can show that it catches them.
//!
//! Without the feature `sabotage`, which no release has, every switch is a constant `false` and the code
//! behind it is gone.

/// Which bugs are switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sabotage {
    /// Replies leave as soon as they are decided.
    #[cfg(feature = "sabotage")]
    pub early_reply: bool,
    /// Snapshots and id runs are written before what they hold is durable.
    #[cfg(feature = "sabotage")]
    pub hasty_derived: bool,
    /// Other branches are told of payments and outcomes before these are durable.
    #[cfg(feature = "sabotage")]
    pub hasty_words: bool,
    /// A payment of another branch that comes again is paid again.
    #[cfg(feature = "sabotage")]
    pub payment_twice: bool,
    /// After a loss a channel goes on without asking what the other branch has.
    #[cfg(feature = "sabotage")]
    pub blind_resumption: bool,
}

impl Sabotage {
    /// Whether replies leave before what they could have seen is durable.
    #[must_use]
    pub const fn early_reply(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.early_reply;
        #[cfg(not(feature = "sabotage"))]
        false
    }

    /// Whether derived files are written before what they hold is durable.
    #[must_use]
    pub const fn hasty_derived(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.hasty_derived;
        #[cfg(not(feature = "sabotage"))]
        false
    }

    /// Whether other branches are told of what is not durable.
    #[must_use]
    pub const fn hasty_words(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.hasty_words;
        #[cfg(not(feature = "sabotage"))]
        false
    }

    /// Whether a payment that comes again is paid again.
    #[must_use]
    pub const fn payment_twice(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.payment_twice;
        #[cfg(not(feature = "sabotage"))]
        false
    }

    /// Whether a channel goes on after a loss without asking what the other branch has.
    #[must_use]
    pub const fn blind_resumption(self) -> bool {
        #[cfg(feature = "sabotage")]
        return self.blind_resumption;
        #[cfg(not(feature = "sabotage"))]
        false
    }
}

#[cfg(feature = "sabotage")]
pub use unsynced::Unsynced;

#[cfg(feature = "sabotage")]
mod unsynced {
    use skerry_journal::{Storage, StorageError, StorageFile};

    /// A storage whose syncs of data do nothing and say they did: the skipped sync.
    #[derive(Debug, Clone)]
    pub struct Unsynced<S>(pub S);

    /// A file of it.
    #[derive(Debug)]
    pub struct UnsyncedFile<F>(F);

    impl<S: Storage> Storage for Unsynced<S> {
        type File = UnsyncedFile<S::File>;
        type Lock = S::Lock;

        fn place(&self) -> String {
            self.0.place()
        }

        fn folder(&self, name: &str) -> Result<Self, StorageError> {
            self.0.folder(name).map(Self)
        }

        fn lock(&self) -> Result<Self::Lock, StorageError> {
            self.0.lock()
        }

        fn create(&self, name: &str) -> Result<Self::File, StorageError> {
            self.0.create(name).map(UnsyncedFile)
        }

        fn open(&self, name: &str, writable: bool) -> Result<Self::File, StorageError> {
            self.0.open(name, writable).map(UnsyncedFile)
        }

        fn list(&self) -> Result<Vec<String>, StorageError> {
            self.0.list()
        }

        fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
            self.0.rename(from, to)
        }

        fn remove(&self, name: &str) -> Result<(), StorageError> {
            self.0.remove(name)
        }

        fn sync_dir(&self) -> Result<(), StorageError> {
            self.0.sync_dir()
        }
    }

    impl<F: StorageFile> StorageFile for UnsyncedFile<F> {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
            self.0.read_at(offset, buffer)
        }

        fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
            self.0.write_at(offset, bytes)
        }

        fn sync_data(&self) -> Result<(), StorageError> {
            Ok(())
        }

        fn length(&self) -> Result<u64, StorageError> {
            self.0.length()
        }

        fn reserve(&self, length: u64) -> Result<(), StorageError> {
            self.0.reserve(length)
        }

        fn release_beyond(&self, length: u64) -> Result<(), StorageError> {
            self.0.release_beyond(length)
        }
    }
}
