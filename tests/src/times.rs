//! Whether two kinds of tries can be told apart by how long they took: Welch's t. |t| below 4.5 is no
//! difference that so many tries can show; a machine that does other things shows anything.

/// Of the slowest, so many in a hundred are left out the second time: what else the machine did.
const CROPPED: usize = 10;

/// In words: t of all, and without the slowest.
pub fn compared(one: &[f64], other: &[f64]) -> String {
    let cropped = |times: &[f64]| {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        times.truncate(times.len() * (100 - CROPPED) / 100);
        times
    };
    let (all, most) = (welch(one, other), welch(&cropped(one), &cropped(other)));
    format!("t = {all:.2}, {most:.2} without the slowest {CROPPED} % ({})", one.len())
}

/// Welch's t.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let moments = |times: &[f64]| {
        let n = times.len() as f64;
        let mean = times.iter().sum::<f64>() / n;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    };
    let ((a, va), (b, vb)) = (moments(one), moments(other));
    (a - b) / (va + vb).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_from_what_does_not() {
        let times = |of: f64| -> Vec<f64> { (0..1000).map(|n| of + f64::from(n % 10)).collect() };
        assert!(welch(&times(100.0), &times(100.0)).abs() < 0.01);
        assert!(welch(&times(101.0), &times(100.0)) > 4.5);
    }
}
