//! The contract of customers' keys on real servers, two owners at once, and what an erasure leaves behind.

#![expect(clippy::unwrap_used, reason = "a helper that fails, fails its test")]

mod common;

use std::sync::atomic::{AtomicU32, Ordering};

use common::cable::Cable;
use common::{Group, chain};
use skerry_journal::FaultStorage;
use skerry_keys::contract::{Place, check_contract, check_two_owners, numbers};
use skerry_keys::{KeyError, KeyRef, Keys, SlotKeys};
use skerry_postgres::{Durability, Pool, PostgresKeys, Server, ServerOptions, copy_keys, erased_keys};

const BANK: &str = "bank of tests";

struct Database {
    options: ServerOptions,
}

impl Database {
    fn pool(&self) -> Pool {
        Pool::new(Server::new(self.options.clone()).unwrap(), 4)
    }
}

impl Place for Database {
    type Keys = PostgresKeys;

    fn open(&self, master: u8) -> Result<PostgresKeys, KeyError> {
        static SEED: AtomicU32 = AtomicU32::new(1);
        let entropy = numbers(SEED.fetch_add(1, Ordering::Relaxed).into());
        Ok(PostgresKeys::new(self.pool(), 7, BANK, [master; 32], entropy))
    }
}

fn fresh(group: &Group, durability: Durability) -> Database {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("keys{}", NEXT.fetch_add(1, Ordering::Relaxed));
    group.primary().sql(&format!("create database {name}"));
    Database { options: ServerOptions { url: group.url(&name), ..group.options(durability) } }
}

fn one(group: &Group) -> Database {
    Database { options: group.options(Durability::Single) }
}

#[test]
fn one_server() {
    let group = Group::single();
    check_contract(|| fresh(&group, Durability::Single));
    check_two_owners(&fresh(&group, Durability::Single));
}

#[test]
fn a_primary_with_synchronous_standbys() {
    let group = Group::replicated();
    check_contract(|| fresh(&group, Durability::Replicated));

    // Commits that wait for nobody any more are none.
    let database = Database { options: group.options(Durability::Replicated) };
    let keys = Place::open(&database, 3).unwrap();
    let made = keys.create(2).unwrap();
    group.primary().configure("synchronous_standby_names = ''\n");
    group.primary().until("show synchronous_standby_names", "");
    for refused in [keys.create(1).map(drop), keys.erase(made[0])] {
        let refused = chain(&refused.unwrap_err());
        assert!(
            refused.contains("synchronous_standby_names") || refused.contains("have changed"),
            "{refused}"
        );
    }
    assert_eq!(group.primary().sql("select count(wrapped) from skerry.customer_key"), "3");
}

#[test]
fn keys_of_another_bank_or_another_branch_are_not_these() {
    let group = Group::single();
    let database = one(&group);
    Place::open(&database, 3).unwrap().create(1).unwrap();
    let other = PostgresKeys::new(database.pool(), 7, "another bank", [3; 32], numbers(1));
    let refused = chain(&other.create(1).unwrap_err());
    assert!(refused.contains("each bank needs a database of its own"), "{refused}");
    let other = PostgresKeys::new(database.pool(), 8, BANK, [4; 32], numbers(1));
    assert_eq!(other.create(1).unwrap(), [KeyRef(1)], "each branch counts by itself");
}

#[test]
fn a_new_customer_costs_a_part_of_a_statement() {
    let group = Group::with("log_statement = 'all'\nlog_min_duration_statement = -1");
    let database = one(&group);
    let keys = Place::open(&database, 3).unwrap();
    keys.create(1).unwrap();
    let statements = || group.primary().log().matches("customer_key").count();
    let before = statements();
    let made = keys.create(32).unwrap();
    for key in &made {
        keys.seal(*key, b"Customer 1").unwrap();
    }
    group.primary().sql("select 'all of it is in the log'");
    assert_eq!(statements() - before, 1, "{}", group.primary().log());
    let sealed = keys.seal(made[0], b"Customer 1").unwrap();
    keys.unseal(made[0], &sealed).unwrap();
    assert_eq!(statements() - before, 3, "what is there is read each time");
}

#[test]
fn an_answer_that_is_lost_gives_no_reference_out() {
    let group = Group::single();
    let cable = Cable::to(group.primary().port);
    let url = format!("postgres://skerry@127.0.0.1:{}/postgres", cable.port);
    let keys =
        Place::open(&Database { options: ServerOptions { url, ..group.options(Durability::Single) } }, 3);
    let keys = keys.unwrap();
    assert_eq!(keys.create(2).unwrap(), [KeyRef(1), KeyRef(2)]);
    cable.lose_answers();
    let lost = keys.create(3).unwrap_err();
    assert!(matches!(&lost, KeyError::Away(_)), "{lost:?}");
    cable.mend();
    assert_eq!(keys.create(1).unwrap(), [KeyRef(6)], "the numbers are burnt: the server has keys under them");
}

/// All bytes of the table's file, once the server has written it.
fn table(group: &Group) -> Vec<u8> {
    let primary = group.primary();
    primary.sql("checkpoint");
    let path = primary.sql("select pg_relation_filepath('skerry.customer_key')");
    std::fs::read(group.folder.0.join("n0").join(path)).unwrap()
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn an_erased_key_is_in_no_row_and_after_a_full_vacuum_in_no_page() {
    let group = Group::single();
    let database = one(&group);
    let keys = Place::open(&database, 3).unwrap();
    let made = keys.create(3).unwrap();
    let hexadecimal =
        group.primary().sql("select encode(wrapped, 'hex') from skerry.customer_key where key = 2");
    let wrapped: Vec<u8> = (0..hexadecimal.len() / 2)
        .map(|at| u8::from_str_radix(&hexadecimal[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    assert_eq!(wrapped.len(), 72);
    assert!(holds(&table(&group), &wrapped));
    keys.erase(made[1]).unwrap();
    let left = group.primary().sql("select key, wrapped is null from skerry.customer_key order by key");
    assert_eq!(left, "0|f\n1|f\n2|t\n3|f");
    group.primary().sql("vacuum full skerry.customer_key");
    assert!(!holds(&table(&group), &wrapped), "as docs/postgres.md says");
    assert_eq!(keys.erased().unwrap(), [made[1]]);
}

#[test]
fn a_copy_has_the_same_keys_in_files() {
    let group = Group::single();
    let database = one(&group);
    let keys = Place::open(&database, 3).unwrap();
    let made = keys.create(3).unwrap();
    let sealed = keys.seal(made[2], b"Customer 3").unwrap();
    keys.erase(made[0]).unwrap();
    keys.erase(KeyRef(8)).unwrap();
    let target = FaultStorage::new(1);
    copy_keys(&database.pool(), 7, &target).unwrap();
    let copy = SlotKeys::open(&target, [3; 32], numbers(9)).unwrap();
    assert_eq!(copy.unseal(made[2], &sealed).unwrap(), b"Customer 3");
    assert_eq!(copy.erased().unwrap(), [made[0], KeyRef(8)]);
    assert_eq!(copy.erased().unwrap(), erased_keys(&database.pool(), 7).unwrap());
    assert!(matches!(copy_keys(&database.pool(), 9, &FaultStorage::new(1)), Err(KeyError::Format)));
}
