//! Header fields: a name that is fixed, and a value that cannot end the field.

use std::borrow::Cow;

/// One field of an answer. Its value is visible ASCII and spaces: there is no way to make one of a text from outside, so
/// that nobody can end the field and begin another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    name: &'static str,
    value: Cow<'a, str>,
}

impl<'a> Header<'a> {
    pub(super) const fn fixed(name: &'static str, value: &'a str) -> Self {
        Self { name, value: Cow::Borrowed(value) }
    }

    /// The value is put together by this room, of texts that were checked, numbers and dates.
    pub(super) fn made(name: &'static str, value: String) -> Self {
        Self { name, value: Cow::Owned(value) }
    }

    /// The name, in lower case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the field is a list, so that it stands beside the service's own field of this name; another one takes its
    /// place.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(self.name, "link" | "warning" | "ratelimit" | "ratelimit-policy")
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The value, allocated only where it was put together.
    #[must_use]
    pub fn into_value(self) -> Cow<'a, str> {
        self.value
    }
}

/// The most fields of one answer.
const MOST: usize = 6;

/// The fields of one answer, at most six, in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    fields: [Option<Header<'a>>; MOST],
}

impl<'a> Headers<'a> {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn push(&mut self, header: Header<'a>) {
        let free = self.fields.iter_mut().find(|field| field.is_none());
        debug_assert!(free.is_some(), "more fields than there is room for");
        if let Some(free) = free {
            *free = Some(header);
        }
    }

    /// The fields, in the order in which they were named.
    pub fn iter(&self) -> impl Iterator<Item = &Header<'a>> {
        self.fields.iter().flatten()
    }

    /// The value of the field of this name, which is in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|header| header.name == name).map(Header::value)
    }

    /// Whether there is nothing to add.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = Header<'a>;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<Header<'a>>, MOST>>;
    fn into_iter(self) -> Self::IntoIter {
        self.fields.into_iter().flatten()
    }
}
