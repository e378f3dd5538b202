//! The part of the KV version 2 interface that the sink needs, as HashiCorp and OpenBao document it, on a real HTTP
//! server: reading a secret, and writing one with check-and-set. No registry has either server as a package.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::authority::Authority;
use crate::support::receiver::{Received, Receiver};

pub(crate) const TOKEN: &str = "hvs.of-the-test";

/// The writes of a secret; `None` is one that was deleted since.
type Writes = Vec<Option<Value>>;

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) secrets: BTreeMap<String, Writes>,
    /// What is answered in place of what was asked for, from the front.
    pub(crate) instead: Vec<(&'static str, u16)>,
    /// Done just before the next write is looked at.
    pub(crate) meanwhile: Option<Value>,
    pub(crate) reads: usize,
    pub(crate) writes: usize,
    /// The next write is done, and answered as if it were not.
    pub(crate) loses_answer: bool,
}

pub(crate) struct Kv {
    pub(crate) receiver: Receiver,
    pub(crate) kept: Arc<Mutex<Kept>>,
    pub(crate) authority: Authority,
}

impl Kv {
    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        let receiver = Receiver::new(Some(authority.identity("localhost").config));
        let kept = Arc::new(Mutex::new(Kept::default()));
        receiver.serves({
            let kept = Arc::clone(&kept);
            move |request| serve(&mut kept.lock().unwrap(), request)
        });
        Self { receiver, kept, authority }
    }

    pub(crate) fn address(&self) -> String {
        format!("https://localhost:{}", self.receiver.address.port())
    }
}

fn errors(status: u16, errors: &[&str]) -> (u16, String) {
    (status, json!({"errors": errors}).to_string())
}

fn serve(kept: &mut Kept, request: &Received) -> (u16, String) {
    if request.header("x-vault-token") != Some(TOKEN) {
        return errors(403, &["permission denied"]);
    }
    if let Some((method, status)) = kept.instead.first().copied()
        && method == request.method
    {
        kept.instead.remove(0);
        return errors(status, &["of the test"]);
    }
    let Some(path) = request.path.strip_prefix("/v1/secret/data/") else {
        return errors(404, &["no handler for route"]);
    };
    let metadata = |number: usize, deleted: bool| {
        let at = "2027-03-25T00:00:00.000000000Z";
        let deletion_time = if deleted { at } else { "" };
        json!({"version": number, "created_time": at, "deletion_time": deletion_time, "destroyed": false, "custom_metadata": null})
    };
    match request.method.as_str() {
        "GET" => {
            kept.reads += 1;
            let Some(writes) = kept.secrets.get(path) else { return errors(404, &[]) };
            let last = writes.last().unwrap();
            let status = if last.is_some() { 200 } else { 404 };
            (
                status,
                json!({"data": {"data": last, "metadata": metadata(writes.len(), last.is_none())}})
                    .to_string(),
            )
        }
        "POST" | "PUT" => {
            kept.writes += 1;
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            let Some(data) = body.get("data").filter(|data| data.is_object()) else {
                return errors(400, &["no data provided"]);
            };
            let writes = kept.secrets.entry(path.to_owned()).or_default();
            if let Some(of_another) = kept.meanwhile.take() {
                writes.push(Some(of_another));
            }
            // The mount is set so that a write has to say what it replaces.
            let Some(cas) = body.pointer("/options/cas").and_then(Value::as_u64) else {
                return errors(400, &["check-and-set parameter required for this call"]);
            };
            if cas != writes.len() as u64 {
                return errors(400, &["check-and-set parameter did not match the current version"]);
            }
            writes.push(Some(data.clone()));
            let number = writes.len();
            if std::mem::take(&mut kept.loses_answer) {
                return errors(502, &["of a proxy"]);
            }
            (200, json!({"data": metadata(number, false)}).to_string())
        }
        _ => errors(405, &["unsupported operation"]),
    }
}
