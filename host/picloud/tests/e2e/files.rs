//! Files: from a folder and from scripts to whoever asks for them, and through kills.

use std::{fs, path::Path};

use crate::support::{Server, fill, get, home, shared, shared_app};

fn write(folder: &Path, file: &str, text: impl AsRef<[u8]>) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_folder_of_static_files_is_a_site() {
    let (name, folder) = ("static-site", tempfile::tempdir().unwrap());
    let (server, path) = (shared(), folder.path());
    let host = format!("{name}.localhost");
    let get = |path: &str| get(server.app, &host, path);
    let deploy = |more: &[&str]| server.cli(&[&["deploy", path.to_str().unwrap()], more].concat());
    write(path, "picloud.toml", format!("name = '{name}'\n"));
    write(path, "static/index.html", "<h1>one</h1>");
    write(path, "static/css/a.css", "a { color: red }");
    write(path, "api.rhai", "files::read(\"static/index.html\")");
    let said = deploy(&[]).ok();
    assert!(said.contains("uploaded  static/css/a.css, static/index.html"), "{said}");
    let page = get("/");
    assert_eq!(
        (page.text().as_str(), page.header("content-type")),
        ("<h1>one</h1>", Some("text/html; charset=utf-8"))
    );
    assert_eq!(get("/css/a.css").header("content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(get("/api").text(), "<h1>one</h1>");
    assert!(deploy(&[]).ok().contains("unchanged 2 static files"));

    // A route to them says more.
    write(
        path,
        "picloud.toml",
        format!("name = '{name}'\n[[routes]]\npath = '/site/*path'\nfiles = 'static'\nmax_age = 60\n"),
    );
    write(path, "static/index.html", "<h1>two</h1>");
    fs::remove_file(path.join("static/css/a.css")).unwrap();
    let output = deploy(&[]);
    assert!(output.stderr.contains("still in the app: static/css/a.css"), "{}", output.stderr);
    output.ok();
    assert_eq!(get("/site/").text(), "<h1>two</h1>");
    assert_eq!(get("/site/css/a.css").header("cache-control"), Some("max-age=60"));
    assert_eq!(get("/").code(), "route_not_found");
    assert!(server.cli(&["route", "list", "--app", name]).ok().contains("static/"));
    assert!(deploy(&["--prune"]).ok().contains("deleted   static/css/a.css"));
    assert_eq!(get("/site/css/a.css").code(), "file_not_found");
}

#[test]
fn files_are_listed_got_put_and_removed() {
    let app = shared_app("files");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let bytes: Vec<u8> = (0..=255).collect();
    fs::write(at("in"), &bytes).unwrap();
    app.cli(&["files", "put", "data/x.bin", &at("in")]).ok();
    app.cli(&["files", "put", "data/feed", &at("in"), "--type", "application/rss+xml"]).ok();
    let listed = app.cli(&["files", "ls", "data/"]).ok();
    assert!(
        listed.contains("data/x.bin") && listed.contains("256") && listed.contains("application/rss+xml"),
        "{listed}"
    );
    app.cli(&["files", "get", "data/x.bin", "-o", &at("out")]).ok();
    assert_eq!(fs::read(at("out")).unwrap(), bytes);
    app.cli(&["files", "rm", "data/x.bin"]).ok();
    app.cli(&["files", "get", "data/x.bin"]).failed(4);
    let refused = app.cli(&["files", "get", "../x"]).failed(2);
    assert!(refused.contains("allowed are segments"), "{refused}");
}

#[test]
fn a_script_writes_reads_and_answers_with_files() {
    let app = shared_app("writes");
    app.deploy("save", "files::write(req.query.path, req.bytes); files::list().len()").ok();
    app.deploy("show", "files::response(req.query.path)").ok();
    app.deploy("fail", "files::write(\"x\", \"1\"); throw \"no\"").ok();
    assert_eq!(app.request("POST /save?path=a.txt", b"hello").text(), "1");
    let shown = app.get("/show?path=a.txt");
    assert_eq!(
        (shown.text().as_str(), shown.header("content-type")),
        ("hello", Some("text/plain; charset=utf-8"))
    );
    assert_eq!(app.get("/fail").code(), "script_error");
    assert_eq!(app.get("/show?path=x").code(), "file_not_found");
    assert_eq!(app.get("/show?path=..%2Fa.txt").code(), "invalid");
    app.limit(&["files=1"]).ok();
    let full = app.request("POST /save?path=b.txt", b"x");
    assert_eq!((full.status, full.code().as_str()), (429, "file_quota_exceeded"));
    assert_eq!(app.cli(&["files", "ls", "--json"]).ok().matches("\"path\"").count(), 1);
}

#[test]
fn a_killed_server_has_its_files_and_repairs_its_cache() {
    let home = home();
    let data_dir = home.path().join("data");
    fill(&data_dir);
    let server = Server::start(&data_dir, &[("PICLOUD_FILE_CACHE_BYTES", "1MiB")]);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "picloud.toml", "name = 'site'\n");
    for number in 0..8_u8 {
        write(folder.path(), &format!("static/{number}.bin"), vec![number; 300_000]);
    }
    server.cli(&["deploy", folder.path().to_str().unwrap()]).ok();
    let check = |server: &Server| {
        for number in 0..8_u8 {
            let answer = get(server.app, "site.localhost", &format!("/{number}.bin"));
            assert!(answer.status == 200 && answer.body == vec![number; 300_000], "{number}");
        }
    };
    check(&server);
    let cache = data_dir.join("cache/files");
    let files = || {
        let apps = fs::read_dir(&cache).unwrap();
        apps.flat_map(|app| fs::read_dir(app.unwrap().path()).unwrap()).map(|file| file.unwrap().path())
    };
    assert!(files().map(|file| file.metadata().unwrap().len()).sum::<u64>() <= 1 << 20);
    server.signal("KILL");
    server.wait();
    // What a crash or somebody else may leave of a content.
    for (number, file) in files().enumerate() {
        if number % 2 == 0 {
            fs::write(&file, "torn").unwrap();
        } else {
            fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        }
    }
    let server = Server::start(&data_dir, &[("PICLOUD_FILE_CACHE_BYTES", "1MiB")]);
    check(&server);
    fs::remove_dir_all(&cache).unwrap();
    check(&server);
}
