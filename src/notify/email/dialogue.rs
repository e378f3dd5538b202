//! The talk with a mail server (RFC 5321, 3207, 4954): one command, one reply.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::commands::{Data, Ehlo, Mail, Quit, Rcpt, Starttls};
use lettre::transport::smtp::extension::{ClientId, Extension, ServerInfo};
use lettre::transport::smtp::response::Response;
use rustls::ClientConfig;

use crate::notify::email::EmailAddress;
use crate::notify::email::stream::Stream;
use crate::secret::SecretBuffer;

/// The longest reply that is read, all its lines together.
const REPLY: usize = 16 * 1024;

/// The talk cannot go on; nothing is known to be wrong with the mail.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the mail server did not answer in time")]
    TimedOut,
    #[error("no TLS with the mail server: {0}")]
    Tls(io::Error),
    #[error("no connection with the mail server: {0}")]
    Connection(io::ErrorKind),
    #[error("the mail server's reply is too long")]
    TooLong,
    #[error("the mail server does not speak SMTP")]
    NotSmtp,
    #[error("the mail server said more than it was asked")]
    Unasked,
    #[error("the mail server offers no STARTTLS")]
    NoStartTls,
    #[error("the mail server offers no way to log in that is known here")]
    NoLogin,
    #[error("the mail server refused {0}: {1}")]
    Refused(&'static str, u16),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            // Only TLS says so.
            io::ErrorKind::InvalidData => Self::Tls(error),
            kind => Self::Connection(kind),
        }
    }
}

/// What became of one mail for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Accepted,
    /// Not now: `450 mailbox busy`.
    NotNow(String),
    /// Not ever: `550 no such user`.
    Never(String),
}

/// A reply: its code, and its lines.
struct Reply {
    code: u16,
    text: String,
}

impl Reply {
    fn is_ok(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// What it says about a mail that it refuses. A full mailbox may be emptied, whatever its code (RFC 5321,
    /// 4.5.3.1.10), and who has to log in first has to be told how.
    fn refusal(&self) -> Sent {
        let line = self.text.lines().next().unwrap_or_default().trim_end().to_owned();
        let may_be_mended = matches!(self.code, 530 | 534 | 535 | 538 | 552);
        let is_for_good = (500..600).contains(&self.code) && !may_be_mended;
        if is_for_good { Sent::Never(line) } else { Sent::NotNow(line) }
    }
}

/// How somebody logs in.
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: SecretBuffer,
}

pub(super) struct Dialogue {
    stream: Stream,
    buffer: Vec<u8>,
    hello: ClientId,
    server: ServerInfo,
    /// Whether a mail was begun and refused, and the server still thinks of it.
    is_half_done: bool,
}

impl Dialogue {
    /// Greets, and hears what the server can do.
    pub(super) fn begin(stream: Stream, hello: ClientId) -> Result<Self, Broken> {
        let server = ServerInfo::default();
        let mut dialogue = Self { stream, buffer: Vec::new(), hello, server, is_half_done: false };
        let greeting = dialogue.reply()?;
        if !greeting.is_ok() {
            return Err(Broken::Refused("the connection", greeting.code));
        }
        dialogue.hello()?;
        Ok(dialogue)
    }

    fn hello(&mut self) -> Result<(), Broken> {
        let reply = self.command(&Ehlo::new(self.hello.clone()))?;
        if !reply.is_ok() {
            return Err(Broken::Refused("EHLO", reply.code));
        }
        let response: Response = reply.text.parse().map_err(|_| Broken::NotSmtp)?;
        self.server = ServerInfo::from_response(&response).map_err(|_| Broken::NotSmtp)?;
        Ok(())
    }

    /// From plain text to TLS; nothing that was said before counts afterwards.
    pub(super) fn start_tls(mut self, host: &str, tls: &Arc<ClientConfig>) -> Result<Self, Broken> {
        if !self.server.supports_feature(Extension::StartTls) {
            return Err(Broken::NoStartTls);
        }
        let reply = self.command(&Starttls)?;
        if !reply.is_ok() {
            return Err(Broken::Refused("STARTTLS", reply.code));
        }
        self.stream = self.stream.encrypted(host, tls)?;
        self.server = ServerInfo::default();
        self.hello()?;
        Ok(self)
    }

