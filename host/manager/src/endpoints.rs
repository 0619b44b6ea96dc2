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
use picloud_core::{ErrorCode, Scope};

use crate::{
    access::{self, Access},
    api::{apps, bundle, data, domains, executions, invoke, limits, logs, node, routes, scripts, usage},
    context::Context,
    error::ApiError,
    health,
};

/// One line of the table.
pub(crate) struct Endpoint {
    /// `GET`, `PUT`, ...
    pub(crate) method: &'static str,
    /// Its path, with `{name}` for one segment.
    pub(crate) path: &'static str,
    /// Who may call it.
    pub(crate) access: Access,
    handler: MethodRouter<Context>,
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
                handler: on(MethodFilter::$method, $module::$handler),
            }),*]
        }
    };
}

const OPEN: Access = Access::Open;
const ANY_TOKEN: Access = Access::Authenticated;
const LIST_APPS: Access = Access::Instance(Scope::ScriptRead);
const INSTANCE_ADMIN: Access = Access::Instance(Scope::InstanceAdmin);
const APP_ADMIN: Access = Access::App(Scope::AppAdmin);
const SCRIPT_READ: Access = Access::App(Scope::ScriptRead);
const SCRIPT_WRITE: Access = Access::App(Scope::ScriptWrite);
const DATA_READ: Access = Access::App(Scope::DataRead);
const DATA_WRITE: Access = Access::App(Scope::DataWrite);
const LOG_READ: Access = Access::App(Scope::LogRead);

endpoints! {
    GET    "/healthz"                                        OPEN           => health::healthz;
    GET    "/readyz"                                         OPEN           => health::readyz;
    GET    "/metrics"                                        ANY_TOKEN      => health::metrics;

    GET    "/api/v1/openapi.json"                            OPEN           => node::openapi;
    GET    "/api/v1/whoami"                                  ANY_TOKEN      => node::whoami;
    GET    "/api/v1/status"                                  ANY_TOKEN      => node::status;

    GET    "/api/v1/apps"                                    LIST_APPS      => apps::list_apps;
    POST   "/api/v1/apps"                                    INSTANCE_ADMIN => apps::create_app;
    GET    "/api/v1/apps/{app}"                              SCRIPT_READ    => apps::get_app;
    DELETE "/api/v1/apps/{app}"                              APP_ADMIN      => apps::delete_app;
    GET    "/api/v1/apps/{app}/limits"                       SCRIPT_READ    => limits::get_limits;
    PUT    "/api/v1/apps/{app}/limits"                       APP_ADMIN      => limits::set_limits;

    GET    "/api/v1/apps/{app}/scripts"                      SCRIPT_READ    => scripts::list_scripts;
    GET    "/api/v1/apps/{app}/scripts/{name}"               SCRIPT_READ    => scripts::get_script;
    PUT    "/api/v1/apps/{app}/scripts/{name}"               SCRIPT_WRITE   => scripts::put_script;
    DELETE "/api/v1/apps/{app}/scripts/{name}"               SCRIPT_WRITE   => scripts::delete_script;
    GET    "/api/v1/apps/{app}/scripts/{name}/versions"      SCRIPT_READ    => scripts::list_versions;
    POST   "/api/v1/apps/{app}/scripts/{name}/rollback"      SCRIPT_WRITE   => scripts::rollback_script;
    POST   "/api/v1/apps/{app}/scripts/{name}/invoke"        SCRIPT_WRITE   => invoke::invoke_script;
    PUT    "/api/v1/apps/{app}/bundle"                       SCRIPT_WRITE   => bundle::deploy_bundle;

    GET    "/api/v1/apps/{app}/routes"                       SCRIPT_READ    => routes::list_routes;
    POST   "/api/v1/apps/{app}/routes"                       SCRIPT_WRITE   => routes::create_route;
    DELETE "/api/v1/apps/{app}/routes/{id}"                  SCRIPT_WRITE   => routes::delete_route;
    GET    "/api/v1/apps/{app}/domains"                      SCRIPT_READ    => domains::list_domains;
    POST   "/api/v1/apps/{app}/domains"                      APP_ADMIN      => domains::create_domain;
    DELETE "/api/v1/apps/{app}/domains/{id}"                 APP_ADMIN      => domains::delete_domain;

    GET    "/api/v1/apps/{app}/kv"                           DATA_READ      => data::list_collections;
    GET    "/api/v1/apps/{app}/kv/{collection}"              DATA_READ      => data::list_entries;
    GET    "/api/v1/apps/{app}/kv/{collection}/{key}"        DATA_READ      => data::get_entry;
    PUT    "/api/v1/apps/{app}/kv/{collection}/{key}"        DATA_WRITE     => data::put_entry;
    DELETE "/api/v1/apps/{app}/kv/{collection}/{key}"        DATA_WRITE     => data::delete_entry;

    GET    "/api/v1/apps/{app}/executions"                   LOG_READ       => executions::list_executions;
    GET    "/api/v1/apps/{app}/executions/{id}"              LOG_READ       => executions::get_execution;
    GET    "/api/v1/apps/{app}/logs"                         LOG_READ       => logs::read_logs;
    GET    "/api/v1/apps/{app}/usage"                        LOG_READ       => usage::read_usage;
}

/// The paths that may be asked for without a token.
pub(crate) fn open_paths() -> Vec<&'static str> {
    table().iter().filter(|line| line.access == Access::Open).map(|line| line.path).collect()
}

/// The router of the whole table.
pub(crate) fn router(context: Context) -> Router {
    let mut router = Router::new();
    for endpoint in table() {
        let guarded =
            endpoint.handler.route_layer(middleware::from_fn_with_state(endpoint.access, access::require));
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
    fn only_health_and_the_document_are_open() {
        assert_eq!(open_paths(), ["/healthz", "/readyz", "/api/v1/openapi.json"]);
    }

    #[test]
    fn an_endpoint_asks_for_an_app_exactly_where_its_path_names_one() {
        for line in table() {
            assert_eq!(matches!(line.access, Access::App(_)), line.path.contains("{app}"), "{}", line.path);
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
