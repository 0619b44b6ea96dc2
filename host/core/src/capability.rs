//! Who may do what: every capability, the scope that a token needs for it, and the least role of its holder.
//!
//! A call is allowed where three things agree: the token has the scope, the principal has the role, and the
//! token is good for the app. Nothing else in the platform decides about permission.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{AppId, Scope};

/// What a principal may do in one app. Each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppRole {
    /// Sees everything but secrets, changes nothing.
    Viewer,
    /// Deploys and runs scripts, changes data.
    Editor,
    /// Everything in the app, also who else is in it.
    AppAdmin,
}

/// What a principal may do in the whole installation. Each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceRole {
    /// Nothing by itself: what it may do comes with the apps that it is a member of.
    Member,
    /// Everything, in every app.
    Owner,
}

/// The least role that a capability needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeastRole {
    /// In the app.
    App(AppRole),
    /// In the installation.
    Instance(InstanceRole),
}

macro_rules! capabilities {
    (
        apps: { $($(#[$app_doc:meta])* $app:ident = $app_scope:ident, $app_role:ident;)* }
        instance: { $($(#[$doc:meta])* $name:ident = $scope:ident, $role:ident;)* }
    ) => {
        /// One thing that somebody may be allowed to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Capability {
            $($(#[$app_doc])* $app(AppId),)*
            $($(#[$doc])* $name,)*
        }

        impl Capability {
            /// Every capability that belongs to an app, without its app.
            pub const OF_APPS: &[fn(AppId) -> Self] = &[$(Self::$app,)*];

            /// Every capability of the installation.
            pub const OF_INSTANCE: &[Self] = &[$(Self::$name,)*];

            /// The scope that a token needs.
            pub const fn scope(self) -> Scope {
                match self {
                    $(Self::$app(_) => Scope::$app_scope,)*
                    $(Self::$name => Scope::$scope,)*
                }
            }

            /// The least role that the principal needs.
            pub const fn least_role(self) -> LeastRole {
                match self {
                    $(Self::$app(_) => LeastRole::App(AppRole::$app_role),)*
                    $(Self::$name => LeastRole::Instance(InstanceRole::$role),)*
                }
            }

            /// The app that it is about.
            pub const fn app(self) -> Option<AppId> {
                match self {
                    $(Self::$app(app) => Some(app),)*
                    $(Self::$name => None,)*
                }
            }

            /// Its name, as the documentation has it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$app(_) => stringify!($app),)*
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

capabilities! {
    apps: {
        /// See the app, its limits, scripts, variables, routes, triggers and domains.
        AppReadScripts = ScriptRead, Viewer;
        /// Deploy and remove scripts and routes.
        AppWriteScripts = ScriptWrite, Editor;
        /// Run a script by hand.
        AppInvoke = ScriptWrite, Editor;
        /// Read data.
        AppReadData = DataRead, Viewer;
        /// Change data.
        AppWriteData = DataWrite, Editor;
        /// Read executions, logs and usage.
        AppReadLogs = LogRead, Viewer;
        /// Change limits, variables, domains, who may call the app's endpoints, and what its scripts may call.
        AppManageSettings = AppAdmin, AppAdmin;
        /// Set and remove secrets; nobody can read them.
        AppManageSecrets = AppAdmin, AppAdmin;
        /// See and change who is a member.
        AppManageMembers = AppAdmin, AppAdmin;
        /// Register, change and remove triggers.
        AppManageTriggers = AppAdmin, AppAdmin;
        /// Replay and settle dead letters.
        AppDeadLetterManage = AppAdmin, AppAdmin;
        /// Remove the app with everything in it.
        AppDelete = AppAdmin, AppAdmin;
    }
    instance: {
        /// Make an app.
        InstanceCreateApps = InstanceAdmin, Owner;
        /// Make, change and remove principals, and see their tokens.
        InstanceManagePrincipals = InstanceAdmin, Owner;
        /// Vouch for the host of an app that nobody has proved.
        InstanceVouchDomains = InstanceAdmin, Owner;
        /// Read the audit log of the whole installation.
        InstanceReadAudit = InstanceAdmin, Owner;
        /// See what every app uses, and which are near a limit.
        InstanceReadUsage = InstanceAdmin, Owner;
    }
}

/// Whether somebody with these roles may have a capability, whatever their token says. `app` is the role in the
/// capability's app.
pub fn role_satisfies(instance: InstanceRole, app: Option<AppRole>, capability: Capability) -> bool {
    match capability.least_role() {
        LeastRole::Instance(least) => instance >= least,
        LeastRole::App(least) => instance == InstanceRole::Owner || app.is_some_and(|role| role >= least),
    }
}

macro_rules! text_form {
    ($type:ident, $unknown:ident, $what:literal, $($name:ident = $text:literal),*) => {
        impl $type {
            /// Every one, the least first.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in storage and at the API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        #[doc = concat!("A ", $what, " that does not exist.")]
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[error("unknown {what} {given:?}; allowed: {all}", what = $what, given = .0, all = [$($text),*].join(", "))]
        pub struct $unknown(String);

        impl FromStr for $type {
            type Err = $unknown;

            fn from_str(text: &str) -> Result<Self, $unknown> {
                let known = Self::ALL.iter().copied().find(|role| role.as_str() == text);
                known.ok_or_else(|| $unknown(text.to_owned()))
            }
        }
    };
}

text_form!(
    AppRole,
    UnknownAppRole,
    "role in an app",
    Viewer = "viewer",
    Editor = "editor",
    AppAdmin = "app_admin"
);
text_form!(InstanceRole, UnknownInstanceRole, "role", Member = "member", Owner = "owner");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_what_the_roles_below_it_have() {
        let app = AppId::generate();
        for capability in Capability::OF_APPS.iter().map(|of| of(app)) {
            let allowed: Vec<bool> = [None]
                .into_iter()
                .chain(AppRole::ALL.iter().copied().map(Some))
                .map(|role| role_satisfies(InstanceRole::Member, role, capability))
                .collect();
            assert!(!allowed[0], "{capability:?} without a role");
            assert!(allowed.is_sorted(), "{capability:?}: {allowed:?}");
            assert!(allowed[3], "{capability:?} for an admin of the app");
            assert!(role_satisfies(InstanceRole::Owner, None, capability));
        }
    }

    #[test]
    fn a_member_has_nothing_of_the_installation_whatever_its_role_in_an_app() {
        for &capability in Capability::OF_INSTANCE {
            assert_eq!((capability.app(), capability.scope()), (None, Scope::InstanceAdmin));
            assert!(!role_satisfies(InstanceRole::Member, Some(AppRole::AppAdmin), capability));
            assert!(role_satisfies(InstanceRole::Owner, None, capability));
        }
    }

    #[test]
    fn what_only_reads_is_a_viewers_and_nothing_else_is() {
        let reads = [Scope::ScriptRead, Scope::DataRead, Scope::LogRead];
        for capability in Capability::OF_APPS.iter().map(|of| of(AppId::generate())) {
            let is_viewers = capability.least_role() == LeastRole::App(AppRole::Viewer);
            assert_eq!(is_viewers, reads.contains(&capability.scope()), "{capability:?}");
        }
    }

    #[test]
    fn triggers_and_dead_letters_are_for_admins_of_the_app() {
        let app = AppId::generate();
        for capability in [Capability::AppManageTriggers(app), Capability::AppDeadLetterManage(app)] {
            assert_eq!(capability.scope(), Scope::AppAdmin);
            assert!(role_satisfies(InstanceRole::Member, Some(AppRole::AppAdmin), capability));
            assert!(!role_satisfies(InstanceRole::Member, Some(AppRole::Editor), capability));
        }
    }

    #[test]
    fn roles_round_trip_and_an_unknown_one_names_them_all() {
        for role in AppRole::ALL {
            assert_eq!(role.as_str().parse(), Ok(*role));
            assert_eq!(serde_json::to_string(role).unwrap(), format!("\"{role}\""));
        }
        for role in InstanceRole::ALL {
            assert_eq!(role.as_str().parse(), Ok(*role));
            assert_eq!(serde_json::to_string(role).unwrap(), format!("\"{role}\""));
        }
        let error = "root".parse::<AppRole>().unwrap_err().to_string();
        assert_eq!(error, "unknown role in an app \"root\"; allowed: viewer, editor, app_admin");
    }
}
