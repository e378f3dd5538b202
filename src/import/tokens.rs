//! Lists of tokens, as people keep them in an environment variable or a file.

use std::io::{Read, Seek};

use serde_json::Value;

use crate::import::cells::Cells;
use crate::import::column::ImportColumn;
use crate::import::input::Input;
use crate::import::json::{read_line, set};
use crate::import::key::ForeignKey;
use crate::import::problem::LineProblem;
use crate::import::source::{Columns, Line, Lines, SourceError};

/// How a list of tokens is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenList {
    /// As it looks: JSON (an array of tokens or of objects, or an object of tokens by name), or else tokens with commas,
    /// semicolons, blanks or line ends between them, each as it is or behind a name and `=` or `:`.
    #[default]
    Any,
    /// Tokens with commas, semicolons, blanks or line ends between them, each as it is: for tokens that hold `=` or `:`.
    Bare,
}

/// The shortest text behind a name that is taken for a token: what is shorter belongs to the token, as the padding of
/// base64 does.
const SHORTEST: usize = 8;

impl TokenList {
    /// One item: a name, if it has one, and a token.
    fn split(self, item: &str) -> (Option<&str>, &str) {
        let named = item.split_once(['=', ':']).filter(|(name, token)| {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            (1..=64).contains(&name.len()) && name.bytes().all(is_name) && token.len() >= SHORTEST
        });
        match (self, named) {
            (Self::Any, Some((name, token))) => (Some(name), token),
            _ => (None, item),
        }
    }

    fn key(self, item: &str) -> Result<ForeignKey, LineProblem> {
        let (name, token) = self.split(item);
        let mut key = ForeignKey::default();
        key.set(ImportColumn::Name, name.unwrap_or_default())?;
        key.set(ImportColumn::Token, token.trim_matches(['"', '\'']))?;
        Ok(key)
    }

    /// All tokens of a text.
    pub(super) fn parse(self, text: &str, columns: &mut Columns) -> Vec<Result<ForeignKey, LineProblem>> {
        if self == Self::Any && text.trim_start().starts_with(['[', '{']) {
            return match serde_json::from_str(text) {
                Ok(value) => of_json(value, columns),
                Err(_) => vec![Err(LineProblem::Json)],
            };
        }
        let items = text.split([',', ';', ' ', '\t', '\r', '\n']).filter(|item| !item.is_empty());
        items.map(|item| self.key(item)).collect()
    }
}

fn of_json(value: Value, columns: &mut Columns) -> Vec<Result<ForeignKey, LineProblem>> {
    match value {
        Value::Array(items) => items.into_iter().map(|item| item_of_json(item, columns)).collect(),
        Value::Object(fields) => {
            let one = |(name, token): (String, Value)| {
                let mut key = ForeignKey::default();
                key.set(ImportColumn::Name, &name)?;
                if token.is_string() {
                    set(&mut key, ImportColumn::Token, token)
                } else {
                    Err(LineProblem::Json)
                }?;
                Ok(key)
            };
            fields.into_iter().map(one).collect()
        }
        _ => vec![Err(LineProblem::Json)],
    }
}

fn item_of_json(item: Value, columns: &mut Columns) -> Result<ForeignKey, LineProblem> {
    let mut key = ForeignKey::of_form(columns.form);
    match item {
        Value::String(_) => set(&mut key, ImportColumn::Token, item)?,
        Value::Object(fields) => {
            for (name, value) in fields {
                set(&mut key, columns.column(&name), value)?;
            }
        }
        _ => return Err(LineProblem::Json),
    }
    Ok(key)
}

/// A list that is held: it is short.
pub(super) struct Held {
    keys: Vec<Result<ForeignKey, LineProblem>>,
    next: usize,
}

impl Held {
    pub(super) fn new(keys: Vec<Result<ForeignKey, LineProblem>>) -> Self {
        Self { keys, next: 0 }
    }
}

impl Lines for Held {
    fn rewind(&mut self) -> Result<(), SourceError> {
        self.next = 0;
        Ok(())
    }

