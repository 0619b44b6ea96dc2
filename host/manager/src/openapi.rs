//! The OpenAPI 3.1 document: what the handlers' annotations say, plus what holds for every operation.

use std::sync::OnceLock;

use picloud_core::Scope;
use picloud_edge::SESSION_COOKIE;
use utoipa::{
    OpenApi as _, PartialSchema as _, ToSchema as _,
    openapi::{
        ArrayBuilder, InfoBuilder, LicenseBuilder, ObjectBuilder, OpenApi, PathItem, Ref, RefOr, Required,
        Schema, ServerBuilder, Type,
        content::ContentBuilder,
        extensions::Extensions,
        header::HeaderBuilder,
        path::{Operation, ParameterBuilder, ParameterIn},
        response::ResponseBuilder,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use crate::{
    access::Access,
    deploy::CompileError,
    endpoints::{self, Endpoint, Operations},
};

/// Who may call an operation, in one object: extensions are written in no order of their own.
const ACCESS_EXTENSION: &str = "x-picloud-access";

const SECURITY_SCHEME: &str = "token";
const SESSION_SCHEME: &str = "session";

/// The document as it is served and as `docs/openapi.json` has it.
pub fn openapi_json() -> &'static str {
    static JSON: OnceLock<String> = OnceLock::new();
    JSON.get_or_init(|| {
        let json = document().to_pretty_json();
        // It is made of literals only; a test makes it on every run.
        json.unwrap_or_else(|error| format!("{{\"error\":{:?}}}", error.to_string()))
    })
}

fn document() -> OpenApi {
    let mut document = Operations::openapi();
    document.info = InfoBuilder::new()
        .title("PiCloud management API")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("The control plane of a PiCloud node. docs/API.md has the calls with examples."))
        .license(Some(
            LicenseBuilder::new().name("Apache-2.0 OR MIT").identifier(Some("Apache-2.0 OR MIT")).build(),
        ))
        .build();
    document.servers = Some(vec![ServerBuilder::new().url("/").build()]);
    let components = document.components.get_or_insert_default();
    components.schemas.insert("Problem".to_owned(), RefOr::T(problem_schema()));
    components.schemas.insert(CompileError::name().into_owned(), CompileError::schema());
    components.add_security_scheme(
        SECURITY_SCHEME,
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("A token: `authorization: Bearer pcl_...`"))
                .build(),
        ),
    );
    components.add_security_scheme(
        SESSION_SCHEME,
        SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            SESSION_COOKIE,
            "The cookie that POST /api/v1/session sets; over TLS its name is __Host-picloud_session.",
        ))),
    );
    for endpoint in endpoints::table() {
        let item = document.paths.paths.get_mut(endpoint.path);
        if let Some(operation) = item.and_then(|item| operation_mut(item, endpoint.method)) {
            complete(operation, &endpoint);
        }
    }
    document
}

fn operation_mut<'a>(item: &'a mut PathItem, method: &str) -> Option<&'a mut Operation> {
    match method {
        "GET" => item.get.as_mut(),
        "PUT" => item.put.as_mut(),
        "POST" => item.post.as_mut(),
        "DELETE" => item.delete.as_mut(),
        "PATCH" => item.patch.as_mut(),
        _ => None,
    }
}

/// Adds what follows from the table: path parameters, the token, the scope, the shape of errors.
fn complete(operation: &mut Operation, endpoint: &Endpoint) {
    for name in endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(describe_parameter(name)))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .build();
        operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
    }
    if endpoint.takes_key() {
        let parameter = ParameterBuilder::new()
            .name("idempotency-key")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("The same request under the same key is answered once in 24 hours."))
            .schema(Some(
                ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255)),
            ))
            .build();
        operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
    }
    operation.responses.responses.insert("default".to_owned(), RefOr::T(problem_response()));
    let access = Extensions::from_iter([(ACCESS_EXTENSION, endpoint.access.described())]);
    operation.extensions.get_or_insert_default().merge(access);
    operation.security = Some(match endpoint.access {
        Access::Open => Vec::new(),
        // OpenAPI 3.1 lets a requirement name roles of any scheme, not only of OAuth.
        access => vec![
            SecurityRequirement::new(SECURITY_SCHEME, access.scope().map(Scope::as_str)),
            // A session has every scope.
            SecurityRequirement::new(SESSION_SCHEME, None::<&str>),
        ],
    });
}

fn describe_parameter(name: &str) -> &'static str {
    match name {
        "app" => "Name of the app.",
        "principal" => "Id or name of the principal.",
        "name" => "Name of the script. A `/` in it may be sent as it is or as `%2F`.",
        "secret" => "Name of the secret.",
        "trigger" => "Id or name of the trigger.",
        "variable" => "Name of the variable.",
        "collection" => "Name of the kv collection.",
        "path" => "The path, percent-encoded. A `/` in it may be sent as it is or as `%2F`.",
        "key" => "The key, percent-encoded. A `/` in it may be sent as it is or as `%2F`.",
        _ => "The id that the list shows.",
    }
}

fn problem_response() -> utoipa::openapi::Response {
    let header = |text: &str| {
        let mut header =
            HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String))).build();
        header.description = Some(text.to_owned());
        header
    };
    ResponseBuilder::new()
        .description("It was refused or failed (RFC 9457).")
        .content(
            "application/problem+json",
            ContentBuilder::new()
                .schema(Some(RefOr::<Schema>::Ref(Ref::from_schema_name("Problem"))))
                .build(),
        )
        .header("picloud-error", header("The code, as in the body."))
        .header("picloud-request-id", header("The request's id, as in the body."))
        .build()
}

fn compile_errors_schema() -> ArrayBuilder {
    ArrayBuilder::new()
        .items(RefOr::<Schema>::Ref(Ref::from_schema_name("CompileError")))
        .description(Some("Everything in a bundle that does not compile, the first 20 of it."))
}

fn problem_schema() -> Schema {
    let text = |about: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(about));
    let number = |about: &str| ObjectBuilder::new().schema_type(Type::Integer).description(Some(about));
    let codes = picloud_core::ErrorCode::ALL.iter().map(|code| code.as_str());
    let object = ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(
            "An error (RFC 9457). Members beyond the required ones are there where they are known.",
        ))
        .property("type", text("A URI that names the kind of error."))
        .property("title", text("The kind of error, for people."))
        .property("status", number("The HTTP status."))
        .property("detail", text("What is wrong here, and what is allowed."))
        .property("instance", text("The request, as a URI."))
        .property("code", text("The kind of error, stable.").enum_values(Some(codes)))
        .property("request_id", text("The request's id, as in the header."))
        .property("field", text("The field or parameter that is wrong."))
        .property("ceiling", number("The most that the platform allows (`above_ceiling`)."))
        .property("script", text("The script that failed."))
        .property("line", number("Line in it, from 1."))
        .property("column", number("Column in it, from 1."))
        .property("source_line", text("The text of that line."))
        .property("errors", compile_errors_schema())
        .property("fuel_used", number("Fuel that the failed run used."));
    ["type", "title", "status", "code", "request_id"]
        .into_iter()
        .fold(object, ObjectBuilder::required)
        .build()
        .into()
}
