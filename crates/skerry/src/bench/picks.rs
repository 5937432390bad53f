//! Which accounts a transfer touches: all alike, or a few far more than the rest.

use std::str::FromStr;

use anyhow::{Context, ensure};

use super::random::{Random, scale};

/// How the load is spread over the accounts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Skew {
    /// Every account as often as any other.
    Uniform,
    /// The account of rank r as often as r to the minus this exponent.
    Zipf(f64),
}

impl FromStr for Skew {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text.split_once('=') {
            None if text == "uniform" => Ok(Self::Uniform),
            None if text == "zipf" => Ok(Self::Zipf(1.0)),
            Some(("zipf", exponent)) => {
                let exponent: f64 = exponent.parse().context("the exponent of zipf=… is a number")?;
                ensure!(
                    exponent > 0.0 && exponent <= 10.0,
                    "the exponent of zipf=… lies above 0 and up to 10"
                );
                Ok(Self::Zipf(exponent))
            }
            _ => anyhow::bail!("skew is uniform, zipf or zipf=EXPONENT"),
        }
    }
}

impl std::fmt::Display for Skew {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uniform => formatter.write_str("uniform"),
            Self::Zipf(exponent) => write!(formatter, "zipf={exponent}"),
        }
    }
}

/// Draws pairs of different indexes below a count.
#[derive(Debug, Clone)]
pub(super) enum Picks {
    Uniform(u32),
    /// Walker's alias method as Vose (1991) builds it: one draw, one comparison, whatever the weights.
    Alias(Box<[Alias]>),
}

/// One column: itself below `threshold` (of 2³²), else `other`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alias {
    threshold: u32,
    other: u32,
}

impl Picks {
    /// Draws below `count` as `skew` says. Ranks are dealt to indexes by `random`, so that hot accounts are not
    /// neighbours.
    ///
    /// # Errors
    ///
    /// Fewer than two: a transfer has two sides.
    pub(super) fn new(count: u32, skew: Skew, random: &mut Random) -> anyhow::Result<Self> {
        ensure!(count >= 2, "a transfer needs two accounts in its branch");
        Ok(match skew {
            Skew::Uniform => Self::Uniform(count),
            Skew::Zipf(exponent) => Self::Alias(alias(&shuffled_zipf(count, exponent, random))),
        })
    }

    /// Two different indexes.
    #[inline]
    pub(super) fn pair(&self, random: &mut Random) -> (u32, u32) {
        match self {
            Self::Uniform(count) => {
                let bits = random.next();
                let one = scale(bits >> 32, *count);
                let other = scale(bits, *count - 1);
                (one, other + u32::from(other >= one))
            }
            Self::Alias(columns) => {
                let one = draw(columns, random);
                loop {
                    let other = draw(columns, random);
                    if other != one {
                        return (one, other);
                    }
                }
            }
        }
    }
}

#[inline]
fn draw(columns: &[Alias], random: &mut Random) -> u32 {
    let bits = random.next();
    let column = scale(bits >> 32, columns.len() as u32);
    let Alias { threshold, other } = columns[column as usize];
    if (bits as u32) < threshold { column } else { other }
}

fn shuffled_zipf(count: u32, exponent: f64, random: &mut Random) -> Vec<f64> {
    let mut weights: Vec<f64> = (1..=count).map(|rank| f64::from(rank).powf(-exponent)).collect();
    for at in (1..count).rev() {
        weights.swap(at as usize, random.below(at + 1) as usize);
    }
    weights
}

fn alias(weights: &[f64]) -> Box<[Alias]> {
    let mean = weights.iter().sum::<f64>() / weights.len() as f64;
    let mut shares: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
    let mut columns: Box<[Alias]> =
        (0..weights.len()).map(|at| Alias { threshold: u32::MAX, other: at as u32 }).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|at| shares[*at] < 1.0);
    while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
        columns[poor] = Alias { threshold: (shares[poor] * 4_294_967_296.0) as u32, other: rich as u32 };
        shares[rich] -= 1.0 - shares[poor];
        if shares[rich] < 1.0 {
            large.pop();
            small.push(rich);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skews_are_read_and_written_alike() {
        for (text, skew) in
            [("uniform", Skew::Uniform), ("zipf=1", Skew::Zipf(1.0)), ("zipf=0.7", Skew::Zipf(0.7))]
        {
            assert_eq!(text.parse::<Skew>().unwrap(), skew);
            assert_eq!(skew.to_string(), text);
        }
        assert_eq!("zipf".parse::<Skew>().unwrap(), Skew::Zipf(1.0));
        for wrong in ["", "zipf=", "zipf=-1", "zipf=nan", "flat"] {
            assert!(wrong.parse::<Skew>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn pairs_are_two_different_accounts_and_uniform_is_uniform() {
        let mut random = Random::new(3);
        let picks = Picks::new(5, Skew::Uniform, &mut random).unwrap();
        let mut pairs = [[0; 5]; 5];
        for _ in 0..200_000 {
            let (one, other) = picks.pair(&mut random);
            pairs[one as usize][other as usize] += 1;
        }
        for (one, row) in pairs.iter().enumerate() {
            for (other, count) in row.iter().enumerate() {
                if one == other {
                    assert_eq!(*count, 0);
                } else {
                    assert!((9_000..11_000).contains(count), "{one} {other} {count}");
                }
            }
        }
        assert!(Picks::new(1, Skew::Uniform, &mut random).is_err());
    }

    #[test]
    fn the_alias_table_draws_by_weight() {
        let columns = alias(&[1.0, 2.0, 4.0, 8.0, 1.0]);
        let mut random = Random::new(4);
        let mut counts = [0_u32; 5];
        for _ in 0..160_000 {
            counts[draw(&columns, &mut random) as usize] += 1;
        }
        for (count, weight) in counts.iter().zip([1, 2, 4, 8, 1]) {
            let expected = 10_000 * weight;
            assert!(count.abs_diff(expected) < expected / 20, "{counts:?}");
        }
    }

    #[test]
    fn zipf_gives_the_first_rank_its_share() {
        let mut random = Random::new(5);
        let picks = Picks::new(1_000, Skew::Zipf(1.0), &mut random).unwrap();
        let Picks::Alias(columns) = &picks else { panic!("zipf draws from a table") };
        let mut counts = vec![0_u32; 1_000];
        for _ in 0..500_000 {
            counts[draw(columns, &mut random) as usize] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        // H(1000) = 7.485: the first rank has 13.36 %, the second half of that.
        assert!(counts[0].abs_diff(66_800) < 2_000, "{}", counts[0]);
        assert!(counts[1].abs_diff(33_400) < 1_500, "{}", counts[1]);
    }
}
