//! Everything that can be done with keys, once, and everything that it shows.

use std::error::Error;
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keyrota::{
    Act, Actor, AuditFilter, AuditQuery, Clock, Demand, EditKey, Evidence, Generation, IssuedKey, KeyFilter,
    KeyManager, KeyStore as _, Keyring, ManualClock, MasterKey, Metadata, NewKey, OwnerId, OwnerLimit,
    Prefix, Replace, Revision, Revoke, RevokeTarget, RoleName, RollBack, RotateNow, RotationPolicy,
    RowFilter, RowKind, Scope, ScopeSet, SqliteStore, Timestamp, Validator, VersionNo, check_token,
};

use crate::eavesdropper::Eavesdropper;
use crate::search::Secrets;

const HOUR: Duration = Duration::from_secs(3_600);

/// The bytes of the master key.
pub(crate) fn master_bytes() -> [u8; 32] {
    [
        0x9e, 0x37, 0x79, 0xb9, 0x7f, 0x4a, 0x7c, 0x15, 0xf3, 0x9c, 0xc0, 0x60, 0x5c, 0xed, 0xc8, 0x34, 0x10,
        0x82, 0x27, 0x6b, 0xf3, 0xa2, 0x72, 0x51, 0xf8, 0x6c, 0x6a, 0x11, 0xd0, 0xc1, 0x8e, 0x95,
    ]
}

/// A host's clock, which can be made to panic.
#[derive(Clone)]
struct HostClock(ManualClock, Arc<AtomicBool>);

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        assert!(!self.1.load(Ordering::SeqCst), "planned: the clock of the host");
        self.0.now()
    }
}

