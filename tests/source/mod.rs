//! Reads the crate's own source for the tests about it: as tokens, with what only tests see left out.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test that reads the source uses a part of this, and fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::buffer::{Cursor, TokenBuffer};

/// One token, or a group with what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    Word(String),
    Lifetime(String),
    Literal(String),
    Mark(char),
    /// `(`, `[` or `{`.
    Group(char, Vec<Tree>),
}

impl Tree {
    pub(crate) fn is(&self, word: &str) -> bool {
        match self {
            Self::Word(text) => text == word,
            Self::Mark(mark) => word.len() == 1 && word.starts_with(*mark),
            _ => false,
        }
    }

    pub(crate) fn word(&self) -> Option<&str> {
        if let Self::Word(text) = self { Some(text) } else { None }
    }

    pub(crate) fn group(&self, open: char) -> Option<&[Tree]> {
        match self {
            Self::Group(found, inner) if *found == open => Some(inner),
            _ => None,
        }
    }
}

/// The tokens of a source text, without its documentation.
pub(crate) fn tokens(source: &str) -> Vec<Tree> {
    let stream = source.parse().expect("the source has balanced tokens");
    without_documentation(trees(TokenBuffer::new2(stream).begin()))
}

fn trees(mut cursor: Cursor<'_>) -> Vec<Tree> {
    let mut found = Vec::new();
    while !cursor.eof() {
        let (tree, rest) = if let Some((lifetime, rest)) = cursor.lifetime() {
            (Tree::Lifetime(format!("'{}", lifetime.ident)), rest)
        } else if let Some((word, rest)) = cursor.ident() {
            (Tree::Word(word.to_string()), rest)
        } else if let Some((mark, rest)) = cursor.punct() {
            (Tree::Mark(mark.as_char()), rest)
        } else if let Some((literal, rest)) = cursor.literal() {
            (Tree::Literal(literal.to_string()), rest)
        } else if let Some((inner, delimiter, _, rest)) = cursor.any_group() {
            let open = match format!("{delimiter:?}").as_str() {
                "Parenthesis" => '(',
                "Bracket" => '[',
                _ => '{',
            };
            (Tree::Group(open, trees(inner)), rest)
        } else {
            unreachable!("a token is a lifetime, a word, a mark, a literal or a group")
        };
        found.push(tree);
        cursor = rest;
    }
    found
}

fn without_documentation(trees: Vec<Tree>) -> Vec<Tree> {
    let mut kept: Vec<Tree> = Vec::with_capacity(trees.len());
    for tree in trees {
        match tree {
            Tree::Group('[', inner) if inner.first().is_some_and(|first| first.is("doc")) => {
                while kept.last().is_some_and(|last| last.is("#") || last.is("!")) {
                    kept.pop();
                }
            }
            Tree::Group(open, inner) => kept.push(Tree::Group(open, without_documentation(inner))),
            other => kept.push(other),
        }
    }
    kept
}

/// Tokens as text in one spelling, near to rustfmt's.
pub(crate) fn text(trees: &[Tree]) -> String {
    let mut pieces = Vec::new();
    flatten(trees, &mut pieces);
    let mut text = String::new();
    for (at, piece) in pieces.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| pieces[before].as_str());
        if before.is_some_and(|before| stand_apart(before, piece)) {
            text.push(' ');
        }
        text.push_str(piece);
    }
    text
}

fn flatten(trees: &[Tree], pieces: &mut Vec<String>) {
    for tree in trees {
        match tree {
            Tree::Word(text) | Tree::Lifetime(text) | Tree::Literal(text) => pieces.push(text.clone()),
            Tree::Mark(mark) => match (pieces.last_mut(), mark) {
                (Some(last), ':') if last == ":" => last.push(':'),
                (Some(last), '>') if last == "-" || last == "=" => last.push('>'),
                _ => pieces.push(mark.to_string()),
            },
            Tree::Group(open, inner) => {
                let close = match open {
                    '(' => ")",
                    '[' => "]",
                    _ => "}",
                };
                pieces.push(open.to_string());
                flatten(inner.strip_suffix(&[Tree::Mark(',')]).unwrap_or(inner), pieces);
                pieces.push(close.to_owned());
            }
        }
    }
}

fn stand_apart(before: &str, after: &str) -> bool {
    const JOINS_THE_NEXT: &[&str] = &["(", "[", "<", "&", "::", "#", "!", "?", "*", "$", "."];
    const JOINS_THE_LAST: &[&str] = &[")", "]", ">", ",", ";", ":", "::", "!", "."];
    let is_word = |piece: &str| piece.ends_with(|last: char| last.is_alphanumeric() || last == '_');
    match (before, after) {
        (before, _) if JOINS_THE_NEXT.contains(&before) => false,
        (_, after) if JOINS_THE_LAST.contains(&after) => false,
        (before, "(" | "<") => !is_word(before) && ![">", ")"].contains(&before),
        _ => true,
    }
}

