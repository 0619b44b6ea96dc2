//! An app as a folder: `picloud.toml`, its `*.rhai` files, and what is in `static/`.

use std::{
    collections::BTreeMap,
    env, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use picloud_core::{
    AccessPatch, AppName, CallbackUrl, Change, EgressRules, FileFolder, FilePath, LimitsPatch, Method,
    RateLimit, RouteAccess, RouteMode, RoutePattern, STATIC_FOLDER, ScriptLimitsPatch, ScriptName,
    SignatureScheme, TriggerSpec, VariableName, wording::reworded,
};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::{
    access, egress,
    error::ClientError,
    files::{Links, file_error, read_text},
    limits,
    static_folder::{self, StaticFiles},
};

/// The file that describes an app.
pub(super) const MANIFEST: &str = "picloud.toml";

/// The largest source that is read; the server's own limit is lower.
const MAX_SOURCE: u64 = 16 << 20;

/// The largest manifest that is read.
const MAX_MANIFEST: u64 = 1 << 20;

/// How deep folders may be nested; a script's name has 64 characters.
const MAX_DEPTH: usize = 32;

/// `picloud.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Manifest {
    /// The app's name.
    pub(super) name: Option<AppName>,
    /// All its routes; those it has stay where this is left out. A script that has none answers at its own name.
    pub(super) routes: Option<Vec<ManifestRoute>>,
    /// All its triggers; those it has stay where this is left out.
    #[serde(alias = "trigger")]
    pub(super) triggers: Option<Vec<TriggerSpec>>,
    /// Its limits; those that are left out stay as they are.
    #[serde(default, deserialize_with = "limits::of_manifest")]
    pub(super) limits: Option<LimitsPatch>,
    /// Settings of single scripts.
    #[serde(default)]
    scripts: BTreeMap<ScriptName, ManifestScript>,
    /// Who may call its endpoints; what is left out stays as it is.
    #[serde(default, deserialize_with = "access::of_manifest")]
    pub(super) access: Option<AccessPatch>,
    /// What its scripts may call over HTTP: the whole list. Left out, it stays as it is.
    #[serde(default, deserialize_with = "egress::of_manifest")]
    pub(super) egress: Option<EgressRules>,
    /// Its plain variables; those that are left out stay as they are.
    #[serde(default)]
    pub(super) env: BTreeMap<VariableName, String>,
}

/// `[scripts.NAME]` of `picloud.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestScript {
    /// The limits it has lower than the app; those that are left out stay as they are.
    #[serde(default, deserialize_with = "limits::of_manifest_script")]
    limits: ScriptLimitsPatch,
}

/// `[[routes]]` of `picloud.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestRoute {
    path: String,
    script: Option<ScriptName>,
    files: Option<String>,
    max_age: Option<u64>,
    fallback: Option<FilePath>,
    method: Option<String>,
    #[serde(default)]
    methods: Vec<String>,
    access: Option<RouteAccess>,
    signature: Option<SignatureScheme>,
    mode: Option<RouteMode>,
    #[serde(default)]
    callback_url: Change<CallbackUrl>,
    #[serde(default, deserialize_with = "access::rate_of_manifest")]
    rate_limit: Change<RateLimit>,
    #[serde(default, deserialize_with = "access::rate_of_manifest")]
    client_rate_limit: Change<RateLimit>,
}

/// A route as the API takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct BundleRoute {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) methods: Vec<&'static str>,
    pub(super) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) script: Option<ScriptName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) files: Option<FileFolder>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_age: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fallback: Option<FilePath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) access: Option<RouteAccess>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signature: Option<SignatureScheme>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<RouteMode>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub(super) callback_url: Change<CallbackUrl>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub(super) rate_limit: Change<RateLimit>,
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub(super) client_rate_limit: Change<RateLimit>,
}

/// The folder of an app: the one with its manifest, found from a place in it.
#[derive(Debug, Default)]
pub(super) struct AppFolder {
    pub(super) manifest: Manifest,
    /// The folders from it down to the place that was asked for.
    pub(super) below: Vec<String>,
}

/// A folder, read.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) manifest: Manifest,
    pub(super) scripts: BTreeMap<ScriptName, String>,
    /// Its static files, where the folder is the whole of an app's.
    pub(super) files: StaticFiles,
}

