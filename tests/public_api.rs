//! The public interface as a text beside this test: whoever changes it sees the change, and means it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use source::{Crate, Module, Tree, attributes, item_length, keyword, text, visibility};

const SNAPSHOT: &str = "tests/public_api.txt";

/// One item where it is defined.
#[derive(Clone, Debug)]
struct Item {
    attributes: Vec<Vec<Tree>>,
    trees: Vec<Tree>,
}

impl Item {
    fn keyword(&self) -> &str {
        keyword(&self.trees)
    }

    fn is_public(&self) -> bool {
        visibility(&self.trees).0.as_deref() == Some("pub")
    }

    /// The name after the keyword; of a macro, the name after `!`.
    fn name(&self) -> Option<&str> {
        let at = self.trees.iter().position(|tree| tree.is(self.keyword()))?;
        let after = self.trees.get(at + 1..)?;
        after.iter().find_map(Tree::word)
    }

    fn group(&self) -> &[Tree] {
        self.trees.last().and_then(|last| last.group('{')).unwrap_or_default()
    }
}

/// The arms of macros by their names.
type Macros = BTreeMap<String, Vec<Tree>>;

/// The macros that these tokens define.
fn macros_of(trees: &[Tree]) -> Macros {
    let definitions = trees.windows(4).filter_map(|window| match window {
        [word, Tree::Mark('!'), Tree::Word(name), Tree::Group('{', arms)] if word.is("macro_rules") => {
            Some((name.clone(), arms.clone()))
        }
        _ => None,
    });
    definitions.collect()
}

/// The items in these tokens, and those that the crate's own macros make.
fn items(trees: &[Tree], macros: &Macros) -> Vec<Item> {
    let mut found = Vec::new();
    let mut rest = trees;
    while !rest.is_empty() {
        let (attributes, item) = attributes(rest);
        let length = item_length(item).max(1).min(item.len());
        let (tokens, after) = item.split_at(length);
        rest = after;
        let call = tokens.windows(3).find_map(|window| match window {
            [Tree::Word(name), Tree::Mark('!'), Tree::Group('(', input)] => Some((macros.get(name)?, input)),
            _ => None,
        });
        match (tokens, call) {
            ([], _) => break,
            // A call at the beginning, by a path or without.
            ([Tree::Word(_), Tree::Mark('!' | ':'), ..], Some((arms, input))) => {
                found.extend(items(&expand(arms, input), macros));
            }
            _ => {
                let attributes = attributes.into_iter().map(<[Tree]>::to_vec).collect();
                found.push(Item { attributes, trees: tokens.to_vec() });
            }
        }
    }
    found
}

/// What a macro of one arm makes of an input whose parts commas divide.
fn expand(arms: &[Tree], input: &[Tree]) -> Vec<Tree> {
    fn substitute(body: &[Tree], values: &BTreeMap<&str, &[Tree]>) -> Vec<Tree> {
        let mut made = Vec::new();
        let mut rest = body;
        while let Some((first, after)) = rest.split_first() {
            rest = match rest {
                [Tree::Mark('$'), Tree::Word(name), after @ ..] if values.contains_key(name.as_str()) => {
                    made.extend_from_slice(values[name.as_str()]);
                    after
                }
                // `$(#[$doc])*`
                [Tree::Mark('$'), Tree::Group(..), Tree::Mark('*'), after @ ..] => after,
                _ => {
                    made.push(match first {
                        Tree::Group(open, inner) => Tree::Group(*open, substitute(inner, values)),
                        other => other.clone(),
                    });
                    after
                }
            };
        }
        made
    }
    let [Tree::Group('(', matcher), Tree::Mark('='), Tree::Mark('>'), Tree::Group('{', body), ..] = arms
    else {
        panic!("this test reads macros of one arm only: {}", text(arms));
    };
    let names = matcher.windows(3).filter_map(|window| match window {
        [Tree::Mark('$'), Tree::Word(name), Tree::Mark(':')] => Some(name.as_str()),
        _ => None,
    });
    let values = input.split(|tree| tree.is(",")).filter(|part| !part.is_empty());
    substitute(body, &names.zip(values).collect())
}

