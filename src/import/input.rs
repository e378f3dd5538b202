//! Input: the bytes of a file, through a buffer that is wiped: there may be tokens among them.

use std::io::{Read, Seek, SeekFrom};

use crate::import::source::SourceError;
use crate::secret::SecretBuffer;

/// Whatever can be read, and read again.
pub(super) trait ReadAgain: Read + Seek + Send {}

impl<R: Read + Seek + Send> ReadAgain for R {}

const BUFFER: usize = 64 * 1024;

/// A file, byte by byte.
pub(super) struct Input<'a> {
    reader: Box<dyn ReadAgain + 'a>,
    buffer: SecretBuffer,
    at: usize,
    filled: usize,
    /// The line of the next byte, from 1.
    pub(super) line: u64,
}

impl<'a> Input<'a> {
    pub(super) fn new(reader: impl Read + Seek + Send + 'a) -> Self {
        let buffer = SecretBuffer::from_vec(vec![0; BUFFER]);
        Self { reader: Box::new(reader), buffer, at: 0, filled: 0, line: 1 }
    }

    /// Begins anew.
    pub(super) fn rewind(&mut self) -> Result<(), SourceError> {
        self.reader.seek(SeekFrom::Start(0))?;
        (self.at, self.filled, self.line) = (0, 0, 1);
        Ok(())
    }

    /// The next byte, which stays.
    #[inline]
    pub(super) fn peek(&mut self) -> Result<Option<u8>, SourceError> {
        if self.at == self.filled {
            self.fill()?;
        }
        Ok(self.buffer.expose().get(self.at..self.filled).and_then(|rest| rest.first()).copied())
    }

    /// The next byte.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<u8>, SourceError> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.at += 1;
            self.line += u64::from(byte == b'\n');
        }
        Ok(byte)
    }

    fn fill(&mut self) -> Result<(), SourceError> {
        self.at = 0;
        self.filled = loop {
            match self.reader.read(self.buffer.expose_mut()) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        Ok(())
    }
}
