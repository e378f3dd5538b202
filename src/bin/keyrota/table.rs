//! Tables that fit a terminal.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::out::Look;

/// Rows under heads.
pub(crate) struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// A column that is longer than this may be cut where the terminal is too narrow.
const LEAST: usize = 10;
const GAP: usize = 2;

impl Table {
    /// A head that ends in `…` names a column that may be cut.
    pub(crate) fn new<const N: usize>(heads: [&'static str; N]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// As text, each line of which fits.
    pub(crate) fn render(&self, look: Look) -> String {
        let names: Vec<_> = self.heads.iter().map(|head| head.trim_end_matches('…')).collect();
        let widest = |(at, name): (usize, &&str)| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.width());
            cells.chain([name.width()]).max().unwrap_or(0)
        };
        let mut widths: Vec<_> = names.iter().enumerate().map(widest).collect();
        if let Some(room) = look.width
            && !self.shrink(&mut widths, room)
        {
            return self.blocks(&names, look, room);
        }
        let head: Vec<_> = names.iter().map(|name| name.to_uppercase()).collect();
        let mut text = line(&head, &widths, |cell| look.strong(cell));
        for row in &self.rows {
            text.push_str(&line(row, &widths, |cell| look.paint(cell)));
        }
        text
    }

    /// Takes from the widest column that may be cut until the table fits; says whether it does.
    fn shrink(&self, widths: &mut [usize], room: usize) -> bool {
        loop {
            let all = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
            if all <= room {
                return true;
            }
            let cuttable = self.heads.iter().zip(widths.iter_mut()).filter(|(head, _)| head.ends_with('…'));
            match cuttable.map(|(_, width)| width).filter(|width| **width > LEAST).max() {
                Some(width) => *width -= 1,
                None => return false,
            }
        }
    }

    /// One row after the other, a line for each cell: for a terminal that is too narrow for a table.
    fn blocks(&self, names: &[&str], look: Look, room: usize) -> String {
        let width = names.iter().map(|name| name.width()).max().unwrap_or(0);
        let mut text = String::new();
        for (at, row) in self.rows.iter().enumerate() {
            if at > 0 {
                text.push('\n');
            }
            for (name, cell) in names.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
                let cell = cut(cell, room.saturating_sub(width + GAP).max(LEAST));
                text.push_str(&format!(
                    "{}  {}\n",
                    look.strong(&format!("{name:width$}")),
                    look.paint(&cell)
                ));
            }
        }
        text
    }
}

fn line(cells: &[String], widths: &[usize], paint: impl Fn(&str) -> String) -> String {
    let mut text = String::new();
    for (at, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let cell = cut(cell, *width);
        let space = if at + 1 == widths.len() { 0 } else { width.saturating_sub(cell.width()) + GAP };
        text.push_str(&paint(&cell));
        text.push_str(&" ".repeat(space));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The text without what could move a terminal's cursor: what a receiver answered is told, too, and nobody checked that.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The text, or its beginning and `…`, in so many columns.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widest(text: &str) -> usize {
        text.lines().map(str::width).max().unwrap_or(0)
    }

    #[test]
    fn a_table_fits_its_terminal_and_keeps_ids_whole() {
        let mut table = Table::new(["key_id", "owner…", "name…", "status"]);
        let id = "key_0000000000000000000001".to_owned();
        table.row([id.clone(), "ada".into(), "a name that goes on and on and on".into(), "active".into()]);
        table.row([
            id.clone(),
            "Müller & Söhne".into(),
            "日本語の名前日本語の名前日本語の名前".into(),
            "ended".into(),
        ]);
        let all = table.render(Look { width: None, colours: false });
        assert!(all.contains("a name that goes on and on and on") && !all.contains('…'));
        for width in [60, 70, 80, 100] {
            let text = table.render(Look { width: Some(width), colours: false });
            assert!(widest(&text) <= width, "{width}: {text}");
            assert!(text.lines().skip(1).all(|line| line.starts_with(&id)), "{text}");
        }
        let narrow = table.render(Look { width: Some(40), colours: false });
        assert!(widest(&narrow) <= 40 && narrow.lines().count() == 9, "{narrow}");
        assert!(narrow.contains(&id));
    }

    #[test]
    fn what_somebody_else_said_moves_no_cursor() {
        let mut table = Table::new(["error…"]);
        table.row(["no such\u{1b}[2J\r\naddress".into()]);
        let text = table.render(Look { width: None, colours: false });
        assert_eq!(text.lines().nth(1), Some("no such\u{fffd}[2J\u{fffd}\u{fffd}address"));
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut table = Table::new(["status", "name"]);
        table.row(["active".into(), "a".into()]);
        let plain = table.render(Look { width: None, colours: false });
        let painted = table.render(Look { width: None, colours: true });
        let stripped = painted.replace("\u{1b}[32m", "").replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
        assert!(painted.contains("\u{1b}[32mactive\u{1b}[0m") && stripped == plain, "{painted:?}");
    }
}