impl Manifest {
    /// Reads the manifest of a folder; `None` where it has none.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, ClientError> {
        let path = folder.join(MANIFEST);
        let Some(text) = read_text(&path, MAX_MANIFEST, Links::Refuse)? else { return Ok(None) };
        let manifest = toml::from_str(&text).map_err(|error| manifest_error(&path, &text, &error))?;
        Ok(Some(manifest))
    }
}

/// What is wrong with a manifest, with the line that it is in.
fn manifest_error(path: &Path, text: &str, error: &toml::de::Error) -> ClientError {
    let line =
        error.span().map(|span| text[..text.floor_char_boundary(span.start)].matches('\n').count() + 1);
    let place = line.map_or_else(|| path.display().to_string(), |line| format!("{}:{line}", path.display()));
    let said = reworded(error.message()).replace('\n', ", ");
    // What is no TOML at all says nothing of what is allowed in its place.
    let is_toml = text.parse::<toml::Table>().is_ok();
    ClientError::Input(if is_toml {
        format!("{place}: {said}")
    } else {
        format!("{place}: this is not TOML: {said}")
    })
}

/// How a folder came to be the one where the search for a manifest begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The user named it as the app's: its own manifest counts, whoever it belongs to.
    Named,
    /// The command runs in it, or a file in it was named.
    Around,
}

/// Where the search for a manifest ends, beside the root of a git repository.
#[derive(Debug)]
struct Bounds {
    /// The user's home, which is the last folder to be looked at.
    home: Option<PathBuf>,
    /// The user. In a folder such as `/tmp` anybody can put a manifest.
    user: u32,
}

impl Bounds {
    fn of_this_user() -> Self {
        let home = env::var_os("HOME").and_then(|home| fs::canonicalize(home).ok());
        Self { home, user: geteuid().as_raw() }
    }

    /// Whether a folder and its manifest, if it has one, belong to the user. A link is looked at itself, since anybody
    /// can make one that leads to a file of the user.
    fn trusts(&self, folder: &Path) -> bool {
        let is_users = |metadata: fs::Metadata| metadata.uid() == self.user;
        let is_manifest_users = match fs::symlink_metadata(folder.join(MANIFEST)) {
            Ok(metadata) => is_users(metadata),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        is_manifest_users && fs::metadata(folder).is_ok_and(is_users)
    }
}

impl AppFolder {
    /// The app's folder that `folder` is or is in. The search upwards ends at the root of a git repository and at the
    /// user's home, so that a manifest of something around it is not taken for its own, and before a folder or a
    /// manifest of another user, who could say which routes and limits the app gets.
    pub(super) fn find(folder: &Path, start: Start) -> Result<Option<Self>, ClientError> {
        Self::find_within(folder, start, &Bounds::of_this_user())
    }

    fn find_within(folder: &Path, start: Start, bounds: &Bounds) -> Result<Option<Self>, ClientError> {
        let folder = fs::canonicalize(folder).map_err(file_error(folder))?;
        for candidate in folder.ancestors() {
            let is_named = start == Start::Named && candidate == folder;
            if !is_named && !bounds.trusts(candidate) {
                break;
            }
            if let Some(manifest) = Manifest::read(candidate)? {
                let below = folder.strip_prefix(candidate).unwrap_or(Path::new(""));
                let below = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                return Ok(Some(Self { manifest, below }));
            }
            if candidate.join(".git").exists() || bounds.home.as_deref() == Some(candidate) {
                break;
            }
        }
        Ok(None)
    }
}

impl ManifestRoute {
    /// The route as the API takes it, checked here so that an error names the file.
    fn checked(&self) -> Result<BundleRoute, String> {
        let path = RoutePattern::for_new_route(&self.path).map_err(|error| error.to_string())?;
        let names = self.method.iter().chain(&self.methods);
        let methods: Result<Vec<_>, _> = names.map(|name| name.to_uppercase().parse::<Method>()).collect();
        let methods: Vec<_> = methods?.into_iter().map(Method::as_str).collect();
        let files = self.files.as_deref().map(|folder| format!("{}/", folder.trim_end_matches('/')));
        let files = files.map(FileFolder::new).transpose().map_err(|error| error.to_string())?;
        match (&self.script, &files) {
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(_)) => {
                return Err(format!("the route {path} has a script and files; it leads to one"));
            }
            (None, None) => return Err(format!("the route {path} needs a script, or a folder of files")),
        }
        Ok(BundleRoute {
            methods,
            path: path.to_string(),
            script: self.script.clone(),
            files,
            max_age: self.max_age,
            fallback: self.fallback.clone(),
            access: self.access,
            signature: self.signature.clone(),
            mode: self.mode,
            callback_url: self.callback_url.clone(),
            rate_limit: self.rate_limit,
            client_rate_limit: self.client_rate_limit,
        })
    }
}

