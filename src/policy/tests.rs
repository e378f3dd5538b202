//! What a policy accepts, refuses, and remembers.

use super::*;

fn build(lifetime: Duration, overlap: Duration) -> Result<RotationPolicy, PolicyError> {
    RotationPolicy::builder().lifetime(lifetime).overlap(overlap).build()
}

#[test]
fn a_policy_is_valid_by_construction() {
    assert_eq!(build(90 * DAY, 24 * HOUR), Ok(RotationPolicy::default()));
    assert_eq!(build(HOUR, HOUR), Err(PolicyError::Overlap));
    assert_eq!(build(Duration::ZERO, Duration::ZERO), Err(PolicyError::Lifetime));
    assert_eq!(build(Duration::MAX, HOUR), Err(PolicyError::Lifetime));
    assert!(build(HOUR, Duration::ZERO).is_ok());
}

#[test]
fn each_contradiction_has_its_own_error() {
    let base = || RotationPolicy::builder().lifetime(90 * DAY).rotate_every(83 * DAY);
    let unused = |quiet_for, at_most, notice| Retirement::WhenUnused { quiet_for, at_most, notice };
    let of = |builder: RotationPolicyBuilder| builder.build().map(drop);
    assert_eq!(of(base()), Ok(()));
    assert_eq!(of(base().rotate_every(90 * DAY)), Err(PolicyError::RotateEvery));
    assert_eq!(of(base().rotate_every(Duration::ZERO)), Err(PolicyError::RotateEvery));
    assert_eq!(of(base().overlap(7 * DAY)), Ok(()));
    assert_eq!(of(base().overlap(7 * DAY + HOUR)), Err(PolicyError::Overlap));
    assert_eq!(of(base().retirement(Retirement::KeepPrevious(1))), Err(PolicyError::KeepPrevious));
    let two = base().retirement(Retirement::KeepPrevious(1)).rotate_every(44 * DAY + 12 * HOUR);
    assert_eq!(of(two), Ok(()));
    assert_eq!(of(two.max_live(2)), Err(PolicyError::MaxLive));
    assert_eq!(of(base().max_live(1)), Err(PolicyError::MaxLive));
    assert_eq!(of(base().max_live(17)), Err(PolicyError::MaxLive));
    assert_eq!(of(base().retirement(unused(DAY, 2 * DAY, DAY))), Ok(()));
    assert_eq!(of(base().retirement(unused(HOUR / 2, 2 * DAY, DAY))), Err(PolicyError::QuietFor));
    assert_eq!(of(base().retirement(unused(DAY, 8 * DAY, DAY))), Err(PolicyError::AtMost));
    assert_eq!(of(base().retirement(unused(DAY, 2 * DAY, DAY + HOUR))), Err(PolicyError::Notice));
    assert_eq!(of(base().warnings([DAY; 5])), Err(PolicyError::Warnings));
    assert_eq!(of(base().warnings([Duration::ZERO])), Err(PolicyError::Warnings));
    assert_eq!(of(base().jitter(42 * DAY)), Err(PolicyError::Jitter));
}

#[test]
fn lifetime_and_the_time_to_the_next_rotation_follow_each_other() {
    let spans = |builder: RotationPolicyBuilder| {
        let policy = builder.build().unwrap();
        (policy.lifetime() / 86_400, policy.rotate_every() / 86_400)
    };
    let days = |l: u64, r: u64| (Duration::from_secs(l), Duration::from_secs(r));
    assert_eq!(spans(RotationPolicy::builder().lifetime(180 * DAY)), days(180, 166));
    assert_eq!(spans(RotationPolicy::builder().rotate_every(166 * DAY)), days(180, 166));
    assert_eq!(spans(RotationPolicy::builder().overlap(10 * DAY)), days(90, 80));
    let kept = RotationPolicy::builder().rotate_every(90 * DAY).retirement(Retirement::KeepPrevious(1));
    assert_eq!(kept.build(), Ok(RotationPolicy::keep_two_newest()));
    assert_eq!(spans(RotationPolicy::mobile().to_builder().lifetime(800 * DAY)), days(800, 435));
}

