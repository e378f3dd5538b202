//! Talking with whoever sits at the terminal: questions, tokens that are typed, and progress.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use zeroize::Zeroizing;

use crate::failure::{Done, Failure};
use crate::place::Place;

/// Asks before something that cannot be undone. Without a terminal to ask on, only `--yes` lets it pass.
pub(crate) fn confirm(place: &Place, question: impl FnOnce() -> Done<String>) -> Done {
    if place.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::Usage(
            "this cannot be undone; without a terminal to ask on, say --yes".to_owned(),
        ));
    }
    let mut stderr = io::stderr();
    write!(stderr, "{} [y/N] ", question()?)?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::Denied("nothing was done".to_owned())),
    }
}

/// The longest token that is read; longer ones are none.
const LONGEST: u64 = 4_096;

/// A token from standard input, or typed at a terminal, where it is not shown.
pub(crate) fn read_token() -> Done<Zeroizing<String>> {
    let unreadable = |error: io::Error| Failure::Store(format!("no token could be read: {error}"));
    let text = if io::stdin().is_terminal() {
        Zeroizing::new(rpassword::prompt_password("Token (not shown): ").map_err(unreadable)?)
    } else {
        let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize));
        let read = io::stdin().lock().take(LONGEST).read_to_string(&mut text);
        match read {
            Ok(_) => text,
            // What is no text is no token: it gets the same answer.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Zeroizing::new("?".to_owned()),
            Err(error) => return Err(unreadable(error)),
        }
    };
    if text.trim().is_empty() {
        return Err(Failure::Usage("give the token on standard input: keyrota … < token-file".to_owned()));
    }
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// How far something long is, on a terminal only; wiped away at its end.
pub(crate) struct Progress {
    shown: bool,
    told: String,
}

/// Of how many characters a bar consists.
const BAR: u64 = 30;

impl Progress {
    pub(crate) fn new(place: &Place) -> Self {
        Self { shown: io::stderr().is_terminal() && !place.json, told: String::new() }
    }

    pub(crate) fn say(&mut self, text: &str) {
        if self.shown && self.told != text {
            text.clone_into(&mut self.told);
            // Nobody misses a progress that cannot be shown.
            drop(write!(io::stderr(), "\r\u{1b}[K{text}"));
        }
    }

    /// A bar, where it is known how much there is to do.
    pub(crate) fn bar(&mut self, what: &str, done: u64, all: u64) {
        if self.shown {
            self.say(&bar(what, done, all));
        }
    }
}

fn bar(what: &str, done: u64, all: u64) -> String {
    let of = |parts: u64| (u128::from(done.min(all)) * u128::from(parts) / u128::from(all.max(1))) as usize;
    let full = of(BAR);
    format!("{what} [{}{}] {:3} %", "#".repeat(full), "-".repeat(BAR as usize - full), of(100))
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.told.is_empty() {
            drop(write!(io::stderr(), "\r\u{1b}[K"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_wide_at_its_end_as_at_its_beginning() {
        let bars = [(0, 7), (1, 7), (6, 7), (7, 7), (9, 7), (0, 0), (u64::MAX, u64::MAX)];
        let bars = bars.map(|(done, all)| bar("copying", done, all));
        assert_eq!(bars[0], "copying [------------------------------]   0 %");
        assert_eq!(bars[1], "copying [####--------------------------]  14 %");
        assert_eq!(bars[3], "copying [##############################] 100 %");
        assert_eq!((&bars[4], &bars[6], &bars[5]), (&bars[3], &bars[3], &bars[0]));
        assert!(bars.iter().all(|bar| bar.len() == bars[0].len()));
    }
}
