//! Every endpoint of the control listener in one table: method, path, who may call it, handler.
//!
//! This table makes the router and the OpenAPI document. An endpoint cannot be added without saying who may
//! call it; what is not here does not exist.

use axum::{
    Router,
    extract::Request,
    middleware,
    routing::{MethodFilter, MethodRouter, on},
};
use picloud_core::{Capability, ErrorCode, Scope};

use crate::{
    access::{self, Access, Gate},
    api::{
        apps, audit, bundle, data, dead_letters, domains, dry_run, egress, endpoint_access, events,
        executions, files, grants, identities, invoke, issuer_sessions, limits, logs, members, node,
        principals, queues, routes, script_limits, scripts, secrets, sessions, signing_keys, tokens,
        triggers, usage, variables,
    },
    context::Context,
    error::ApiError,
    health, idempotency,
};

/// One line of the table.
pub(crate) struct Endpoint {
    /// `GET`, `PUT`, ...
    pub(crate) method: &'static str,
    /// Its path, with `{name}` for one segment.
    pub(crate) path: &'static str,
    /// Who may call it.
    pub(crate) access: Access,
    /// The name of the operation, as the OpenAPI document and the audit log have it.
    pub(crate) action: &'static str,
    handler: MethodRouter<Context>,
}

impl Endpoint {
    /// Whether a request is answered once under an `Idempotency-Key`.
    pub(crate) fn takes_key(&self) -> bool {
        let is_secret = idempotency::SECRET_ANSWERS.contains(&self.action);
        self.method == "POST" && !matches!(self.access, Access::Open) && !is_secret
    }
}

macro_rules! endpoints {
    ($($method:ident $path:literal $access:expr => $module:ident :: $handler:ident;)*) => {
        /// The operations as their handlers' annotations describe them.
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($module::$handler),*))]
        pub(crate) struct Operations;

        /// The table.
        pub(crate) fn table() -> Vec<Endpoint> {
            vec![$(Endpoint {
                method: stringify!($method),
                path: $path,
                access: $access,
                action: stringify!($handler),
                handler: on(MethodFilter::$method, $module::$handler),
            }),*]
        }
    };
}

const OPEN: Access = Access::Open;
const ANY_TOKEN: Access = Access::Authenticated;
const LIST_APPS: Access = Access::Scoped(Scope::ScriptRead);
const CREATE_APPS: Access = Access::Instance(Capability::InstanceCreateApps);
const READ_SCRIPTS: Access = Access::App(Capability::AppReadScripts);
const WRITE_SCRIPTS: Access = Access::App(Capability::AppWriteScripts);
const DEPLOY: Access = Access::AppOrNew(Capability::AppWriteScripts);
const INVOKE: Access = Access::App(Capability::AppInvoke);
const READ_DATA: Access = Access::App(Capability::AppReadData);
const WRITE_DATA: Access = Access::App(Capability::AppWriteData);
const READ_LOGS: Access = Access::App(Capability::AppReadLogs);
const SETTINGS: Access = Access::App(Capability::AppManageSettings);
const DEAD_LETTERS: Access = Access::App(Capability::AppDeadLetterManage);
const TRIGGERS: Access = Access::App(Capability::AppManageTriggers);
const MEMBERS: Access = Access::App(Capability::AppManageMembers);
const PRINCIPALS: Access = Access::Instance(Capability::InstanceManagePrincipals);
const READ_AUDIT: Access = Access::Instance(Capability::InstanceReadAudit);
const READ_USAGE: Access = Access::Instance(Capability::InstanceReadUsage);
const SECRETS: Access = Access::App(Capability::AppManageSecrets);
const DELETE_APP: Access = Access::App(Capability::AppDelete);

