//! `list`, `show` and `edit`.

use clap::{Args, ValueEnum};
use keyrota::{
    AutoRotation, EditKey, KeyFilter, KeyId, KeyInfo, KeyManager, KeyPage, KeyStatus, Limits, Metadata,
    Networks, OwnerId, RoleName, RotationRecord, Scope, ScopeSet, Timestamp,
};
use serde_json::{Value, json};

use crate::failure::{Done, Failure, usage};
use crate::out::{self, Out, time_or, word};
use crate::place::Place;
use crate::table::Table;
use crate::values::{self, Switch};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota list
  keyrota list --owner ada --status active
  keyrota list --expiring-before \"in 14d\" --json

JSON: {\"keys\": [key …], \"edited\": [row …], \"next\"}; a key is what `keyrota show` calls \"key\"; `next` goes to --after")]
pub(crate) struct List {
    /// Keys of this owner
    #[arg(long)]
    owner: Option<OwnerId>,
    /// Keys of this status
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// Keys whose name contains this
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Keys of which every valid version ends before this date
    #[arg(long, value_name = "DATE", value_parser = values::date)]
    expiring_before: Option<Timestamp>,
    /// Keys after this one, for the next page
    #[arg(long, value_name = "KEY_ID")]
    after: Option<KeyId>,
    /// How many keys: up to 1000
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Only their ids, one a line
    #[arg(long)]
    ids: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    Active,
    NotYet,
    Suspended,
    Ended,
    Revoked,
}

impl From<Status> for KeyStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::NotYet => Self::NotYet,
            Status::Suspended => Self::Suspended,
            Status::Ended => Self::Ended,
            Status::Revoked => Self::Revoked,
        }
    }
}

impl List {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        let mut filter = KeyFilter::all();
        if let Some(owner) = self.owner {
            filter = filter.owner(owner);
        }
        if let Some(status) = self.status {
            filter = filter.status(status.into());
        }
        if let Some(name) = &self.name {
            filter = filter.name_contains(name);
        }
        if let Some(time) = self.expiring_before {
            filter = filter.expiring_before(time);
        }
        listed(&keys.list(&filter, self.after, self.limit)?, self.ids, out)
    }
}

/// Answers with a page of keys.
pub(crate) fn listed(page: &KeyPage, ids: bool, out: &mut Out) -> Done {
    let answer = json!({ "keys": page.keys, "edited": page.edited, "next": page.next });
    out.answer(&answer, |out| {
        if ids {
            return page.keys.iter().try_for_each(|key| out.line(&key.id.to_string()));
        }
        let mut table =
            Table::new(["key_id", "owner…", "name…", "status", "version", "valid until", "scopes…"]);
        for key in &page.keys {
            let ends =
                key.versions.iter().filter(|version| version.is_valid).map(|version| version.ends_at).max();
            let until = ends.map_or(String::new(), |end| time_or(end, "for ever"));
            let version = key.active_version().map_or(String::new(), |version| version.number.to_string());
            table.row([
                key.id.to_string(),
                key.owner.to_string(),
                key.name.to_string(),
                word(&key.status),
                version,
                until,
                key.scopes.to_string(),
            ]);
        }
        if page.keys.is_empty() {
            out.line("no keys")?;
        } else {
            out.table(&table)?;
        }
        for row in &page.edited {
            out.line(&format!("{row}: its row was edited behind the library's back; see `keyrota doctor`"))?;
        }
        match page.next {
            Some(next) => out.line(&format!("more: --after {next}")),
            None => Ok(()),
        }
    })
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  keyrota show key_1pKq…

JSON: {\"key\": {\"key_id\", \"owner\", \"name\", \"status\", \"scopes\", \"versions\": […], …},
       \"rotations\": [{\"id\", \"status\", \"old\", \"new\", …} …], \"last_used\", \"quota_left\"}")]
pub(crate) struct Show {
    key_id: KeyId,
}

impl Show {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        let key = keys.get(self.key_id)?;
        shown(&keys, &key, out)
    }
}

/// Answers with a key and all that hangs on it.
pub(crate) fn shown(keys: &KeyManager, key: &KeyInfo, out: &mut Out) -> Done {
    let rotations = keys.rotations(key.id)?;
    let last_used = keys.last_used(key.id)?;
    let quota_left = keys.quota_left(key.id)?;
    let answer =
        json!({ "key": key, "rotations": rotations, "last_used": last_used, "quota_left": quota_left });
    out.answer(&answer, |out| {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let networks = key.networks.as_ref().map_or("everywhere".to_owned(), ToString::to_string);
        let metadata =
            if key.metadata.is_empty() { String::new() } else { out::json(&key.metadata)?.to_string() };
        out.fields(&[
            ("key_id", key.id.to_string()),
            ("name", key.name.to_string()),
            ("owner", key.owner.to_string()),
            ("status", word(&key.status)),
            ("scopes", key.scopes.to_string()),
            ("role", key.role.as_ref().map_or(String::new(), ToString::to_string)),
            ("limits", if key.limits.is_empty() { String::new() } else { key.limits.to_string() }),
            ("quota left", quota_left.map_or(String::new(), |left| left.to_string())),
            ("used from", networks),
            ("metadata", metadata),
            ("policy", key.policy.map_or("the deployment's".to_owned(), |policy| policy.to_string())),
            ("rotates by itself", yes(key.rotates)),
            (
                "lapsed",
                if key.lapsed { "yes: nobody took its successor over; rotate it" } else { "" }.to_owned(),
            ),
            ("next rotation", key.next_rotation_at.map_or(String::new(), out::time)),
            ("issued", out::time(key.issued_at)),
            ("last used", time_or(last_used, "never, as far as was flushed")),
            ("ends for good", key.hard_end.map_or(String::new(), out::time)),
            ("revoked", key.revoked_at.map_or(String::new(), out::time)),
        ])?;
        out.line("")?;
        let mut table = Table::new(["version", "stage", "valid", "ends", "why…", "hint…", "fingerprint"]);
        for version in &key.versions {
            let ends = version.ended_at.or(version.ends_at);
            let compromised = if version.compromised { ", compromised" } else { "" };
            table.row([
                version.number.to_string(),
                word(&version.stage),
                yes(version.is_valid),
                time_or(ends, "never"),
                version.end_reason.map_or(String::new(), |reason| word(&reason)) + compromised,
                key.hint(version).to_string(),
                version.fingerprint.to_string(),
            ]);
        }
        out.table(&table)?;
        if rotations.is_empty() { Ok(()) } else { told(&rotations, out) }
    })
}