impl Project {
    /// Reads the scripts of a folder. Names that start with a dot, and folders without scripts, are left out.
    pub(super) fn read(folder: &Path, app_folder: AppFolder) -> Result<Self, ClientError> {
        let AppFolder { manifest, mut below } = app_folder;
        let mut scripts = BTreeMap::new();
        let files = if below.is_empty() { static_folder::read(folder)? } else { StaticFiles::new() };
        collect(folder, &mut below, &mut scripts)?;
        if scripts.is_empty() && files.is_empty() {
            let problem = format!("{} has no *.rhai files, and none in {STATIC_FOLDER}", folder.display());
            return Err(ClientError::Input(problem));
        }
        Ok(Self { manifest, scripts, files })
    }

    /// The limits that it sets for single scripts.
    pub(super) fn script_limits(&self) -> Result<BTreeMap<ScriptName, ScriptLimitsPatch>, ClientError> {
        let named = self.manifest.scripts.iter().filter(|(_, script)| !script.limits.is_empty());
        if let Some(missing) = self.manifest.scripts.keys().find(|name| !self.scripts.contains_key(*name)) {
            let problem = format!("{MANIFEST}: [scripts] names the script {missing}, which has no file");
            return Err(ClientError::Input(problem));
        }
        Ok(named.map(|(name, script)| (name.clone(), script.limits.clone())).collect())
    }

    /// All its triggers, where it says something of them.
    pub(super) fn triggers(&self) -> Result<Option<Vec<TriggerSpec>>, ClientError> {
        for TriggerSpec { name, script, .. } in self.manifest.triggers.iter().flatten() {
            if !self.scripts.contains_key(script) {
                let problem =
                    format!("{MANIFEST}: the trigger {name} names the script {script}, which has no file");
                return Err(ClientError::Input(problem));
            }
        }
        Ok(self.manifest.triggers.clone())
    }

    /// All its routes as the API takes them, where it says something of them.
    pub(super) fn routes(&self) -> Result<Option<Vec<BundleRoute>>, ClientError> {
        let Some(routes) = &self.manifest.routes else { return Ok(None) };
        let checked = routes.iter().map(|route| {
            if let Some(script) = route.script.as_ref().filter(|script| !self.scripts.contains_key(*script)) {
                return Err(format!("the route {} names the script {script}, which has no file", route.path));
            }
            route.checked()
        });
        checked
            .collect::<Result<_, _>>()
            .map(Some)
            .map_err(|problem| ClientError::Input(format!("{MANIFEST}: {problem}")))
    }
}

/// The name that a script file has: its path in the app's folder, without `.rhai`.
pub(super) fn script_name(parts: &[String], file: &Path) -> Result<ScriptName, ClientError> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = parts.iter().map(String::as_str).chain([stem]).collect::<Vec<_>>().join("/");
    ScriptName::new(name)
        .map_err(|error| ClientError::Input(format!("{}: {error}; rename the file", file.display())))
}

/// Reads one script.
pub(super) fn read_source(path: &Path, links: Links) -> Result<String, ClientError> {
    let missing = || file_error(path)(io::ErrorKind::NotFound.into());
    read_text(path, MAX_SOURCE, links)?.ok_or_else(missing)
}

