//! The identity of a job: the options that must be the same for a run to resume from a checkpoint.

use std::path::{self, Path};

use serde::{Deserialize, Serialize};

use crate::input::InputFile;
use crate::options::{Options, Order};
use crate::problem::Problem;

const OUTPUT: &str = "--output";

/// Options by their names, with readable values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity(Vec<(String, String)>);

impl Identity {
    pub fn of(options: &Options, input: &InputFile) -> Result<Self, Problem> {
        let time = |duration| humantime::format_duration(duration).to_string();
        let order = match options.order {
            Order::Ordered => "ordered",
            Order::Unordered => "unordered",
        };
        let mut values = vec![
            ("--input", input.path.display().to_string()),
            ("length of --input", format!("{} bytes", input.length)),
            ("beginning of --input", format!("checksum {:08x}", input.beginning)),
            (OUTPUT, absolute(&options.output)?),
            ("--order", order.into()),
            ("--timeout", time(options.timeout)),
            ("--attempt-timeout", time(options.attempt_timeout)),
            ("--retries", options.retries.to_string()),
        ];
        match &options.service {
            Some(url) => values.push(("--service", url.clone())),
            None => values.extend([
                ("--latency", time(options.latency)),
                ("--error-rate", options.error_rate.to_string()),
                ("--hang-rate", options.hang_rate.to_string()),
                ("--seed", options.seed.to_string()),
            ]),
        }
        Ok(Self(values.into_iter().map(|(name, value)| (name.into(), value)).collect()))
    }

    /// A line for each option that has changed; empty if this job can resume from `earlier`.
    pub fn differences(&self, earlier: &Self) -> Vec<String> {
        let gone = earlier.0.iter().filter(|(name, _)| self.value(name).is_none());
        let names = self.0.iter().chain(gone).map(|(name, _)| name);
        names
            .filter(|name| self.value(name) != earlier.value(name))
            .map(|name| {
                let was = earlier.value(name).unwrap_or("not given");
                let is = self.value(name).unwrap_or("not given");
                format!("{name}: was {was}, is {is}")
            })
            .collect()
    }

    /// True if this job writes to `output`.
    pub fn writes_to(&self, output: &Path) -> Result<bool, Problem> {
        Ok(self.value(OUTPUT) == Some(&absolute(output)?))
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

fn absolute(path: &Path) -> Result<String, Problem> {
    let path = path::absolute(path).map_err(Problem::file(
        "find",
        path,
        "Name another file with --output.",
    ))?;
    Ok(path.display().to_string())
}
