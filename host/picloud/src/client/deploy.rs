//! `picloud deploy`: a script or a folder of scripts.

use std::path::{Path, PathBuf};

use clap::Args;
use picloud_core::{AppName, ScriptName};
use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs,
    api::{Api, Payload, segment},
    app_path, apps,
    error::ClientError,
    project::{BundleRoute, Manifest, Project, read_source, script_name},
    session::print_json,
};
use crate::terminal::{self, GOOD};

/// `picloud deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
A folder is an app: each *.rhai file in it is a script (a file in a subfolder has its folder's name before its
own, as in api/users), and all of them are deployed at once or not at all. Its picloud.toml, if there is one,
looks like this:

  name = \"demo\"                 # the app

  [[routes]]                    # without routes, each script answers at its own name
  path = \"/users/:id\"
  methods = [\"GET\", \"PUT\"]      # any, if left out
  script = \"api/users\"

  [limits]                      # what is left out stays as it is
  wall_ms = 2000

Examples:
  picloud deploy hello.rhai --app demo
  picloud deploy path/to/folder")]
pub(crate) struct DeployArgs {
    /// A .rhai file, or a folder of them
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The script's name [default: the file's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Serialize)]
struct Bundle<'a> {
    scripts: &'a std::collections::BTreeMap<ScriptName, String>,
    /// All routes of the app, where the folder has a manifest to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    routes: Option<Vec<BundleRoute>>,
}

#[derive(Debug, Deserialize)]
struct Deployed {
    name: String,
    version: i32,
    url: String,
    unchanged: bool,
    #[serde(default)]
    imported_by: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct BundleAnswer {
    scripts: Vec<Deployed>,
}

/// Deploys what the path names.
pub(super) fn run(args: &DeployArgs) -> Result<(), ClientError> {
    if args.path.is_dir() { deploy_folder(args) } else { deploy_file(args) }
}

fn deploy_file(args: &DeployArgs) -> Result<(), ClientError> {
    if args.path.extension().is_none_or(|extension| extension != "rhai") && args.name.is_none() {
        let problem = format!(
            "{} is neither a folder nor a .rhai file; --name says what to call it",
            args.path.display()
        );
        return Err(ClientError::Input(problem));
    }
    let source = read_source(&args.path)?;
    let name = match &args.name {
        Some(name) => {
            ScriptName::new(name.as_str()).map_err(|error| ClientError::Input(error.to_string()))?
        }
        None => script_name(&[], &args.path)?,
    };
    let app = match &args.app.app {
        Some(app) => app.clone(),
        None => app_beside(&args.path)?.map_or_else(|| args.app.name(), Ok)?,
    };
    let api = Api::connect(&args.common.connection)?;
    let path = app_path(&app, &format!("/scripts/{}", segment(name.as_str())));
    let put = || api.call(Method::PUT, &path, Payload::Source(&source));
    let answer = making_the_app(&api, &app, put)?;
    if args.common.json {
        return print_json(&answer);
    }
    report(&[api.read(&answer)?])
}

/// The app of the manifest that stands beside a script.
fn app_beside(script: &Path) -> Result<Option<AppName>, ClientError> {
    let folder = script.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(Manifest::read(folder)?.and_then(|manifest| manifest.name))
}

fn deploy_folder(args: &DeployArgs) -> Result<(), ClientError> {
    if args.name.is_some() {
        return Err(ClientError::Input(
            "--name is for a single script; those of a folder are named by their files".into(),
        ));
    }
    let has_manifest = Manifest::read(&args.path)?.is_some();
    let project = Project::read(&args.path)?;
    let app = match (&args.app.app, &project.manifest.name) {
        (Some(app), _) | (None, Some(app)) => app.clone(),
        (None, None) => args.app.name()?,
    };
    let routes = has_manifest.then(|| project.routes()).transpose()?;
    let bundle = serde_json::to_string(&Bundle { scripts: &project.scripts, routes });
    let bundle = bundle.map_err(|error| ClientError::Input(error.to_string()))?;
    let api = Api::connect(&args.common.connection)?;
    if let Some(limits) = &project.manifest.limits {
        // First of all, since one of them says how long a source may be.
        making_the_app(&api, &app, || apps::set_limits(&api, &app, limits))?;
    }
    let put = || api.call(Method::PUT, &app_path(&app, "/bundle"), Payload::JsonText(&bundle));
    let answer = making_the_app(&api, &app, put)?;
    if args.common.json {
        return print_json(&answer);
    }
    report(&api.read::<BundleAnswer>(&answer)?.scripts)
}

/// Makes a call about an app; if there is no such app, makes the app and calls again.
fn making_the_app(
    api: &Api,
    app: &AppName,
    call: impl Fn() -> Result<String, ClientError>,
) -> Result<String, ClientError> {
    match call() {
        Err(ClientError::Problem(problem)) if problem.code == "app_not_found" => {
            apps::make(api, app)?;
            terminal::note(format_args!("made the app {app}"));
            call()
        }
        other => other,
    }
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
            terminal::printable(&script.url)
        ))?;
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
