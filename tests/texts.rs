//! Texts from outside: what could forge a log line or deceive its reader is refused with a typed error before
//! anything is written, and what is allowed comes back as it was given.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Bed, new_key, on_both_stores, owner, scope};
use keyrota::{
    Actor, AuditFilter, EditKey, KeyFilter, KeyName, ManageError, Metadata, MetadataError, NewKey, OwnerId,
    Prefix, RequestId, RoleName, Scope, ScopeSet, TextError,
};

/// What no text may hold: line breaks, other controls, bidirectional and invisible characters.
const FORBIDDEN: [&str; 25] = [
    "\n",
    "\r",
    "\r\n",
    "\t",
    "\0",
    "\u{1B}[31m",
    "\u{7F}",
    "\u{85}",
    "\u{9B}",
    "\u{AD}",
    "\u{61C}",
    "\u{180E}",
    "\u{200B}",
    "\u{200D}",
    "\u{200E}",
    "\u{200F}",
    "\u{2028}",
    "\u{2029}",
    "\u{202A}",
    "\u{202E}",
    "\u{2066}",
    "\u{2069}",
    "\u{FEFF}",
    "\u{FFF9}",
    "\u{E0041}",
];

/// Texts that every checked field refuses, each with what it refuses it for.
fn bad_texts() -> Vec<(String, &'static str)> {
    let held = FORBIDDEN.iter().flat_map(|bad| [format!("a{bad}b"), format!("{bad}ab"), format!("ab{bad}")]);
    let mut texts: Vec<_> = held.map(|text| (text, "forbidden")).collect();
    texts.extend(FORBIDDEN.iter().map(|bad| ((*bad).to_owned(), "forbidden")));
    texts.extend([
        (String::new(), "empty"),
        (" ".to_owned(), "empty"),
        ("\u{3000}\u{2003}".to_owned(), "empty"),
    ]);
    texts.push(("x".repeat(10 * 1024), "long"));
    texts.push(("é".repeat(5 * 1024), "long"));
    texts.push(("\n".repeat(10 * 1024), "long"));
    texts
}

fn kind_of(error: TextError) -> &'static str {
    match error {
        TextError::Forbidden { .. } => "forbidden",
        TextError::Empty { .. } => "empty",
        TextError::TooLong { .. } => "long",
        _ => "syntax",
    }
}

/// Shows no more than a typed error may: the field, never the text.
fn assert_mentions_no_text(error: &TextError, text: &str) {
    let (shown, debugged) = (error.to_string(), format!("{error:?}"));
    assert!(shown.len() < 200 && !shown.contains(['\n', '\u{202E}', '\0']), "{shown}");
    assert!(text.trim().len() < 40 || !(shown.contains(text) || debugged.contains(text)));
}