fn told(rotations: &[RotationRecord], out: &mut Out) -> Done {
    out.line("")?;
    let mut table = Table::new(["rotation", "status", "old", "new", "began or due", "claim by", "reason…"]);
    for rotation in rotations {
        let number = |version: Option<keyrota::VersionNo>| version.map_or(String::new(), |no| no.to_string());
        table.row([
            rotation.id.to_string(),
            rotation.status.as_str().to_owned(),
            number(rotation.old),
            number(rotation.new),
            time_or(rotation.started_at.or(rotation.due_at), ""),
            time_or(rotation.claim_by, ""),
            rotation.reason.clone().unwrap_or_default(),
        ]);
    }
    out.table(&table)
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota edit key_1pKq… --name \"ci of the shop\" --scope orders:read
  keyrota edit key_1pKq… --scope orders:read orders:write --widen
  keyrota edit key_1pKq… --no-limits --widen
  keyrota edit key_1pKq… --auto-rotation on

JSON: as of `keyrota show`")]
pub(crate) struct Edit {
    key_id: KeyId,
    /// Call it so
    #[arg(long)]
    name: Option<String>,
    /// Give it these scopes instead
    #[arg(long, num_args = 1.., value_delimiter = ',')]
    scope: Vec<Scope>,
    /// Take all scopes of its own away
    #[arg(long, conflicts_with = "scope")]
    no_scopes: bool,
    /// Give it this role instead
    #[arg(long, value_parser = values::role)]
    role: Option<RoleName>,
    /// Take its role away
    #[arg(long, conflicts_with = "role")]
    no_role: bool,
    /// Give it these limits instead
    #[arg(long)]
    limits: Option<Limits>,
    /// Take its limits away
    #[arg(long, conflicts_with = "limits")]
    no_limits: bool,
    /// Let it be used from these networks only
    #[arg(long)]
    networks: Option<Networks>,
    /// Let it be used from everywhere
    #[arg(long, conflicts_with = "networks")]
    no_networks: bool,
    /// Keep this with it instead: a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::metadata)]
    metadata: Option<Metadata>,
    /// Whether it rotates by itself
    #[arg(long, value_enum)]
    auto_rotation: Option<Switch>,
    /// The key may be able to do more afterwards than before
    #[arg(long)]
    widen: bool,
}

impl Edit {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let edit = self.edit()?;
        let keys = place.keys()?;
        if self.auto_rotation.is_some() && place.request.is_some() && edit.is_some() {
            return Err(Failure::Usage(
                "with --request, switch --auto-rotation in a command of its own".to_owned(),
            ));
        }
        if let Some(edit) = edit {
            place.act(&keys).edit(edit)?;
        }
        if let Some(switch) = self.auto_rotation {
            place.act(&keys).set_auto_rotation(AutoRotation::Key(self.key_id), switch.word())?;
        }
        shown(&keys, &keys.get(self.key_id)?, out)
    }

    /// What is to be changed, if anything but the switch.
    fn edit(&self) -> Done<Option<EditKey>> {
        let mut edit = EditKey::of(self.key_id);
        let before = out::json(&edit)?;
        if let Some(name) = &self.name {
            edit = edit.name(name).map_err(usage)?;
        }
        if !self.scope.is_empty() || self.no_scopes {
            edit = edit.scopes(ScopeSet::new(self.scope.iter().cloned()).map_err(usage)?);
        }
        if self.role.is_some() || self.no_role {
            edit = edit.role(self.role.clone());
        }
        if self.limits.is_some() || self.no_limits {
            edit = edit.limits(self.limits.clone().unwrap_or(Limits::NONE));
        }
        if self.networks.is_some() || self.no_networks {
            edit = edit.networks(self.networks.clone());
        }
        if let Some(metadata) = &self.metadata {
            edit = edit.metadata(metadata.clone());
        }
        match (out::json(&edit)? == before, self.auto_rotation) {
            (true, None) => {
                Err(Failure::Usage("what is to be changed? see `keyrota edit --help`".to_owned()))
            }
            (true, Some(_)) => Ok(None),
            (false, _) => Ok(Some(if self.widen { edit.widen() } else { edit })),
        }
    }
}

/// A key by which a question is asked: its name, its owner and its id.
pub(crate) fn called(key: &KeyInfo) -> String {
    format!("{:?} of {} ({})", key.name.as_str(), key.owner, key.id)
}

/// What a command answers that changes a key and makes no token.
pub(crate) fn changed(key: KeyId, what: &str, more: Value, out: &mut Out) -> Done {
    let mut answer = json!({ "key_id": key, "done": what });
    if let (Value::Object(answer), Value::Object(more)) = (&mut answer, more) {
        answer.extend(more);
    }
    out.answer(&answer, |out| out.line(&format!("{key}: {what}")))
}
