//! Making a failing life small: fewer kinds of trouble, fewer steps, as long as it still fails.

use crate::report::{Failure, Life, World, live};
use crate::tally::mishaps;

/// A smaller life than that of `failure` which fails too, and how. `run` runs one.
pub(crate) fn shrink_with(failure: Failure, run: &dyn Fn(&Life) -> Result<(), Failure>) -> Failure {
    let mut smallest = failure;
    let try_out = |life: Life, smallest: &mut Failure| -> bool {
        let failed = run(&life).err();
        let fails = failed.is_some();
        if let Some(failed) = failed {
            *smallest = failed;
        }
        fails
    };
    // What comes after the step at which it fails has no part in it.
    let steps = smallest.step.max(1);
    if steps < smallest.life.steps {
        try_out(Life { steps, ..smallest.life.clone() }, &mut smallest);
    }
    if smallest.life.world == World::Nodes {
        for mishap in mishaps() {
            let mut life = smallest.life.clone();
            life.without.push(mishap);
            try_out(life, &mut smallest);
        }
    }
    // Rest finds some things out early.
    let mut by = smallest.life.steps / 2;
    while by > 0 {
        let steps = smallest.life.steps.saturating_sub(by).max(1);
        let shorter = steps < smallest.life.steps;
        if !shorter || !try_out(Life { steps, ..smallest.life.clone() }, &mut smallest) {
            by /= 2;
        }
    }
    smallest
}

/// A smaller life than that of `failure` which fails too, and how.
#[must_use]
pub fn shrink(failure: Failure) -> Failure {
    shrink_with(failure, &|life| live(life).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails from step 37 on, unless pauses or crashes are left out.
    fn run(life: &Life) -> Result<(), Failure> {
        let needed =
            ["Pause", "Crash"].iter().all(|kind| !life.without.iter().any(|without| without == kind));
        if life.steps < 37 || !needed {
            return Ok(());
        }
        Err(Failure { life: life.clone(), step: 37 + life.steps / 10, branch: 1, what: "lost".to_owned() })
    }

    #[test]
    fn what_is_left_is_what_it_takes() {
        let begin = Life::new(World::Nodes, 5, 400);
        let failure = run(&begin).expect_err("it fails");
        let Failure { life, .. } = shrink_with(failure, &run);
        assert_eq!((life.seed, life.steps), (5, 37));
        assert_eq!(life.without.len(), mishaps().len() - 2, "{:?}", life.without);
        assert!(run(&life).is_err());
    }
}
