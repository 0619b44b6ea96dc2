//! `picloud deploy`: a script or a folder of scripts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use picloud_core::{AccessPatch, AppName, LimitsPatch, ScriptName};
use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs,
    api::{Api, Payload},
    app_path,
    error::ClientError,
    files::{Links, file_error},
    project::{AppFolder, BundleRoute, Project, Start, read_source, script_name},
    scripts::address,
    session::print_json,
};
use crate::terminal::{self, GOOD};

/// `picloud deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
A folder is an app: each *.rhai file in it is a script (a file in a subfolder has its folder's name before its \
own, as in api/users), and all of it is deployed at once or not at all. A file or a folder inside of it is named \
in the same way: picloud.toml is looked for upwards, up to the root of a git repository or your home, and only in \
folders of yours. It may have:

  name = \"demo\"                 # the app
  [[routes]]                    # else a script answers at its own name
  path = \"/users/:id\"
  methods = [\"GET\", \"PUT\"]      # any, if left out
  script = \"api/users\"
  access = \"token\"              # public, if it is new and says nothing
  [limits]                      # what is left out stays as it is
  memory_bytes = \"8MiB\"
  wall_ms = 2000
  [access]                      # who may call, see `picloud access set --help`
  client_rate_limit = \"100/min\"

Examples:
  picloud deploy hello.rhai --app demo
  picloud deploy path/to/folder")]
pub(crate) struct DeployArgs {
    /// A .rhai file, or a folder of them
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The script's name [default: the file's path in the app's folder]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// What the API takes as a bundle.
#[derive(Debug, Serialize)]
struct Bundle {
    scripts: BTreeMap<ScriptName, String>,
    /// All routes of the app, where the folder has a manifest to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    routes: Option<Vec<BundleRoute>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<LimitsPatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<AccessPatch>,
}

#[derive(Debug, Deserialize)]
struct Deployed {
    name: String,
    version: i32,
    url: Option<String>,
    handlers: Vec<String>,
    warnings: Vec<String>,
    unchanged: bool,
    imported_by: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct BundleAnswer {
    app_created: bool,
    scripts: Vec<Deployed>,
}

/// Deploys what the path names: one call, which also makes the app where it is missing, so that a refusal leaves
/// nothing behind.
pub(super) fn run(args: &DeployArgs) -> Result<(), ClientError> {
    let (app, bundle) = if args.path.is_dir() { folder(args)? } else { file(args)? };
    let bundle = serde_json::to_string(&bundle).map_err(|error| ClientError::Input(error.to_string()))?;
    let api = Api::connect(&args.common)?;
    let path = app_path(&app, "/bundle?create_app=true");
    let answer = api.call(Method::PUT, &path, Payload::JsonText(&bundle))?;
    if args.common.json {
        return print_json(&answer);
    }
    let answer: BundleAnswer = api.read(&answer)?;
    if answer.app_created {
        terminal::note(format_args!("made the app {app}"));
    }
    report(&answer.scripts)
}

fn file(args: &DeployArgs) -> Result<(AppName, Bundle), ClientError> {
    fs::metadata(&args.path).map_err(file_error(&args.path))?;
    if args.path.extension().is_none_or(|extension| extension != "rhai") && args.name.is_none() {
        let problem = format!(
            "{} is neither a folder nor a .rhai file; --name says what to call it",
            args.path.display()
        );
        return Err(ClientError::Input(problem));
    }
    let source = read_source(&args.path, Links::Follow)?;
    let app_folder = if args.app.app.is_some() && args.name.is_some() {
        AppFolder::default()
    } else {
        let folder = args.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        AppFolder::find(folder.unwrap_or(Path::new(".")), Start::Around)?.unwrap_or_default()
    };
    let name = match &args.name {
        Some(name) => {
            ScriptName::new(name.as_str()).map_err(|error| ClientError::Input(error.to_string()))?
        }
        None => script_name(&app_folder.below, &args.path)?,
    };
    let app = app(args, app_folder.manifest.name)?;
    Ok((app, Bundle { scripts: BTreeMap::from([(name, source)]), routes: None, limits: None, access: None }))
}

/// The app: of the flag or variable, of the folder that is deployed, or of the one that the command runs in.
fn app(args: &DeployArgs, deployed: Option<AppName>) -> Result<AppName, ClientError> {
    args.app.app.clone().or(deployed).map_or_else(|| args.app.name(), Ok)
}

fn folder(args: &DeployArgs) -> Result<(AppName, Bundle), ClientError> {
    if args.name.is_some() {
        return Err(ClientError::Input(
            "--name is for a single script; those of a folder are named by their files".into(),
        ));
    }
    let app_folder = AppFolder::find(&args.path, Start::Named)?;
    // Routes and settings belong to the whole: a subfolder brings its scripts only.
    let is_whole = app_folder.as_ref().is_some_and(|found| found.below.is_empty());
    let project = Project::read(&args.path, app_folder.unwrap_or_default())?;
    let routes = is_whole.then(|| project.routes()).transpose()?;
    let limits = project.manifest.limits.filter(|_| is_whole);
    let access = project.manifest.access.filter(|_| is_whole);
    let bundle = Bundle { scripts: project.scripts, routes, limits, access };
    Ok((app(args, project.manifest.name)?, bundle))
}

fn report(scripts: &[Deployed]) -> Result<(), ClientError> {
    let name_width = scripts.iter().map(|script| script.name.chars().count()).max().unwrap_or(0);
    for script in scripts {
        let state = if script.unchanged { "unchanged".to_owned() } else { GOOD.paint("deployed") };
        let pad = " ".repeat(usize::from(!script.unchanged));
        terminal::line(format_args!(
            "{state}{pad} {:name_width$}  version {}  {}",
            terminal::printable(&script.name),
            script.version,
            address(script.url.as_deref(), &script.handlers)
        ))?;
        for warning in &script.warnings {
            terminal::warning(format_args!("{}: {}", script.name, terminal::printable(warning)));
        }
        if !script.imported_by.is_empty() {
            terminal::note(format_args!(
                "note: {} keep{} the version of {} that they were deployed with; deploy them again to use this one",
                script.imported_by.join(", "),
                if script.imported_by.len() == 1 { "s" } else { "" },
                script.name
            ));
        }
    }
    Ok(())
}
