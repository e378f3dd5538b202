//! Verifying one valid key: keyrota and its peers in one run, with one key and with 100 K in random order.
//!
//! `cargo bench --package keyrota-peers`; at its end lines `ratio PEER_over_keyrota_N VALUE`. `KEYROTA_BENCH_KEYS`
//! gives other numbers of keys; `-- --test` carries out each measurement once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, reports, and stops where something is wrong"
)]

#[path = "../../common/measure.rs"]
#[allow(dead_code, reason = "each benchmark uses its own part")]
mod measure;

use std::error::Error;
use std::hint::black_box;

use keyrota_peers::{
    Peer, Verify, api_keys_simplified, authrs, cached_lookup, hash_map, keyrota, prefixed_api_key,
    uncached_lookup,
};
use measure::{Measured, Run};

/// One peer's tokens in random order, one behind the other in one text.
struct Presented {
    text: String,
    ends: Vec<usize>,
    verify: Verify,
}

impl Presented {
    fn of(peer: Peer) -> Result<Self, Box<dyn Error>> {
        let (mut tokens, mut verify) = peer?;
        let mut chance = 0x9E37_79B9_7F4A_7C15u64;
        for at in (1..tokens.len()).rev() {
            chance = chance.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            tokens.swap(at, (chance >> 33) as usize % (at + 1));
        }
        // Once each, so that what caches has cached.
        assert!(tokens.iter().take(100_000).all(|token| verify(token)));
        assert!(!verify("sk_live_0123456789012345678901234567890123456789"));
        let mut text = String::new();
        let ends = tokens.iter().map(|token| {
            text.push_str(token);
            text.len()
        });
        let ends = ends.collect();
        Ok(Self { text, ends, verify })
    }

    fn call(&mut self, call: usize) {
        let number = call % self.ends.len();
        let from = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        let token = &self.text[from..self.ends[number]];
        assert!((self.verify)(black_box(token)));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut run = Run::begin();
    let sizes = if run.test { vec![1, 20] } else { run.sizes("KEYROTA_BENCH_KEYS", &[1, 100_000]) };
    for count in sizes {
        // Argon2 by default takes tens of milliseconds for each key that is made, and for each that is verified.
        let is_one = count == 1;
        let mut peers = vec![
            ("keyrota", 20_000, Presented::of(keyrota(count))?),
            ("hash_map", 20_000, Presented::of(hash_map(count))?),
            ("prefixed_api_key", 20_000, Presented::of(prefixed_api_key(count))?),
            ("authrs", 10_000, Presented::of(authrs(count))?),
            ("cached_lookup", 20_000, Presented::of(cached_lookup(count))?),
            ("uncached_lookup", 2_000, Presented::of(uncached_lookup(count))?),
            ("api_keys_simplified_cheapest", 200, Presented::of(api_keys_simplified(count, true))?),
        ];
        if is_one && !run.test {
            peers.push(("api_keys_simplified", 2, Presented::of(api_keys_simplified(1, false))?));
        }
        let names: Vec<_> = peers.iter().map(|(name, ..)| *name).collect();
        let measured = peers
            .iter_mut()
            .map(|(name, calls, peer)| Measured::call(name, run.pick(*calls, 2), |call| peer.call(call)));
        let round = run.round(&format!("{count} keys, verifying one"), 21, measured.collect());
        for name in names.into_iter().skip(1) {
            run.ratio(format!("{name}_over_keyrota_{count}"), round.ratio(name, "keyrota"));
        }
    }
    run.end();
    Ok(())
}
