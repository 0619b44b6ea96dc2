//! Deploying many scripts at once.

use std::{collections::BTreeMap, fmt, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
};
use picloud_core::{ErrorCode, ScriptName};
use picloud_store::{BundleVersion, NewRoute, NewVersion, PutVersion};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use utoipa::ToSchema;

use crate::{
    access::{Caller, TargetApp},
    api::{
        routes::RouteRequest,
        scripts::{ScriptUrls, ScriptView},
    },
    context::Context,
    deploy::{self, Built, Import},
    error::ApiError,
    extract::read_json,
    store_error::from_store,
};

/// The most that a bundle has, in bytes of JSON.
const BUNDLE_BYTES: u64 = 8 * 1024 * 1024;
/// The most scripts of a bundle.
const BUNDLE_SCRIPTS: usize = 500;

/// What to deploy.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bundle {
    /// Sources by the names of the scripts. Scripts of the app that are not named stay as they are.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    #[serde(deserialize_with = "scripts")]
    scripts: Arc<BTreeMap<ScriptName, Arc<str>>>,
    /// All routes of the app; those it has now and are not named are removed. They stay if this is left out.
    routes: Option<Vec<RouteRequest>>,
}

/// What a deployment did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BundleAnswer {
    /// The scripts of the bundle, by name.
    scripts: Vec<BundledScript>,
}

/// A script of a bundle.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BundledScript {
    /// The script as it is now.
    #[serde(flatten)]
    script: ScriptView,
    /// Whether it is new.
    created: bool,
    /// Whether nothing had to be done for it.
    unchanged: bool,
}

/// Names may not be given twice: which of the two sources is meant cannot be known.
fn scripts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Arc<BTreeMap<ScriptName, Arc<str>>>, D::Error> {
    struct Scripts;

    impl<'de> Visitor<'de> for Scripts {
        type Value = BTreeMap<ScriptName, Arc<str>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of sources by script name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut scripts = BTreeMap::new();
            while let Some((name, source)) = map.next_entry::<ScriptName, String>()? {
                if scripts.len() == BUNDLE_SCRIPTS {
                    return Err(A::Error::custom(format!("a bundle has at most {BUNDLE_SCRIPTS} scripts")));
                }
                if scripts.contains_key(&name) {
                    return Err(A::Error::custom(format!("duplicate script `{name}`")));
                }
                scripts.insert(name, source.into());
            }
            Ok(scripts)
        }
    }

    deserializer.deserialize_map(Scripts).map(Arc::new)
}

/// Deploys many scripts at once: all of them, or none where one does not compile.
///
/// An `import` finds a script of the bundle first, and then one of the app.
#[utoipa::path(put, path = "/api/v1/apps/{app}/bundle", tag = "scripts", request_body = Bundle,
    responses((status = 200, description = "The scripts as they are now", body = BundleAnswer)))]
pub(crate) async fn deploy_bundle(
    State(context): State<Context>,
    caller: Caller,
    TargetApp(app): TargetApp,
    request: Request,
) -> Result<Json<BundleAnswer>, ApiError> {
    let (parts, body) = request.into_parts();
    let bundle: Bundle = read_json(&parts.headers, body, BUNDLE_BYTES).await?;
    let most = app.limits.source_bytes;
    for (name, source) in bundle.scripts.iter() {
        if source.len() as u64 > most {
            let detail =
                format!("script {name} has {} bytes; this app's limit source_bytes is {most}", source.len());
            return Err(ApiError::new(ErrorCode::TooLarge, detail)
                .field(format!("scripts.{name}"))
                .with("limit", most));
        }
    }
    let mut versions = Vec::with_capacity(bundle.scripts.len());
    for (name, source) in bundle.scripts.iter() {
        let built = deploy::build(&context, app.id, name, source, &bundle.scripts).await?;
        versions.push(version(name, source, built, &caller));
    }
    // A script's imports are all of its libraries, directly or not: a library has fewer than who imports it.
    versions.sort_by_key(|version| version.bundled_imports.len());
    let routes: Option<Vec<NewRoute>> =
        bundle.routes.map(|routes| routes.into_iter().map(NewRoute::from).collect());
    let put = context.store.put_bundle(app.id, &versions, routes.as_deref()).await.map_err(from_store)?;
    context.app_changed(app.id).await;
    let urls = ScriptUrls::load(&context, &app).await?;
    let mut scripts: Vec<BundledScript> = put.iter().map(|put| bundled(put, &urls)).collect();
    scripts.sort_by(|a, b| a.script.name().cmp(b.script.name()));
    Ok(Json(BundleAnswer { scripts }))
}

fn version(name: &ScriptName, source: &Arc<str>, built: Built, caller: &Caller) -> BundleVersion {
    let version = NewVersion {
        name: name.clone(),
        source: Arc::clone(source),
        image: built.script.image,
        handlers: built.script.handlers,
        imports: built.imports.iter().filter_map(Import::stored).collect(),
        created_by: Some(caller.principal.id),
    };
    BundleVersion {
        version,
        bundled_imports: built.imports.into_iter().filter_map(Import::bundled).collect(),
    }
}

fn bundled(put: &PutVersion, urls: &ScriptUrls<'_>) -> BundledScript {
    let script = put.script();
    BundledScript {
        script: ScriptView::of(script, urls.of(&script.name)),
        created: matches!(put, PutVersion::Created(_)),
        unchanged: matches!(put, PutVersion::Unchanged(_)),
    }
}
