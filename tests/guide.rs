//! The guide and the README: that each chapter can be found, and that tables which claim to be whole are.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of the chapters, without `.md`.
fn chapters() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("src/guide")).unwrap().map(|entry| entry.unwrap().path());
    let chapters = files.filter(|path| path.extension().is_some_and(|end| end == "md"));
    chapters.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// What stands between two marks, wherever they are.
fn between<'a>(text: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| Some(rest.split_once(close)?.0))
}

#[test]
fn each_chapter_is_in_the_documentation_its_list_and_the_readme() {
    let (list, crate_page, readme) = (read("src/guide/mod.rs"), read("src/lib.rs"), read("README.md"));
    let chapters = chapters();
    assert!(chapters.len() >= 16, "{chapters:?}");
    for chapter in &chapters {
        assert!(
            list.contains(&format!("include_str!(\"{chapter}.md\")]\npub mod {chapter} {{}}")),
            "{chapter}"
        );
        assert!(list.contains(&format!("]({chapter})")), "the list lacks {chapter}");
        assert!(readme.contains(&format!("](src/guide/{chapter}.md)")), "the README lacks {chapter}");
        // Those of features have no page without them.
        if !["email", "webhooks"].contains(&chapter.as_str()) {
            assert!(crate_page.contains(&format!("](guide::{chapter})")), "the crate's page lacks {chapter}");
        }
    }
    let linked: BTreeSet<_> = between(&readme, "](src/guide/", ".md)").map(str::to_owned).collect();
    assert_eq!(linked, chapters);
}

/// The variants of an enum of this file, in its source.
fn variants(path: &str, name: &str) -> Vec<String> {
    let file = syn::parse_file(&read(path)).unwrap();
    let found = file.items.into_iter().find_map(|item| match item {
        syn::Item::Enum(found) if found.ident == name => Some(found),
        _ => None,
    });
    let found = found.unwrap_or_else(|| panic!("{path} has no {name}"));
    found.variants.iter().map(|variant| variant.ident.to_string()).collect()
}

#[test]
fn troubleshooting_has_every_reason_of_a_denial() {
    let page = read("src/guide/troubleshooting.md");
    // `Unavailable` has reasons of its own, and a missing scope has one cause.
    let mut reasons = variants("src/validate/denial.rs", "DenialReason");
    reasons.retain(|reason| !["Unavailable", "Scope"].contains(&reason.as_str()));
    reasons.extend(
        variants("src/validate/denial.rs", "Unavailable").iter().map(|why| format!("Unavailable({why})")),
    );
    assert!(reasons.len() > 15, "{reasons:?}");
    for reason in &reasons {
        assert!(page.contains(&format!("| `{reason}` |")), "troubleshooting lacks {reason}");
    }
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let named: BTreeSet<_> = rows.map(|(reason, _)| reason.to_owned()).collect();
    assert_eq!(named, reasons.into_iter().collect(), "and no other");
}

/// Files, examples and links that the README and the guide name are there.
#[test]
fn what_the_readme_and_the_guide_name_is_there() {
    let pages = chapters().into_iter().map(|chapter| format!("src/guide/{chapter}.md"));
    let mut seen = [0; 3];
    for page in pages.chain(["README.md".to_owned()]) {
        let text = read(&page);
        for name in between(&text, "--example ", " ") {
            let name = name.split(['`', '\n']).next().unwrap();
            seen[0] += 1;
            assert!(root().join("examples").join(format!("{name}.rs")).is_file(), "{page}: --example {name}");
        }
        for path in between(&text, "`examples/", "`") {
            seen[1] += 1;
            assert!(root().join("examples").join(path).exists(), "{page}: examples/{path}");
        }
        for link in between(&text, "](", ")") {
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target: PathBuf = match file.strip_prefix("crate::guide::") {
                Some(chapter) => root().join("src/guide").join(format!("{chapter}.md")),
                None if file.is_empty() => root().join(&page),
                None if file == "crate" && !place.is_empty() => root().join("README.md"),
                None if file.starts_with("crate") || file.contains("://") => continue,
                None => root().join(file),
            };
            seen[2] += 1;
            assert!(target.is_file(), "{page}: {link}");
            let has = |heading: &str| heading.starts_with('#') && anchor(heading) == place;
            assert!(
                place.is_empty() || fs::read_to_string(target).unwrap().lines().any(has),
                "{page}: {link}"
            );
        }
    }
    assert!(seen.iter().zip([6, 6, 30]).all(|(seen, least)| *seen >= least), "{seen:?}");
}

/// What a link to a heading names.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
