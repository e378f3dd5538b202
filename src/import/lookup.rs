//! The lookup: another system that is still asked for keys whose digests are of no use here.

use crate::import::key::ForeignKey;

/// Another system's own check of its keys, for those that cannot be imported: salted digests, or keys that it does not
/// give away. Asked by [`Act::adopt`](crate::Act::adopt) only, apart from validation, and only for what this store does
/// not know.
pub trait LegacyLookup: Send + Sync {
    /// What the other system says of the key with this token, of 1 to 512 bytes; `None` where it does not know it, or
    /// does not accept it any more. The comparison of secrets is the other system's, and should take constant time.
    ///
    /// # Errors
    /// Whatever kept it from answering.
    fn look_up(&self, token: &[u8]) -> Result<Option<ForeignKey>, Box<dyn std::error::Error + Send + Sync>>;
}
