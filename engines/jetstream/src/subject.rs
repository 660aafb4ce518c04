//! Subjects and the patterns in a stream's settings.

/// Whether a message can be published under this subject.
pub(crate) fn is_valid(subject: &str) -> bool {
    subject.split('.').all(|token| {
        !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c == '*' || c == '>')
    })
}

/// Whether the pattern, with `*` for a token and `>` for the rest, covers the subject.
pub(crate) fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(expected), Some(token)) if expected == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_valid, matches};

    #[test]
    fn patterns() {
        for (pattern, subject, expected) in [
            ("done.1", "done.1", true),
            ("done.1", "done.2", false),
            ("done.1", "done.1.a", false),
            ("done.*", "done.1", true),
            ("done.*", "done.1.a", false),
            ("done.*.a", "done.1.a", true),
            ("done.>", "done.1.a", true),
            ("done.>", "done", false),
            (">", "done", true),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn names() {
        for (subject, expected) in [
            ("a.b", true),
            ("", false),
            ("a.", false),
            (".a", false),
            ("a b", false),
            ("a.*", false),
            ("a.>", false),
        ] {
            assert_eq!(is_valid(subject), expected, "{subject:?}");
        }
    }
}
