//! Addresses, and the port that knows whose they are.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use lettre::Address;

use crate::id::OwnerId;
use crate::notify::NotifyError;

/// A mail address: `ada@example.com`, in ASCII, of at most 254 bytes. A domain in other letters is written as `xn--…`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmailAddress(Address);

/// A text is no mail address.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a mail address such as ada@example.com, in ASCII and without spaces, of at most 254 bytes")]
#[non_exhaustive]
pub struct EmailAddressError;

crate::text::debug_as_told!(EmailAddressError);

impl EmailAddress {
    const MAX_BYTES: usize = 254;

    /// The address of this text, without a name beside it.
    ///
    /// # Errors
    /// [`EmailAddressError`].
    pub fn new(text: &str) -> Result<Self, EmailAddressError> {
        // Stricter than the grammar, which knows addresses in quotes: no white space, no `<` and `>`, no line break.
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"<>\"\\(),;:".contains(&byte);
        let is_plain = text.len() <= Self::MAX_BYTES && text.bytes().all(is_plain);
        let address = text.parse().map_err(|_| EmailAddressError)?;
        is_plain.then_some(Self(address)).ok_or(EmailAddressError)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    pub(super) fn domain(&self) -> &str {
        self.0.domain()
    }

    pub(super) fn inner(&self) -> Address {
        self.0.clone()
    }
}

impl FromStr for EmailAddress {
    type Err = EmailAddressError;
    fn from_str(text: &str) -> Result<Self, EmailAddressError> {
        Self::new(text)
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Knows who gets the mails about an owner's keys. It is asked for each notification, so that a change counts at once.
pub trait Recipients: Send + Sync + 'static {
    /// The addresses for an owner; `None` is what concerns no owner, such as an alarm about the store. Nobody is an
    /// answer: then nothing is sent, and the notification counts as told.
    ///
    /// # Errors
    /// [`NotifyError`], which says whether to ask again: `retry` while the directory cannot be reached, `permanent` where
    /// an owner without an address is a mistake that a person should see.
    fn of(&self, owner: Option<OwnerId>) -> Result<Vec<EmailAddress>, NotifyError>;
}

/// The host's own directory.
impl<F> Recipients for F
where
    F: Fn(Option<OwnerId>) -> Result<Vec<EmailAddress>, NotifyError> + Send + Sync + 'static,
{
    fn of(&self, owner: Option<OwnerId>) -> Result<Vec<EmailAddress>, NotifyError> {
        self(owner)
    }
}

/// Everything to one address.
impl Recipients for EmailAddress {
    fn of(&self, _: Option<OwnerId>) -> Result<Vec<EmailAddress>, NotifyError> {
        Ok(vec![self.clone()])
    }
}

impl Recipients for Arc<dyn Recipients> {
    fn of(&self, owner: Option<OwnerId>) -> Result<Vec<EmailAddress>, NotifyError> {
        (**self).of(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_plain_ascii_and_cannot_carry_a_command() {
        for good in
            ["ada@example.com", "a.b+c@sub.example.com", "x_y-z@xn--exmple-cua.com", "a'b@example.com"]
        {
            assert_eq!(EmailAddress::new(good).map(|address| address.to_string()).as_deref(), Ok(good));
        }
        let long = format!("{}@{}.com", "x".repeat(60), "y".repeat(200));
        for bad in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@@example.com",
            "ada@example.com\r\nRCPT TO:<x@y.z>",
            "ada@example.com\nBcc: x@y.z",
            "ada@example.com ",
            "Ada <ada@example.com>",
            "<ada@example.com>",
            "ada@example.com>",
            "ada@example.com, bob@example.com",
            "\"a b\"@example.com",
            "\"a\\\"b\"@example.com",
            "ada@exämple.com",
            "ädа@example.com",
            "ada@example.com\0",
            "a(b)@example.com",
            long.as_str(),
        ] {
            assert_eq!(EmailAddress::new(bad), Err(EmailAddressError), "{bad:?}");
        }
    }
}