fn collect(
    folder: &Path,
    parts: &mut Vec<String>,
    scripts: &mut BTreeMap<ScriptName, String>,
) -> Result<(), ClientError> {
    if parts.len() > MAX_DEPTH {
        return Err(ClientError::Input(format!("{} is nested too deeply", folder.display())));
    }
    for path in sorted_entries(folder)? {
        let Some(name) =
            path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'))
        else {
            continue;
        };
        let kind = fs::symlink_metadata(&path).map_err(file_error(&path))?;
        if kind.is_dir() {
            if parts.is_empty() && format!("{name}/") == STATIC_FOLDER {
                continue;
            }
            parts.push(name.to_owned());
            collect(&path, parts, scripts)?;
            parts.pop();
        } else if path.extension().is_some_and(|extension| extension == "rhai") {
            scripts.insert(script_name(parts, &path)?, read_source(&path, Links::Refuse)?);
        }
    }
    Ok(())
}

pub(super) fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>, ClientError> {
    let entries = fs::read_dir(folder).map_err(file_error(folder))?;
    let paths: io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(file_error(folder))?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        temp
    }

    fn read(folder: &Path) -> Result<Project, ClientError> {
        Project::read(folder, AppFolder::find(folder, Start::Named)?.unwrap_or_default())
    }

    #[test]
    fn a_manifest_is_looked_for_upwards_but_not_beyond_a_repository() {
        let temp = folder(&[
            (MANIFEST, "name = 'outer'"),
            ("lib/deep/x.rhai", "1"),
            ("repository/.git/config", ""),
            ("repository/lib/y.rhai", "2"),
            ("repository/app/picloud.toml", "name = 'inner'"),
            ("repository/app/lib/z.rhai", "3"),
        ]);
        let find = |path: &str| {
            let found = AppFolder::find(&temp.path().join(path), Start::Around).unwrap();
            found.map(|found| (found.manifest.name.unwrap().to_string(), found.below.join("/")))
        };
        assert_eq!(find("lib/deep"), Some(("outer".to_owned(), "lib/deep".to_owned())));
        assert_eq!(find(""), Some(("outer".to_owned(), String::new())));
        assert_eq!(find("repository/lib"), None);
        assert_eq!(find("repository/app/lib"), Some(("inner".to_owned(), "lib".to_owned())));
        let part = read(&temp.path().join("lib/deep")).unwrap();
        assert_eq!(part.scripts.keys().map(ScriptName::as_str).collect::<Vec<_>>(), ["lib/deep/x"]);
    }

    #[test]
    fn a_manifest_of_another_user_or_around_the_home_is_not_looked_at() {
        let temp = folder(&[(MANIFEST, "name = 'outer'"), ("home/app/x.rhai", "1")]);
        let (root, home) =
            (temp.path().canonicalize().unwrap(), temp.path().join("home").canonicalize().unwrap());
        let user = geteuid().as_raw();
        let find = |path: &str, start: Start, home: Option<&Path>, user: u32| {
            let bounds = Bounds { home: home.map(Path::to_owned), user };
            AppFolder::find_within(&temp.path().join(path), start, &bounds).unwrap().is_some()
        };
        assert!(find("home/app", Start::Around, None, user));
        assert!(!find("home/app", Start::Around, Some(&home), user), "it is outside of the home");
        assert!(find("home/app", Start::Around, Some(&root), user), "it is in the home itself");
        let another = user + 1;
        assert!(!find("home/app", Start::Around, None, another));
        assert!(!find("home/app", Start::Named, None, another), "only what was named is trusted");
        assert!(!find("", Start::Around, None, another));
        assert!(find("", Start::Named, None, another));
    }

    #[test]
    fn subfolders_give_names_with_slashes() {
        let temp = folder(&[
            (
                MANIFEST,
                "name = 'demo'\n[[routes]]\npath = '/u/:id'\nmethod = 'get'\nscript = 'api/users'\naccess = 'hmac'\n\
                 signature = 'github'\nrate_limit = '9/min'\n[limits]\n\
                 memory_bytes = '8MiB'\nwall_ms = 2000\n[env]\nREGION = 'eu'\n\
                 [scripts.'api/users'.limits]\nwall_ms = '1s'\nfuel = 'none'\n",
            ),
            ("hello.rhai", "1"),
            ("api/users.rhai", "2"),
            (".git/x.rhai", "3"),
            ("notes.txt", "4"),
        ]);
        let project = read(temp.path()).unwrap();
        let names: Vec<_> = project.scripts.keys().map(ScriptName::as_str).collect();
        assert_eq!(names, ["api/users", "hello"]);
        let env: Vec<_> =
            project.manifest.env.iter().map(|(name, value)| (name.as_str(), &**value)).collect();
        assert_eq!(env, [("REGION", "eu")]);
        let limits = project.manifest.limits.unwrap();
        assert_eq!((limits.memory_bytes, limits.wall_ms), (Some(8 << 20), Some(2_000)));
        let of_scripts = serde_json::to_value(project.script_limits().unwrap()).unwrap();
        assert_eq!(of_scripts, serde_json::json!({ "api/users": { "fuel": null, "wall_ms": 1000 } }));
        let routes = project.routes().unwrap().unwrap();
        assert_eq!((routes[0].methods.as_slice(), routes[0].path.as_str()), (["GET"].as_slice(), "/u/:id"));
        let sent = serde_json::to_value(&routes[0]).unwrap();
        assert_eq!((&sent["access"], &sent["signature"]), (&"hmac".into(), &"github".into()));
        assert_eq!(sent["rate_limit"], serde_json::json!({ "requests": 9, "seconds": 60 }));
        assert_eq!(sent.get("client_rate_limit"), None, "what is left out stays as it is");
    }

    #[test]
    fn triggers_are_all_of_the_app_or_left_as_they_are() {
        let read = |manifest: &str| {
            let temp = folder(&[(MANIFEST, manifest), ("a.rhai", "1")]);
            read(temp.path()).and_then(|project| project.triggers()).map_err(|error| error.to_string())
        };
        assert_eq!(read("name = 'demo'"), Ok(None), "to send them would need a scope");
        assert_eq!(read("triggers = []"), Ok(Some(Vec::new())));
        let nightly = "name = 'nightly'\nkind = 'cron'\nscript = 'a'\ncron = '0 3 * * *'\njitter_ms = 5000\n";
        for table in ["trigger", "triggers"] {
            let triggers = read(&format!("[[{table}]]\n{nightly}")).unwrap().unwrap();
            let sent = serde_json::to_value(&triggers[0]).unwrap();
            assert_eq!((&sent["kind"], &sent["jitter_ms"]), (&"cron".into(), &5000.into()));
        }
        let refused = |changed: &str| read(&format!("[[trigger]]\n{changed}")).unwrap_err();
        let missing = refused(&nightly.replace("'a'", "'b'"));
        assert!(missing.contains("the trigger nightly names the script b, which has no file"), "{missing}");
        let never = refused(&nightly.replace("0 3 * * *", "0 0 30 2 *"));
        assert!(
            never.contains(&format!("{MANIFEST}:1: cron: the schedule")) && never.contains("never fires"),
            "{never}"
        );
        let foreign = refused(&format!("{nightly}queue = 'jobs'\n"));
        assert!(foreign.contains("queue: a trigger of kind cron has no such field"), "{foreign}");
    }

    #[test]
    fn a_folder_may_be_nothing_but_static_files() {
        let route = "[[routes]]\npath = '/*path'\nfiles = 'static'\nmax_age = 60\n";
        let temp = folder(&[(MANIFEST, route), ("static/index.html", "x"), ("static/no-script.rhai", "(")]);
        let project = read(temp.path()).unwrap();
        assert!(project.scripts.is_empty());
        assert_eq!(project.files.len(), 2);
        let sent = serde_json::to_value(project.routes().unwrap().unwrap()).unwrap();
        assert_eq!(sent, serde_json::json!([{ "path": "/*path", "files": "static/", "max_age": 60 }]));
    }

    #[test]
    fn links_in_an_apps_folder_are_refused() {
        let temp =
            folder(&[("secret", "token"), ("app/a.rhai", "1"), ("other/picloud.toml", "name = 'demo'")]);
        let link =
            |to: &str| std::os::unix::fs::symlink(temp.path().join("secret"), temp.path().join(to)).unwrap();
        link("app/b.rhai");
        let error = read(&temp.path().join("app")).unwrap_err().to_string();
        assert!(error.contains("b.rhai is a link"), "{error}");
        link("app/picloud.toml");
        let error = read(&temp.path().join("app")).unwrap_err().to_string();
        assert!(error.contains("picloud.toml is a link") && !error.contains("token"), "{error}");
    }

    #[test]
    fn limits_that_name_none_are_none() {
        let temp = folder(&[(MANIFEST, "name = 'demo'\n[limits]\n"), ("a.rhai", "1")]);
        assert_eq!(read(temp.path()).unwrap().manifest.limits, None, "to send them would need a scope");
    }

    #[test]
    fn mistakes_name_the_file_and_what_is_allowed() {
        let refused = |files: &[(&str, &str)]| {
            let temp = folder(files);
            read(temp.path()).and_then(|project| project.routes()).unwrap_err().to_string()
        };
        assert!(refused(&[("a.txt", "")]).contains("no *.rhai files"));
        assert!(refused(&[("a b.rhai", "")]).contains("allowed are"));
        let manifest = |text: &str| refused(&[(MANIFEST, text), ("a.rhai", "")]);
        let cases = [
            ("\nnam = 'x'", ":2: there is no field nam; allowed are name, routes, trigger, triggers"),
            ("name = 1", ":1: it is the number 1; allowed is a text"),
            ("routes = 'x'", ":1: it is the text \"x\"; allowed is an array"),
            ("[[routes]]\npath = '/x'\n", ": the route /x needs a script, or a folder of files"),
            ("name = 'x'\nname = 'y'", ":2: this is not TOML: duplicate key"),
            ("name = 'x'\n[[routes]\n", ":2: this is not TOML: "),
            ("name x", ":1: this is not TOML: "),
        ];
        for (text, expected) in cases {
            let problem = manifest(text);
            assert!(problem.contains(&format!("{MANIFEST}{expected}")), "{text:?}: {problem}");
        }
        assert!(refused(&[(MANIFEST, "name = 'X'"), ("a.rhai", "")]).contains("app name contains 'X'"));
        assert!(
            refused(&[(MANIFEST, "[limits]\nmemory_bytes = '8MB'"), ("a.rhai", "")])
                .contains("KiB, MiB or GiB")
        );
        assert!(refused(&[(MANIFEST, "[limits]\nmemory = 1"), ("a.rhai", "")]).contains("allowed are fuel"));
        for value in ["-1", "1.5", "true", "[1]"] {
            let problem = refused(&[(MANIFEST, &format!("[limits]\nwall_ms = {value}")), ("a.rhai", "")]);
            assert!(problem.contains(&format!("wall_ms is {value}; allowed is a whole number")), "{problem}");
        }
        assert!(
            refused(&[(MANIFEST, "[scripts.a.limits]\nconcurrency = 1"), ("a.rhai", "")])
                .contains("those of scripts are fuel, memory_bytes, wall_ms")
        );
        assert!(
            refused(&[(MANIFEST, "[env]\n'a b' = ''"), ("a.rhai", "")])
                .contains("variable name contains ' '")
        );
        let problem = manifest("[env]\nA = 1");
        assert!(problem.contains("it is the number 1; allowed is a text"), "{problem}");
        let route = "[[routes]]\npath = '/x'\nscript = 'b'\n";
        assert!(refused(&[(MANIFEST, route), ("a.rhai", "")]).contains("which has no file"));
        let route = "[[routes]]\npath = 'x'\nscript = 'a'\n";
        assert!(refused(&[(MANIFEST, route), ("a.rhai", "")]).contains("must start with /"));
        let route = "[[routes]]\npath = '/x/{id}'\nscript = 'a'\n";
        assert!(refused(&[(MANIFEST, route), ("a.rhai", "")]).contains("write :id"));
        let route = "[[routes]]\npath = '/x'\nscript = 'a'\naccess = 'private'\n";
        assert!(refused(&[(MANIFEST, route), ("a.rhai", "")]).contains("allowed are public, token and hmac"));
        let route = "[[routes]]\npath = '/x'\nscript = 'a'\naccess = 'hmac'\nsignature = 'gitlab'\n";
        assert!(refused(&[(MANIFEST, route), ("a.rhai", "")]).contains("allowed are picloud, github"));
        let route = "[[routes]]\npath = '/x'\nscript = 'a'\nmethod = 'TRACE'\n";
        assert!(refused(&[(MANIFEST, route), ("a.rhai", "")]).contains("allowed are GET"));
    }
}
