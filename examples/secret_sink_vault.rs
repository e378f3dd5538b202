//! A sink that puts each key's current token into a secrets manager with the KV version 2 interface: HashiCorp Vault or
//! OpenBao. Whoever runs the service reads it from there, by an agent or by itself.
//!
//! Run it with a server for development, which keeps all in memory and whose token is `root`:
//!
//! ```text
//! bao server -dev -dev-root-token-id=root        # or: vault server -dev …
//! VAULT_ADDR=http://127.0.0.1:8200 VAULT_TOKEN=root cargo run --example secret_sink_vault --features webhook
//! ```
#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::time::Duration;

use keyrota::{
    Actor, Delivery, Handover, KeyManager, Keyring, ManualClock, MemoryStore, NewKey, OwnerId,
    RotationPolicy, SecretSink, SinkError,
};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// How often a write is decided again when somebody else has written meanwhile.
const ATTEMPTS: usize = 5;
/// The longest answer that is read.
const ANSWER: u64 = 256 * 1024;

/// Writes `<mount>/<folder>/<key id>`. Each secret holds the token and says whose it is:
///
/// ```json
/// {"token": "key_…", "key": "key_1pKp…", "version": 2, "rotation": "rot_1pKq…"}
/// ```
///
/// The Vault token needs `read`, `create` and `update` on `<mount>/data/<folder>/*`, and nothing else.
pub struct VaultSink {
    agent: Agent,
    /// `https://vault.example.com:8200/v1/secret/data/keyrota`
    base: String,
    token: String,
}

impl VaultSink {
    /// The server at this address, with the authorities that it is to be believed by, in the PEM form: none for those that
    /// Mozilla trusts.
    ///
    /// # Errors
    /// When the certificates cannot be read.
    pub fn new(
        address: &str,
        mount: &str,
        folder: &str,
        token: &str,
        authorities: Option<&str>,
    ) -> Result<Self, Box<dyn Error>> {
        let mut certificates = Vec::new();
        for item in parse_pem(authorities.unwrap_or_default().as_bytes()) {
            if let PemItem::Certificate(certificate) = item? {
                certificates.push(certificate);
            }
        }
        let roots =
            if authorities.is_some() { RootCerts::new_with_certs(&certificates) } else { RootCerts::WebPki };
        let agent = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .new_agent();
        let base = format!("{}/v1/{mount}/data/{folder}", address.trim_end_matches('/'));
        Ok(Self { agent, base, token: token.to_owned() })
    }

    /// What is there, and the number of the write that put it there: 0 is none.
    fn read(&self, url: &str) -> Result<(Option<Value>, u64), SinkError> {
        let answer =
            self.agent.get(url).header("x-vault-token", &self.token).header("x-vault-request", "true").call();
        let mut answer = answer.map_err(|_| SinkError::Unavailable)?;
        let status = answer.status().as_u16();
        if status != 200 && status != 404 {
            return Err(refusal(status));
        }
        let text = answer.body_mut().with_config().limit(ANSWER).read_to_string();
        let text = text.map_err(|_| SinkError::Unavailable)?;
        // Of a secret that was deleted the metadata are still there, and the next write has to name its number.
        let body: Value = serde_json::from_str(&text).map_err(|_| SinkError::Unavailable)?;
        let number = body.pointer("/data/metadata/version").and_then(Value::as_u64).unwrap_or(0);
        if status == 200 && number == 0 {
            return Err(SinkError::Unavailable);
        }
        Ok((body.pointer("/data/data").filter(|data| data.is_object()).cloned(), number))
    }

    /// Writes, if nobody else has since the write of that number; `false` is that somebody has.
    fn write(&self, url: &str, data: &Value, number: u64) -> Result<bool, SinkError> {
        let body = json!({"options": {"cas": number}, "data": data}).to_string();
        let request =
            self.agent.post(url).header("x-vault-token", &self.token).header("x-vault-request", "true");
        let answer = request.header("content-type", "application/json").send(&body);
        match answer.map_err(|_| SinkError::Unavailable)?.status().as_u16() {
            200 | 204 => Ok(true),
            400 => Ok(false),
            status => Err(refusal(status)),
        }
    }
}

/// A server that is sealed, on standby or overloaded will take it later; one that says no has to be mended by a person.
fn refusal(status: u16) -> SinkError {
    if matches!(status, 400 | 401 | 403 | 404 | 405 | 413) {
        SinkError::Refused
    } else {
        SinkError::Unavailable
    }
}

impl SecretSink for VaultSink {
    fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError> {
        let url = format!("{}/{}", self.base, handover.key);
        let ours = json!({
            "token": handover.secret.expose(),
            "key": handover.key.to_string(),
            "version": handover.version.get(),
            "rotation": handover.rotation.to_string(),
        });
        for _ in 0..ATTEMPTS {
            let (there, number) = self.read(&url)?;
            let version = there.as_ref().and_then(|there| there.get("version")?.as_u64()).unwrap_or(0);
            // Put before, by a process that died before it could say so; or a newer one is there, and this process was
            // asleep for long.
            if there.as_ref() == Some(&ours) || version > u64::from(handover.version.get()) {
                return Ok(());
            }
            if self.write(&url, &ours, number)? {
                return Ok(());
            }
        }
        // Others write all the time, or a write is refused for another reason than that.
        Err(SinkError::Refused)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (Ok(address), Ok(token)) = (std::env::var("VAULT_ADDR"), std::env::var("VAULT_TOKEN")) else {
        println!("Set VAULT_ADDR and VAULT_TOKEN: see the beginning of this example.");
        return Ok(());
    };
    let authorities = std::env::var("VAULT_CACERT").ok().map(std::fs::read_to_string).transpose()?;
    let sink = VaultSink::new(&address, "secret", "keyrota", &token, authorities.as_deref())?;
    let clock = ManualClock::new("2027-01-01T00:00:00Z".parse()?);
    let keys = KeyManager::builder(MemoryStore::new(), Keyring::generate()?)
        .clock(clock.clone())
        .sink(sink)
        .open()?;
    let policy = RotationPolicy::builder().delivery(Delivery::Sink).build()?;
    let new = NewKey::new(OwnerId::new("ada")?, "worker")?.policy(policy).auto_rotation(true);
    let key = keys.by(Actor::operator("root")).issue(new)?.key;
    for _ in 0..84 {
        clock.advance(Duration::from_secs(86_400))?;
        while keys.tick()?.more {}
    }
    for rotation in keys.rotations(key)? {
        println!("{}: after {} attempts {:?}", rotation.id, rotation.attempts, rotation.status);
    }
    println!("read it with: bao kv get secret/keyrota/{key}");
    Ok(())
}