endpoints! {
    GET    "/healthz"                                        OPEN           => health::healthz;
    GET    "/readyz"                                         OPEN           => health::readyz;
    GET    "/metrics"                                        ANY_TOKEN      => health::metrics;

    GET    "/api/v1/openapi.json"                            OPEN           => node::openapi;
    GET    "/api/v1/whoami"                                  ANY_TOKEN      => node::whoami;
    GET    "/api/v1/status"                                  ANY_TOKEN      => node::status;

    POST   "/api/v1/session"                                 OPEN           => sessions::sign_in;
    DELETE "/api/v1/session"                                 ANY_TOKEN      => sessions::sign_out;
    GET    "/api/v1/session/methods"                         OPEN           => issuer_sessions::sign_in_methods;
    GET    "/api/v1/session/oidc/start"                      OPEN           => issuer_sessions::start_oidc;
    GET    "/api/v1/session/oidc/callback"                   OPEN           => issuer_sessions::finish_oidc;
    GET    "/api/v1/tokens"                                  ANY_TOKEN      => tokens::list_tokens;
    POST   "/api/v1/tokens"                                  ANY_TOKEN      => tokens::create_token;
    DELETE "/api/v1/tokens/{id}"                             ANY_TOKEN      => tokens::revoke_token;
    GET    "/api/v1/principals"                              PRINCIPALS     => principals::list_principals;
    POST   "/api/v1/principals"                              PRINCIPALS     => principals::create_principal;
    GET    "/api/v1/principals/{principal}"                  PRINCIPALS     => principals::get_principal;
    PATCH  "/api/v1/principals/{principal}"                  PRINCIPALS     => principals::change_principal;
    DELETE "/api/v1/principals/{principal}"                  PRINCIPALS     => principals::delete_principal;
    PUT    "/api/v1/principals/{principal}/password"         ANY_TOKEN      => principals::set_password;
    GET    "/api/v1/principals/{principal}/identities"       PRINCIPALS     => identities::list_identities;
    POST   "/api/v1/principals/{principal}/identities"       PRINCIPALS     => identities::link_identity;
    DELETE "/api/v1/principals/{principal}/identities/{id}"  PRINCIPALS     => identities::unlink_identity;
    GET    "/api/v1/audit"                                   READ_AUDIT     => audit::read_audit;
    GET    "/api/v1/usage"                                   READ_USAGE     => usage::read_all_usage;

    GET    "/api/v1/apps"                                    LIST_APPS      => apps::list_apps;
    POST   "/api/v1/apps"                                    CREATE_APPS    => apps::create_app;
    GET    "/api/v1/apps/{app}"                              READ_SCRIPTS   => apps::get_app;
    DELETE "/api/v1/apps/{app}"                              DELETE_APP     => apps::delete_app;
    GET    "/api/v1/apps/{app}/limits"                       READ_SCRIPTS   => limits::get_limits;
    PUT    "/api/v1/apps/{app}/limits"                       SETTINGS       => limits::set_limits;
    GET    "/api/v1/apps/{app}/access"                       READ_SCRIPTS   => endpoint_access::get_access;
    PUT    "/api/v1/apps/{app}/access"                       SETTINGS       => endpoint_access::set_access;
    GET    "/api/v1/apps/{app}/egress"                       READ_SCRIPTS   => egress::get_egress;
    PUT    "/api/v1/apps/{app}/egress"                       SETTINGS       => egress::set_egress;

    GET    "/api/v1/apps/{app}/grants"                       READ_SCRIPTS   => grants::get_grants;
    PUT    "/api/v1/apps/{app}/grants"                       SETTINGS       => grants::set_grants;

    GET    "/api/v1/apps/{app}/members"                      MEMBERS        => members::list_members;
    PUT    "/api/v1/apps/{app}/members/{principal}"          MEMBERS        => members::set_member;
    DELETE "/api/v1/apps/{app}/members/{principal}"          MEMBERS        => members::remove_member;

    GET    "/api/v1/apps/{app}/scripts"                      READ_SCRIPTS   => scripts::list_scripts;
    GET    "/api/v1/apps/{app}/scripts/{name}"               READ_SCRIPTS   => scripts::get_script;
    PUT    "/api/v1/apps/{app}/scripts/{name}"               WRITE_SCRIPTS  => scripts::put_script;
    DELETE "/api/v1/apps/{app}/scripts/{name}"               WRITE_SCRIPTS  => scripts::delete_script;
    GET    "/api/v1/apps/{app}/scripts/{name}/limits"        READ_SCRIPTS   => script_limits::get_script_limits;
    PUT    "/api/v1/apps/{app}/scripts/{name}/limits"        SETTINGS       => script_limits::set_script_limits;
    GET    "/api/v1/apps/{app}/scripts/{name}/versions"      READ_SCRIPTS   => scripts::list_versions;
    POST   "/api/v1/apps/{app}/scripts/{name}/rollback"      WRITE_SCRIPTS  => scripts::rollback_script;
    POST   "/api/v1/apps/{app}/scripts/{name}/invoke"        INVOKE         => invoke::invoke_script;
    PUT    "/api/v1/apps/{app}/bundle"                       DEPLOY         => bundle::deploy_bundle;

    GET    "/api/v1/apps/{app}/routes"                       READ_SCRIPTS   => routes::list_routes;
    POST   "/api/v1/apps/{app}/routes"                       WRITE_SCRIPTS  => routes::create_route;
    PATCH  "/api/v1/apps/{app}/routes/{id}"                  WRITE_SCRIPTS  => routes::change_route;
    DELETE "/api/v1/apps/{app}/routes/{id}"                  WRITE_SCRIPTS  => routes::delete_route;
    POST   "/api/v1/apps/{app}/routes/{id}/keys"             SETTINGS       => signing_keys::create_key;
    GET    "/api/v1/apps/{app}/triggers"                     READ_SCRIPTS   => triggers::list_triggers;
    POST   "/api/v1/apps/{app}/triggers"                     TRIGGERS       => triggers::create_trigger;
    GET    "/api/v1/apps/{app}/triggers/{trigger}"           READ_SCRIPTS   => triggers::get_trigger;
    PUT    "/api/v1/apps/{app}/triggers/{trigger}"           TRIGGERS       => triggers::put_trigger;
    PATCH  "/api/v1/apps/{app}/triggers/{trigger}"           TRIGGERS       => triggers::change_trigger;
    DELETE "/api/v1/apps/{app}/triggers/{trigger}"           TRIGGERS       => triggers::delete_trigger;
    GET    "/api/v1/apps/{app}/triggers/{trigger}/schedule"  READ_SCRIPTS   => triggers::read_schedule;
    POST   "/api/v1/apps/{app}/triggers/{trigger}/fire"      TRIGGERS       => triggers::fire_trigger;

    GET    "/api/v1/apps/{app}/queues"                       READ_DATA      => queues::list_queues;
    GET    "/api/v1/apps/{app}/queues/{queue}"               READ_DATA      => queues::get_queue;
    PATCH  "/api/v1/apps/{app}/queues/{queue}"               TRIGGERS       => queues::change_queue;
    POST   "/api/v1/apps/{app}/queues/{queue}/messages"      WRITE_DATA     => queues::send_message;
    POST   "/api/v1/apps/{app}/queues/{queue}/pause"         TRIGGERS       => queues::pause_queue;
    POST   "/api/v1/apps/{app}/queues/{queue}/resume"        TRIGGERS       => queues::resume_queue;
    POST   "/api/v1/apps/{app}/topics/{topic}/publish"       WRITE_DATA     => queues::publish;
    GET    "/api/v1/apps/{app}/outbox"                       READ_DATA      => events::list_outbox;
    GET    "/api/v1/apps/{app}/events/{id}"                  READ_DATA      => events::get_event;
    DELETE "/api/v1/apps/{app}/events/{id}"                  DEAD_LETTERS   => events::cancel_event;
    GET    "/api/v1/apps/{app}/events/{id}/tree"             READ_DATA      => events::event_tree;
    GET    "/api/v1/apps/{app}/dead-letters"                 READ_DATA      => dead_letters::list_dead_letters;
    GET    "/api/v1/apps/{app}/dead-letters/fingerprints"    READ_DATA      => dead_letters::list_fingerprints;
    POST   "/api/v1/apps/{app}/dead-letters/replay"          DEAD_LETTERS   => dead_letters::replay_many;
    POST   "/api/v1/apps/{app}/dead-letters/ignore"          DEAD_LETTERS   => dead_letters::ignore_many;
    GET    "/api/v1/apps/{app}/dead-letters/{id}"            READ_DATA      => dead_letters::get_dead_letter;
    POST   "/api/v1/apps/{app}/dead-letters/{id}/replay"     DEAD_LETTERS   => dead_letters::replay_dead_letter;
    POST   "/api/v1/apps/{app}/dead-letters/{id}/ignore"     DEAD_LETTERS   => dead_letters::ignore_dead_letter;
    POST   "/api/v1/apps/{app}/dead-letters/{id}/dry-run"    DEAD_LETTERS   => dry_run::dry_run;

    GET    "/api/v1/apps/{app}/domains"                      READ_SCRIPTS   => domains::list_domains;
    POST   "/api/v1/apps/{app}/domains"                      SETTINGS       => domains::create_domain;
    POST   "/api/v1/apps/{app}/domains/{id}/verify"          SETTINGS       => domains::verify_domain;
    DELETE "/api/v1/apps/{app}/domains/{id}"                 SETTINGS       => domains::delete_domain;

    GET    "/api/v1/apps/{app}/secrets"                      SECRETS        => secrets::list_secrets;
    PUT    "/api/v1/apps/{app}/secrets/{secret}"             SECRETS        => secrets::put_secret;
    DELETE "/api/v1/apps/{app}/secrets/{secret}"             SECRETS        => secrets::delete_secret;
    GET    "/api/v1/apps/{app}/env"                          READ_SCRIPTS   => variables::list_variables;
    GET    "/api/v1/apps/{app}/env/{variable}"               READ_SCRIPTS   => variables::get_variable;
    PUT    "/api/v1/apps/{app}/env/{variable}"               SETTINGS       => variables::put_variable;
    DELETE "/api/v1/apps/{app}/env/{variable}"               SETTINGS       => variables::delete_variable;

    GET    "/api/v1/apps/{app}/kv"                           READ_DATA      => data::list_collections;
    GET    "/api/v1/apps/{app}/kv/{collection}"              READ_DATA      => data::list_entries;
    GET    "/api/v1/apps/{app}/kv/{collection}/{key}"        READ_DATA      => data::get_entry;
    PUT    "/api/v1/apps/{app}/kv/{collection}/{key}"        WRITE_DATA     => data::put_entry;
    DELETE "/api/v1/apps/{app}/kv/{collection}/{key}"        WRITE_DATA     => data::delete_entry;

    GET    "/api/v1/apps/{app}/files"                        READ_DATA      => files::list_files;
    GET    "/api/v1/apps/{app}/files/{path}"                 READ_DATA      => files::get_file;
    PUT    "/api/v1/apps/{app}/files/{path}"                 WRITE_DATA     => files::put_file;
    DELETE "/api/v1/apps/{app}/files/{path}"                 WRITE_DATA     => files::delete_file;

    GET    "/api/v1/apps/{app}/executions"                   READ_LOGS      => executions::list_executions;
    GET    "/api/v1/apps/{app}/executions/{id}"              READ_LOGS      => executions::get_execution;
    GET    "/api/v1/apps/{app}/executions/{id}/tree"         READ_LOGS      => executions::execution_tree;
    GET    "/api/v1/apps/{app}/logs"                         READ_LOGS      => logs::read_logs;
    GET    "/api/v1/apps/{app}/usage"                        READ_LOGS      => usage::read_usage;
}

