//! What a script uses, as far as its source tells: the report that is shown when it is deployed, and the secrets that
//! it may read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::SecretName;

/// A kind of thing that scripts use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UseKind {
    /// Collections of key-value data.
    Kv,
    /// Secrets that it may read.
    Secrets,
    /// Plain variables.
    Env,
    /// Scripts that it calls with `app::invoke`.
    Scripts,
    /// Hosts that it calls over HTTP, with the port where that is named.
    Hosts,
    /// Files of the app.
    Files,
    /// Queues that it sends to.
    Queues,
    /// Topics that it publishes on.
    Topics,
    /// E-mail. It has no names and is noted as any.
    Email,
}

impl UseKind {
    /// The kind as the API and the database have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Secrets => "secrets",
            Self::Env => "env",
            Self::Scripts => "scripts",
            Self::Hosts => "hosts",
            Self::Files => "files",
            Self::Queues => "queues",
            Self::Topics => "topics",
            Self::Email => "email",
        }
    }
}

impl fmt::Display for UseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a script uses of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// The names that stand in the source.
    pub names: BTreeSet<String>,
    /// Whether there are uses whose name is made only while it runs.
    pub any: bool,
}

/// What a script and its libraries use, by kind. What is not used at all is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<UseKind, Used>")]
pub struct Uses(BTreeMap<UseKind, Used>);

impl Used {
    /// The most names of one kind, and the longest: what is beyond is noted as any.
    const MAX_NAMES: usize = 200;
    const MAX_NAME_BYTES: usize = 128;

    fn is_name(text: &str) -> bool {
        (1..=Self::MAX_NAME_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
    }
}

impl TryFrom<BTreeMap<UseKind, Used>> for Uses {
    type Error = String;

    fn try_from(kinds: BTreeMap<UseKind, Used>) -> Result<Self, String> {
        let mut uses = Self::default();
        for (kind, Used { names, any }) in kinds {
            if names.len() > Used::MAX_NAMES {
                return Err(format!(
                    "there are {} names; allowed are {} of a kind",
                    names.len(),
                    Used::MAX_NAMES
                ));
            }
            for name in names {
                if !Used::is_name(&name) {
                    return Err(format!(
                        "a name is 1 to {} bytes without control characters; any stands for all names",
                        Used::MAX_NAME_BYTES
                    ));
                }
                uses.add(kind, name);
            }
            if any {
                uses.add_any(kind);
            }
        }
        Ok(uses)
    }
}

/// What the scripts of an app may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Whether a version that uses more is refused.
    pub strict: bool,
    /// What is granted.
    pub uses: Uses,
}

impl Uses {
    /// Notes that a name is used. One that cannot be that of anything is noted as any.
    pub fn add(&mut self, kind: UseKind, name: String) {
        let used = self.0.entry(kind).or_default();
        if Used::is_name(&name) && (used.names.len() < Used::MAX_NAMES || used.names.contains(&name)) {
            used.names.insert(name);
        } else {
            used.any = true;
        }
    }

    /// Notes that names are used which are not known before it runs.
    pub fn add_any(&mut self, kind: UseKind) {
        self.0.entry(kind).or_default().any = true;
    }

    /// What is used of one kind, if anything is.
    pub fn of(&self, kind: UseKind) -> Option<&Used> {
        self.0.get(&kind)
    }

    /// Every kind that is used.
    pub fn iter(&self) -> impl Iterator<Item = (UseKind, &Used)> {
        self.0.iter().map(|(kind, used)| (*kind, used))
    }

    /// The secrets that are declared.
    pub fn secrets(&self) -> BTreeSet<SecretName> {
        let names = self.of(UseKind::Secrets).into_iter().flat_map(|used| &used.names);
        names.filter_map(|name| SecretName::new(name.as_str()).ok()).collect()
    }

    /// Adds what others use.
    pub fn extend(&mut self, others: &Self) {
        for (kind, used) in others.iter() {
            for name in &used.names {
                self.add(kind, name.clone());
            }
            if used.any {
                self.add_any(kind);
            }
        }
    }

    /// What is used here and not `granted`, where any stands for all names.
    pub fn beyond(&self, granted: &Self) -> Self {
        let mut beyond = self.newer_than(granted);
        beyond.0.retain(|kind, _| !granted.of(*kind).is_some_and(|granted| granted.any));
        beyond
    }

