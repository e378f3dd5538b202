//! What the standard mails say: for each kind of notification what happened, which key, until when, and what to do.

use keyrota::{
    Actor, Email, EmailAddress, EmailError, InApp, Mail, MailTemplate, ManualClock, Notification,
    NotificationKind, StandardMail,
};
use serde_json::json;

use crate::support::{START, at, builder, new_key};

/// A notification of this kind with all that it can tell.
fn full(kind: NotificationKind) -> Notification {
    serde_json::from_value(json!({
        "format": 1, "id": crate::script::told().id.to_string(), "kind": kind, "severity": kind.severity(),
        "at": "2027-03-25T00:00:00Z", "key": crate::script::told().key, "name": "<i>ci</i>", "version": 2, "owner": "ada",
        "hint": "key_4fTq0Zr1xYbA…", "ends_at": "2027-04-01T00:00:00Z", "claim_by": "2027-06-16T12:30:00Z",
        "threshold": 604_800, "reason": "<script>alert('x')</script>", "subject": "version_compromised",
    }))
    .unwrap()
}

#[test]
fn each_kind_has_a_subject_of_its_own_and_says_what_to_do() {
    let mut subjects = std::collections::BTreeSet::new();
    for kind in NotificationKind::ALL {
        let mail = StandardMail.mail(&full(kind));
        let html = mail.html.unwrap();
        for part in ["key_4fTq0Zr1xYbA…", "2027-04-01 00:00 UTC", "2027-06-16 12:30 UTC", "ada"] {
            assert!(mail.text.contains(part) && html.contains(part), "{kind}: {part}\n{}", mail.text);
        }
        assert!(mail.subject.contains("ci") && mail.subject.len() < 200, "{kind}: {}", mail.subject);
        assert!(!html.contains("<script>") && !html.contains("<i>"), "{kind}: {html}");
        assert!(mail.text.lines().filter(|line| line.ends_with('.')).count() >= 2, "{kind}: {}", mail.text);
        assert!(subjects.insert(mail.subject.clone()), "{kind}: {} again", mail.subject);
    }
    let expiring = StandardMail.mail(&full(NotificationKind::Expiring));
    assert_eq!(expiring.subject, "Ends in 7 days: the key \"<i>ci</i>\" (key_4fTq0Zr1xYbA…)");
    let started = StandardMail.mail(&full(NotificationKind::RotationStarted));
    assert!(started.subject.starts_with("Claim the new token of the key"), "{}", started.subject);
    assert!(started.text.contains("claimed until 2027-06-16 12:30 UTC"), "{}", started.text);
}

/// The subjects that the guide has, so that neither it nor the mails forget one.
fn alarms() -> Vec<&'static str> {
    let page = include_str!("../../../../src/guide/alarms.md");
    let table = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    table.flat_map(|cell| cell.split('`').step_by(2)).filter(|name| *name != "subject").collect()
}

#[test]
fn each_alarm_says_what_it_is_about_how_often_and_what_to_do() {
    let all = alarms();
    assert!(
        all.len() >= 13 && all.contains(&"undelivered_version_used") && all.contains(&"usage_fell"),
        "{all:?}"
    );
    let mut to_do = std::collections::BTreeSet::new();
    for subject in all {
        let mut told = full(NotificationKind::Alarm);
        (told.subject, told.more) = (Some(subject.to_owned()), None);
        (told.count, told.expected) = (Some(4_711), Some(815));
        let is_of_source = subject.starts_with("source_");
        if is_of_source {
            (told.key, told.name, told.owner, told.hint, told.version) = (None, None, None, None, None);
            told.source = Some("gate <b>7</b>".to_owned());
        }
        let mail = StandardMail.mail(&told);
        let html = mail.html.unwrap();
        assert!(mail.subject.starts_with(&format!("Alarm: {subject}: ")), "{}", mail.subject);
        assert!(
            !mail.text.contains("An alarm was raised"),
            "{subject} has no words of its own: {}",
            mail.text
        );
        let whom = if is_of_source { "gate <b>7</b>" } else { "key_4fTq0Zr1xYbA…" };
        assert!(mail.subject.contains(whom) && mail.text.contains(whom), "{subject}: {}", mail.text);
        assert!(
            html.contains(&Mail::escape(whom)) && !html.contains("<b>") && !html.contains("<i>"),
            "{html}"
        );
        for known in ["4711", "815", subject] {
            assert!(mail.text.contains(known) && html.contains(known), "{subject}: {known}: {}", mail.text);
        }
        to_do.insert(mail.text.split("\n\n").nth(1).unwrap().to_owned());

        // What an hour had no room for is one mail, which names none of them.
        let mut rest = full(NotificationKind::Alarm);
        (rest.subject, rest.more) = (Some(subject.to_owned()), Some(12));
        (rest.key, rest.name, rest.owner, rest.hint, rest.version) = (None, None, None, None, None);
        let mail = StandardMail.mail(&rest);
        assert!(
            mail.text.contains("12") && mail.subject.starts_with(&format!("Alarm: {subject}: ")),
            "{}",
            mail.text
        );
        assert!(!mail.text.contains("your keys") && !mail.subject.contains("your keys"), "{}", mail.text);
    }
    assert!(to_do.len() >= 10, "{to_do:?}");
    let mut unknown = full(NotificationKind::Alarm);
    (unknown.subject, unknown.more) = (Some("of_a_later_version".to_owned()), None);
    assert!(StandardMail.mail(&unknown).text.contains("of_a_later_version"));
}

