//! Errors with their causes, for people.

use std::error::Error;

/// An error and its causes. Some errors of the SDK repeat their cause's text, which is left out.
pub fn with_causes(error: &dyn Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.dedup();
    texts.join(": ")
}