    fn next(&mut self, _: &mut Columns) -> Result<Option<Line>, SourceError> {
        let Some(key) = self.keys.get(self.next) else { return Ok(None) };
        self.next += 1;
        Ok(Some(Line { number: self.next as u64, key: key.clone().map(Box::new) }))
    }
}

/// A file with one token on each line, as it is or behind a name; empty lines and those that begin with `#` are none.
pub(super) struct TokenLines<'a> {
    input: Input<'a>,
    line: Cells,
    form: TokenList,
}

impl<'a> TokenLines<'a> {
    pub(super) fn new(reader: impl Read + Seek + Send + 'a, form: TokenList) -> Self {
        Self { input: Input::new(reader), line: Cells::new(), form }
    }
}

impl Lines for TokenLines<'_> {
    fn rewind(&mut self) -> Result<(), SourceError> {
        self.input.rewind()
    }

    fn next(&mut self, _: &mut Columns) -> Result<Option<Line>, SourceError> {
        loop {
            let number = self.input.line;
            if !read_line(&mut self.input, &mut self.line)? {
                return Ok(None);
            }
            let Some(text) = self.line.texts().and_then(|mut texts| texts.next()) else {
                return Ok(Some(Line { number, key: Err(LineProblem::Unreadable) }));
            };
            let item = text.trim_start_matches('\u{FEFF}').trim();
            if !item.is_empty() && !item.starts_with('#') {
                return Ok(Some(Line { number, key: self.form.key(item).map(Box::new) }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::key::ForeignSecret;

    fn read(form: TokenList, text: &str) -> Vec<String> {
        let shown = |key: Result<ForeignKey, LineProblem>| match key {
            Ok(ForeignKey { name, secret: Some(ForeignSecret::Token(token)), .. }) => {
                let name = name.map(|name| format!("{}=", name.as_str())).unwrap_or_default();
                format!("{name}{}", str::from_utf8(token.expose()).unwrap())
            }
            Ok(_) => "nothing".to_owned(),
            Err(problem) => problem.to_string(),
        };
        form.parse(text, &mut Columns::default()).into_iter().map(shown).collect()
    }

    #[test]
    fn a_variable_is_read_in_every_form_in_which_people_keep_tokens() {
        let two = vec!["tok-aaaa1", "tok-bbbb2"];
        for text in [
            "tok-aaaa1,tok-bbbb2",
            " tok-aaaa1 ; tok-bbbb2; ",
            "tok-aaaa1 tok-bbbb2",
            "tok-aaaa1\r\ntok-bbbb2\n",
            "[\"tok-aaaa1\", \"tok-bbbb2\"]",
            "[{\"token\": \"tok-aaaa1\"}, {\"api_key\": \"tok-bbbb2\"}]",
        ] {
            assert_eq!(read(TokenList::Any, text), two, "{text}");
        }
        let named = vec!["ci=tok-aaaa1", "web=tok-bbbb2"];
        for text in [
            "ci:tok-aaaa1,web:tok-bbbb2",
            "ci=tok-aaaa1 web=tok-bbbb2",
            "ci=\"tok-aaaa1\"\nweb='tok-bbbb2'",
            "{\"ci\": \"tok-aaaa1\", \"web\": \"tok-bbbb2\"}",
            "[{\"name\":\"ci\",\"key\":\"tok-aaaa1\"},{\"name\":\"web\",\"key\":\"tok-bbbb2\"}]",
        ] {
            assert_eq!(read(TokenList::Any, text), named, "{text}");
        }
        assert_eq!(read(TokenList::Any, "c2VjcmV0LWtleS0x=="), ["c2VjcmV0LWtleS0x=="], "padding is no name");
        assert_eq!(read(TokenList::Bare, "user:password1,a=bbbbbbbbb"), ["user:password1", "a=bbbbbbbbb"]);
        assert!(read(TokenList::Any, " ,; \n").is_empty());
        for text in ["[1]", "[[]]", "{\"a\":1}", "[\"unfinished"] {
            assert_eq!(read(TokenList::Any, text), ["the line is not a JSON object"], "{text}");
        }
    }
}
