//! Cells: the texts of one line, in a buffer that is wiped.

use crate::secret::SecretBuffer;

const BUFFER: usize = 64 * 1024;

/// The cells of a line.
pub(super) struct Cells {
    text: SecretBuffer,
    length: usize,
    /// Where each cell ends.
    ends: Vec<usize>,
    /// Whether the line had no room.
    is_cut: bool,
}

impl Cells {
    pub(super) fn new() -> Self {
        let text = SecretBuffer::from_vec(vec![0; BUFFER]);
        Self { text, length: 0, ends: Vec::new(), is_cut: false }
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
        self.ends.clear();
        self.is_cut = false;
    }

    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        match self.text.expose_mut().get_mut(self.length) {
            Some(slot) => {
                *slot = byte;
                self.length += 1;
            }
            None => self.is_cut = true,
        }
    }

    /// Takes the last byte of the cell off, if it is this one.
    pub(super) fn trim_end(&mut self, byte: u8) {
        let begin = self.ends.last().copied().unwrap_or(0);
        let last = self.length.checked_sub(1).filter(|last| *last >= begin);
        if let Some(last) = last.filter(|last| self.text.expose().get(*last) == Some(&byte)) {
            self.length = last;
        }
    }

    /// Whether nothing of the cell was read yet but blanks.
    pub(super) fn is_at_begin(&self) -> bool {
        let begin = self.ends.last().copied().unwrap_or(0);
        let read = self.text.expose().get(begin..self.length).unwrap_or_default();
        read.iter().all(|byte| *byte == b' ')
    }

    pub(super) fn end_cell(&mut self) {
        self.ends.push(self.length);
    }

    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn is_blank(&self) -> bool {
        self.length == 0 && self.ends.len() <= 1
    }

    /// The texts; `None` when there was no room for the line, or it is not UTF-8.
    pub(super) fn texts(&self) -> Option<impl Iterator<Item = &str>> {
        let text = str::from_utf8(self.text.expose().get(..self.length)?).ok().filter(|_| !self.is_cut)?;
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        // What is UTF-8 as a whole need not be at each end.
        Some(begins.zip(&self.ends).map(|(begin, end)| text.get(begin..*end).unwrap_or_default()))
    }
}
