//! Interleaved timing: A B A B, the order turned round each time, so that what changes on the machine meanwhile (its clock
//! rate, a neighbour, the size of the log) meets both alike; medians and quartiles of the runs.

use std::time::Instant;

use anyhow::Result;

/// Measured values of one thing, in the order of the runs.
#[derive(Clone, Debug, Default)]
pub struct Sample(pub Vec<f64>);

impl Sample {
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn least(&self) -> f64 {
        self.quantile(0.0)
    }

    pub fn most(&self) -> f64 {
        self.quantile(1.0)
    }

    /// Between two values: the line between them.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
        let at = q * last as f64;
        let (below, above) = (at.floor() as usize, at.ceil() as usize);
        sorted[below] + (sorted[above] - sorted[below]) * at.fract()
    }

    /// Run by run: what stands beside each other was measured one after the other.
    pub fn over(&self, other: &Sample) -> Sample {
        Sample(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    pub fn map(&self, f: impl Fn(f64) -> f64) -> Sample {
        Sample(self.0.iter().map(|v| f(*v)).collect())
    }
}

/// One of the things compared: does its work in the shared state and returns what it measured. The number of the run is 0
/// for the one that warms up.
pub type Contestant<'a, S> = &'a dyn Fn(&mut S, usize) -> Result<f64>;

/// Runs all of them in turn, `runs` times after a round that only warms up; a sample for each.
pub fn interleave<S>(runs: usize, state: &mut S, contestants: &[Contestant<S>]) -> Result<Vec<Sample>> {
    let mut samples = vec![Sample::default(); contestants.len()];
    for run in 0..=runs {
        let forward: Vec<usize> = (0..contestants.len()).collect();
        let order: Vec<usize> = if run % 2 == 0 { forward } else { forward.into_iter().rev().collect() };
        for i in order {
            let measured = contestants[i](state, run)?;
            if run > 0 {
                samples[i].0.push(measured);
            }
        }
    }
    Ok(samples)
}

/// The same for contestants that are made by the dozen.
pub type Boxed<'a, S> = Box<dyn Fn(&mut S, usize) -> Result<f64> + 'a>;

pub fn interleave_boxed<S>(runs: usize, state: &mut S, contestants: &[Boxed<S>]) -> Result<Vec<Sample>> {
    let contestants: Vec<Contestant<S>> = contestants.iter().map(|c| c.as_ref() as Contestant<S>).collect();
    interleave(runs, state, &contestants)
}

/// Seconds that the work takes.
pub fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Seconds per call, over so many calls: one alone of some 50 us would measure the scheduler.
pub fn timed_each(calls: usize, mut work: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    Ok(timed(|| (0..calls).try_for_each(&mut work))? / calls as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        let sample = Sample(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!([sample.least(), sample.median(), sample.most()], [1.0, 2.5, 4.0]);
        assert_eq!(sample.quantile(0.25), 1.75);
    }

    #[test]
    fn the_order_turns_round_and_the_first_run_is_not_counted() {
        let mut seen = Vec::new();
        let a: Contestant<Vec<char>> = &|seen, run| {
            seen.push('a');
            Ok(run as f64 * 2.0)
        };
        let b: Contestant<Vec<char>> = &|seen, run| {
            seen.push('b');
            Ok(run as f64)
        };
        let samples = interleave(2, &mut seen, &[a, b]).unwrap();
        assert_eq!(seen.into_iter().collect::<String>(), "abbaab");
        assert_eq!((samples[0].0.as_slice(), samples[1].0.as_slice()), ([2.0, 4.0].as_slice(), [1.0, 2.0].as_slice()));
    }
}
