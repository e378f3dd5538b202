//! Panics in what the host plugs in, in the middle of an act: their messages carry no secret, and work goes on.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Mutex, Once, PoisonError};

use keyrota::{Actor, IssuedKey, KeyId, ManageError, NewKey, OwnerId, RotatedKey};

use crate::search::Secrets;
use crate::story::{Bed, master_bytes};

/// What the panic hook was told since the program began.
static MESSAGES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes each panic down; what was planned is not printed.
fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let otherwise = take_hook();
        set_hook(Box::new(move |panic| {
            let text = format!("{panic} {panic:?} {}", message(panic.payload()));
            let planned = text.contains("planned:");
            MESSAGES.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            if !planned {
                otherwise(panic);
            }
        }));
    });
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// The message of the panic that comes of it.
fn fall<T>(act: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => message(&*payload),
    }
}

fn new_key() -> NewKey {
    NewKey::new(OwnerId::new("ada").unwrap(), "ci").unwrap()
}

fn issue(bed: &Bed, request: &str) -> Result<IssuedKey, ManageError> {
    bed.keys.by(Actor::operator("root")).request(request).issue(new_key())
}

fn rotate(bed: &Bed, key: KeyId, request: &str) -> Result<RotatedKey, ManageError> {
    bed.keys.by(Actor::operator("root")).request(request).rotate(key)
}

fn assert_untold(secrets: &Secrets, messages: &[String]) {
    let by_hook = MESSAGES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(!messages.is_empty() && by_hook.len() >= messages.len());
    for text in by_hook.iter().chain(messages) {
        secrets.assert_absent("the message of a panic", text.as_bytes());
    }
}

#[test]
fn a_clock_that_panics_tells_no_secret_and_the_next_act_succeeds() {
    listen();
    let bed = Bed::new();
    let mut secrets = Secrets::default();
    secrets.add_master(&master_bytes());
    let issued = issue(&bed, "issue-1").unwrap();
    let token = issued.token.expose();
    secrets.add_token(token);

    bed.clock_falls(true);
    let messages = [
        fall(|| issue(&bed, "issue-2")),
        fall(|| issue(&bed, "issue-1")),
        fall(|| rotate(&bed, issued.key, "rotate-1")),
        fall(|| bed.keys.by(Actor::operator("root")).revoke(issued.key)),
        fall(|| bed.keys.tick()),
        fall(|| bed.validator.validate(token)),
    ];
    bed.clock_falls(false);
    assert!(messages.iter().all(|text| text.starts_with("planned: the clock")), "{messages:?}");

    assert!(bed.validator.validate(token).is_ok());
    assert_eq!(issue(&bed, "issue-1").unwrap().token.expose(), token);
    secrets.add_token(issue(&bed, "issue-2").unwrap().token.expose());
    secrets.add_token(rotate(&bed, issued.key, "rotate-1").unwrap().token.expose());
    assert_untold(&secrets, &messages);
}

/// At each call that the act makes, one after the other. What it had minted by then is had by repeating it.
fn fall_everywhere(bed: &Bed, secrets: &mut Secrets, mut act: impl FnMut(usize) -> String) -> Vec<String> {
    // Once before it is measured: the first act of its kind finds less to read.
    secrets.add_token(&act(usize::MAX));
    bed.store.fall_at(usize::MAX);
    secrets.add_token(&act(usize::MAX - 1));
    let calls = bed.store.calls();
    assert!(calls > 2, "{calls}");
    let mut messages = Vec::new();
    for call in 0..calls {
        bed.store.fall_at(call);
        messages.push(fall(|| act(call)));
        bed.store.fall_at(usize::MAX);
        secrets.add_token(&act(call));
    }
    messages
}

#[test]
fn a_store_that_panics_anywhere_in_an_act_tells_no_secret_and_the_act_can_be_repeated() {
    listen();
    let bed = Bed::new();
    let mut secrets = Secrets::default();
    secrets.add_master(&master_bytes());
    let mut messages = fall_everywhere(&bed, &mut secrets, |n| {
        issue(&bed, &format!("issue-{n}")).unwrap().token.expose().to_owned()
    });
    let key = issue(&bed, "key").unwrap();
    secrets.add_token(key.token.expose());
    messages.extend(fall_everywhere(&bed, &mut secrets, |n| {
        let how = keyrota::RotateNow::of(key.key).supersede();
        let act = bed.keys.by(Actor::operator("root")).request(format!("rotate-{n}"));
        act.rotate(how).unwrap().token.expose().to_owned()
    }));
    // One that was repeated by its request id alone, which opens the sealed copy.
    messages.extend(fall_everywhere(&bed, &mut secrets, |_| {
        issue(&bed, "key").unwrap().token.expose().to_owned()
    }));
    assert!(messages.iter().all(|text| text.starts_with("planned: the store")), "{messages:?}");
    assert!(
        messages.iter().any(|text| text.contains("SealedChangeset")),
        "the message of a commit tells it all"
    );
    assert_untold(&secrets, &messages);
    assert!(bed.keys.check(None).unwrap().is_sound());
}
