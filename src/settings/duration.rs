//! Durations as people write them. The error for one that cannot be read names the field.

use std::string::{String, ToString as _};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// A module for `#[serde(with)]`: for a duration that must be there, or for one that may be.
macro_rules! field {
    ($name:ident: Duration) => {
        pub(crate) mod $name {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(
                duration: &Duration,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&humantime::format_duration(*duration))
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Duration, D::Error> {
                parse(stringify!($name), &String::deserialize(deserializer)?)
            }
        }
    };
    ($name:ident: Option<Duration>) => {
        pub(crate) mod $name {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(
                duration: &Option<Duration>,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                match duration {
                    Some(duration) => serializer
                        .serialize_some(&humantime::format_duration(*duration).to_string()),
                    None => serializer.serialize_none(),
                }
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<Duration>, D::Error> {
                let text = Option::<String>::deserialize(deserializer)?;
                text.map(|text| parse(stringify!($name), &text)).transpose()
            }
        }
    };
}

field!(timeout: Option<Duration>);
field!(attempt_timeout: Option<Duration>);
field!(initial: Duration);
field!(max_delay: Option<Duration>);

fn parse<E: de::Error>(field: &str, text: &str) -> Result<Duration, E> {
    humantime::parse_duration(text).map_err(|error| {
        E::custom(format_args!(
            "{field}: {text:?} is no duration such as \"250ms\" or \"1m 30s\": {error}"
        ))
    })
}