/// The attributes before an item, each the tokens within its brackets. Those of the file (`#![…]`) are passed by.
pub(crate) fn attributes(trees: &[Tree]) -> (Vec<&[Tree]>, &[Tree]) {
    let (mut found, mut rest) = (Vec::new(), trees);
    loop {
        rest = match rest {
            [Tree::Mark('#'), Tree::Mark('!'), Tree::Group('[', _), after @ ..] => after,
            [Tree::Mark('#'), Tree::Group('[', inner), after @ ..] => {
                found.push(inner.as_slice());
                after
            }
            _ => return (found, rest),
        };
    }
}

/// Whether an attribute keeps its item for tests: `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, …))]`.
fn is_for_tests(attribute: &[Tree]) -> bool {
    let demands_test = |list: &[Tree]| list.split(|tree| tree.is(",")).any(is_for_tests_alone);
    match attribute {
        [word] => word.is("test"),
        [cfg, Tree::Group('(', list)] if cfg.is("cfg") => demands_test(list),
        _ => false,
    }
}

fn is_for_tests_alone(condition: &[Tree]) -> bool {
    match condition {
        [word] => word.is("test"),
        [all, Tree::Group('(', list)] if all.is("all") => {
            list.split(|tree| tree.is(",")).any(is_for_tests_alone)
        }
        _ => false,
    }
}

/// The visibility before an item, as text, and the item from its first other word.
pub(crate) fn visibility(item: &[Tree]) -> (Option<String>, &[Tree]) {
    match item {
        [word, within @ Tree::Group('(', _), rest @ ..] if word.is("pub") => {
            (Some(format!("pub{}", text(std::slice::from_ref(within)))), rest)
        }
        [word, rest @ ..] if word.is("pub") => (Some("pub".to_owned()), rest),
        rest => (None, rest),
    }
}

/// The word that says what an item is: `fn`, `struct`, `use` ….
pub(crate) fn keyword(item: &[Tree]) -> &str {
    let rest = visibility(item).1;
    let words = rest.iter().filter_map(Tree::word);
    let before_fn = ["async", "unsafe", "extern", "default"];
    let mut words = words.skip_while(|word| before_fn.contains(word));
    match (words.next(), words.next()) {
        (Some("const"), Some(next)) if next == "fn" || before_fn.contains(&next) => "fn",
        (first, _) => first.unwrap_or_default(),
    }
}

/// How many tokens the first item has, attributes apart: to its `;`, or to its braces.
pub(crate) fn item_length(item: &[Tree]) -> usize {
    let to_semicolon = ["use", "const", "static", "type", "let"].contains(&keyword(item));
    let is_end = |tree: &Tree| tree.is(";") || !to_semicolon && tree.group('{').is_some();
    item.iter().position(is_end).map_or(item.len(), |end| end + 1)
}

/// The tokens without the items that only tests see, at any depth.
pub(crate) fn without_tests(trees: &[Tree]) -> Vec<Tree> {
    let (mut kept, mut rest) = (Vec::new(), trees);
    while let Some((first, after)) = rest.split_first() {
        let (found, item) = attributes(rest);
        if found.iter().any(|attribute| is_for_tests(attribute)) {
            rest = item.get(item_length(item)..).unwrap_or_default();
            continue;
        }
        kept.push(match first {
            Tree::Group(open, inner) => Tree::Group(*open, without_tests(inner)),
            other => other.clone(),
        });
        rest = after;
    }
    kept
}

/// One module of the crate that is not only for tests.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    /// `["store", "row"]`; empty for the root.
    pub(crate) path: Vec<String>,
    /// Relative to the package.
    pub(crate) file: PathBuf,
    /// Without what only tests see.
    pub(crate) trees: Vec<Tree>,
    /// The conditions under which it is compiled.
    pub(crate) conditions: Vec<String>,
}

/// The crate's modules that live in files of their own, and all files that a `mod` reaches, tests' files too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crate {
    pub(crate) modules: Vec<Module>,
    pub(crate) reached: BTreeSet<PathBuf>,
}

