//! Which crate may depend on what, and under which licences: the borders of docs/ARCHITECTURE.md as a check.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{licence, report};
use crate::process::{self, cargo};

/// Crates, and the only ones that may name them as a dependency.
struct Border {
    technologies: &'static [&'static str],
    owners: &'static [&'static str],
    /// Whether tests of other crates may use it, to compare with.
    except_tests: bool,
}

const BORDERS: &[Border] = &[
    Border { technologies: &["sqlx", "sqlx-core"], owners: &["picloud-store"], except_tests: false },
    Border {
        technologies: &["wasmtime", "wasmtime-wasi"],
        owners: &["picloud-executor"],
        except_tests: false,
    },
    Border {
        technologies: &["lettre", "mail-parser", "smtp-proto"],
        owners: &["picloud-mail"],
        except_tests: false,
    },
    // The services meet in the traits of the domain crate; only the program puts them together.
    Border {
        technologies: &["picloud-executor", "picloud-manager", "picloud-orchestrator"],
        owners: &["picloud"],
        except_tests: true,
    },
    Border { technologies: &["rhai", "picloud-guest"], owners: &["picloud-guest"], except_tests: true },
];

/// The domain crate, and what must not be among its dependencies at any depth.
const DOMAIN: &str = "picloud-core";
const NOT_IN_DOMAIN: &[&str] = &["axum", "hyper", "rhai", "sqlx", "tokio", "wasmtime"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDependency>,
}

#[derive(Deserialize)]
struct NodeDependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

#[derive(Deserialize)]
struct DenyFile {
    licenses: DenyLicences,
}

#[derive(Deserialize)]
struct DenyLicences {
    allow: Vec<String>,
}

/// Checks borders and licences; with `cargo-deny` installed, deny.toml as a whole.
pub(crate) fn check(root: &Path) -> Result<()> {
    let metadata = process::capture(cargo(root).args(["metadata", "--locked", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("reading cargo metadata")?;
    let deny = std::fs::read_to_string(root.join("deny.toml")).context("reading deny.toml")?;
    let deny: DenyFile = toml::from_str(&deny).context("reading deny.toml")?;

    let mut problems = crossed_borders(&metadata);
    problems.extend(technology_in_domain(&metadata));
    problems.extend(wrong_licences(&metadata, &deny.licenses.allow)?);
    report(&problems, &format!("{} packages: borders and licences are kept", metadata.packages.len()))?;

    if process::find_program("cargo-deny").is_some() {
        return process::run(cargo(root).args(["deny", "--offline", "check", "bans", "licenses", "sources"]));
    }
    println!("cargo-deny is not installed: duplicates and sources were not looked at");
    Ok(())
}

fn crossed_borders(metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    let members = metadata.packages.iter().filter(|package| metadata.workspace_members.contains(&package.id));
    for package in members {
        for border in BORDERS.iter().filter(|border| !border.owners.contains(&package.name.as_str())) {
            let crossing = package.dependencies.iter().filter(|dependency| {
                let in_tests = dependency.kind.as_deref() == Some("dev");
                border.technologies.contains(&dependency.name.as_str()) && !(border.except_tests && in_tests)
            });
            problems.extend(crossing.map(|dependency| {
                let owners = border.owners.join(", ");
                format!("{} depends on {}, which is for {owners} alone", package.name, dependency.name)
            }));
        }
    }
    problems
}

fn technology_in_domain(metadata: &Metadata) -> Vec<String> {
    let names: BTreeMap<&str, &str> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
    let nodes: BTreeMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let start = metadata.packages.iter().find(|package| package.name == DOMAIN);
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = start.map(|package| package.id.as_str()).into_iter().collect();
    while let Some(id) = open.pop() {
        if reached.insert(id)
            && let Some(node) = nodes.get(id)
        {
            let linked =
                node.deps.iter().filter(|dependency| dependency.dep_kinds.iter().any(|k| k.kind.is_none()));
            open.extend(linked.map(|dependency| dependency.pkg.as_str()));
        }
    }
    let found = reached.iter().filter_map(|id| names.get(id)).filter(|name| NOT_IN_DOMAIN.contains(name));
    found.map(|name| format!("{DOMAIN} depends on {name}: the domain knows no such technology")).collect()
}

fn wrong_licences(metadata: &Metadata, allowed: &[String]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        match &package.license {
            None => problems.push(format!("{name} names no licence")),
            Some(expression)
                if !licence::is_allowed(expression, allowed).with_context(|| name.clone())? =>
            {
                problems.push(format!("{name} is under {expression}, which deny.toml does not allow"));
            }
            Some(_) => {}
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(kind: &str, dependency: &str) -> Metadata {
        let text = format!(
            r#"{{"workspace_members": ["a", "c"], "packages": [
                {{"id": "a", "name": "picloud-manager", "version": "1", "license": "MIT", "dependencies":
                    [{{"name": "{dependency}", "kind": {kind}}}]}},
                {{"id": "c", "name": "picloud-core", "version": "1", "license": "GPL-3.0", "dependencies": []}},
                {{"id": "d", "name": "{dependency}", "version": "2", "license": null, "dependencies": []}}],
              "resolve": {{"nodes": [
                {{"id": "c", "deps": [{{"pkg": "d", "dep_kinds": [{{"kind": {kind}}}]}}]}}]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_crossed_border_is_found() {
        assert_eq!(crossed_borders(&metadata("null", "sqlx")).len(), 1);
        assert_eq!(crossed_borders(&metadata("\"dev\"", "sqlx")).len(), 1);
        assert_eq!(crossed_borders(&metadata("\"dev\"", "rhai")).len(), 0);
        assert_eq!(crossed_borders(&metadata("null", "serde")).len(), 0);
    }

    #[test]
    fn the_domain_is_searched_at_every_depth() {
        assert_eq!(technology_in_domain(&metadata("null", "tokio")).len(), 1);
        assert_eq!(technology_in_domain(&metadata("\"dev\"", "tokio")).len(), 0);
    }

    #[test]
    fn licences_must_be_named_and_allowed() {
        let problems = wrong_licences(&metadata("null", "serde"), &["MIT".to_owned()]).unwrap();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
