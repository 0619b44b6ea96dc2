//! `picloud deploy`: a script or a folder of scripts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use picloud_core::{
    AccessPatch, AppName, EgressRules, FileFolder, FilePath, LimitsPatch, STATIC_FOLDER, ScriptLimitsPatch,
    ScriptName, TriggerSpec, VariableName,
};
use serde::{Deserialize, Serialize};
use ureq::http::Method;

use super::{
    AppArgs, CommonArgs,
    api::{Api, Payload},
    app_path,
    error::ClientError,
    files::{Links, file_error},
    project::{AppFolder, BundleRoute, MANIFEST, Project, Start, read_source, script_name},
    routes::Route,
    scripts::address,
    session::print_json,
    static_folder::{self, BundledFile, StaticFiles},
    triggers::Trigger,
    uses::{self, Uses},
};
use crate::terminal::{self, GOOD, STRONG, printable};

/// The most names that a note has.
const MOST_NAMES: usize = 10;

/// `picloud deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
A folder is an app: each *.rhai file in it is a script (a file in a subfolder has its folder's name before its \
own, as in api/users), what is in static/ is served as it is, and all of it is deployed at once or not at all. A file or a folder inside of it is named \
in the same way: picloud.toml is looked for upwards, up to the root of a git repository or your home, and only in \
folders of yours. It may have:

  name = \"demo\"                 # the app
  [[routes]]                    # else a script answers at its own name
  path = \"/users/:id\"
  methods = [\"GET\", \"PUT\"]      # any, if left out
  script = \"api/users\"
  access = \"token\"              # public, if it is new and says nothing
  [[routes]]
  path = \"/assets/*path\"        # else at / where no route is
  files = \"static/assets/\"
  max_age = 3600                # seconds that browsers may keep them
  [[triggers]]                  # see `picloud trigger add --help`
  name = \"nightly\"
  kind = \"cron\"
  script = \"report\"
  cron = \"0 3 * * *\"
  timezone = \"Europe/Berlin\"
  [limits]                      # what is left out stays as it is
  memory_bytes = \"8MiB\"
  wall_ms = 2000
  [scripts.report.limits]       # fuel, memory_bytes, wall_ms of one script
  wall_ms = 500
  [access]                      # who may call, see `picloud access set --help`
  client_rate_limit = \"100/min\"
  [env]                         # variables for env::get; the same holds
  REGION = \"eu\"

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
    /// Delete the scripts and static files of the app that the folder does not have
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// What is deployed, and as what.
struct Deployment {
    app: AppName,
    bundle: Bundle,
    /// The static files, where the folder is the whole of the app's.
    files: Option<StaticFiles>,
    extent: Extent,
}

/// How much of an app is deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// All of it: a folder with a manifest.
    Whole,
    /// Some of its scripts.
    Part,
}

/// What the API takes as a bundle.
#[derive(Debug, Default, Serialize)]
struct Bundle {
    scripts: BTreeMap<ScriptName, String>,
    /// All routes of the app, where the folder has a manifest to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    routes: Option<Vec<BundleRoute>>,
    /// All triggers of the app; none are sent where the manifest does not speak of them, since that needs another scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    triggers: Option<Vec<TriggerSpec>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<LimitsPatch>,
    /// Limits of single scripts; none are sent where there are none, as of variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    script_limits: BTreeMap<ScriptName, ScriptLimitsPatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<AccessPatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    egress: Option<EgressRules>,
    /// Variables; none are sent where there are none, since to set them needs another scope.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<VariableName, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<BTreeMap<FilePath, BundledFile>>,
}

#[derive(Debug, Deserialize)]
struct Deployed {
    name: String,
    version: i32,
    url: Option<String>,
    handlers: Vec<String>,
    newly_uses: Option<Uses>,
    warnings: Vec<String>,
    created: bool,
    unchanged: bool,
    imported_by: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct BundleAnswer {
    app_created: bool,
    scripts: Vec<Deployed>,
    other_scripts: Vec<String>,
    deleted_scripts: Vec<String>,
    removed_routes: Vec<Route>,
    triggers: Vec<Trigger>,
    removed_triggers: Vec<String>,
    files: DeployedFiles,
}

#[derive(Debug, Deserialize)]
struct DeployedFiles {
    written: Vec<String>,
    unchanged: usize,
    others: Vec<String>,
    deleted: Vec<String>,
}

/// Deploys what the path names: one call, which also makes the app where it is missing, so that a refusal leaves
/// nothing behind.
pub(super) fn run(args: &DeployArgs) -> Result<(), ClientError> {
    let Deployment { app, mut bundle, files, extent } =
        if args.path.is_dir() { folder(args)? } else { file(args)? };
    if args.prune && extent == Extent::Part {
        let problem =
            format!("--prune is for the whole folder of an app: name the one that has its {MANIFEST}");
        return Err(ClientError::Input(problem));
    }
    if let Some(files) = &files {
        warn_of_unserved(bundle.routes.as_deref().unwrap_or_default(), files);
    }
    let api = Api::connect(&args.common)?;
    bundle.files = files.map(|files| static_folder::bundled(&api, &app, &files)).transpose()?;
    let bundle = serde_json::to_string(&bundle).map_err(|error| ClientError::Input(error.to_string()))?;
    let path =
        app_path(&app, &format!("/bundle?create_app=true{}", if args.prune { "&prune=true" } else { "" }));
    let answer = api.call(Method::PUT, &path, Payload::JsonText(&bundle))?;
    if args.common.json {
        return print_json(&answer);
    }
    let answer: BundleAnswer = api.read(&answer)?;
    if answer.app_created {
        terminal::note(format_args!(
            "{} which was not there before",
            STRONG.paint(format_args!("made the app \"{app}\","))
        ));
    }
    report(&answer.scripts)?;
    report_triggers(&answer)?;
    report_files(&answer.files)?;
    report_removed(&answer)?;
    if extent == Extent::Whole && !answer.other_scripts.is_empty() {
        terminal::note(format_args!(
            "note: not in the folder, but still in the app: {}; delete with `picloud delete NAME --app {app}`, or \
             deploy with --prune",
            listed(&answer.other_scripts)
        ));
    }
    Ok(())
}

fn file(args: &DeployArgs) -> Result<Deployment, ClientError> {
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
    let scripts = BTreeMap::from([(name, source)]);
    let bundle = Bundle { scripts, ..Bundle::default() };
    Ok(Deployment { app, bundle, files: None, extent: Extent::Part })
}

/// The app: of the flag or variable, of the folder that is deployed, or of the one that the command runs in.
fn app(args: &DeployArgs, deployed: Option<AppName>) -> Result<AppName, ClientError> {
    args.app.app.clone().or(deployed).map_or_else(|| args.app.name(), Ok)
}

fn folder(args: &DeployArgs) -> Result<Deployment, ClientError> {
    if args.name.is_some() {
        return Err(ClientError::Input(
            "--name is for a single script; those of a folder are named by their files".into(),
        ));
    }
    let app_folder = AppFolder::find(&args.path, Start::Named)?;
    // Routes and settings belong to the whole: a subfolder brings its scripts only.
    let is_whole = app_folder.as_ref().is_some_and(|found| found.below.is_empty());
    let project = Project::read(&args.path, app_folder.unwrap_or_default())?;
    let routes = if is_whole { project.routes()? } else { None };
    let triggers = if is_whole { project.triggers()? } else { None };
    let script_limits = if is_whole { project.script_limits()? } else { BTreeMap::new() };
    let limits = project.manifest.limits.filter(|_| is_whole);
    let access = project.manifest.access.filter(|_| is_whole);
    let egress = project.manifest.egress.filter(|_| is_whole);
    let env = if is_whole { project.manifest.env } else { BTreeMap::new() };
    Ok(Deployment {
        app: app(args, project.manifest.name)?,
        bundle: Bundle {
            scripts: project.scripts,
            routes,
            triggers,
            limits,
            script_limits,
            access,
            egress,
            env,
            files: None,
        },
        // A folder without a manifest and without static files says nothing of those of the app.
        files: Some(project.files).filter(|files| is_whole || !files.is_empty()),
        extent: if is_whole { Extent::Whole } else { Extent::Part },
    })
}

/// Once a route serves a part of the static files, the rest is not served by itself any more.
fn warn_of_unserved(routes: &[BundleRoute], files: &StaticFiles) {
    let folders: Vec<&FileFolder> = routes.iter().filter_map(|route| route.files.as_ref()).collect();
    let is_static = |folder: &&FileFolder| folder.as_str().starts_with(STATIC_FOLDER);
    if !folders.iter().any(is_static) {
        return;
    }
    let is_served = |path: &FilePath| folders.iter().any(|folder| path.as_str().starts_with(folder.as_str()));
    let unserved: Vec<String> =
        files.keys().filter(|path| !is_served(path)).map(|path| path.as_str().to_owned()).collect();
    if !unserved.is_empty() {
        terminal::warning(format_args!(
            "no route serves {}; where a route serves a part of static/, the rest needs one as well",
            listed(&unserved)
        ));
    }
}

/// What became of the static files.
fn report_files(files: &DeployedFiles) -> Result<(), ClientError> {
    for path in &files.deleted {
        terminal::line(format_args!("deleted   {}", printable(path)))?;
    }
    if !files.written.is_empty() {
        terminal::line(format_args!("uploaded  {}", listed(&files.written)))?;
    }
    if files.unchanged > 0 {
        terminal::line(format_args!("unchanged {} static files", files.unchanged))?;
    }
    if !files.others.is_empty() {
        terminal::note(format_args!(
            "note: not in the folder, but still in the app: {}; delete with `picloud files rm PATH`, or deploy with --prune",
            listed(&files.others)
        ));
    }
    Ok(())
}

/// The triggers of the manifest, and those of the app that it does not have.
fn report_triggers(answer: &BundleAnswer) -> Result<(), ClientError> {
    for trigger in &answer.triggers {
        let off = if trigger.enabled { "" } else { " (disabled)" };
        terminal::line(format_args!("trigger   {}{off}", printable(&trigger.sentence())))?;
        for warning in &trigger.warnings {
            terminal::warning(printable(warning));
        }
    }
    for trigger in &answer.removed_triggers {
        terminal::warning(format_args!(
            "the trigger {} is gone, since {MANIFEST} does not have it",
            printable(trigger)
        ));
    }
    Ok(())
}

/// Scripts that were deleted, and routes that are not those of the manifest.
fn report_removed(answer: &BundleAnswer) -> Result<(), ClientError> {
    for script in &answer.deleted_scripts {
        terminal::line(format_args!("deleted   {}", printable(script)))?;
    }
    for route in &answer.removed_routes {
        terminal::warning(format_args!(
            "the route {} {} to {} is gone, since {MANIFEST} does not have it",
            route.methods(),
            printable(&route.path),
            printable(&route.target()),
        ));
    }
    Ok(())
}

/// Names for people, the first of them where there are many.
fn listed(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(MOST_NAMES).map(|name| printable(name)).collect();
    let more = names.len() - shown.len();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}

fn report(scripts: &[Deployed]) -> Result<(), ClientError> {
    let name_width = scripts.iter().map(|script| script.name.chars().count()).max().unwrap_or(0);
    for script in scripts {
        let state = if script.unchanged { "unchanged".to_owned() } else { GOOD.paint("deployed") };
        let pad = " ".repeat(usize::from(!script.unchanged));
        terminal::line(format_args!(
            "{state}{pad} {:name_width$}  version {}  {}",
            printable(&script.name),
            script.version,
            address(script.url.as_deref(), &script.handlers)
        ))?;
        // Of a new script everything would be new.
        for sentence in script.newly_uses.iter().filter(|_| !script.created).flat_map(uses::sentences) {
            terminal::note(format_args!(
                "note: {} v{} newly {}",
                printable(&script.name),
                script.version,
                printable(&sentence)
            ));
        }
        for warning in &script.warnings {
            terminal::warning(format_args!("{}: {}", script.name, printable(warning)));
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