#[test]
fn names_owners_roles_and_request_ids_are_bounded_visible_text() {
    type Field = (&'static str, usize, fn(&str) -> Result<String, TextError>);
    let fields: [Field; 4] = [
        ("key name", KeyName::MAX_BYTES, |text| KeyName::new(text).map(|name| name.as_str().to_owned())),
        ("owner", OwnerId::MAX_BYTES, |text| OwnerId::new(text).map(|owner| owner.as_str().to_owned())),
        ("role", RoleName::MAX_BYTES, |text| RoleName::new(text).map(|role| role.as_str().to_owned())),
        ("request id", RequestId::MAX_BYTES, |text| RequestId::new(text).map(|id| id.as_str().to_owned())),
    ];
    for (field, max, take) in fields {
        for (text, expected) in bad_texts() {
            let error = take(&text).expect_err(field);
            assert_eq!(kind_of(error), expected, "{field}: {text:?}");
            assert_mentions_no_text(&error, &text);
        }
        let exact = format!("é{}", "x".repeat(max - 2));
        assert_eq!(take(&exact).unwrap(), exact, "{field} of {max} bytes");
        assert_eq!(take(&format!("{exact}x")), Err(TextError::TooLong { field, max }));
        for good in ["x", " padded ", "a'b\"c\\d", "%_%", "Zoë 🔑", "日本語", "<script>", "null", "../../etc"]
        {
            assert_eq!(take(good).unwrap(), good, "{field}");
        }
    }
}

#[test]
fn scopes_and_prefixes_have_a_form_that_hostile_text_never_has() {
    let bad = bad_texts();
    let around =
        bad.iter().flat_map(|(text, _)| [text.clone(), format!("orders:{text}"), format!("{text}:read")]);
    let form = ["orders", "orders:", ":read", "Orders:read", "orders:re ad", "*:*", "ordérs:read", "o:r:w"];
    for text in around.chain(form.map(str::to_owned)) {
        let error = Scope::new(&text).expect_err(&text);
        assert_eq!(kind_of(error), "syntax");
        assert_mentions_no_text(&error, &text);
    }
    let many: Vec<_> = (0..65).map(|number| scope(&format!("r{number}:x"))).collect();
    assert!(ScopeSet::new(many[..64].to_vec()).is_ok());
    assert_eq!(kind_of(ScopeSet::new(many).unwrap_err()), "long");
    let form = ["Key", "1key", "_key", "key_", "ke-y", "ke y", "kеy", "ｋｅｙ", "clé", &"a".repeat(25)]
        .map(str::to_owned);
    for text in bad.into_iter().map(|(text, _)| text).chain(form) {
        let error = Prefix::new(&text).expect_err(&text);
        assert_eq!(kind_of(error), "syntax");
        assert_mentions_no_text(&error, &text);
    }
}

/// Every act refuses the text with a typed error, and the store is as it was.
fn assert_refused<T>(bed: &Bed, text: &str, expected: &str, act: impl Fn(&str) -> Result<T, ManageError>) {
    let before = bed.keys.audit_head().unwrap();
    match act(text) {
        Err(ManageError::Text(error)) => {
            assert_eq!(kind_of(error), expected, "{text:?}");
            assert_mentions_no_text(&error, text);
        }
        Err(other) => panic!("{text:?}: {other}"),
        Ok(_) => panic!("{text:?} was accepted"),
    }
    assert_eq!(bed.keys.audit_head().unwrap(), before, "{text:?}");
}

#[test]
fn actors_reasons_and_request_ids_are_checked_before_an_act_writes_anything() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let root = || bed.keys.by(Actor::operator("root"));
        let store = bed.place.open();
        let before = store.head().unwrap();
        for (text, expected) in bad_texts() {
            let refused = |act: &dyn Fn(&str) -> Result<(), ManageError>| {
                assert_refused(&bed, &text, expected, act);
            };
            refused(&|text| bed.keys.by(Actor::operator(text)).issue(new_key("x")).map(drop));
            refused(&|text| bed.keys.by(Actor::owner(text)).rotate(issued.key).map(drop));
            refused(&|text| bed.keys.by(Actor::service(text)).revoke(issued.key));
            refused(&|text| root().because(text).revoke(issued.key));
            refused(&|text| root().because(text).suspend(owner("ada")));
            refused(&|text| root().request(text).revoke(issued.key));
            refused(&|text| root().request(text).issue(new_key("x")).map(drop));
            refused(&|text| root().issue(NewKey::new(owner("ada"), text)?).map(drop));
            refused(&|text| root().issue(NewKey::new(OwnerId::new(text)?, "x")?).map(drop));
            refused(&|text| root().set_role(RoleName::new(text)?, ScopeSet::EMPTY));
            refused(&|text| root().edit(EditKey::of(issued.key).name(text)?).map(drop));
        }
        assert_eq!(store.head().unwrap(), before);
        assert_eq!(bed.denial(issued.token.expose()), None, "no refused act had an effect");
    });
}

