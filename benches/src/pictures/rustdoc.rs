//! Pictures in rustdoc, which copies no files: there the picture itself is in the link.
//!
//! A page names its picture by a label, `![..][orders]`, and defines the label as the path of the file, for those who read the page in the
//! repository. The crate puts another definition before the page. In Markdown the first definition of a label is the one that counts.

use std::fmt::Write;

/// The definition of the label `name` as a `data:` URL, with the line that ends it.
pub(super) fn definition(name: &str, svg: &str) -> String {
    let mut text = format!("[{name}]: data:image/svg+xml,");
    for byte in svg.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b':' | b';' | b'=' | b'/' => {
                text.push(char::from(byte));
            }
            _ => _ = write!(text, "%{byte:02X}"), // a string takes everything
        }
    }
    text + "\n\n"
}
