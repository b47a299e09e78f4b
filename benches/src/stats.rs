//! Medians, spreads, and the repetitions that may be compared with each other.

/// Returns the middle value (the upper of two). Sorts.
pub fn median(values: &mut [f64]) -> f64 {
    assert!(!values.is_empty(), "a median of nothing");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Two probes within this factor saw the same state.
const SAME: f64 = 1.4;

/// The states that the probes of a run fall into, each by its lowest probe, ascending.
///
/// Clusters by ratio, not by number, because another machine has other states.
#[derive(Debug)]
pub struct States {
    lowest: Vec<f64>,
}

impl States {
    pub fn of(probes: impl IntoIterator<Item = f64>) -> States {
        let mut probes: Vec<f64> = probes.into_iter().collect();
        probes.sort_by(f64::total_cmp);
        let mut lowest: Vec<f64> = Vec::new();
        for probe in probes {
            match lowest.last() {
                Some(low) if probe <= low * SAME => {}
                _ => lowest.push(probe),
            }
        }
        States { lowest }
    }

    pub fn count(&self) -> usize {
        self.lowest.len()
    }

    /// Returns the state of a repetition, if it had the same before as after.
    pub fn state(&self, before: f64, after: f64) -> Option<usize> {
        let find = |probe: f64| self.lowest.iter().rposition(|&low| low <= probe);
        find(before).filter(|&state| find(after) == Some(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_states_of_a_virtual_machine_are_told_apart() {
        let states = States::of([28.0, 66.0, 29.5, 300.0, 64.0, 290.0, 30.0]);
        assert_eq!(states.state(28.0, 30.0), Some(0));
        assert_eq!(states.state(64.0, 66.0), Some(1));
        assert_eq!(states.state(290.0, 300.0), Some(2));
        assert_eq!(states.state(28.0, 64.0), None);
    }

    #[test]
    fn the_median_of_an_even_number_is_the_upper() {
        assert_eq!(median(&mut [4.0, 1.0, 3.0, 2.0]), 3.0);
    }
}
