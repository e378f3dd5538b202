//! What time makes due, in the service's own timer: the library has no thread of its own.

use std::time::Duration;

use actix_web::web;
use keyrota::{KeyManager, Validator};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// Ticks and flushes at once and then each period, until it is told to stop. Commonly a minute; deadlines hold without it.
///
/// Several processes may do so on one database: a tick is bounded, and nothing is done twice.
pub async fn run(keys: KeyManager, validator: Validator, period: Duration, mut stop: watch::Receiver<bool>) {
    let mut timer = interval(period);
    // After a long pause one tick does it all.
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stop.borrow_and_update() {
        tokio::select! {
            _ = timer.tick() => {}
            _ = stop.changed() => continue,
        }
        let (keys, validator, stop) = (keys.clone(), validator.clone(), stop.clone());
        let step = move || {
            // Each on its own: what fails is tried again by the next round, and keeps nothing else from being done.
            if let Err(error) = validator.flush() {
                eprintln!("what was counted waits for the next flush: {error}");
            }
            while !*stop.borrow() {
                match keys.tick() {
                    Ok(report) if report.more => {}
                    Ok(_) => break,
                    Err(error) => return eprintln!("the tick goes on in a moment: {error}"),
                }
            }
        };
        if let Err(error) = web::block(step).await {
            eprintln!("the upkeep has panicked, and goes on: {error}");
        }
    }
}