pub(crate) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(file: &Path) -> String {
    fs::read_to_string(package().join(file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Follows the `mod` lines from `src/lib.rs`.
pub(crate) fn library() -> Crate {
    let mut found = Crate::default();
    follow(Vec::new(), PathBuf::from("src/lib.rs"), Vec::new(), false, &mut found);
    found
}

/// The command line, which is a crate of its own.
pub(crate) fn command_line() -> Crate {
    let mut found = Crate::default();
    follow(Vec::new(), PathBuf::from("src/bin/keyrota/main.rs"), Vec::new(), false, &mut found);
    found
}

fn follow(path: Vec<String>, file: PathBuf, conditions: Vec<String>, for_tests: bool, found: &mut Crate) {
    let all = tokens(&read(&file));
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let folder = file.parent().unwrap_or(Path::new("src"));
    let folder = if ["lib", "main", "mod"].contains(&stem) { folder.to_owned() } else { folder.join(stem) };
    let mut rest = all.as_slice();
    while !rest.is_empty() {
        let (attributes, item) = attributes(rest);
        if let Some(name) = declared_module(item) {
            let for_tests = for_tests || attributes.iter().any(|attribute| is_for_tests(attribute));
            let own = attributes.iter().filter(|attribute| attribute[0].is("cfg")).map(|cfg| text(cfg));
            let conditions = conditions.iter().cloned().chain(own).collect();
            let child = [path.clone(), vec![name.to_owned()]].concat();
            let beside = folder.join(format!("{name}.rs"));
            let within = folder.join(name).join("mod.rs");
            let file = if package().join(&beside).exists() { beside } else { within };
            follow(child, file, conditions, for_tests, found);
        }
        rest = item.get(item_length(item).max(1)..).unwrap_or_default();
    }
    found.reached.insert(file.clone());
    if !for_tests {
        found.modules.push(Module { path, file, trees: without_tests(&all), conditions });
    }
}

/// The name in `mod name;`.
fn declared_module(item: &[Tree]) -> Option<&str> {
    let mod_at = item.iter().take(3).position(|tree| tree.is("mod"))?;
    match item.get(mod_at + 1..mod_at + 3)? {
        [Tree::Word(name), Tree::Mark(';')] => Some(name),
        _ => None,
    }
}

/// All files below a folder of the package, by name.
pub(crate) fn files_below(folder: &str, extension: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(package().join(folder)).into_iter().flatten().flatten() {
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(folder), extension, &mut found);
    found.sort();
    found
}

/// A `use` item's paths, each with the name that it has here.
pub(crate) fn use_paths(tree: &[Tree]) -> Vec<(Vec<String>, String)> {
    fn walk(tree: &[Tree], prefix: &[String], found: &mut Vec<(Vec<String>, String)>) {
        let mut path = prefix.to_vec();
        let mut rest = tree;
        while let Some((first, after)) = rest.split_first() {
            match first {
                Tree::Word(word) if word == "as" => {
                    let name = after.first().and_then(Tree::word).unwrap_or("_").to_owned();
                    found.push((path, name));
                    return;
                }
                Tree::Word(word) => path.push(word.clone()),
                Tree::Mark('*') => path.push("*".to_owned()),
                Tree::Group('{', inner) => {
                    for part in inner.split(|tree| tree.is(",")).filter(|part| !part.is_empty()) {
                        walk(part, &path, found);
                    }
                    return;
                }
                _ => {}
            }
            rest = after;
        }
        if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
            path.pop();
        }
        let name = path.last().cloned().unwrap_or_default();
        found.push((path, name));
    }
    let mut found = Vec::new();
    walk(tree, &[], &mut found);
    found
}

/// Everything that a module names by a path: what it imports, and paths of two words or more in its code.
pub(crate) fn paths(trees: &[Tree]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    walk_paths(trees, &mut found);
    found
}

fn walk_paths(trees: &[Tree], found: &mut Vec<Vec<String>>) {
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        let before = at.checked_sub(1).and_then(|before| trees.get(before));
        match tree {
            // `+ use<'a>` imports nothing.
            Tree::Word(word) if word == "use" && !trees.get(at + 1).is_some_and(|next| next.is("<")) => {
                let rest = &trees[at + 1..];
                let length = rest.iter().position(|tree| tree.is(";")).unwrap_or(rest.len());
                found.extend(use_paths(&rest[..length]).into_iter().map(|(path, _)| path));
                at += 1 + length;
                continue;
            }
            Tree::Word(word) if !before.is_some_and(|before| before.is(".") || before.is("$")) => {
                let mut path = vec![word.clone()];
                let mut next = at + 1;
                while let [Tree::Mark(':'), Tree::Mark(':'), Tree::Word(word), ..] =
                    trees.get(next..).unwrap_or_default()
                {
                    path.push(word.clone());
                    next += 3;
                }
                if path.len() > 1 {
                    found.push(path);
                }
                at = next;
                continue;
            }
            // `$crate::…` is a path of whoever calls the macro.
            Tree::Mark('$') => at += 1,
            Tree::Group(_, inner) => walk_paths(inner, found),
            Tree::Literal(literal) => {
                // `#[serde(with = "crate::…")]`.
                let inner = literal.trim_matches('"');
                if inner.starts_with("crate::")
                    && inner.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b))
                {
                    found.push(inner.split("::").map(str::to_owned).collect());
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// Every word in these tokens, at any depth.
pub(crate) fn words(trees: &[Tree]) -> Vec<&str> {
    let mut found = Vec::new();
    for tree in trees {
        match tree {
            Tree::Word(word) => found.push(word.as_str()),
            Tree::Group(_, inner) => found.extend(words(inner)),
            _ => {}
        }
    }
    found
}

/// Every text literal in these tokens, at any depth, as it is written.
pub(crate) fn literals(trees: &[Tree]) -> Vec<&str> {
    let mut found = Vec::new();
    for tree in trees {
        match tree {
            Tree::Literal(literal) => found.push(literal.as_str()),
            Tree::Group(_, inner) => found.extend(literals(inner)),
            _ => {}
        }
    }
    found
}
