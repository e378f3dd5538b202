//! Who asks: what the key's layer has found out, as an argument of a handler.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use keyrota::Grant;

/// The grant of the request that is answered. A route that asks for it stands behind a [`KeyLayer`](crate::tower_layer::KeyLayer);
/// where it does not, the service is at fault, and the client gets a 500 and no way in.
pub struct Caller(pub Grant);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        parts.extensions.get().copied().map(Self).ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
