//! The modules of the core are layers: each imports from lines below its own in ARCHITECTURE.md, so there are no circles.

use std::fs;
use std::path::Path;

/// The layers as ARCHITECTURE.md shows them, from the top.
fn layers() -> Vec<Vec<String>> {
    let page = fs::read_to_string("ARCHITECTURE.md").expect("the page");
    let (_, behind) = page.split_once("Modules are layers").expect("the invariant");
    let block = behind.split("```").nth(1).expect("a block of text");
    let lines = block.lines().skip(1).map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn level(layers: &[Vec<String>], module: &str) -> Option<usize> {
    layers.iter().position(|layer| layer.iter().any(|name| name == module))
}

/// All source files under a path, with the module at the top that they belong to.
fn sources(path: &Path, module: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(path).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let module = if module.is_empty() { name.clone() } else { module.to_owned() };
        if path.is_dir() {
            sources(&path, &module, found);
        } else if name != "lib" && !name.ends_with("_tests") {
            found.push((module, fs::read_to_string(&path).expect("a source file")));
        }
    }
}

/// The modules that a file names after `crate::`, outside of comments and of its tests.
fn imports(text: &str) -> Vec<&str> {
    let shipped = text.split("#[cfg(test)]").next().unwrap_or(text);
    let shipped = shipped.split("#[cfg(all(test").next().unwrap_or(shipped);
    let code = shipped.lines().filter(|line| !line.trim_start().starts_with("//"));
    let named = code.flat_map(|line| line.split("crate::").skip(1));
    named
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
        .collect()
}

#[test]
fn modules_import_from_below() {
    let layers = layers();
    let mut files = Vec::new();
    sources(Path::new("core/src"), "", &mut files);
    assert!(files.len() > 50, "{} files", files.len());
    let mut wrong = Vec::new();
    for (module, text) in &files {
        let Some(own) = level(&layers, module) else {
            wrong.push(format!("{module} is in no layer"));
            continue;
        };
        for import in imports(text).into_iter().filter(|import| import != module) {
            match level(&layers, import) {
                Some(other) if other > own => {}
                Some(_) => wrong.push(format!("{module} imports {import}, which is not below it")),
                None => {} // an item that the crate's root exports
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test] // a negative control
fn imports_are_found() {
    let text = "use crate::stage::Stage;\n// crate::retry\nlet x: crate::time::Instant;\n#[cfg(test)]\nuse crate::policy;";
    assert_eq!(imports(text), ["stage", "time"]);
}
