//! Deploying by the command line, and what comes of it.

use std::fs;

use crate::support::{shared, shared_app};

#[test]
fn a_script_becomes_an_endpoint() {
    let app = shared_app("script");
    let said = app.deploy("hello", r#""hello " + (req.query.name ?? "world")"#).ok();
    assert!(said.contains("hello") && said.contains("version 1"), "{said}");
    let answer = app.get("/hello?name=bob");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello bob"));
    let by_path = crate::support::get(app.server.app, "127.0.0.1", &format!("/@{}/hello", app.name));
    assert_eq!(by_path.text(), "hello world");
}

#[test]
fn a_new_version_answers_at_once_and_the_old_one_comes_back() {
    let app = shared_app("versions");
    app.deploy("v", "1").ok();
    assert_eq!(app.get("/v").text(), "1");
    app.deploy("v", "2").ok();
    assert_eq!(app.get("/v").text(), "2");
    assert!(app.deploy("v", "2").ok().contains("unchanged"));
    let versions = app.cli(&["versions", "v"]).ok();
    assert!(versions.lines().any(|line| line.starts_with('2') && line.contains("active")), "{versions}");
    assert!(app.cli(&["rollback", "v"]).ok().contains("version 1"));
    assert!(
        app.cli(&["rollback", "v", "--to", "1"]).ok().contains("version 1 of v is the active one already")
    );
    let unknown = app.cli(&["rollback", "v", "--to", "9"]).failed(4);
    assert!(unknown.contains("has no version 9; it has 1, 2"), "{unknown}");
    let first = app.cli(&["rollback", "v"]).failed(4);
    assert!(first.contains("no earlier version; it is at version 1"), "{first}");
    let missing = app.cli(&["rollback", "vv", "--to", "1"]).failed(4);
    assert!(missing.contains(&format!("no script \"vv\" in app \"{}\"", app.name)), "{missing}");
    assert_eq!(app.get("/v").text(), "1");
    assert_eq!(app.cli(&["show", "v"]).ok().trim(), "1");
    assert_eq!(app.cli(&["show", "v", "--version", "2"]).ok().trim(), "2");
}

#[test]
fn versions_tell_which_libraries_they_were_built_with() {
    let app = shared_app("libraries");
    app.deploy("lib", "fn one() { 1 }").ok();
    app.deploy("main", "import \"lib\" as lib; lib::one()").ok();
    let said = app.deploy("lib", "fn one() { 2 }");
    assert!(said.stderr.contains("main keeps the version of lib"), "{}", said.stderr);
    app.deploy("main", "import \"lib\" as lib; lib::one()").ok();
    let versions = app.cli(&["versions", "main"]).ok();
    let libraries: Vec<_> = versions.lines().skip(1).map(|line| line.rsplit("  ").next().unwrap()).collect();
    assert_eq!(libraries, ["lib@2", "lib@1"], "{versions}");

    let used = app.cli(&["delete", "lib"]).failed(1);
    assert!(used.contains("script_in_use") && used.contains("script main"), "{used}");
    app.deploy("main", "3").ok();
    app.cli(&["delete", "lib"]).ok();
    let gone = app.cli(&["rollback", "main", "--to", "2"]).failed(1);
    assert!(gone.contains("a library that was deleted since"), "{gone}");
    assert_eq!(app.get("/main").text(), "3");
}

#[test]
fn a_script_that_does_not_compile_is_shown_where() {
    let app = shared_app("broken");
    let stderr = app.deploy("broken", "fn on_request(req) {\n    let x = ;\n}\n").failed(1);
    assert!(stderr.contains("--> broken.rhai:2:"), "{stderr}");
    assert!(stderr.contains("2 |     let x = ;"), "{stderr}");
    let caret = stderr.lines().find(|line| line.trim_end().ends_with('^')).expect(&stderr);
    let source = stderr.lines().find(|line| line.contains("let x")).unwrap();
    assert_eq!(caret.find('^'), source.find(';'), "{stderr}");
    assert!(stderr.contains("code: compile_error") && stderr.contains("request: "), "{stderr}");
    assert_eq!(app.get("/broken").code(), "route_not_found");
}

#[test]
fn a_folder_is_deployed_whole_or_not_at_all() {
    let name = "folder-app";
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "picloud.toml",
        &format!(
            "name = '{name}'\n[[routes]]\npath = '/users/:id'\nmethods = ['GET']\nscript = 'api/users'\n"
        ),
    );
    write(
        "api/users.rhai",
        "import \"lib/text\" as text;\nfn on_request(req) { text::shout(req.params.id) }",
    );
    write("lib/text.rhai", "fn shout(text) { text.to_upper() }");
    let server = shared();
    let path = folder.path().to_str().unwrap();
    let output = server.cli(&["deploy", path]);
    assert!(
        output.stderr.contains(&format!("made the app \"{name}\", which was not there")),
        "{}",
        output.stderr
    );
    let said = output.ok();
    assert!(said.contains("api/users") && said.contains("lib/text"), "{said}");
    let library = said.lines().find(|line| line.contains("lib/text")).unwrap();
    assert!(library.ends_with("  library") && !library.contains("http"), "{said}");
    let host = format!("{name}.localhost");
    let get = |path: &str| crate::support::get(server.app, &host, path);
    assert_eq!(get("/users/bob").text(), "BOB");

    write("lib/text.rhai", "fn shout(text) { text.to_upper() + \"!\" }");
    write("more.rhai", "let = 1");
    write("worse.rhai", "1;\nfunction f() {}");
    let stderr = server.cli(&["deploy", path]).failed(1);
    assert!(stderr.contains("more.rhai:1:") && stderr.contains("worse.rhai:2:"), "{stderr}");
    assert!(stderr.contains("1 | let = 1") && stderr.contains("2 | function f() {}"), "{stderr}");
    assert_eq!(get("/users/bob").text(), "BOB");

    for file in ["more.rhai", "worse.rhai"] {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    server.cli(&["deploy", path]).ok();
    assert_eq!(get("/users/bob").text(), "BOB!");
}

#[test]
fn a_deployment_tells_which_routes_it_dropped_and_which_scripts_it_left() {
    let server = shared();
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    write("picloud.toml", "name = 'redeployed'\n");
    write("a.rhai", "1");
    write("b.rhai", "2");
    let path = folder.path().to_str().unwrap();
    let first = server.cli(&["deploy", path]);
    assert!(!first.stderr.contains("gone") && !first.stderr.contains("still"), "{}", first.stderr);
    server.cli(&["route", "add", "/by-hand", "b", "--app", "redeployed"]).ok();

    // A file that says nothing of routes changes nothing of them.
    let same = server.cli(&["deploy", path]);
    assert!(!same.stderr.contains("gone"), "{}", same.stderr);
    assert!(server.cli(&["route", "list", "--app", "redeployed"]).ok().contains("/by-hand"));

    fs::remove_file(folder.path().join("b.rhai")).unwrap();
    write("picloud.toml", "name = 'redeployed'\nroutes = []\n");
    let again = server.cli(&["deploy", path]);
    assert!(
        again.stderr.contains("warning: the route any /by-hand to b is gone, since picloud.toml"),
        "{}",
        again.stderr
    );
    let left =
        "not in the folder, but still in the app: b; delete with `picloud delete NAME --app redeployed`";
    assert!(again.stderr.contains(left) && again.stderr.contains("--prune"), "{}", again.stderr);
    again.ok();
    let file = folder.path().join("a.rhai");
    let one = server.cli(&["deploy", file.to_str().unwrap()]);
    assert!(!one.stderr.contains("still in the app"), "{}", one.stderr);

    let part = server.cli(&["deploy", file.to_str().unwrap(), "--prune"]).failed(2);
    assert!(part.contains("--prune is for the whole folder"), "{part}");
    assert!(server.cli(&["deploy", path, "--prune"]).ok().contains("deleted   b"));
    server.cli(&["show", "b", "--app", "redeployed"]).failed(4);
    server.cli(&["show", "a", "--app", "redeployed"]).ok();
}

#[test]
fn a_refused_deployment_leaves_neither_an_app_nor_limits() {
    let server = shared();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    write("picloud.toml", "name = 'refused'\n[limits]\nwall_ms = 2000\n");
    write("a.rhai", "let = 1");
    server.cli(&["deploy", path]).failed(1);
    server.cli(&["app", "show", "refused"]).failed(4);
    let file = folder.path().join("a.rhai");
    server.cli(&["deploy", file.to_str().unwrap(), "--app", "refused"]).failed(1);
    server.cli(&["app", "show", "refused"]).failed(4);

    write("a.rhai", "1");
    server.cli(&["deploy", path]).ok();
    let wall = || server.cli(&["app", "limits", "refused", "--json"]).ok();
    assert!(wall().contains("\"wall_ms\":2000"), "{}", wall());
    write("picloud.toml", "name = 'refused'\n[limits]\nwall_ms = 3000\n");
    write("b.rhai", "let = 1");
    server.cli(&["deploy", path]).failed(1);
    assert!(wall().contains("\"wall_ms\":2000"), "{}", wall());
}

#[test]
fn a_file_in_an_apps_folder_is_named_by_its_path_there() {
    let server = shared();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("lib")).unwrap();
    fs::write(folder.path().join("picloud.toml"), "name = 'named-by-path'").unwrap();
    fs::write(folder.path().join("lib/x.rhai"), "1").unwrap();
    let file = folder.path().join("lib/x.rhai");
    let said = server.cli(&["deploy", file.to_str().unwrap()]).ok();
    assert!(said.contains("lib/x "), "{said}");
    server.cli(&["deploy", file.to_str().unwrap(), "--name", "other"]).ok();
    // With both names given there is nothing to look for, also where the manifest is broken.
    fs::write(folder.path().join("lib/picloud.toml"), "nonsense").unwrap();
    server.cli(&["deploy", file.to_str().unwrap(), "--name", "other"]).failed(2);
    server.cli(&["deploy", file.to_str().unwrap(), "--name", "other", "--app", "named-by-path"]).ok();
    fs::remove_file(folder.path().join("lib/picloud.toml")).unwrap();
    server.cli(&["deploy", folder.path().join("lib").to_str().unwrap()]).ok();
    let list = server.cli_in(&folder.path().join("lib"), &["list"]).ok();
    let names: Vec<_> = list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["lib/x", "other"]);
}

#[test]
fn an_empty_script_is_warned_of() {
    let app = shared_app("empty");
    let said = app.deploy("nothing", "// nothing yet\n");
    assert!(said.stderr.contains("warning: nothing: the script is empty"), "{}", said.stderr);
    assert!(said.ok().ends_with("  library\n"));
}

#[test]
fn mistakes_are_named_before_anything_is_sent() {
    let server = shared();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert!(server.cli(&["deploy", path, "--app", "x"]).failed(2).contains("no *.rhai files"));
    assert!(server.cli(&["deploy", "/nowhere/x.rhai", "--app", "x"]).failed(1).contains("/nowhere/x.rhai"));
    fs::write(folder.path().join("a.rhai"), "1").unwrap();
    let file = folder.path().join("a.rhai");
    assert!(server.cli(&["deploy", file.to_str().unwrap()]).failed(2).contains("--app"));
    assert!(server.cli(&["deploy", path, "--app", "UPPER"]).failed(2).contains("a-z"));
}
