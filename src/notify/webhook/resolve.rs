//! Looking a receiver's name up: all that is found is checked, and nothing else is connected to.

use std::fmt;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::network::Networks;
use crate::notify::webhook::address;

/// The receiver's name leads to an address that may not be reached. Which one is not told: it may be of the inside.
#[derive(Debug, thiserror::Error)]
#[error("the receiver's name leads to an address that is not public and was not allowed")]
pub(super) struct AddressRefused;

/// Looks a name up with `lookup`, and lets its addresses pass if all of them may be reached.
///
/// The connection is made to one of the addresses that it returns: the name is not looked up again, so that a second
/// answer of the name server cannot stand for the one that was checked.
pub(super) struct CheckedResolver<R> {
    pub(super) lookup: R,
    pub(super) allowed: Option<Networks>,
}

/// The system's own lookup, which gives up when the time to connect is over.
pub(super) type SystemLookup = DefaultResolver;

impl<R: Resolver> Resolver for CheckedResolver<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.lookup.resolve(uri, config, timeout)?;
        let may_be_reached = |ip| address::may_be_reached(ip, self.allowed.as_ref());
        // One bad address is enough: whoever answers with both wants the other one to be tried.
        if found.is_empty() || !found.iter().all(|address| may_be_reached(address.ip())) {
            return Err(ureq::Error::Other(Box::new(AddressRefused)));
        }
        Ok(found)
    }
}

impl<R> fmt::Debug for CheckedResolver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedResolver").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}
