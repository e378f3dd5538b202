//! Importing keys of other systems: what is read, what it becomes, how it validates, and how it leaves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../hooked/mod.rs"]
mod hooked;

mod adopting;
mod batches;
mod rotating;
mod sources;
mod upgrading;
mod validating;

use std::io::Cursor;

use common::{Bed, owner};
use keyrota::{DigestForm, Import, ImportReport, ImportSource, KeyId, KeyManager, LineOutcome};
use ring::digest::{SHA256, SHA512, digest};

/// A token as another system makes them.
pub(crate) fn foreign(n: usize) -> String {
    let random = hex(&sha256(format!("token {n}").as_bytes())[..20]);
    format!("sk_live_{random}")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn sha256(text: &[u8]) -> Vec<u8> {
    digest(&SHA256, text).as_ref().to_vec()
}

/// As each form keeps a token, computed without the library.
pub(crate) fn kept(form: DigestForm, token: &str) -> String {
    match form {
        DigestForm::Sha256 => hex(&sha256(token.as_bytes())),
        DigestForm::Sha512 => format!("sha512$${}", hex(digest(&SHA512, token.as_bytes()).as_ref())),
        _ => hex(&sha256(token.rsplit('_').next().unwrap().as_bytes())),
    }
}

/// CSV with a digest on each line.
pub(crate) fn csv(lines: &[String]) -> ImportSource<'static> {
    ImportSource::csv(Cursor::new(format!("key_hash,owner,name,status\n{}\n", lines.join("\n"))))
}

pub(crate) fn line(token: &str) -> String {
    format!("{},ada,old key,active", kept(DigestForm::Sha256, token))
}

/// Imports digests of these tokens for ada, and tells their keys.
pub(crate) fn import(bed: &Bed, tokens: &[&str]) -> Vec<KeyId> {
    let lines: Vec<_> = tokens.iter().map(|token| line(token)).collect();
    import_from(bed, |source| source, csv(&lines))
}

pub(crate) fn import_from<'a>(
    bed: &'a Bed,
    terms: impl FnOnce(Import<'a>) -> Import<'a>,
    source: ImportSource<'a>,
) -> Vec<KeyId> {
    let mut keys = Vec::new();
    let import = terms(Import::from(source).owner(owner("ada")));
    run(&bed.keys, import, &mut keys);
    keys
}

pub(crate) fn run(manager: &KeyManager, import: Import<'_>, keys: &mut Vec<KeyId>) -> ImportReport {
    let import = import.each_line(|line| match &line.outcome {
        LineOutcome::Imported { key, .. } => keys.push(*key),
        other => panic!("line {}: {other:?}", line.line),
    });
    manager.by(keyrota::Actor::operator("root")).import(import).unwrap()
}
