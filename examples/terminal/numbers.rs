//! Numbers as people read them.

use std::time::Duration;

/// 12345 as 12,345.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration with a digit behind the point, and its unit.
pub fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        0.995.. => format!("{seconds:.1} s"),
        0.000_995.. => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{:.1} us", seconds * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")]
        {
            assert_eq!(thousands(number), text);
        }
        for (micros, text) in
            [(7, "7.0 us"), (4_200, "4.2 ms"), (999_000, "1.0 s"), (90_000_000, "90.0 s")]
        {
            assert_eq!(seconds(Duration::from_micros(micros)), text);
        }
    }
}
