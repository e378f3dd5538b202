//! Bytes that are wiped when they go, and whose `Debug` says nothing; and work whose traces on the stack are wiped.

use std::fmt;
use std::hint::black_box;

use zeroize::Zeroize as _;

/// How much of the stack work on a whole key may reach, in a release build; it is rare.
pub(crate) const OF_KEY: usize = 8 * 1024;

/// Does work that leaves secrets on the stack, and overwrites the `N` bytes of the stack that it began with.
///
/// What is left there would not only stay for a while: whatever is built in that place later has gaps between its
/// fields, and takes what lies in them along when it is moved to the heap, where nobody would ever wipe it.
pub(crate) fn on_wiped_stack<const N: usize, T>(work: impl FnOnce() -> T) -> T {
    /// A frame of its own, so that all of the work's frames begin where those of `wipe` will.
    #[inline(never)]
    fn apart<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    #[inline(never)]
    fn wipe<const N: usize>() {
        black_box(&mut [0u8; N]);
    }
    let value = apart(work);
    wipe::<N>();
    value
}

/// A fixed number of secret bytes on the heap, wiped on drop.
///
/// Boxed, so that moving the value copies a pointer and leaves no second copy of the bytes behind.
#[derive(Clone)]
pub(crate) struct SecretBytes<const N: usize>(Box<[u8; N]>);

impl<const N: usize> SecretBytes<N> {
    /// Bytes filled in place.
    pub(crate) fn fill<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(Box::new([0; N]));
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// A copy of these bytes; the caller wipes its own.
    pub(crate) fn copy_of(bytes: &[u8; N]) -> Self {
        let mut secret = Self(Box::new([0; N]));
        secret.0.copy_from_slice(bytes);
        secret
    }

    /// The bytes themselves.
    pub(crate) fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Drop for SecretBytes<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> fmt::Debug for SecretBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Secret bytes of a length known when they are made; the buffer never grows, and is wiped on drop.
#[derive(Clone)]
pub(crate) struct SecretBuffer(Vec<u8>);

impl SecretBuffer {
    /// Takes bytes over; they are wiped on drop.
    pub(crate) fn from_vec(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The parts one after the other, in a buffer sized once.
    pub(crate) fn concat(parts: &[&[u8]]) -> Self {
        let mut buffer = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| buffer.extend_from_slice(part));
        Self(buffer)
    }

    /// The bytes themselves.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to be changed in their place.
    pub(crate) fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Shortens the bytes; what is cut off is wiped with the rest.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }
}

impl Drop for SecretBuffer {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