    /// Logs in, on an encrypted connection only.
    pub(super) fn log_in(&mut self, login: &Login) -> Result<(), Broken> {
        let user = login.user.as_bytes();
        let password = login.password.expose();
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        let known = self.server.get_auth_mechanism(&mechanisms).filter(|_| self.stream.is_encrypted());
        let reply = match known {
            Some(Mechanism::Plain) => {
                let message = SecretBuffer::concat(&[b"\0", user, b"\0", password]);
                self.secret_line(b"AUTH PLAIN ", message.expose())?
            }
            Some(_) => {
                self.write(b"AUTH LOGIN\r\n")?;
                let mut reply = self.reply()?;
                for answer in [user, password] {
                    if reply.code == 334 {
                        reply = self.secret_line(b"", answer)?;
                    }
                }
                reply
            }
            None => return Err(Broken::NoLogin),
        };
        if reply.code == 235 { Ok(()) } else { Err(Broken::Refused("to log in", reply.code)) }
    }

    /// A line that ends in the base64 of a secret, and that is wiped once it was sent.
    fn secret_line(&mut self, begin: &[u8], secret: &[u8]) -> Result<Reply, Broken> {
        let mut encoded = SecretBuffer::from_vec(vec![0; secret.len().div_ceil(3) * 4]);
        // The buffer has the very length.
        STANDARD.encode_slice(secret, encoded.expose_mut()).map_err(|_| Broken::NoLogin)?;
        let line = SecretBuffer::concat(&[begin, encoded.expose(), b"\r\n"]);
        self.write(line.expose())?;
        self.reply()
    }

    /// Sends one mail to one recipient.
    pub(super) fn send(
        &mut self,
        from: &EmailAddress,
        to: &EmailAddress,
        mail: &[u8],
    ) -> Result<Sent, Broken> {
        if self.is_half_done && !self.command(&"RSET\r\n")?.is_ok() {
            return Err(Broken::NotSmtp);
        }
        self.is_half_done = true;
        let reply = self.command(&Mail::new(Some(from.inner()), Vec::new()))?;
        if !reply.is_ok() {
            return Ok(reply.refusal());
        }
        let reply = self.command(&Rcpt::new(to.inner(), Vec::new()))?;
        if !reply.is_ok() {
            return Ok(reply.refusal());
        }
        let reply = self.command(&Data)?;
        if reply.code != 354 {
            return Ok(reply.refusal());
        }
        self.write(&stuffed(mail))?;
        let reply = self.reply()?;
        self.is_half_done = false;
        Ok(if reply.is_ok() { Sent::Accepted } else { reply.refusal() })
    }

    /// Takes leave; whether that is heard does not matter.
    pub(super) fn end(mut self) {
        drop(self.write(Quit.to_string().as_bytes()));
    }

    fn command(&mut self, command: &impl Display) -> Result<Reply, Broken> {
        self.write(command.to_string().as_bytes())?;
        self.reply()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// One reply and nothing behind it: what comes unasked would answer the next question, and was perhaps said before
    /// the connection was encrypted.
    fn reply(&mut self) -> Result<Reply, Broken> {
        self.buffer.clear();
        let mut chunk = [0; 1_024];
        loop {
            if let Some((reply, length)) = parse(&self.buffer)? {
                return if length == self.buffer.len() { Ok(reply) } else { Err(Broken::Unasked) };
            }
            if self.buffer.len() >= REPLY {
                return Err(Broken::TooLong);
            }
            match self.stream.read(&mut chunk)? {
                0 => return Err(Broken::Connection(io::ErrorKind::UnexpectedEof)),
                read => self.buffer.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            }
        }
    }
}

/// The reply at the beginning of what was read, and its length; `None` is not all of it yet.
fn parse(read: &[u8]) -> Result<Option<(Reply, usize)>, Broken> {
    let (mut first, mut text, mut length) = (None, String::new(), 0);
    for line in read.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { return Ok(None) };
        length += line.len() + 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (digits, rest) = line.split_at_checked(3).ok_or(Broken::NotSmtp)?;
        let code = str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
        let code: u16 = code.and_then(|code| code.parse().ok()).ok_or(Broken::NotSmtp)?;
        if *first.get_or_insert(code) != code || !(200..600).contains(&code) {
            return Err(Broken::NotSmtp);
        }
        let said = String::from_utf8_lossy(rest.get(1..).unwrap_or_default());
        let is_last = !rest.starts_with(b"-");
        if is_last && !rest.is_empty() && !rest.starts_with(b" ") {
            return Err(Broken::NotSmtp);
        }
        text.push_str(&format!("{code}{}{said}\r\n", if is_last { ' ' } else { '-' }));
        if is_last {
            return Ok(Some((Reply { code, text }, length)));
        }
    }
    Ok(None)
}

