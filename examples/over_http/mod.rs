//! What every adapter has to show over a real socket: the same tests for each of them, on the same routes.
//!
//! A test file names the adapter's way to begin, and calls the macros: [`answers!`] for whatever has `GET /orders` behind
//! a key with the scope `orders:read`, [`service!`] for a whole service as well.
#![allow(dead_code, reason = "each adapter uses its part")]

pub mod answers;
pub mod balancer;
pub mod before;
pub mod claims;
pub mod client;
#[path = "../../tests/delegating/mod.rs"]
mod delegating;
pub mod life;
pub mod load;
pub mod migration;
#[cfg(unix)]
pub mod program;
pub mod stage;

/// One test for each behaviour of a route behind a key.
#[macro_export]
macro_rules! answers {
    ($start:expr) => {
        $crate::tests_of! { answers, $start;
            a_valid_key_reaches_the_service_and_is_told_nothing,
            a_key_comes_by_either_field_and_the_scheme_in_any_case,
            a_request_without_a_key_is_asked_for_one,
            whoever_is_not_authenticated_gets_the_same_bytes,
            a_request_with_several_or_malformed_keys_is_a_bad_request,
            a_key_without_the_scope_is_forbidden,
            a_key_is_told_what_is_left_of_its_limit_and_when_to_come_again,
            a_request_that_is_refused_for_its_scope_is_not_charged,
            a_deprecated_key_is_told_so,
            a_waiting_successor_is_told_of,
            a_key_with_networks_is_granted_from_them_only,
            where_no_answer_can_be_given_the_client_is_to_try_again,
            a_service_whose_store_fails_guesses_nothing_and_goes_on_when_it_is_back,
            one_connection_serves_grants_and_denials_and_feels_a_revocation_at_once,
            a_head_request_gets_the_fields_without_the_body,
        }
        $crate::tests_of! { load, $start;
            no_request_fails_while_an_operator_rotates_every_key,
            the_first_request_begun_after_a_revocation_is_denied_and_none_before_it,
        }
    };
}

/// One test for each behaviour of a whole service.
#[macro_export]
macro_rules! service {
    ($start:expr) => {
        $crate::answers!($start);
        $crate::tests_of! { claims, $start;
            a_claim_gets_the_next_token_and_its_repetition_the_same,
            a_claim_without_a_valid_key_gets_no_further_than_the_layer,
            a_claim_that_is_refused_says_why,
            a_claim_is_possible_when_the_limit_is_used_up,
            an_unattended_client_lives_through_a_rotation,
        }
        $crate::tests_of! { life, $start;
            routes_without_a_guard_are_open_and_others_are_not,
            a_handler_knows_who_asks,
            a_service_that_stops_answers_what_has_begun_and_hands_over_what_was_counted,
        }
        $crate::tests_of! { load, $start;
            no_request_fails_while_every_key_is_rotated_under_load,
            claims_that_wait_for_the_disk_delay_nobody_else,
        }
        $crate::tests_of! { migration, $start;
            a_service_on_a_list_of_tokens_moves_under_traffic_and_rotates_every_client,
        }
    };
}

/// Tests by the names of the functions that carry them out.
#[macro_export]
macro_rules! tests_of {
    ($module:ident, $start:expr; $($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                over_http::$module::$name($start);
            }
        )*
    };
}
