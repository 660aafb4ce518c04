//! The links of the pages lead somewhere: to files of the repository, and to headings of its pages.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_link_leads_to_a_file_and_to_a_heading() {
    let (mut links, mut broken) = (0, Vec::new());
    for page in pages(root()) {
        for link in links_of(&page) {
            // Names of Rust are checked by rustdoc.
            if link.contains("::") || ["http", "data:", "crate"].iter().any(|s| link.starts_with(s))
            {
                continue;
            }
            links += 1;
            if !leads_somewhere(&page, &link) {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(links > 100, "the pages have more links than {links}");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_program_that_the_cookbook_names_exists() {
    let cookbook = fs::read_to_string(root().join("docs/guide/cookbook.md")).expect("a page");
    let is_path = |word: &&str| word.starts_with("examples/") || word.starts_with("docs/");
    let gone: Vec<_> =
        cookbook.split('`').filter(is_path).filter(|path| !root().join(path).exists()).collect();
    assert!(gone.is_empty(), "{gone:?}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages, except in folders of builds and hidden ones.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            pages.extend(self::pages(&path));
        } else if name.ends_with(".md") {
            pages.push(path);
        }
    }
    pages
}

/// A page without its blocks of code.
fn prose(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).expect("it can be read");
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// The targets of `[text](target)` and of `[label]: target`.
fn links_of(page: &Path) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(page) {
        if let Some((_, target)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            links.push(target.to_owned());
        }
        // Code between two backticks is no link. What is left of a link's text does not matter.
        let text: String = line.split('`').step_by(2).collect();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        links.extend(targets.filter(|target| !target.contains(' ')).map(str::to_owned));
    }
    links
}

fn leads_somewhere(page: &Path, link: &str) -> bool {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let folder = page.parent().expect("pages are in folders");
    let target = if file.is_empty() { page.to_owned() } else { folder.join(file) };
    let has_heading = || headings(&target).contains(heading);
    target.exists() && (heading.is_empty() || has_heading())
}

/// The anchors of a page's headings, as Git hosts and rustdoc make them.
fn headings(page: &Path) -> HashSet<String> {
    let lines = prose(page).into_iter();
    let titles = lines.filter(|line| line.starts_with('#'));
    titles.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(title: &str) -> String {
    let letters = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
    letters.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}