/// The crate's modules with their items.
struct Source {
    modules: BTreeMap<Vec<String>, (Module, Vec<Item>)>,
}

/// A public item by its public path.
struct Public {
    conditions: Vec<String>,
    item: Item,
}

impl Source {
    fn new(library: Crate) -> Self {
        let macros = library.modules.iter().flat_map(|module| macros_of(&module.trees)).collect();
        let with_items = |module: Module| (module.path.clone(), (items(&module.trees, &macros), module));
        let modules = library.modules.into_iter().map(with_items);
        Self { modules: modules.map(|(path, (items, module))| (path, (module, items))).collect() }
    }

    /// What a module's `pub use` lines and definitions offer, by public name.
    fn offers(&self, module: &[String], prefix: &str, conditions: &[String]) -> Vec<(String, Public)> {
        let mut found = Vec::new();
        let Some((_, items)) = self.modules.get(module) else { return found };
        for item in items.iter().filter(|item| item.is_public()) {
            let conditions = [conditions, &cfgs(item)].concat();
            if item.keyword() == "use" {
                let at = item.trees.iter().position(|tree| tree.is("use")).unwrap();
                for (path, name) in source::use_paths(&item.trees[at + 1..]) {
                    found.extend(self.offered(
                        module,
                        &path,
                        &format!("{prefix}{name}"),
                        prefix,
                        &conditions,
                    ));
                }
            } else if let (Some(name), "mod") = (item.name(), item.keyword()) {
                let own = [module, &[name.to_owned()]].concat();
                found.extend(self.offers(&own, &format!("{prefix}{name}::"), &conditions));
            } else if let (Some(name), false) = (item.name(), item.keyword() == "impl") {
                let public = Public { conditions, item: item.clone() };
                found.push((format!("{prefix}{name}"), public));
            }
        }
        found
    }

    /// What one path of a `pub use` stands for.
    fn offered(
        &self,
        module: &[String],
        path: &[String],
        name: &str,
        prefix: &str,
        conditions: &[String],
    ) -> Vec<(String, Public)> {
        let full = match path.split_first() {
            Some((first, rest)) if first == "crate" => rest.to_vec(),
            _ => [module, path].concat(),
        };
        let (last, parent) = full.split_last().unwrap();
        if last == "*" {
            return self.offers(parent, prefix, conditions);
        }
        if self.modules.contains_key(&full) {
            return self.offers(&full, &format!("{name}::"), conditions);
        }
        let offers = self.offers(parent, "", conditions);
        let own = offers.into_iter().filter(|(offered, _)| offered == last);
        own.map(|(_, public)| (name.to_owned(), public)).collect()
    }

    fn all_items(&self) -> impl Iterator<Item = (&Module, &Item)> {
        self.modules.values().flat_map(|(module, items)| items.iter().map(move |item| (module, item)))
    }
}

fn cfgs(item: &Item) -> Vec<String> {
    item.attributes.iter().filter(|found| found[0].is("cfg")).map(|found| text(found)).collect()
}

/// The attributes that a user of an item notices, in one order.
fn seen_attributes(item: &Item) -> Vec<String> {
    const SEEN: &[&str] = &["non_exhaustive", "must_use", "deprecated", "derive", "repr", "default", "from"];
    let seen = item.attributes.iter().filter(|found| SEEN.iter().any(|word| found[0].is(word)));
    let mut lines: Vec<_> = seen.map(|found| format!("#[{}]", in_order(found))).collect();
    lines.sort();
    lines
}

/// A list of derives, sorted; anything else as it is.
fn in_order(attribute: &[Tree]) -> String {
    match attribute {
        [word, Tree::Group('(', list)] if word.is("derive") => {
            let parts: BTreeSet<_> = list.split(|tree| tree.is(",")).map(text).collect();
            format!("derive({})", Vec::from_iter(parts).join(", "))
        }
        [word, ..] if word.is("must_use") => "must_use".to_owned(),
        other => text(other),
    }
}