#[test]
fn a_claim_says_who_claimed_and_from_where() {
    let mut told = full(NotificationKind::RotationClaimed);
    told.source = Some("192.0.2.7".to_owned());
    told.claimant = Some(keyrota::Claimant::Holder);
    let mail = StandardMail.mail(&told);
    for part in ["192.0.2.7", "whoever holds the old token"] {
        assert!(mail.text.contains(part) && mail.html.as_ref().unwrap().contains(part), "{}", mail.text);
    }
}

#[test]
fn what_concerns_an_owner_or_nobody_reads_well_too() {
    let mut told = full(NotificationKind::Suspended);
    (told.key, told.name, told.hint, told.version) = (None, None, None, None);
    assert_eq!(StandardMail.mail(&told).subject, "Suspended: the keys of ada");
    told.kind = NotificationKind::Alarm;
    told.owner = None;
    (told.subject, told.more) = (Some("chain_broken".to_owned()), None);
    assert_eq!(StandardMail.mail(&told).subject, "Alarm: chain_broken: the store");
}

#[test]
fn what_really_happens_is_told_without_any_secret() {
    let clock = ManualClock::new(at(START));
    let (queue, inbox) = InApp::queue(100);
    let keys = builder(&clock).channel("in", queue).open().unwrap();
    let issued = keys.by(Actor::operator("root")).issue(new_key("ci").auto_rotation(true)).unwrap();
    for _ in 0..95 {
        clock.advance(crate::support::DAY).unwrap();
        while keys.tick().unwrap().more {}
    }
    let told: Vec<_> = inbox.try_iter().collect();
    assert!(told.len() >= 4, "{told:?}");
    for told in &told {
        let mail = StandardMail.mail(told);
        let all = format!("{} {} {}", mail.subject, mail.text, mail.html.unwrap());
        assert!(
            all.contains(&issued.token.hint().to_string())
                || told.version.map(|version| version.get()) == Some(2),
            "{all}"
        );
        let token = issued.token.expose();
        assert!(!all.contains(&token[token.len() - 20..]));
    }
}

#[test]
fn a_text_is_escaped_for_html() {
    assert_eq!(
        Mail::escape("<a href='x'>\"&amp;\"</a>"),
        "&lt;a href=&#39;x&#39;&gt;&quot;&amp;amp;&quot;&lt;/a&gt;"
    );
    assert_eq!(Mail::escape("plain ünïcode"), "plain ünïcode");
}

#[test]
fn settings_that_cannot_work_are_refused_when_they_are_made() {
    let ada = || EmailAddress::new("ada@example.org").unwrap();
    let base = || Email::builder("mail.example.com", ada(), ada());
    let refused = |email: keyrota::EmailBuilder| email.build().map(drop).unwrap_err();
    for host in
        ["", "mail example", "mail.example.com\r\nQUIT", "https://mail.example.com", "mail.example.com:25"]
    {
        assert_eq!(refused(Email::builder(host, ada(), ada())), EmailError::Host, "{host:?}");
    }
    assert_eq!(refused(base().login("", "x")), EmailError::Login);
    assert_eq!(refused(base().login("x", "")), EmailError::Login);
    assert_eq!(refused(base().login("x", &"y".repeat(501))), EmailError::Login);
    assert_eq!(refused(base().trust_only("no certificate")), EmailError::Certificates);
    let second = std::time::Duration::from_secs(1);
    assert_eq!(refused(base().time_limits(second, 46 * second)), EmailError::TimeLimit);
    let email = base().login("user", "T0PS3CRET");
    let printed = format!("{email:?}");
    let printed = printed + &format!("{:?}", email.build().unwrap());
    assert!(!printed.contains("T0PS3CRET") && printed.contains("mail.example.com"), "{printed}");
}
