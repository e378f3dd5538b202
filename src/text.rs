//! The bounds that every text from outside must keep: a length, and no control or bidirectional characters; and how
//! errors are told.

use std::fmt;

/// `Debug` of an error as its text and its causes: what `fn main() -> Result<…>` prints is what to do.
macro_rules! debug_as_told {
    ($error:ty) => {
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::text::tell(self, f)
            }
        }
    };
}
pub(crate) use debug_as_told;

/// Writes an error's text and those of its causes that it does not contain itself.
pub(crate) fn tell(error: &dyn std::error::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut told = error.to_string();
    f.write_str(&told)?;
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            write!(f, ": {text}")?;
        }
        told = text;
        cause = error.source();
    }
    Ok(())
}

/// A text from outside is empty, too long, or holds a character that could deceive a reader of logs.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The text is empty; give at least one visible character.
    #[error("{field} is empty; give at least one visible character")]
    Empty {
        /// Which argument it was.
        field: &'static str,
    },
    /// The text is longer than the field allows.
    #[error("{field} is longer than {max} bytes; shorten it")]
    TooLong {
        /// Which argument it was.
        field: &'static str,
        /// The longest length allowed, in bytes of UTF-8.
        max: usize,
    },
    /// The text holds a line break, another control character, or a bidirectional or invisible one.
    #[error("{field} holds a control, bidirectional or invisible character; remove it")]
    Forbidden {
        /// Which argument it was.
        field: &'static str,
    },
    /// The text does not have the form that the field asks for.
    #[error("{field} does not have the form {form}")]
    Syntax {
        /// Which argument it was.
        field: &'static str,
        /// The form, in words.
        form: &'static str,
    },
}

crate::text::debug_as_told!(TextError);

/// Line breaks and controls forge log lines; bidirectional and invisible characters make one text look like
/// another (Unicode TR 36 and 39).
pub(crate) fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

/// Whether `text` keeps the bounds of `field`.
pub(crate) fn check(field: &'static str, text: &str, max: usize) -> Result<(), TextError> {
    if text.len() > max {
        Err(TextError::TooLong { field, max })
    } else if text.chars().any(is_forbidden) {
        Err(TextError::Forbidden { field })
    } else if text.trim().is_empty() {
        Err(TextError::Empty { field })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_bounded_visible_and_on_one_line() {
        assert_eq!(check("name", "CI für Ünïcode 🔑", 64), Ok(()));
        assert_eq!(check("name", "'; DROP TABLE row; --", 64), Ok(()));
        assert_eq!(check("name", " \u{3000}", 64), Err(TextError::Empty { field: "name" }));
        assert_eq!(check("name", &"x".repeat(65), 64), Err(TextError::TooLong { field: "name", max: 64 }));
        for bad in ["a\nb", "a\r", "\0", "a\u{85}b", "a\u{202E}b", "a\u{2066}b", "a\u{200B}b", "a\u{E0041}b"]
        {
            assert_eq!(check("name", bad, 64), Err(TextError::Forbidden { field: "name" }), "{bad:?}");
        }
    }
}
