//! Who asks: what the key's guard has found out, as an argument of a handler.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest, error};
use keyrota::Grant;

/// The grant of the request that is answered. A route that asks for it stands behind a [`KeyGuard`](crate::guard::KeyGuard);
/// where it does not, the service is at fault, and the client gets a 500 and no way in.
pub struct Caller(pub Grant);

impl FromRequest for Caller {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let grant = request.extensions().get::<Grant>().copied();
        ready(grant.map(Self).ok_or_else(|| error::ErrorInternalServerError("the route has no guard")))
    }
}
