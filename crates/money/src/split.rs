//! Splitting an amount by weights, to the last unit.

use alloc::vec::Vec;

/// Splits `total` by `weights`: each part is its exact share rounded down, and the units left over
/// go one each to the largest remainders (Hamilton's method); among equal ones to the earlier.
///
/// The parts are in the order of the weights and add up to `total`. `None` if all weights are zero.
#[must_use]
pub fn split(total: u64, weights: &[u64]) -> Option<Vec<u64>> {
    let sum = weights.iter().try_fold(0_u128, |sum, &weight| sum.checked_add(u128::from(weight)))?;
    let mut parts = Vec::with_capacity(weights.len());
    let mut remainders = Vec::with_capacity(weights.len());
    let mut left = total;
    for (index, &weight) in weights.iter().enumerate() {
        let share = u128::from(total).checked_mul(u128::from(weight))?;
        let part = u64::try_from(share.checked_div(sum)?).ok()?;
        parts.push(part);
        remainders.push((share.checked_rem(sum)?, index));
        left = left.checked_sub(part)?;
    }
    // Fewer units are left than there are non-zero remainders: each is less than one unit.
    remainders.sort_by_key(|&(remainder, _)| core::cmp::Reverse(remainder)); // stable: ties by order
    for &(_, index) in remainders.iter().take(usize::try_from(left).ok()?) {
        let part = parts.get_mut(index)?;
        *part = part.checked_add(1)?;
    }
    (sum > 0).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn units_left_over_go_to_the_largest_remainders() {
        assert_eq!(split(100, &[1, 1, 1]), Some(vec![34, 33, 33]));
        assert_eq!(split(101, &[3_000, 7_000]), Some(vec![30, 71]));
        assert_eq!(split(1, &[1, 2]), Some(vec![0, 1]));
        assert_eq!(split(5, &[0, 1, 0]), Some(vec![0, 5, 0]));
        assert_eq!(split(0, &[1, 1]), Some(vec![0, 0]));
        assert_eq!(split(u64::MAX, &[u64::MAX, u64::MAX]), Some(vec![u64::MAX / 2 + 1, u64::MAX / 2]));
    }

    #[test]
    fn nobody_gets_something_of_nothing() {
        assert_eq!(split(7, &[]), None);
        assert_eq!(split(7, &[0, 0]), None);
    }
}