/// The mail as it goes over the line: lines end in CR LF, a dot that begins a line is doubled, and one alone ends it.
///
/// A lone CR or LF is made whole: servers disagree on what it is, and whoever can write one could end the mail early
/// and say commands of his own.
fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(mail.len() + mail.len() / 32 + 8);
    let mut rest = mail;
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        let (line, after) = rest.split_at(end);
        add_line(line, &mut out);
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..)).unwrap_or_default();
    }
    if !rest.is_empty() {
        add_line(rest, &mut out);
    }
    out.extend_from_slice(b".\r\n");
    out
}

fn add_line(line: &[u8], out: &mut Vec<u8>) {
    if line.starts_with(b".") {
        out.push(b'.');
    }
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_taken_whole_and_nothing_else_is_one() {
        let of = |text: &str| match parse(text.as_bytes()) {
            Ok(Some((reply, length))) => format!("{} {length}", reply.code),
            Ok(None) => "not yet".to_owned(),
            Err(error) => error.to_string(),
        };
        for (text, expected) in [
            ("250 ok\r\n", "250 8"),
            ("250\r\n", "250 5"),
            ("250 ok\n", "250 7"),
            ("250-a\r\n250-b\r\n250 c\r\n", "250 21"),
            ("250 ok\r\n250 more\r\n", "250 8"),
            ("", "not yet"),
            ("25", "not yet"),
            ("250 ok\r", "not yet"),
            ("250-a\r\n", "not yet"),
            ("250-a\r\n251 b\r\n", "the mail server does not speak SMTP"),
            ("HTTP/1.1 400\r\n", "the mail server does not speak SMTP"),
            ("\r\n", "the mail server does not speak SMTP"),
            ("199 x\r\n", "the mail server does not speak SMTP"),
            ("600 x\r\n", "the mail server does not speak SMTP"),
            ("+25 x\r\n", "the mail server does not speak SMTP"),
            ("2500 x\r\n", "the mail server does not speak SMTP"),
        ] {
            assert_eq!(of(text), expected, "{text:?}");
        }
    }

    #[test]
    fn no_text_ends_a_mail_early() {
        for (text, line) in [
            ("a\r\nb", "a\r\nb\r\n.\r\n"),
            ("a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r.\rb", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\n.\r\nb", "a\r\n..\r\nb\r\n.\r\n"),
            ("a\r\n.\nb", "a\r\n..\r\nb\r\n.\r\n"),
            (".", "..\r\n.\r\n"),
            ("..a", "...a\r\n.\r\n"),
            ("", ".\r\n"),
            ("a\r\r\n.\r\nb", "a\r\n\r\n..\r\nb\r\n.\r\n"),
        ] {
            assert_eq!(String::from_utf8(stuffed(text.as_bytes())).unwrap(), line, "{text:?}");
        }
    }

    #[test]
    fn a_refusal_is_for_now_or_for_ever() {
        let of = |code| Reply { code, text: format!("{code} 5.1.1 no\r\nmore") }.refusal();
        for code in [421, 450, 451, 452, 454, 530, 535, 552, 354, 251] {
            assert_eq!(of(code), Sent::NotNow(format!("{code} 5.1.1 no")));
        }
        for code in [500, 521, 550, 551, 553, 554, 556] {
            assert_eq!(of(code), Sent::Never(format!("{code} 5.1.1 no")));
        }
    }
}