/// What may be asked for without a token, as method and path. A HEAD is a GET here.
pub(crate) fn open_calls() -> Vec<(&'static str, &'static str)> {
    let table = table();
    let open = table.iter().filter(|line| matches!(line.access, Access::Open));
    open.map(|line| (line.method, line.path)).collect()
}

/// The router of the whole table.
pub(crate) fn router(context: Context) -> Router {
    let mut router = Router::new();
    for endpoint in table() {
        let gate = Gate { context: context.clone(), access: endpoint.access, action: endpoint.action };
        let guarded = endpoint.handler.route_layer(middleware::from_fn_with_state(gate, access::require));
        router = router.route(endpoint.path, guarded);
    }
    router.fallback(unknown_path).method_not_allowed_fallback(wrong_method).with_state(context)
}

async fn unknown_path(request: Request) -> ApiError {
    ApiError::new(
        ErrorCode::NotFound,
        format!("there is no {}; the calls are listed in /api/v1/openapi.json", request.uri().path()),
    )
}

/// The router adds `Allow`.
async fn wrong_method(request: Request) -> ApiError {
    ApiError::new(
        ErrorCode::MethodNotAllowed,
        format!("{} is not a method of {}", request.method(), request.uri().path()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_health_the_document_and_signing_in_are_open() {
        let open = [
            ("GET", "/healthz"),
            ("GET", "/readyz"),
            ("GET", "/api/v1/openapi.json"),
            ("POST", "/api/v1/session"),
            ("GET", "/api/v1/session/methods"),
            ("GET", "/api/v1/session/oidc/start"),
            ("GET", "/api/v1/session/oidc/callback"),
        ];
        assert_eq!(open_calls(), open);
    }

    #[test]
    fn an_endpoint_asks_for_an_app_exactly_where_its_path_names_one() {
        for line in table() {
            assert_eq!(line.access.is_of_app(), line.path.contains("{app}"), "{}", line.path);
        }
    }

    #[test]
    fn secrets_are_answers_of_operations() {
        for action in idempotency::SECRET_ANSWERS {
            assert!(table().iter().any(|line| line.action == action), "{action}");
        }
    }

    #[test]
    fn every_operation_is_in_the_table_and_vice_versa() {
        let document: serde_json::Value = serde_json::from_str(crate::openapi_json()).unwrap();
        let mut described: Vec<(String, String)> = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let methods = item.as_object().unwrap().keys();
            described.extend(methods.map(|method| (path.clone(), method.to_uppercase())));
        }
        let mut routed: Vec<(String, String)> =
            table().iter().map(|line| (line.path.to_owned(), line.method.to_owned())).collect();
        described.sort();
        routed.sort();
        assert_eq!(described, routed);
    }
}
