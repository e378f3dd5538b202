//! What the service is about.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use actix_web::HttpResponse;
use actix_web::web::{Data, Json};
use keyrota::OwnerId;
use serde::{Deserialize, Serialize};

use crate::caller::Caller;
use crate::service::App;

/// An order.
#[derive(Clone, Serialize, Deserialize)]
pub struct Order {
    item: String,
    count: u32,
}

/// The orders of each owner.
#[derive(Default)]
pub struct Orders(Mutex<HashMap<OwnerId, Vec<Order>>>);

/// `GET /orders`: those of the key's owner, and nobody else's.
pub async fn list(app: Data<App>, Caller(grant): Caller) -> Json<Vec<Order>> {
    let orders = app.orders.0.lock().unwrap_or_else(PoisonError::into_inner);
    Json(orders.get(&grant.owner()).cloned().unwrap_or_default())
}

/// `POST /orders`
pub async fn create(app: Data<App>, Caller(grant): Caller, Json(order): Json<Order>) -> HttpResponse {
    let mut orders = app.orders.0.lock().unwrap_or_else(PoisonError::into_inner);
    orders.entry(grant.owner()).or_default().push(order.clone());
    HttpResponse::Created().json(order)
}

/// What a key is told of itself.
#[derive(Serialize)]
pub struct WhoAmI {
    owner: String,
    key_id: String,
    version: u32,
    scopes: Vec<String>,
}

/// `GET /whoami`
pub async fn who_am_i(app: Data<App>, Caller(grant): Caller) -> Json<WhoAmI> {
    // From memory, like the validation: no blocking pool.
    let scopes = app.validator.scopes(&grant).unwrap_or_default();
    Json(WhoAmI {
        owner: grant.owner().to_string(),
        key_id: grant.key().to_string(),
        version: grant.version().get(),
        scopes: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
    })
}
