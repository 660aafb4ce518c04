//! Small charts: a character for each value.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Nothing at all differs from very little.
const ZERO: char = '_';

/// A bar for each value; `most` has the highest.
pub fn spark(values: impl IntoIterator<Item = f64>, most: f64) -> String {
    let bar = |value: f64| match (value / most * BARS.len() as f64).ceil() as usize {
        0 => ZERO,
        height => BARS[height.min(BARS.len()) - 1],
    };
    values.into_iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_value_has_the_highest_bar() {
        assert_eq!(spark([0.0, 0.1, 12.5, 13.0, 50.0, 99.0, 100.0, 200.0], 100.0), "_▁▁▂▄███");
        assert_eq!(spark([0.0, 0.0], 0.0), "__");
        assert_eq!(spark([], 0.0), "");
    }
}
