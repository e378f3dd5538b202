//! CSV as RFC 4180 has it, with nothing in it that a spreadsheet would carry out.

use crate::audit::AuditEntry;
use crate::report::compliance::KeyCompliance;

/// One line, field by field.
#[derive(Debug, Default)]
struct CsvLine(String);

/// What makes a spreadsheet take a text for a formula, in narrow and in wide characters.
fn begins_a_formula(text: &str) -> bool {
    let first = text.trim_start().chars().next().or(text.chars().next());
    let is_told_apart = |c: char| {
        matches!(c, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '|' | '%' | '＝' | '＋' | '－' | '＠')
    };
    first.is_some_and(is_told_apart)
}

impl CsvLine {
    /// Adds a field. One that a spreadsheet would take for a formula gets an apostrophe before it.
    fn field(&mut self, field: impl std::fmt::Display) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        let text = field.to_string();
        self.0.push('"');
        if begins_a_formula(&text) {
            self.0.push('\'');
        }
        self.0.push_str(&text.replace('"', "\"\""));
        self.0.push('"');
    }

    /// The same of what may be absent.
    fn optional(&mut self, field: Option<impl std::fmt::Display>) {
        match field {
            Some(field) => self.field(field),
            None => self.field(""),
        }
    }

    /// The whole line, with its end.
    fn end(mut self) -> String {
        self.0.push_str("\r\n");
        self.0
    }
}

/// A line of names, and a line of each key.
pub(crate) fn key_fields(key: Option<&KeyCompliance>) -> String {
    const NAMES: [&str; 13] = [
        "key_id",
        "name",
        "owner",
        "hint",
        "version",
        "issued_at",
        "age_days",
        "standing",
        "exempt_because",
        "never_rotates",
        "next_rotation_at",
        "ends_at",
        "is_stale",
    ];
    let mut line = CsvLine::default();
    let Some(key) = key else {
        NAMES.iter().for_each(|name| line.field(name));
        return line.end();
    };
    line.field(key.key);
    line.field(key.name.as_str());
    line.field(key.owner);
    line.field(&key.hint);
    line.field(key.version.get());
    line.field(key.issued_at);
    line.field(key.age_days);
    line.field(key.standing.as_str());
    line.optional(key.exempt_because.as_deref());
    line.optional(key.never_rotates.map(super::NeverRotates::as_str));
    line.optional(key.next_rotation_at);
    line.optional(key.ends_at);
    line.field(key.is_stale);
    line.end()
}

/// A line of names, and a line of each entry that tells of a rotation.
pub(crate) fn rotation_fields(entry: Option<&AuditEntry>) -> String {
    const NAMES: [&str; 12] = [
        "seq",
        "at",
        "event",
        "rotation_id",
        "key_id",
        "owner",
        "version",
        "old_fingerprint",
        "new_fingerprint",
        "actor",
        "reason",
        "failure",
    ];
    let mut line = CsvLine::default();
    let Some(AuditEntry { seq, event }) = entry else {
        NAMES.iter().for_each(|name| line.field(name));
        return line.end();
    };
    line.field(seq);
    line.field(event.at);
    line.field(event.kind);
    line.optional(event.rotation);
    line.optional(event.key);
    line.optional(event.owner);
    line.optional(event.version.map(crate::id::VersionNo::get));
    line.optional(event.old_fingerprint);
    line.optional(event.new_fingerprint);
    line.field(&event.actor);
    line.optional(event.reason.as_deref());
    line.optional(event.subject.as_deref());
    line.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: &[&str]) -> String {
        let mut line = CsvLine::default();
        fields.iter().for_each(|field| line.field(field));
        line.end()
    }

    #[test]
    fn a_field_is_quoted_and_its_quotes_are_doubled() {
        assert_eq!(line(&["a", "b,c", "d \"e\"", ""]), "\"a\",\"b,c\",\"d \"\"e\"\"\",\"\"\r\n");
        assert_eq!(line(&["", "a"]), "\"\",\"a\"\r\n");
    }

    #[test]
    fn what_a_spreadsheet_would_carry_out_is_text() {
        for bad in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\u{a0}=1", "＝1", "|calc", "%1"] {
            assert_eq!(line(&[bad]), format!("\"'{bad}\"\r\n"), "{bad:?}");
        }
        for fine in ["a=1", "1-2", "2027-01-01T00:00:00Z", "key_4fTq0Zr1xYbA…", "ada@example.com", "", " "]
        {
            assert_eq!(line(&[fine]), format!("\"{fine}\"\r\n"), "{fine:?}");
        }
    }
}
