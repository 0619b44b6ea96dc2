//! From a source to a stored version: build it in the sandbox, pin the libraries it imports.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use picloud_core::{
    AppId, BoxFuture, BuildError, BuiltScript, ErrorCode, HostError, Libraries, ScriptName, ScriptVersionId,
    SourcePosition,
};
use picloud_store::{Store, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{context::Context, error::ApiError};

/// A script that compiled, and what its imports were when it did.
pub(crate) struct Built {
    /// What the sandbox says of it.
    pub(crate) script: BuiltScript,
    /// The libraries that went in, each as it was found.
    pub(crate) imports: Vec<Import>,
}

/// A library that went into an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Import {
    /// A stored version.
    Stored(ScriptVersionId),
    /// Another script of the same bundle.
    Bundled(ScriptName),
}

impl Import {
    /// The version, if it is a stored one.
    pub(crate) fn stored(&self) -> Option<ScriptVersionId> {
        match self {
            Self::Stored(version) => Some(*version),
            Self::Bundled(_) => None,
        }
    }

    /// The script's name, if it is one of the bundle.
    pub(crate) fn bundled(self) -> Option<ScriptName> {
        match self {
            Self::Stored(_) => None,
            Self::Bundled(name) => Some(name),
        }
    }
}

/// Why a script was not built.
pub(crate) enum BuildRefusal {
    /// It does not compile.
    Script(CompileError),
    /// Anything else.
    Other(ApiError),
}

/// What is wrong with a script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct CompileError {
    /// The script, or the library of it that the error is in.
    script: String,
    /// What is wrong.
    message: String,
    /// Line in it, from 1.
    line: Option<u32>,
    /// Column in it, from 1; 0 where only the line is known.
    column: Option<u32>,
    /// The text of that line.
    source_line: Option<String>,
}

impl CompileError {
    fn new(name: &ScriptName, message: String, position: Option<SourcePosition>) -> Self {
        match position {
            Some(SourcePosition { script, line, column, source_line }) => Self {
                script,
                message,
                line: Some(line),
                column: Some(column),
                source_line: Some(source_line),
            },
            None => Self { script: name.to_string(), message, line: None, column: None, source_line: None },
        }
    }
}

impl From<CompileError> for ApiError {
    fn from(error: CompileError) -> Self {
        let refusal = Self::new(ErrorCode::CompileError, error.message).with("script", error.script);
        match (error.line, error.column, error.source_line) {
            (Some(line), Some(column), Some(text)) => {
                refusal.with("line", line).with("column", column).with("source_line", text)
            }
            _ => refusal,
        }
    }
}

impl From<ApiError> for BuildRefusal {
    fn from(error: ApiError) -> Self {
        Self::Other(error)
    }
}

impl From<BuildRefusal> for ApiError {
    fn from(refusal: BuildRefusal) -> Self {
        match refusal {
            BuildRefusal::Script(error) => error.into(),
            BuildRefusal::Other(error) => error,
        }
    }
}

/// Compiles a script. Its imports are the scripts of `bundle`, and then the app's.
pub(crate) async fn build(
    context: &Context,
    app: AppId,
    name: &ScriptName,
    source: &str,
    bundle: &Arc<BTreeMap<ScriptName, Arc<str>>>,
) -> Result<Built, BuildRefusal> {
    let libraries = Arc::new(AppLibraries {
        store: context.store.clone(),
        app,
        bundle: Arc::clone(bundle),
        found: Mutex::default(),
    });
    let turn = context.builds.take(app).await?;
    let script = context
        .executor
        .build(name, source, libraries.clone())
        .await
        .map_err(|error| refusal(name, error))?;
    drop(turn);
    let mut found = libraries.found();
    let imports = script.imports.iter().filter_map(|name| found.remove(name).map(|library| library.import));
    Ok(Built { imports: imports.collect(), script })
}

fn refusal(name: &ScriptName, error: BuildError) -> BuildRefusal {
    match error {
        BuildError::Script { message, position } => {
            BuildRefusal::Script(CompileError::new(name, message, position))
        }
        BuildError::Host(error) => ApiError::new(error.code, error.message).into(),
    }
}

/// Resolves imports, and remembers what each was: the version that was compiled is the one to be pinned.
struct AppLibraries {
    store: Store,
    app: AppId,
    bundle: Arc<BTreeMap<ScriptName, Arc<str>>>,
    found: Mutex<BTreeMap<ScriptName, FoundLibrary>>,
}

#[derive(Clone)]
struct FoundLibrary {
    import: Import,
    source: Arc<str>,
}

impl AppLibraries {
    fn found(&self) -> MutexGuard<'_, BTreeMap<ScriptName, FoundLibrary>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find(&self, name: &ScriptName) -> Result<Option<FoundLibrary>, HostError> {
        if let Some(source) = self.bundle.get(name) {
            return Ok(Some(FoundLibrary {
                import: Import::Bundled(name.clone()),
                source: Arc::clone(source),
            }));
        }
        let library = self.store.library(self.app, name).await.map_err(|error| host_error(&error))?;
        Ok(library
            .map(|library| FoundLibrary { import: Import::Stored(library.version), source: library.source }))
    }
}

impl Libraries for AppLibraries {
    fn library<'a>(&'a self, name: &'a ScriptName) -> BoxFuture<'a, Result<Option<Arc<str>>, HostError>> {
        Box::pin(async move {
            // Asked twice, it is the same version twice, also if it was changed in between.
            let known = self.found().get(name).cloned();
            let found = match known {
                Some(found) => Some(found),
                None => self.find(name).await?,
            };
            let Some(found) = found else { return Ok(None) };
            let kept = self.found().entry(name.clone()).or_insert(found).source.clone();
            Ok(Some(kept))
        })
    }
}

fn host_error(error: &StoreError) -> HostError {
    let unavailable = matches!(error, StoreError::Unavailable(_));
    tracing::warn!(%error, "a library could not be read");
    if unavailable {
        HostError::new(ErrorCode::DatabaseUnavailable, "the database does not answer; try again later")
    } else {
        HostError::new(ErrorCode::Internal, "a library could not be read")
    }
}
