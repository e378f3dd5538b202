//! Answers: one JSON object for programs, or tables and fields for people.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

use keyrota::Timestamp;
use serde::Serialize;
use serde_json::{Map, Number, Value};

use crate::failure::{Done, Failure};
use crate::table::{Table, printable};

/// Where answers go.
pub(crate) struct Out {
    json: bool,
    pub(crate) look: Look,
    to: BufWriter<Stdout>,
}

/// How tables look here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Columns of the terminal; `None` where what is written need not fit.
    pub(crate) width: Option<usize>,
    pub(crate) colours: bool,
}

impl Look {
    fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let width =
            terminal.then(|| terminal_size::terminal_size().map(|(width, _)| width.0.into())).flatten();
        // A terminal that does not know its size says 0.
        let width = width.filter(|width| *width > 0);
        Self { width, colours: terminal && !set("NO_COLOR") && !dumb }
    }

    /// A word in the colour of what it means, where there are colours.
    pub(crate) fn paint(self, word: &str) -> String {
        let colour = match word {
            "active" | "yes" | "ok" | "sound" | "granted" | "completed" | "on" => 32,
            "deprecated" | "pending" | "not_yet" | "warning" | "in_progress" | "grace_period" => 33,
            "revoked" | "ended" | "suspended" | "failed" | "denied" | "broken" => 31,
            _ => return word.to_owned(),
        };
        if self.colours { format!("\u{1b}[{colour}m{word}\u{1b}[0m") } else { word.to_owned() }
    }

    pub(crate) fn strong(self, text: &str) -> String {
        if self.colours { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, look: Look::of_stdout(), to: BufWriter::new(io::stdout()) }
    }

    /// Answers with an object, or tells it to people.
    pub(crate) fn answer(&mut self, value: &impl Serialize, people: impl FnOnce(&mut Self) -> Done) -> Done {
        if self.json {
            serde_json::to_writer(&mut self.to, &public(json(value)?)).map_err(io::Error::from)?;
            self.to.write_all(b"\n")?;
        } else {
            people(self)?;
        }
        Ok(self.to.flush()?)
    }

    pub(crate) fn line(&mut self, text: &str) -> Done {
        self.to.write_all(text.trim_end_matches('\n').as_bytes())?;
        Ok(self.to.write_all(b"\n")?)
    }

    pub(crate) fn table(&mut self, table: &Table) -> Done {
        let text = table.render(self.look);
        Ok(self.to.write_all(text.as_bytes())?)
    }

    /// Names and values, one pair a line; pairs without a value are left out.
    pub(crate) fn fields(&mut self, fields: &[(&str, String)]) -> Done {
        let width = fields.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.len()).max();
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
            let name = format!("{name:width$}", width = width.unwrap_or(0));
            self.line(&format!("{}  {}", self.look.strong(&name), self.look.paint(&printable(value))))?;
        }
        Ok(())
    }

    /// Bytes as they are, for exports.
    pub(crate) fn raw(&mut self) -> &mut impl io::Write {
        &mut self.to
    }
}

/// A value of the library as JSON.
pub(crate) fn json(value: &impl Serialize) -> Done<Value> {
    serde_json::to_value(value)
        .map_err(|error| Failure::Store(format!("the answer has no JSON form: {error}")))
}

/// The word that a value of the library has in JSON, such as `not_yet`.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(Value::Object(fields)) => fields.keys().next().cloned().unwrap_or_default(),
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// A time for people: `2027-01-01 00:00`, in UTC.
pub(crate) fn time(time: Timestamp) -> String {
    let told = time.to_string();
    told.get(..16).map_or(told.clone(), |minutes| minutes.replacen('T', " ", 1))
}

/// The same, or that there is none.
pub(crate) fn time_or(time_or_none: Option<Timestamp>, none: &str) -> String {
    time_or_none.map_or_else(|| none.to_owned(), time)
}

/// The library's records in the form in which the outside sees them: times as RFC 3339, spans in seconds, and a key
/// always as `key_id`.
fn public(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| public_field(name, value));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(public).collect()),
        other => other,
    }
}

fn public_field(name: String, value: Value) -> (String, Value) {
    const TIMES: &[&str] = &[
        "at",
        "claim_by",
        "day",
        "from",
        "grace_end",
        "hard_end",
        "hour",
        "last_used",
        "mark",
        "next_due",
        "since",
        "until",
    ];
    let is_time = TIMES.contains(&name.as_str()) || name.ends_with("_at") || name.ends_with("_until");
    match (name.strip_suffix("_us"), value) {
        // The host's own.
        (_, value) if name == "metadata" => (name, value),
        (None, Value::Number(micros)) if is_time => {
            let time = micros.as_i64().and_then(|micros| Timestamp::from_unix_micros(micros).ok());
            (name, time.map_or(Value::Number(micros), |time| Value::String(time.to_string())))
        }
        (Some(span), Value::Number(micros)) => (format!("{span}_seconds"), seconds(&micros)),
        (Some(span), Value::Array(spans)) => {
            let seconds = spans.iter().map(|span| span.as_number().map_or(Value::Null, seconds));
            (format!("{span}_seconds"), Value::Array(seconds.collect()))
        }
        (None, Value::String(key)) if name == "key" && key.starts_with("key_") => {
            ("key_id".to_owned(), Value::String(key))
        }
        (_, value) => (name, public(value)),
    }
}

fn seconds(micros: &Number) -> Value {
    match micros.as_u64() {
        Some(micros) if micros.is_multiple_of(1_000_000) => Value::from(micros / 1_000_000),
        Some(micros) => Value::from(micros as f64 / 1e6),
        None => Value::Number(micros.clone()),
    }
}
