//! The servers that are compared, each serving the same function.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::{Bench, picloud, processes};
use crate::{
    http::{self, Request},
    process,
};

/// The versions that the figures in docs/ are of.
pub(super) const WORKERD_VERSION: &str = "1.20261117.1";
pub(super) const DENO_VERSION: &str = "2.9.6";

/// The request of every comparison, and its answer.
pub(super) const BODY: &[u8] = br#"{"name":"bob"}"#;
pub(super) const ANSWER: &str = "hello bob";

/// The cores: one for the server that is measured, one for everything else.
pub(super) const SERVER_CORE: u32 = 0;
pub(super) const OTHER_CORE: u32 = 1;

const START_LIMIT: Duration = Duration::from_mins(2);

/// A server that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    PiCloud,
    Workerd,
    Deno,
}

impl Contender {
    pub(super) const ALL: [Self; 3] = [Self::PiCloud, Self::Workerd, Self::Deno];

    /// Its name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PiCloud => "PiCloud",
            Self::Workerd => "workerd",
            Self::Deno => "Deno",
        }
    }

    /// Where it listens.
    pub(super) fn address(self) -> SocketAddr {
        let port = match self {
            Self::PiCloud => picloud::APP_PORT,
            Self::Workerd => 18_431,
            Self::Deno => 18_432,
        };
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Starts it with `scripts` functions, `hello` first, and waits for its first answer.
    pub(super) fn start(self, bench: &Bench, scripts: usize) -> Result<Running> {
        let mut command = match self {
            Self::PiCloud => picloud::command(bench)?,
            Self::Workerd => workerd(bench, scripts)?,
            Self::Deno => deno(bench)?,
        };
        let log = bench.folder.join(format!("{}.log", self.name()));
        let log = File::create(&log).with_context(|| format!("writing {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {}", self.name()))?;
        let mut running = Running { contender: self, child, first_answer: Duration::ZERO };
        running.wait_for_answer(started)?;
        if self == Self::PiCloud {
            processes::pin(&processes::tree(running.pid())?.database, OTHER_CORE)?;
        }
        Ok(running)
    }
}

/// A server that runs; stopped when dropped.
pub(super) struct Running {
    pub(super) contender: Contender,
    child: Child,
    /// From its start to its first right answer.
    pub(super) first_answer: Duration,
}

impl Running {
    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_for_answer(&mut self, started: Instant) -> Result<()> {
        let name = self.contender.name();
        let request = Request::post_json(picloud::HOST, "/hello", BODY);
        while started.elapsed() < START_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                bail!("{name} ended while it started ({status}); its log is in target/bench");
            }
            match http::send(self.contender.address(), &request) {
                Ok(answer) if answer.status == 200 => {
                    ensure!(answer.text() == ANSWER, "{name} answers {:?}", answer.text());
                    self.first_answer = started.elapsed();
                    return Ok(());
                }
                // On its first start PiCloud has no app yet.
                Ok(answer) if answer.status == 404 && self.contender == Contender::PiCloud => {
                    picloud::deploy()?;
                }
                Ok(_) | Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
        bail!("{name} does not answer after {} s; its log is in target/bench", START_LIMIT.as_secs())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing can be done about a server that does not end, but to say so.
        let stopped = process::signal(self.child.id(), Signal::TERM).and_then(|()| Ok(self.child.wait()?));
        if let Err(error) = stopped {
            eprintln!("stopping {}: {error:#}", self.contender.name());
        }
    }
}

/// Installs the peers from npm, unless these versions are there already.
pub(super) fn install(bench: &Bench) -> Result<()> {
    let wanted = [("workerd", WORKERD_VERSION), ("deno", DENO_VERSION)];
    install_packages(&bench.folder.join("peers"), &wanted)
}

