//! The contract of the [`Bus`](crate::Bus) seam as one suite: every implementation must pass it.
//!
//! It is ordinary code, not a test module, so that implementations in other crates run the same suite. A [`Rig`] gives
//! endpoints and time; the suite never looks at a clock and never sleeps: it turns all endpoints until what must happen
//! has happened, and gives up after a minute of the rig's time.

mod answers;
mod dead;
mod health;
mod scene;
mod stored;
mod told;

pub use scene::{Rig, Scene};

/// Runs the whole suite.
///
/// # Panics
///
/// If the implementation breaks the contract.
pub fn check_contract<R: Rig>(rig: &mut R) {
    for (name, check) in checks::<R>() {
        eprintln!("bus contract: {name}");
        check(&mut Scene::new(rig));
    }
}

type Check<R> = fn(&mut Scene<'_, R>);

fn checks<R: Rig>() -> Vec<(&'static str, Check<R>)> {
    let mut all = answers::checks::<R>();
    all.extend(health::checks::<R>());
    all.extend(told::checks::<R>());
    all.extend(stored::checks::<R>());
    all.extend(dead::checks::<R>());
    all
}