#[test]
fn actors_reasons_and_request_ids_are_accepted_up_to_their_bounds() {
    on_both_stores(|bed| {
        let long = |bytes: usize| format!("é{}", "x".repeat(bytes - 2));
        let (actor, reason) = (long(Actor::MAX_NAME_BYTES), long(500));
        let request = long(RequestId::MAX_BYTES);
        let before = bed.seq();
        let act =
            || bed.keys.by(Actor::service(actor.clone())).because(reason.clone()).request(request.clone());
        let issued = act().issue(new_key("ci")).unwrap();
        let entries = bed.entries(before);
        for entry in &entries {
            assert_eq!(entry.event.actor.name(), actor);
            assert_eq!(entry.event.reason.as_ref(), Some(&reason));
            assert_eq!(entry.event.request.as_ref().map(RequestId::as_str), Some(request.as_str()));
        }
        assert_eq!(entries.len(), 2);
        assert_eq!(act().issue(new_key("ci")).unwrap().token.expose(), issued.token.expose());
        let root = || bed.keys.by(Actor::operator("root"));
        let too_long = |result: Result<(), ManageError>, max: usize| {
            assert!(
                matches!(result, Err(ManageError::Text(TextError::TooLong { max: told, .. })) if told == max)
            );
        };
        too_long(root().because(long(501)).revoke(issued.key), 500);
        too_long(root().request(long(101)).revoke(issued.key), 100);
        too_long(bed.keys.by(Actor::operator(long(129))).revoke(issued.key), 128);
    });
}

