//! Imports: whether the replica holds imported versions, and of which forms.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::imported::DigestForm;

/// In which forms secrets have been imported. Only ever added to: what is gone meanwhile is looked for in vain until the
/// process begins anew.
#[derive(Debug, Default)]
pub(crate) struct Imports(AtomicU32);

/// The same at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forms(u32);

impl Imports {
    pub(crate) fn note(&self, form: DigestForm) {
        self.0.fetch_or(bit(form), Ordering::Relaxed);
    }

    /// The forms; `None` where nothing was imported.
    #[inline]
    pub(crate) fn forms(&self) -> Option<Forms> {
        let forms = self.0.load(Ordering::Relaxed);
        (forms != 0).then_some(Forms(forms))
    }
}

impl Forms {
    pub(crate) fn has(self, form: DigestForm) -> bool {
        self.0 & bit(form) != 0
    }
}

fn bit(form: DigestForm) -> u32 {
    match form {
        DigestForm::Sha256 => 1,
        DigestForm::Sha512 => 2,
        DigestForm::Sha256LastPart => 4,
    }
}