/// The head of an item: all before its body or its semicolon.
fn head(trees: &[Tree]) -> String {
    let trees = match trees {
        [head @ .., last] if last.is(";") || last.group('{').is_some() => head,
        all => all,
    };
    // Whether an argument's binding is mutable is nobody's business.
    let unbound = trees.iter().map(|tree| match tree {
        Tree::Group('(', inner) => {
            let mut kept: Vec<Tree> = Vec::new();
            for tree in inner {
                if !(tree.is("mut") && kept.last().is_none_or(|last| last.is(","))) {
                    kept.push(tree.clone());
                }
            }
            Tree::Group('(', kept)
        }
        other => other.clone(),
    });
    text(&unbound.collect::<Vec<_>>())
}

/// The parts that commas divide, outside of angle brackets.
fn parts(trees: &[Tree]) -> Vec<&[Tree]> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, tree) in trees.iter().enumerate() {
        match tree {
            Tree::Mark('<') => depth += 1,
            Tree::Mark('>') if !trees[at - 1].is("-") && !trees[at - 1].is("=") => depth -= 1,
            Tree::Mark(',') if depth == 0 => {
                found.push(&trees[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&trees[start..]);
    found.retain(|part| !part.is_empty());
    found
}

fn as_item(part: &[Tree]) -> Item {
    let (found, trees) = attributes(part);
    Item { attributes: found.into_iter().map(<[Tree]>::to_vec).collect(), trees: trees.to_vec() }
}

fn push_member(lines: &mut Vec<String>, indent: &str, item: &Item, line: &str) {
    let own = cfgs(item).into_iter().map(|cfg| format!("#[{cfg}]")).chain(seen_attributes(item));
    lines.extend(own.map(|line| format!("{indent}{line}")));
    lines.push(format!("{indent}{line}"));
}

/// A definition: its attributes, its head, and of its body what is public.
fn definition(public: &Public) -> Vec<String> {
    let mut lines: Vec<_> = public.conditions.iter().map(|cfg| format!("#[{cfg}]")).collect();
    lines.extend(seen_attributes(&public.item));
    let Item { trees, .. } = &public.item;
    let body = public.item.group();
    match public.item.keyword() {
        "struct" if trees.last().is_some_and(|last| last.is(";")) => {
            let fields = trees.iter().find_map(|tree| tree.group('('));
            let before = trees.iter().position(|tree| tree.group('(').is_some() || tree.is(";")).unwrap();
            let fields = fields.map(|fields| {
                let fields = parts(fields).into_iter().map(|field| as_item(field).trees);
                let fields = fields.map(|field| match visibility(&field).0.as_deref() {
                    Some("pub") => text(&field),
                    _ => "_".to_owned(),
                });
                format!("({})", Vec::from_iter(fields).join(", "))
            });
            lines.push(format!("{}{};", text(&trees[..before]), fields.unwrap_or_default()));
        }
        "struct" => {
            let fields: Vec<_> = parts(body).into_iter().map(as_item).collect();
            lines.push(format!("{} {{", head(trees)));
            for field in fields.iter().filter(|field| field.is_public()) {
                push_member(&mut lines, "    ", field, &format!("{},", text(&field.trees)));
            }
            if !fields.iter().all(Item::is_public) {
                lines.push("    // and private fields".to_owned());
            }
            lines.push("}".to_owned());
        }
        "enum" => {
            lines.push(format!("{} {{", head(trees)));
            for variant in parts(body).into_iter().map(as_item) {
                variant_lines(&variant, &mut lines);
            }
            lines.push("}".to_owned());
        }
        "trait" => {
            lines.push(format!("{} {{", head(trees)));
            for member in items(body, &Macros::new()) {
                let tail = if member.group().is_empty() { ";" } else { " { … }" };
                push_member(&mut lines, "    ", &member, &format!("{}{tail}", head(&member.trees)));
            }
            lines.push("}".to_owned());
        }
        "const" | "static" => {
            let end = trees.iter().position(|tree| tree.is("=")).unwrap_or(trees.len());
            lines.push(format!("{};", text(&trees[..end])));
        }
        _ => lines.push(format!("{};", head(trees))),
    }
    lines
}

fn variant_lines(variant: &Item, lines: &mut Vec<String>) {
    let without_attributes = |fields: &[Tree]| -> String {
        let fields = parts(fields).into_iter().map(as_item).map(|field| {
            let from = seen_attributes(&field).join(" ");
            if from.is_empty() { text(&field.trees) } else { format!("{from} {}", text(&field.trees)) }
        });
        Vec::from_iter(fields).join(", ")
    };
    let line = match variant.trees.as_slice() {
        [Tree::Word(name), Tree::Group('{', fields)] => {
            format!("{name} {{ {} }},", without_attributes(fields))
        }
        [Tree::Word(name), Tree::Group('(', fields)] => format!("{name}({}),", without_attributes(fields)),
        other => format!("{},", text(other)),
    };
    push_member(lines, "    ", variant, &line);
}

/// An `impl`: the trait's name if it is one, and the name of the type.
fn impl_names(item: &Item) -> (Option<String>, Option<String>) {
    fn name(trees: &[Tree]) -> Option<String> {
        let end = trees.iter().position(|tree| tree.is("<")).unwrap_or(trees.len());
        trees[..end].iter().rev().find_map(Tree::word).map(str::to_owned)
    }
    let end = trees_before_body(item);
    let mut trees = &item.trees[1..end];
    if trees.first().is_some_and(|first| first.is("<")) {
        let mut depth = 0;
        let close = trees.iter().enumerate().position(|(at, tree)| {
            depth += i32::from(tree.is("<"));
            depth -= i32::from(tree.is(">") && !trees[at - 1].is("-"));
            depth == 0
        });
        trees = &trees[close.unwrap() + 1..];
    }
    let for_at = trees.iter().position(|tree| tree.is("for"));
    match for_at {
        Some(at) => (name(&trees[..at]), name(&trees[at + 1..])),
        None => (None, name(trees)),
    }
}

fn trees_before_body(item: &Item) -> usize {
    item.trees.iter().position(|tree| tree.group('{').is_some()).unwrap_or(item.trees.len())
}

/// The whole interface as text: each item with its attributes, what it implements, and its public members.
fn interface(source: &Source) -> String {
    let root = source.offers(&[], "", &[]);
    let public: BTreeMap<String, Public> = root.into_iter().collect();
    let names: BTreeSet<&str> = public.values().filter_map(|public| public.item.name()).collect();
    let types = ["struct", "enum", "trait", "type", "union"];
    let defined = source.all_items().filter(|(_, item)| types.contains(&item.keyword()));
    let private: BTreeSet<&str> =
        defined.filter_map(|(_, item)| item.name()).filter(|name| !names.contains(name)).collect();

    let mut paragraphs: BTreeMap<String, Vec<String>> =
        public.iter().map(|(name, public)| (name.clone(), definition(public))).collect();
    for (name, member) in implementations(source, &public, &private) {
        paragraphs.entry(name).or_default().extend(member);
    }
    for (module, item) in source.all_items().filter(|(_, item)| item.keyword() == "macro_rules") {
        if item.attributes.iter().any(|found| found[0].is("macro_export")) {
            let mut lines: Vec<_> = module.conditions.iter().map(|cfg| format!("#[{cfg}]")).collect();
            lines.push(format!("macro_rules! {}", item.name().unwrap()));
            paragraphs.insert(format!("{}!", item.name().unwrap()), lines);
        }
    }
    let paragraphs = paragraphs.into_iter().map(|(name, lines)| format!("== {name}\n{}\n", lines.join("\n")));
    Vec::from_iter(paragraphs).join("\n")
}

/// The public members of inherent `impl`s and the heads of trait `impl`s, by the item to which they belong.
fn implementations(
    source: &Source,
    public: &BTreeMap<String, Public>,
    private: &BTreeSet<&str>,
) -> Vec<(String, Vec<String>)> {
    let path_of = |name: &str| {
        let found = public.iter().find(|(_, public)| public.item.name() == Some(name));
        found.map(|(path, _)| path.clone())
    };
    let mut inherent: BTreeMap<(String, String), Vec<Vec<String>>> = BTreeMap::new();
    let mut of_traits: BTreeSet<(String, String)> = BTreeSet::new();
    for (module, item) in source.all_items().filter(|(_, item)| item.keyword() == "impl") {
        let header = &item.trees[..trees_before_body(item)];
        if source::words(header).iter().any(|word| private.contains(word)) {
            continue;
        }
        let conditions = [module.conditions.clone(), cfgs(item)].concat();
        let cfg: String = conditions.iter().map(|cfg| format!("#[{cfg}] ")).collect();
        let line = format!("{cfg}{}", text(header));
        let owner = match impl_names(item) {
            (None, Some(own)) => path_of(&own),
            // Of a type elsewhere: with the type or the trait of ours that the header names.
            (Some(_), Some(own)) => {
                path_of(&own).or_else(|| source::words(header).into_iter().find_map(path_of))
            }
            _ => None,
        };
        let Some(owner) = owner else { continue };
        let members = items(item.group(), &Macros::new());
        if impl_names(item).0.is_some() {
            let associated = members.iter().filter(|member| ["type", "const"].contains(&member.keyword()));
            let associated: Vec<_> = associated.map(|member| text(&member.trees)).collect();
            let body = if associated.is_empty() {
                String::new()
            } else {
                format!(" {{ {} }}", associated.join(" "))
            };
            of_traits.insert((owner, format!("{line}{body}")));
            continue;
        }
        for member in members.iter().filter(|member| member.is_public()) {
            let own = Public { conditions: cfgs(member), item: member.clone() };
            let lines = definition(&own).into_iter().map(|line| format!("    {line}")).collect();
            inherent.entry((owner.clone(), line.clone())).or_default().push(lines);
        }
    }
    let mut found = Vec::new();
    for ((owner, line), mut members) in inherent {
        members.sort_by_key(|lines| lines.last().cloned());
        let members = members.into_iter().flatten();
        found.push((
            owner,
            [format!("{line} {{")].into_iter().chain(members).chain(["}".to_owned()]).collect(),
        ));
    }
    found.extend(of_traits.into_iter().map(|(owner, line)| (owner, vec![line])));
    found
}

/// The lines that stand in one text only, each with the item to which it belongs.
fn differences(before: &str, now: &str) -> Vec<String> {
    fn placed(text: &str) -> Vec<(&str, &str)> {
        let mut item = "";
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| {
                item = line.strip_prefix("== ").unwrap_or(item);
                (item, line)
            })
            .collect()
    }
    fn missing(left: &[(&str, &str)], right: &[(&str, &str)], sign: char, found: &mut Vec<String>) {
        let count = |list: &[(&str, &str)], line| list.iter().filter(|other| **other == line).count();
        for (at, line) in left.iter().enumerate() {
            if count(&left[..=at], *line) > count(right, *line) {
                found.push(format!("{sign} {}: {}", line.0, line.1.trim()));
            }
        }
    }
    let (before, now) = (placed(before), placed(now));
    let mut found = Vec::new();
    missing(&before, &now, '-', &mut found);
    missing(&now, &before, '+', &mut found);
    if found.is_empty() && before != now {
        found.push("the same lines, in another order".to_owned());
    }
    found
}

#[test]
fn the_public_interface_is_the_one_written_down() {
    let now = interface(&Source::new(source::library()));
    let path = source::package().join(SNAPSHOT);
    if std::env::var_os("KEYROTA_BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let found = differences(&before, &now);
    assert!(
        found.is_empty(),
        "the public interface differs from {SNAPSHOT}:\n{}\nIf that is meant: KEYROTA_BLESS=1 cargo test --test public_api",
        found.join("\n")
    );
}

/// Everything that `lib.rs` names is in the text.
#[test]
fn every_re_export_is_in_the_text() {
    let source = Source::new(source::library());
    let written = interface(&source);
    let (_, root) = &source.modules[&Vec::new()];
    let mut count = 0;
    for item in root.iter().filter(|item| item.keyword() == "use" && item.is_public()) {
        let at = item.trees.iter().position(|tree| tree.is("use")).unwrap();
        for (_, name) in source::use_paths(&item.trees[at + 1..]) {
            count += 1;
            let found =
                written.contains(&format!("== {name}\n")) || written.contains(&format!("== {name}::"));
            assert!(found, "{name} is re-exported and not in {SNAPSHOT}");
        }
    }
    assert!(count > 50);
}

#[test]
fn each_sort_of_change_shows() {
    let module = |path: &[&str], file: &str, text: &str| Module {
        path: path.iter().map(|word| (*word).to_owned()).collect(),
        file: Path::new(file).to_owned(),
        trees: source::without_tests(&source::tokens(text)),
        conditions: Vec::new(),
    };
    let of = |a: &str| {
        let root = module(&[], "lib.rs", "mod a; pub use crate::a::{Shape, Sized, Made, Talks};");
        let library = Crate { modules: vec![root, module(&["a"], "a.rs", a)], ..Crate::default() };
        interface(&Source::new(library))
    };
    let before = "
        #[derive(Clone, Debug)] #[non_exhaustive] pub enum Shape { Round, Edged { sides: u8 } }
        pub struct Sized { pub width: u32, height: u32 }
        impl Sized { #[must_use] pub fn width(&self) -> u32 { 1 } fn own(&self) {} }
        impl From<Sized> for u32 { fn from(s: Sized) -> u32 { s.width } }
        macro_rules! made { ($(#[$d:meta])* $name:ident, $p:literal) => { $(#[$d])* pub struct $name(u8); } }
        made!(/// Text.
            Made, \"m\");
        pub trait Talks { fn talk(&self) -> u8; fn twice(&self) -> u8 { 2 } }
        struct Hidden;";
    let text = of(before);
    for (change, with, expected) in [
        ("Debug", "Debug, Copy", "+ Shape: #[derive(Clone, Copy, Debug)]"),
        ("#[non_exhaustive] ", "", "- Shape: #[non_exhaustive]"),
        ("Round", "Round, Flat", "+ Shape: Flat,"),
        ("sides: u8", "sides: u16", "+ Shape: Edged { sides: u16 },"),
        ("pub width: u32", "width: u32", "- Sized: pub width: u32,"),
        ("#[must_use] ", "", "- Sized: #[must_use]"),
        ("pub fn width(&self)", "pub fn width(&mut self)", "+ Sized: pub fn width(&mut self) -> u32;"),
        ("impl From<Sized> for u32", "impl From<Sized> for u64", "+ Sized: impl From<Sized> for u64"),
        ("pub struct $name(u8)", "pub struct $name(pub u8)", "+ Made: pub struct Made(pub u8);"),
        ("fn twice(&self) -> u8 { 2 }", "fn twice(&self) -> u8;", "+ Talks: fn twice(&self) -> u8;"),
    ] {
        assert!(before.contains(change), "{change}");
        let found = differences(&text, &of(&before.replace(change, with)));
        assert!(found.iter().any(|line| line == expected), "{change} -> {with}: {found:#?}");
    }
    for unseen in ["struct Hidden; struct Other;", "struct Hidden; impl Hidden { pub fn f() {} }"] {
        assert_eq!(of(&before.replace("struct Hidden;", unseen)), text, "{unseen}");
    }
    let open = module(&["b"], "b.rs", "mod c; pub use c::Within; pub fn near() {}");
    let modules = |within| {
        let root = module(&[], "lib.rs", "pub mod b;");
        interface(&Source::new(Crate { modules: vec![root, open.clone(), within], ..Crate::default() }))
    };
    let (one, other) = ("pub struct Within(pub u8); struct Without;", "pub struct Within(pub u16);");
    let [one, other] = [one, other].map(|text| modules(module(&["b", "c"], "c.rs", text)));
    assert!(one.contains("== b::near\npub fn near();") && !one.contains("Without"), "{one}");
    let found = differences(&one, &other);
    assert_eq!(
        found,
        ["- b::Within: pub struct Within(pub u8);", "+ b::Within: pub struct Within(pub u16);"]
    );
    let moved = before.replace("fn own(&self) {} }", "} impl Sized { fn own(&self) { g() } }");
    assert_eq!(of(&moved), text, "a body and a place are not the interface");
}
