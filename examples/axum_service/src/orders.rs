//! What the service is about.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
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
pub async fn list(State(app): State<App>, Caller(grant): Caller) -> Json<Vec<Order>> {
    let orders = app.orders.0.lock().unwrap_or_else(PoisonError::into_inner);
    Json(orders.get(&grant.owner()).cloned().unwrap_or_default())
}

/// `POST /orders`
pub async fn create(
    State(app): State<App>,
    Caller(grant): Caller,
    Json(order): Json<Order>,
) -> (StatusCode, Json<Order>) {
    let mut orders = app.orders.0.lock().unwrap_or_else(PoisonError::into_inner);
    orders.entry(grant.owner()).or_default().push(order.clone());
    (StatusCode::CREATED, Json(order))
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
pub async fn who_am_i(State(app): State<App>, Caller(grant): Caller) -> Json<WhoAmI> {
    // From memory, like the validation: no blocking pool.
    let scopes = app.validator.scopes(&grant).unwrap_or_default();
    Json(WhoAmI {
        owner: grant.owner().to_string(),
        key_id: grant.key().to_string(),
        version: grant.version().get(),
        scopes: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
    })
}
