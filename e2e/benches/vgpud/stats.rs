//! The middle of some values, and how sure it is.

/// The middle value; the upper of the two middle ones if their count is even.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value that 99 in 100 do not exceed.
pub(crate) fn percentile_99(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let rank = (sorted.len() * 99).div_ceil(100);
    let value = sorted.get(rank.saturating_sub(1));
    value.copied().unwrap_or(f64::NAN)
}

/// Two of the values, between which the true median lies with the probability `coverage`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) coverage: f64,
}

/// The narrowest interval from one order statistic to its mirror image that covers the median
/// in at least 95 of 100 cases, whatever the distribution; the whole range if none does.
pub(crate) fn interval(values: &[f64]) -> Interval {
    let sorted = sorted(values);
    let n = sorted.len();
    let last = n.saturating_sub(1);
    let mut at = 0;
    let mut outside = tail(n, 0);
    while 2 * (at + 1) < last && 1.0 - 2.0 * tail(n, at + 1) >= 0.95 {
        at += 1;
        outside = tail(n, at);
    }
    let value = |at: usize| sorted.get(at).copied().unwrap_or(f64::NAN);
    Interval {
        low: value(at),
        high: value(last - at.min(last)),
        coverage: (1.0 - 2.0 * outside).max(0.0),
    }
}

/// The probability that at most `most` of `n` values lie below the median.
fn tail(n: usize, most: usize) -> f64 {
    let mut ways = 1.0;
    let mut sum = 0.0;
    for k in 0..=most {
        sum += ways;
        ways *= (n - k) as f64 / (k + 1) as f64;
    }
    sum * 0.5_f64.powf(n as f64)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}
