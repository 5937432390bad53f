//! Open files: as many as the connections need that the configuration allows, as far as the system lets us.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files of the bank's own: segments, side files, keys, the listener.
const OWN: u64 = 1_024;

/// Raises this process's soft limit of open files for `connections`; a hard limit below that is said aloud, and met later by
/// connections that are not accepted.
pub(super) fn raise(connections: u32) {
    let limit = getrlimit(Resource::Nofile);
    let needed = u64::from(connections).saturating_add(OWN);
    let Some(reachable) = reachable(limit, needed) else { return };
    let next = Rlimit { current: Some(reachable), maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, next) {
        tracing::warn!(%error, needed, "the limit of open files could not be raised");
    } else if reachable < needed {
        tracing::warn!(
            limit = reachable,
            needed,
            "the hard limit of open files is less than server.connections_max needs: raise it, or lower that"
        );
    }
}

/// The soft limit to set; `None` if there is enough.
fn reachable(limit: Rlimit, needed: u64) -> Option<u64> {
    let now = limit.current.filter(|now| *now < needed)?;
    Some(limit.maximum.map_or(needed, |hard| hard.min(needed)).max(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_rises_to_what_is_needed_and_never_over_the_hard_one() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(reachable(limit(Some(1_024), Some(1 << 20)), 13_024), Some(13_024));
        assert_eq!(reachable(limit(Some(1_024), Some(4_096)), 13_024), Some(4_096));
        assert_eq!(reachable(limit(Some(1_024), None), 13_024), Some(13_024));
        assert_eq!(reachable(limit(Some(13_024), Some(1 << 20)), 13_024), None);
        assert_eq!(reachable(limit(None, None), 13_024), None);
    }
}
