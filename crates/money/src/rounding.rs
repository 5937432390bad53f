//! Division, always together with how it rounds.

/// What becomes of the part that is less than one unit. For amounts, which are never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// To the nearest; exactly half goes up.
    HalfUp,
    /// To the nearest; exactly half goes to the even neighbour ("bankers' rounding").
    HalfEven,
    /// Cut off.
    Down,
    /// To the next unit, however little is over.
    Up,
}

impl Rounding {
    /// `numerator / denominator` in whole units; `None` if the denominator is zero.
    #[must_use]
    pub fn divide(self, numerator: u128, denominator: u128) -> Option<u128> {
        let quotient = numerator.checked_div(denominator)?;
        let over = numerator.checked_rem(denominator)?;
        // Compares `over` with half of the denominator without doubling, which could overflow.
        let half = over.cmp(&denominator.checked_sub(over)?);
        let up = match self {
            Self::Down => false,
            Self::Up => over > 0,
            Self::HalfUp => half.is_ge(),
            Self::HalfEven => half.is_gt() || (half.is_eq() && quotient & 1 == 1),
        };
        quotient.checked_add(u128::from(up))
    }
}

#[cfg(test)]
mod tests {
    use super::Rounding::{Down, HalfEven, HalfUp, Up};

    #[test]
    fn the_table() {
        //            half up, half even, down, up
        for (numerator, expected) in [
            (0, [0, 0, 0, 0]),
            (1, [0, 0, 0, 1]),
            (2, [1, 0, 0, 1]),
            (3, [1, 1, 0, 1]),
            (4, [1, 1, 1, 1]),
            (5, [1, 1, 1, 2]),
            (6, [2, 2, 1, 2]),
            (10, [3, 2, 2, 3]),
        ] {
            let actual = [HalfUp, HalfEven, Down, Up].map(|rounding| rounding.divide(numerator, 4).unwrap());
            assert_eq!(actual, expected, "{numerator} / 4");
        }
        assert_eq!(HalfUp.divide(1, 0), None);
        assert_eq!(HalfUp.divide(u128::MAX, u128::MAX), Some(1));
        assert_eq!(Up.divide(u128::MAX - 1, u128::MAX), Some(1));
    }
}
