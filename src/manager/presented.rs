//! Presented tokens of another system, looked up in the store itself: for acts, which need no replica.

use crate::crypto;
use crate::error::ManageError;
use crate::imported::{self, DigestForm, ForeignDigest, MAX_TOKEN};
use crate::manager::emergency::by_locator;
use crate::records::Records;
use crate::version::VersionRecord;

/// The imported version whose token it is, ended or not.
pub(super) fn imported(records: &Records, token: &[u8]) -> Result<Option<VersionRecord>, ManageError> {
    if token.is_empty() || token.len() > MAX_TOKEN {
        return Ok(None);
    }
    let keyring = &records.keyring;
    let mut found = None;
    for (generation, keys) in keyring.generations().filter_map(|it| Some((it, keyring.keys(it)?))) {
        let keyed = imported::keyed(token, generation, keys);
        for form in DigestForm::ALL {
            let wrapped = imported::wrapped(&ForeignDigest::of_token(form, token), generation, keys);
            let Some(version) = by_locator(records, imported::locator(&wrapped, keys))? else { continue };
            let is_its =
                [&wrapped, &keyed].map(|digest| crypto::ct_eq_32(&digest.bytes, &version.digest.bytes));
            if is_its != [false; 2] {
                found = Some(version);
            }
        }
    }
    Ok(found)
}