#[test]
fn metadata_is_a_json_object_of_8_kib_and_depth_32_at_most() {
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let listed = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    let sized = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    assert!(Metadata::from_json(&listed(32)).is_ok());
    for (text, expected) in [
        (nested(33), MetadataError::TooDeep),
        (listed(33), MetadataError::TooDeep),
        (nested(1_300), MetadataError::TooDeep),
        (sized(8_193), MetadataError::TooLarge),
        (sized(10 << 20), MetadataError::TooLarge),
        ("[".repeat(100_000), MetadataError::TooLarge),
        ("[".repeat(8_000), MetadataError::TooDeep),
        ("[1]".to_owned(), MetadataError::NotAnObject),
        ("\"text\"".to_owned(), MetadataError::NotAnObject),
        ("null".to_owned(), MetadataError::NotAnObject),
        (String::new(), MetadataError::Syntax),
        ("{\"a\":1".to_owned(), MetadataError::Syntax),
        ("{\"a\":1} x".to_owned(), MetadataError::Syntax),
        ("{\"a\":\"\n\"}".to_owned(), MetadataError::Syntax),
        ("{\"a\":\"\\ud800\"}".to_owned(), MetadataError::Syntax),
        ("{a:1}".to_owned(), MetadataError::Syntax),
    ] {
        assert_eq!(Metadata::from_json(&text), Err(expected), "{:.60}", text);
    }
    on_both_stores(|bed| {
        let before = bed.seq();
        let error = ManageError::from(Metadata::from_json(&nested(33)).unwrap_err());
        assert!(matches!(error, ManageError::Metadata(MetadataError::TooDeep)));
        assert_eq!(bed.seq(), before);
        for text in [
            nested(32),
            listed(32),
            sized(8_192),
            "{\"\\u0000\\n\\u202e\": \"\\u0000\\n\\u202e\"}".to_owned(),
        ] {
            let metadata = Metadata::from_json(&text).unwrap();
            let issued = bed.root().issue(new_key("ci").metadata(metadata.clone())).unwrap();
            assert_eq!(bed.keys.get(issued.key).unwrap().metadata, metadata, "{:.60}", text);
            assert!(bed.is_granted(issued.token.expose()));
        }
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

/// Names that a careless store would take for something else than text.
const ODD_NAMES: [&str; 12] = [
    "'; DROP TABLE row; --",
    "\"; DELETE FROM audit; --",
    "' OR '1'='1",
    "100%",
    "snake_case",
    "back\\slash",
    "?1 :name @name $name",
    "Zoë's Schlüßel 🔑 日本語",
    "e\u{301}clair",
    "éclair",
    "{\"json\":[1,2]}",
    "NULL",
];

#[test]
fn sql_and_unicode_in_names_are_only_text() {
    on_both_stores(|bed| {
        bed.root().set_default_owner_limit(keyrota::OwnerLimit::new(100).unwrap()).unwrap();
        let issued: Vec<_> = ODD_NAMES
            .map(|name| {
                let new = NewKey::new(owner(name), name).unwrap().scopes(["orders:read"].try_into().unwrap());
                let act = bed.keys.by(Actor::operator(name)).because(name).request(name);
                let metadata = Metadata::new(serde_json::json!({ name: name })).unwrap();
                act.issue(new.metadata(metadata)).unwrap()
            })
            .into();
        let listed = bed.keys.list(&KeyFilter::all(), None, 100).unwrap().keys;
        assert_eq!(listed.len(), ODD_NAMES.len());
        for (name, issued) in ODD_NAMES.into_iter().zip(&issued) {
            let info = bed.keys.get(issued.key).unwrap();
            assert_eq!((info.name.as_str(), info.owner.as_str()), (name, name));
            assert_eq!(info.metadata.fields()[name], name);
            assert!(listed.contains(&info));
            let of_owner = bed.keys.list(&KeyFilter::all().owner(owner(name)), None, 100).unwrap().keys;
            assert_eq!(of_owner, [info], "{name}");
            let grant = bed.validator.validate(issued.token.expose()).unwrap();
            assert_eq!(grant.owner().as_str(), name);
            let entries = bed.keys.audit(&AuditFilter::all().actor(name).owner(owner(name)), 100).unwrap();
            assert_eq!(entries.len(), 2, "{name}");
            assert!(entries.iter().all(|entry| entry.event.reason.as_deref() == Some(name)));
        }
        let found = |text: &str| {
            let page = bed.keys.list(&KeyFilter::all().name_contains(text), None, 100).unwrap();
            page.keys.iter().map(|info| info.name.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(found("%"), ["100%"]);
        assert_eq!(found("_"), ["snake_case"]);
        assert_eq!(found("\\"), ["back\\slash"]);
        assert_eq!(found("drop table"), ["'; DROP TABLE row; --"]);
        assert_eq!(found("SCHLÜß"), ["Zoë's Schlüßel 🔑 日本語"]);
        assert_eq!(found("日本"), ["Zoë's Schlüßel 🔑 日本語"]);
        assert_eq!(found("éc"), ["éclair"], "characters are compared as they are written");
        assert_eq!(found("' OR '1'='1' --"), <[&str; 0]>::default());
        assert_eq!(found("\0"), <[&str; 0]>::default());
        assert_eq!(found("").len(), ODD_NAMES.len());
        for name in ODD_NAMES {
            bed.keys.by(Actor::operator(name)).suspend(owner(name)).unwrap();
        }
        assert!(issued.iter().all(|issued| !bed.is_granted(issued.token.expose())));
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn an_export_of_the_audit_log_has_one_line_for_each_entry_whatever_the_texts() {
    on_both_stores(|bed| {
        for name in ODD_NAMES {
            bed.keys.by(Actor::operator(name)).because(name).suspend(owner(name)).unwrap();
        }
        let mut out = Vec::new();
        let written = bed.keys.export_audit(&AuditFilter::all(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!((text.lines().count() as u64, written), (bed.seq(), bed.seq()));
        let reasons = text.lines().filter_map(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            (entry["kind"] == "owner_suspended").then(|| entry["reason"].as_str().unwrap().to_owned())
        });
        assert!(reasons.eq(ODD_NAMES));
    });
}