    /// Whether nothing is used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is used here and was not `before`.
    pub fn newer_than(&self, before: &Self) -> Self {
        let newer = self.iter().filter_map(|(kind, now)| {
            let Some(then) = before.of(kind) else { return Some((kind, now.clone())) };
            let names: BTreeSet<String> = now.names.difference(&then.names).cloned().collect();
            let any = now.any && !then.any;
            (any || !names.is_empty()).then_some((kind, Used { names, any }))
        });
        Self(newer.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(uses: &[(UseKind, &str)]) -> Uses {
        let mut all = Uses::default();
        for (kind, name) in uses {
            if *name == "*" { all.add_any(*kind) } else { all.add(*kind, (*name).to_owned()) }
        }
        all
    }

    #[test]
    fn what_is_new_is_what_was_not_there() {
        let before = uses(&[(UseKind::Kv, "a"), (UseKind::Kv, "*"), (UseKind::Env, "x")]);
        let now =
            uses(&[(UseKind::Kv, "a"), (UseKind::Kv, "b"), (UseKind::Kv, "*"), (UseKind::Secrets, "s")]);
        assert_eq!(now.newer_than(&before), uses(&[(UseKind::Kv, "b"), (UseKind::Secrets, "s")]));
        assert_eq!(now.newer_than(&now), Uses::default());
        assert_eq!(now.newer_than(&Uses::default()), now);
        let dynamic = uses(&[(UseKind::Env, "*")]);
        assert_eq!(dynamic.newer_than(&before), dynamic);
    }

    #[test]
    fn any_grants_all_names_of_its_kind() {
        let used =
            uses(&[(UseKind::Kv, "a"), (UseKind::Kv, "*"), (UseKind::Env, "x"), (UseKind::Secrets, "s")]);
        let granted = uses(&[(UseKind::Kv, "*"), (UseKind::Env, "y"), (UseKind::Secrets, "s")]);
        assert_eq!(used.beyond(&granted), uses(&[(UseKind::Env, "x")]));
        assert_eq!(
            uses(&[(UseKind::Kv, "*")]).beyond(&uses(&[(UseKind::Kv, "a")])),
            uses(&[(UseKind::Kv, "*")])
        );
        let mut all = granted.clone();
        all.extend(&used);
        assert!(used.beyond(&all).is_empty() && granted.beyond(&all).is_empty());
    }

    #[test]
    fn what_people_write_is_checked() {
        let read = |json: &str| serde_json::from_str::<Uses>(json).map_err(|error| error.to_string());
        assert!(
            read(r#"{"kv":{"names":[""],"any":false}}"#).is_err_and(|error| error.contains("1 to 128 bytes"))
        );
        assert!(read(r#"{"kv":{"names":["a\u0000"],"any":false}}"#).is_err());
        assert!(read(r#"{"timers":{"names":[],"any":true}}"#).is_err());
        assert!(read(r#"{"kv":{"names":[],"all":true}}"#).is_err());
        let many: Vec<String> = (0..201).map(|number| number.to_string()).collect();
        let many = serde_json::json!({ "kv": { "names": many, "any": false } }).to_string();
        assert!(read(&many).is_err_and(|error| error.contains("allowed are 200")));
        assert_eq!(
            read(r#"{"kv":{"names":["a"],"any":true}}"#),
            Ok(uses(&[(UseKind::Kv, "a"), (UseKind::Kv, "*")]))
        );
    }

    #[test]
    fn a_hostile_source_makes_no_large_report() {
        let mut all = Uses::default();
        for number in 0..100_000 {
            all.add(UseKind::Kv, number.to_string());
        }
        all.add(UseKind::Env, "x".repeat(129));
        all.add(UseKind::Scripts, "a\0".into());
        assert_eq!(all.of(UseKind::Kv).map(|used| (used.names.len(), used.any)), Some((200, true)));
        for kind in [UseKind::Env, UseKind::Scripts] {
            assert_eq!(all.of(kind), Some(&Used { names: BTreeSet::new(), any: true }));
        }
    }

    #[test]
    fn only_what_can_be_a_secret_is_declared() {
        let declared = uses(&[(UseKind::Secrets, "stripe"), (UseKind::Secrets, "no name")]).secrets();
        assert_eq!(declared.iter().map(SecretName::as_str).collect::<Vec<_>>(), ["stripe"]);
    }

    #[test]
    fn the_json_has_the_kinds_that_are_used() {
        let json = serde_json::to_string(&uses(&[(UseKind::Secrets, "a"), (UseKind::Kv, "*")])).unwrap();
        assert_eq!(json, r#"{"kv":{"names":[],"any":true},"secrets":{"names":["a"],"any":false}}"#);
        assert_eq!(
            serde_json::from_str::<Uses>(&json).unwrap(),
            uses(&[(UseKind::Secrets, "a"), (UseKind::Kv, "*")])
        );
    }
}