/// A manager and a validator on a store that writes down all that it is given.
pub(crate) struct Bed {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Arc<Eavesdropper>,
    pub(crate) clock: ManualClock,
    falls: Arc<AtomicBool>,
    pub(crate) keys: KeyManager,
    pub(crate) validator: Validator,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let options = SqliteStore::options().busy_timeout(Duration::from_millis(50));
        let store = Arc::new(Eavesdropper::new(options.open(folder.path().join("keys.db")).unwrap()));
        let clock = ManualClock::new("2027-01-01T00:00:00Z".parse().unwrap());
        let falls = Arc::new(AtomicBool::new(false));
        let keys = KeyManager::builder(Arc::clone(&store), Keyring::from_bytes(&master_bytes()).unwrap())
            .clock(HostClock(clock.clone(), Arc::clone(&falls)))
            .owner_limit(OwnerLimit::new(1_000).unwrap())
            .prefixes([Prefix::default(), Prefix::new("acme_live").unwrap()])
            .open()
            .unwrap();
        let validator = keys.validator().unwrap();
        Self { folder, store, clock, falls, keys, validator }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("keys.db")
    }

    pub(crate) fn clock_falls(&self, falls: bool) {
        self.falls.store(falls, Ordering::SeqCst);
    }

    fn act(&self) -> Act<'_> {
        self.keys.by(Actor::operator("root")).because("the story needs it")
    }

    pub(crate) fn issue(&self, owner: &str, name: &str) -> IssuedKey {
        self.act().issue(NewKey::new(OwnerId::new(owner).unwrap(), name).unwrap()).unwrap()
    }

    /// Everything, once.
    pub(crate) fn tell(&self) -> Story {
        let mut story = Story::default();
        story.secrets.add_master(&master_bytes());
        self.issue_and_rotate(&mut story);
        self.validate(&mut story);
        self.manage(&mut story);
        self.look(&mut story);
        story
    }

    fn issue_and_rotate(&self, story: &mut Story) {
        let ada = OwnerId::new("ada").unwrap();
        let read = ScopeSet::try_from(["orders:read"]).unwrap();
        let new = NewKey::new(ada, "the name of a key that leads nowhere").unwrap().scopes(read.clone());
        let plain = story.shows(self.act().issue(new.clone()));
        story.token(plain.token.expose());
        let acme = new
            .clone()
            .prefix(Prefix::new("acme_live").unwrap())
            .metadata(Metadata::from_json(r#"{"ticket": "OPS-1"}"#).unwrap());
        story.print(&acme);
        // The same under a request id, and the same again; and then what is no longer the same.
        for _ in 0..3 {
            let asked = story.shows(self.act().request("issue-1").issue(acme.clone()));
            story.token(asked.token.expose());
        }
        story.fails(self.act().request("issue-1").issue(new.clone()));
        let asked = self.act().request("issue-1").issue(acme).unwrap();
        for _ in 0..3 {
            let rotated = story.shows(self.act().request("rotate-1").rotate(asked.key));
            story.token(rotated.token.expose());
        }
        story.fails(self.act().rotate(asked.key));
        story.shows(self.act().roll_back(asked.key));
        let how = story.print(RotateNow::of(asked.key).supersede());
        let rotated = story.shows(self.act().rotate(how));
        story.token(rotated.token.expose());
        story.print(rotated.token.hint());
        let how = story.print(RollBack::of(asked.key).compromised());
        story.shows(self.act().roll_back(how));
        let how = story.print(Replace::of(asked.key).grace(HOUR));
        for _ in 0..2 {
            let replaced = story.shows(self.act().request("replace-1").replace(how));
            story.token(replaced.token.expose());
        }
        // Its copy has served its time.
        self.clock.advance(HOUR).unwrap();
        story.fails(self.act().request("issue-1").issue(new));
        story.shows(self.keys.plan(self.clock.now()));
        story.shows(self.keys.tick());
    }

    fn validate(&self, story: &mut Story) {
        let (read, write) = (Scope::new("orders:read").unwrap(), Scope::new("orders:write").unwrap());
        for token in story.tokens.clone() {
            let wrong = format!("{}A{}", &token[..token.len() - 8], &token[token.len() - 7..]);
            // Right checksum or not, a wrong secret is as secret as a right one: it may be right elsewhere.
            story.token(&wrong);
            for text in [token.as_str(), &wrong, &token[1..], &token[..40]] {
                match self.validator.validate_for(text, story.print(Demand::scope(&read))) {
                    Ok(grant) => {
                        story.print(grant);
                        let _ = story.print(self.validator.still_valid(&grant));
                        let _ = story.print(self.validator.scopes(&grant));
                    }
                    Err(denial) => story.error(&denial),
                }
                if let Err(denial) = self.validator.validate_for(text, Demand::scope(&write)) {
                    story.error(&denial);
                }
                if let Err(error) = check_token(text) {
                    story.error(&error);
                }
                let evidence = story.print(Evidence::Token(text));
                let _ = story.print(self.keys.find(evidence));
            }
        }
        story.print(self.validator.findings().unwrap());
        self.validator.flush().unwrap();
    }

    fn manage(&self, story: &mut Story) {
        let bob = OwnerId::new("bob").unwrap();
        let keys: Vec<_> = (0..6).map(|n| self.issue("bob", &format!("n{n}"))).collect();
        keys.iter().for_each(|issued| story.token(issued.token.expose()));
        let role = RoleName::new("reader").unwrap();
        story.shows(self.act().set_role(role.clone(), ScopeSet::try_from(["orders:read"]).unwrap()));
        let edit = EditKey::of(keys[0].key).name("renamed").unwrap().role(Some(role)).widen();
        story.print(&edit);
        story.shows(self.act().edit(edit));
        story.shows(self.act().set_owner_limit(bob, Some(OwnerLimit::new(6).unwrap())));
        story.fails(self.act().issue(NewKey::new(bob, "one too many").unwrap()));
        story.shows(self.act().set_owner_ceiling(bob, Some(ScopeSet::EMPTY)));
        story.shows(self.act().set_policy(RotationPolicy::builder().overlap(2 * HOUR).build().unwrap()));
        story.shows(self.act().suspend(bob));
        story.fails(self.act().rotate(keys[0].key));
        story.shows(self.act().resume(bob));
        story.shows(self.act().deprecate(keys[1].key));
        let of_token = Evidence::Token(keys[2].token.expose());
        assert!(story.shows(self.act().report_compromised(of_token)).is_some());
        let locator = self.keys.get(keys[3].key).unwrap().versions[0].locator;
        let of_locator = story.print(Evidence::Locator(locator));
        assert!(story.shows(self.act().report_compromised(of_locator)).is_some());
        let how = story.print(Revoke::of(RevokeTarget::Version(keys[4].key, VersionNo::FIRST)).compromised());
        story.shows(self.act().request("revoke-1").revoke(how));
        story.fails(self.act().request("revoke-1").revoke(keys[5].key));
        story.shows(self.act().revoke(keys[5].key));
        story.fails(self.act().rotate(keys[5].key));
        story.shows(self.act().revoke(bob));
        self.clock.advance(3 * HOUR).unwrap();
        story.shows(self.keys.tick());
        story.shows(self.act().purge(HOUR));
        story.fails(self.keys.get(keys[5].key));
    }

    fn look(&self, story: &mut Story) {
        let page = story.shows(self.keys.list(&KeyFilter::all(), None, 100));
        for key in &page.keys {
            story.printed.push(serde_json::to_string(key).unwrap());
            story.shows(self.keys.rotations(key.id));
            for version in &key.versions {
                story.printed.push(format!("{} {:?}", key.hint(version), key.hint(version)));
                story.printed.push(format!(
                    "{} {:?}",
                    version.fingerprint,
                    Evidence::Fingerprint(version.fingerprint)
                ));
            }
        }
        story.shows(self.keys.owners());
        story.shows(self.keys.roles());
        story.shows(self.keys.settings());
        story.shows(self.keys.check(None));
        story.shows(self.keys.verify_audit());
        story.shows(self.keys.audit_head());
        story.shows(self.keys.audit(&AuditFilter::all(), 1_000));
        let ring = Keyring::from_bytes(&master_bytes()).unwrap();
        let ring = ring.with(Generation::new(2), MasterKey::generate().unwrap()).unwrap();
        story.secrets.add_text("another", &ring.master(Generation::new(2)).unwrap().expose_hex());
        story.print(ring.master(Generation::new(2)));
        story.print(&ring);
        story.print(&self.keys);
        story.print(&self.validator);
        let store = self.store.inner();
        story.print(store);
        story.print(store.head().unwrap());
        for kind in RowKind::ALL {
            let mut rows = Vec::new();
            store
                .scan(kind, RowFilter::All { after: None }, &mut |row| {
                    rows.push(row.to_row());
                    ControlFlow::Continue(())
                })
                .unwrap();
            story.print(rows);
        }
        store
            .audit(&AuditQuery::default(), &mut |row| {
                story.print(row);
                ControlFlow::Continue(())
            })
            .unwrap();
        let mut items = Vec::new();
        let page = store.feed(Revision(0), 1_000, &mut |item| items.push(format!("{item:?}"))).unwrap();
        story.printed.extend(items);
        story.print(page);
        let memory = keyrota::MemoryStore::new();
        let elsewhere = KeyManager::builder(memory, ring).clock(self.clock.clone()).open().unwrap();
        let issued = elsewhere
            .by(Actor::service("other"))
            .request("r")
            .issue(NewKey::new(OwnerId::new("eve").unwrap(), "ci").unwrap());
        let issued = story.shows(issued);
        story.token(issued.token.expose());
        story.print(&elsewhere);
    }
}

/// What was shown on the way, and what of it is secret.
#[derive(Default)]
pub(crate) struct Story {
    pub(crate) secrets: Secrets,
    pub(crate) tokens: Vec<String>,
    pub(crate) printed: Vec<String>,
}

impl Story {
    fn token(&mut self, token: &str) {
        self.secrets.add_token(token);
        self.tokens.push(token.to_owned());
    }

    fn print<T: Debug>(&mut self, value: T) -> T {
        self.printed.push(format!("{value:?} {value:#?}"));
        value
    }

    fn shows<T: Debug, E: Debug>(&mut self, result: Result<T, E>) -> T {
        self.print(result).unwrap()
    }

    fn fails<T: Debug, E: Error + 'static>(&mut self, result: Result<T, E>) {
        let error = self.print(result).unwrap_err();
        self.error(&error);
    }

    fn error(&mut self, error: &dyn Error) {
        self.printed.push(crate::printed(error));
    }
}