/// Installs packages of npm into a folder, unless these versions are there already.
pub(super) fn install_packages(folder: &Path, wanted: &[(&str, &str)]) -> Result<()> {
    fs::create_dir_all(folder)?;
    let is_installed = |(name, version): &(&str, &str)| {
        let package = fs::read_to_string(folder.join("node_modules").join(name).join("package.json"));
        package.is_ok_and(|text| text.contains(&format!("\"version\": \"{version}\"")))
    };
    if wanted.iter().all(is_installed) {
        return Ok(());
    }
    let packages: Vec<String> = wanted.iter().map(|(name, version)| format!("{name}@{version}")).collect();
    println!("installing {} from npm", packages.join(" and "));
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"]).arg(folder).args(packages);
    process::run(&mut npm).context("the peers come from npm; Node.js 20 or later has it")
}

/// A program of a platform package, so that no wrapper script runs in between.
fn program(bench: &Bench, scope: &str, name: &str) -> Result<PathBuf> {
    let modules = bench.folder.join("peers/node_modules").join(scope);
    let packages = fs::read_dir(&modules).with_context(|| format!("listing {}", modules.display()))?;
    for package in packages {
        let package = package?.path();
        for file in [package.join(name), package.join("bin").join(name)] {
            if file.is_file() {
                return Ok(file);
            }
        }
    }
    bail!("npm has no {name} for this machine")
}

fn deno(bench: &Bench) -> Result<Command> {
    let address = Contender::Deno.address();
    let source = format!(
        "Deno.serve({{ hostname: \"{}\", port: {}, onListen() {{}} }}, async (request) => {{\n  \
         const {{ name }} = await request.json();\n  return new Response(\"hello \" + name);\n}});\n",
        address.ip(),
        address.port()
    );
    let file = write(&bench.folder.join("hello-deno.js"), &source)?;
    let mut command = processes::on_core(SERVER_CORE, &program(bench, "@deno", "deno")?);
    command.args(["run", "--allow-net", "--no-remote"]).arg(file);
    Ok(command)
}

/// One worker an isolate; with more than one, a router in front finds a worker by its path.
fn workerd(bench: &Bench, scripts: usize) -> Result<Command> {
    let worker = "export default { async fetch(request) {\n  const { name } = await request.json();\n  \
                  return new Response(\"hello \" + name);\n} };\n";
    let router = "export default { fetch(request, env) {\n  \
                  return env[new URL(request.url).pathname.slice(1)].fetch(request);\n} };\n";
    write(&bench.folder.join("worker.js"), worker)?;
    write(&bench.folder.join("router.js"), router)?;
    let definition = |file: &str, bindings: &str| {
        format!(
            "(modules = [(name = \"{file}\", esModule = embed \"{file}\")], compatibilityDate = \"2026-01-01\"{bindings})"
        )
    };
    let names: Vec<String> = picloud::script_names(scripts).collect();
    let front = if scripts == 1 { "hello" } else { "router" };
    let mut services: Vec<String> = names
        .iter()
        .map(|name| format!("(name = \"{name}\", worker = {})", definition("worker.js", "")))
        .collect();
    if scripts > 1 {
        let bindings: Vec<String> =
            names.iter().map(|name| format!("(name = \"{name}\", service = \"{name}\")")).collect();
        let bindings = format!(", bindings = [{}]", bindings.join(", "));
        services.push(format!("(name = \"router\", worker = {})", definition("router.js", &bindings)));
    }
    let config = format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\nconst config :Workerd.Config = (\n  services = [\n    \
         {}\n  ],\n  sockets = [(name = \"http\", address = \"{}\", http = (), service = \"{front}\")],\n);\n",
        services.join(",\n    "),
        Contender::Workerd.address()
    );
    let file = write(&bench.folder.join("workerd.capnp"), &config)?;
    let mut command = processes::on_core(SERVER_CORE, &program(bench, "@cloudflare", "workerd")?);
    command.arg("serve").arg(file);
    Ok(command)
}

fn write(path: &Path, text: &str) -> Result<PathBuf> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.to_owned())
}