#[test]
fn the_presets_are_what_the_builder_would_make() {
    for preset in [
        RotationPolicy::every_90_days(),
        RotationPolicy::every_90_days_with_72_hours(),
        RotationPolicy::keep_two_newest(),
        RotationPolicy::mobile(),
    ] {
        assert_eq!(preset.to_builder().build(), Ok(preset));
        let text = serde_json::to_string(&preset).unwrap();
        assert_eq!(serde_json::from_str::<RotationPolicy>(&text).unwrap(), preset);
    }
}

#[test]
fn an_interval_with_or_without_the_previous_version_is_a_resolved_policy() {
    let kept = RotationPolicy::from_interval_json(r#"{"interval_days": 90, "keep_previous": true}"#);
    assert_eq!(kept, Ok(RotationPolicy::keep_two_newest()));
    assert_eq!(
        kept.unwrap().to_string(),
        "a successor every 90 d, each version for 181 d, the old one kept among 1 previous, then for 24 h more \
         after the hand-over; sealed, claimed by holder or owner"
            .replace("24 h", "1 d")
    );
    let plain = RotationPolicy::from_interval_json(r#"{"interval_days":83}"#);
    assert_eq!(plain, Ok(RotationPolicy::default()));
    for days in 1..=3_650 {
        for keep in [false, true] {
            let policy = RotationPolicy::of_interval(days, keep).unwrap();
            assert_eq!(policy.rotate_every(), days * DAY);
        }
    }
    for wrong in ["{}", r#"{"interval_days":0}"#, r#"{"interval_days":3651}"#, r#"{"interval_days":-1}"#, ""]
    {
        assert_eq!(RotationPolicy::from_interval_json(wrong), Err(PolicyError::Interval), "{wrong}");
    }
}

#[test]
fn a_stored_policy_is_checked_when_it_is_read() {
    let read = |text: &str| serde_json::from_str::<RotationPolicy>(text);
    let first = r#"{"lifetime_us":7776000000000,"overlap_us":86400000000}"#;
    assert_eq!(read(first).unwrap(), RotationPolicy::default(), "the form before rotation was automatic");
    assert!(read(r#"{"lifetime_us":60000000,"overlap_us":60000000}"#).is_err());
    assert!(read(r#"{"form":3,"lifetime_us":7776000000000,"overlap_us":86400000000}"#).is_err());
    assert!(OwnerLimit::new(0).is_err() && OwnerLimit::new(1_000_001).is_err());
    let settings = r#"{"policy":{"lifetime_us":7776000000000,"overlap_us":86400000000},"owner_limit":10}"#;
    let settings: DeploymentSettings = serde_json::from_str(settings).unwrap();
    assert_eq!(settings, DeploymentSettings::default());
    assert!(settings.management_enabled && !settings.auto_rotation);
}

#[test]
fn a_policy_is_read_back_as_it_was_built_whatever_follows_from_its_spans() {
    let odd = Duration::from_nanos(1_234_567_891_011_121);
    let intervals = (1..400).map(|days| days * DAY).chain([odd]);
    for every in intervals {
        for retirement in [Retirement::After, Retirement::KeepPrevious(2)] {
            let built = [
                RotationPolicy::builder().rotate_every(every),
                RotationPolicy::builder().lifetime(every),
                RotationPolicy::builder().rotate_every(every).jitter(every / 7).warnings([every / 3]),
            ];
            for builder in built.map(|builder| builder.retirement(retirement)) {
                let Ok(policy) = builder.build() else { continue };
                let read: RotationPolicy =
                    serde_json::from_str(&serde_json::to_string(&policy).unwrap()).unwrap();
                assert_eq!(read, policy);
            }
        }
    }
}
