//! Files: written by runs, and served by routes.

use std::{os::unix::fs::symlink, time::Duration};

use futures_util::future::join_all;
use picloud_core::{
    AppId, AppName, ContentType, Effects, FileHash, FilePath, FileQuota, FileWrite, KvReads, LimitField,
    Method, MethodSet, Node as _, RouteAccess, RouteTarget, StaticFiles,
};
use picloud_store::{KvCommit, NewRoute};

use crate::{
    client::Answer,
    platform::{Platform, request, soon},
    scripts::id,
};

const QUOTA: FileQuota = FileQuota { bytes: 1 << 30, files: 1_000_000 };

fn path(text: &str) -> FilePath {
    FilePath::new(text).unwrap()
}

impl Platform {
    /// Gives an app files, of the types that their names tell.
    async fn files_of(&self, app: AppId, files: &[(&str, &[u8])]) {
        let write = |name: &str, content: &[u8]| FileWrite::set(&path(name), content.to_vec().into(), None);
        let files = files.iter().map(|(name, content)| (path(name), write(name, content))).collect();
        self.write_files(app, Effects { files, ..Effects::default() }).await;
    }

    async fn write_files(&self, app: AppId, effects: Effects) {
        let done = self.store.kv_commit(app, &KvReads::default(), &effects, QUOTA).await.unwrap();
        assert!(matches!(done, KvCommit::Committed { .. }));
        self.node.app_changed(app).await;
    }

    async fn serve_files(
        &self,
        pattern: &str,
        folder: &str,
        change: impl FnOnce(&mut StaticFiles, &mut NewRoute),
    ) {
        let mut files = StaticFiles::new(folder.parse().unwrap());
        let get = MethodSet::default().with(Method::Get);
        let mut route = NewRoute::new(get, pattern.parse().unwrap(), RouteTarget::Files(files.clone()));
        change(&mut files, &mut route);
        route.target = RouteTarget::Files(files);
        self.store.put_route(self.demo, &route).await.unwrap();
        self.node.app_changed(self.demo).await;
    }

    async fn head(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut client = self.client().await;
        client.try_send(request("HEAD", path, headers)).await;
        soon(client.answer_to_head()).await
    }
}

fn tag_of(content: &[u8]) -> String {
    format!("\"{}\"", FileHash::of(content))
}

#[tokio::test]
async fn files_of_a_run_commit_with_its_entries_or_not_at_all() {
    let platform = Platform::start().await;
    assert_eq!(platform.post("/upload?a/b.txt", "hello").await.status, 200);
    let file = platform.store.file(platform.demo, &path("a/b.txt")).await.unwrap().unwrap();
    assert_eq!((file.size, file.hash), (5, FileHash::of(b"hello")));
    assert!(platform.store.kv_get(platform.demo, &id("uploaded")).await.unwrap().is_some());

    platform.store.kv_delete(platform.demo, &id("uploaded"), None).await.unwrap();
    platform.limit(LimitField::FileBytes, 8).await;
    let full = platform.post("/upload?other.txt", "world").await;
    full.assert_problem(429, "file_quota_exceeded");
    assert!(full.header("retry-after").is_some());
    assert!(platform.store.file(platform.demo, &path("other.txt")).await.unwrap().is_none());
    assert!(platform.store.kv_get(platform.demo, &id("uploaded")).await.unwrap().is_none());
    platform.limit(LimitField::ResponseBytes, 3).await;
    platform.post("/upload?c.txt", "1").await.assert_problem(502, "bad_response");
    assert!(platform.store.file(platform.demo, &path("c.txt")).await.unwrap().is_none());
}

#[tokio::test]
async fn concurrent_changes_of_one_file_all_count() {
    let platform = Platform::start().await;
    let answers = join_all((0..12).map(|_| platform.get("/append?log.txt"))).await;
    let mut lengths: Vec<usize> = answers.iter().map(|answer| answer.text().parse().unwrap()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, (1..=12).collect::<Vec<_>>());
    assert_eq!(platform.store.file(platform.demo, &path("log.txt")).await.unwrap().unwrap().size, 12);
}

#[tokio::test]
async fn twenty_uploads_at_once_stay_within_the_quota() {
    let platform = Platform::start().await;
    platform.limit(LimitField::Files, 7).await;
    let paths: Vec<String> = (0..20).map(|number| format!("/upload?f{number}")).collect();
    let answers = join_all(paths.iter().map(|path| platform.post(path, "x"))).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(429)), (7, 13));
    assert_eq!(platform.store.file_usage(platform.demo).await.unwrap(), (7, 7));
}

#[tokio::test]
async fn static_files_answer_where_no_route_does() {
    let platform = Platform::start().await;
    platform.get("/").await.assert_problem(404, "route_not_found");
    let page = b"<h1>hi</h1>";
    platform
        .files_of(
            platform.demo,
            &[
                ("static/index.html", page),
                ("static/hello", b"not the script"),
                ("static/docs/index.html", b"docs"),
                ("private.txt", b"private"),
            ],
        )
        .await;
    let root = platform.get("/").await;
    assert_eq!((root.status, root.text()), (200, "<h1>hi</h1>"));
    assert_eq!(root.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(root.header("etag"), Some(tag_of(page).as_str()));
    assert_eq!(root.header("cache-control"), Some("no-cache"));
    assert_eq!(root.header("x-content-type-options"), Some("nosniff"));
    assert!(root.header("last-modified").is_some());
    assert_eq!(root.header("content-security-policy"), None, "the app has its own origin");
    assert_eq!(platform.get("/hello").await.text(), "hello", "a script comes first");
    let folder = platform.get("/docs?a=b").await;
    assert_eq!((folder.status, folder.header("location")), (308, Some("./docs/?a=b")));
    // The app's own page as well, where the app is a folder of a shared host.
    let app = platform.raw("GET /@demo?a=b HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    assert_eq!((app.status, app.header("location")), (308, Some("./@demo/?a=b")));
    assert_eq!(platform.get("/docs/").await.text(), "docs");
    for missing in ["/private.txt", "/none", "/docs/none", "/index.html/", "//docs", "/docs//index.html"] {
        platform.get(missing).await.assert_problem(404, "file_not_found");
    }
    platform.post("/", "").await.assert_problem(404, "route_not_found");
    assert_eq!(platform.get("/none").await.header("picloud-error"), Some("file_not_found"));

    // Under the path form all apps share an origin.
    let shared = platform.raw("GET /@demo/ HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    assert_eq!(shared.header("content-security-policy"), Some("sandbox allow-scripts allow-forms"));
    // No execution is made of a file.
    assert_eq!(platform.executions().await, 1);
}

#[tokio::test]
async fn no_path_leads_out_of_the_folder() {
    let platform = Platform::start().await;
    platform.files_of(platform.demo, &[("static/a.txt", b"a"), ("secret.txt", b"TOP SECRET")]).await;
    platform.serve_files("/s/*path", "static/", |_, _| {}).await;
    assert_eq!(platform.get("/s/a.txt").await.text(), "a");
    for attack in [
        "/s/../secret.txt",
        "/s/%2e%2e/secret.txt",
        "/s/%2e%2e%2fsecret.txt",
        "/s/..%2fsecret.txt",
        "/s/..%5csecret.txt",
        "/s/%252e%252e%252fsecret.txt",
        "/s/a.txt%00",
        "/s/%00",
        "/s/a.txt%2f..%2f..%2fsecret.txt",
        "/s//etc/passwd",
        "/s/%2fetc/passwd",
        "/s/./a.txt",
        "/s/.%2fa.txt",
        "/s/A.TXT",
        "/s/a.txt/",
        "/s/a.txt%20",
        "/s/%c0%ae%c0%ae/secret.txt",
        "/s/%ff",
        "/s/a.txt::$DATA",
        "/s/a.txt.",
        "/s/%2e",
        "/s/..;/secret.txt",
        "/s/..%00/secret.txt",
        "/s/%0a",
        "/s/%e2%80%ae",
    ] {
        let answer = platform.get(attack).await;
        assert!(matches!(answer.status, 400 | 404), "{attack}: {answer:?}");
        assert!(!answer.text().contains("TOP SECRET"), "{attack}: {answer:?}");
    }
    // An encoded slash within the folder is only another way to write the path.
    platform.files_of(platform.demo, &[("static/d/b.txt", b"b")]).await;
    assert_eq!(platform.get("/s/d%2fb.txt").await.text(), "b");
}

#[tokio::test]
async fn ranges_and_conditions() {
    let platform = Platform::start().await;
    let content: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    platform.files_of(platform.demo, &[("static/a.bin", &content)]).await;
    let ask = |headers: &[(&str, &str)]| {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let platform = &platform;
        async move {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            platform.ask("GET", "/a.bin", &headers).await
        }
    };
    // First from memory, then from the cache on disk, in several parts.
    for _ in 0..2 {
        let whole = ask(&[]).await;
        assert_eq!((whole.status, whole.body == content), (200, true));
        assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    }
    let tag = tag_of(&content);
    let part = ask(&[("range", "bytes=100000-299999")]).await;
    assert_eq!((part.status, part.header("content-range")), (206, Some("bytes 100000-299999/300000")));
    assert!(part.body == content[100_000..]);
    assert_eq!(ask(&[("range", "bytes=-1")]).await.body, &content[299_999..]);
    let outside = ask(&[("range", "bytes=300000-")]).await;
    outside.assert_problem(416, "range_not_satisfiable");
    assert_eq!(outside.header("content-range"), Some("bytes */300000"));
    let bomb = format!("bytes={}", vec!["0-"; 10_000].join(","));
    for whole in [bomb.as_str(), "bytes=0-0,1-1", "bytes=5-1", "bytes=x", "octets=0-1"] {
        assert_eq!(ask(&[("range", whole)]).await.body.len(), content.len(), "{}", &whole[..9]);
    }
    assert_eq!(ask(&[("range", "bytes=99999999999999999999-")]).await.status, 416);
    let known = ask(&[("if-none-match", &tag)]).await;
    assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, Some(tag.as_str())));
    assert_eq!(ask(&[("if-none-match", "\"other\"")]).await.status, 200);
    let modified = ask(&[]).await.header("last-modified").unwrap().to_owned();
    assert_eq!(ask(&[("if-modified-since", &modified)]).await.status, 304);
    assert_eq!(ask(&[("range", "bytes=0-9"), ("if-range", &tag)]).await.status, 206);
    assert_eq!(ask(&[("range", "bytes=0-9"), ("if-range", "\"other\"")]).await.status, 200);
    let head = platform.head("/a.bin", &[]).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("300000")));
    let head = platform.head("/a.bin", &[("range", "bytes=0-9")]).await;
    assert_eq!((head.status, head.header("content-length")), (206, Some("10")));

    platform.files_of(platform.demo, &[("static/empty", b"")]).await;
    let empty = platform.get("/empty").await;
    assert_eq!((empty.status, empty.header("content-length")), (200, Some("0")));
    platform
        .ask("GET", "/empty", &[("range", "bytes=0-")])
        .await
        .assert_problem(416, "range_not_satisfiable");
}

#[tokio::test]
async fn texts_are_compressed_for_who_asks() {
    let platform = Platform::start().await;
    let text = "body { color: red }\n".repeat(1_000);
    platform
        .files_of(platform.demo, &[("static/a.css", text.as_bytes()), ("static/a.png", text.as_bytes())])
        .await;
    let plain = platform.get("/a.css").await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("accept-encoding")));
    let mut tags = vec![plain.header("etag").unwrap().to_owned()];
    for (accept, encoding) in [("gzip", "gzip"), ("gzip, br", "br"), ("gzip", "gzip")] {
        let packed = platform.ask("GET", "/a.css", &[("accept-encoding", accept)]).await;
        assert_eq!((packed.status, packed.header("content-encoding")), (200, Some(encoding)));
        assert_eq!(packed.header("content-type"), Some("text/css; charset=utf-8"));
        assert_eq!(packed.header("vary"), Some("accept-encoding"));
        assert!(packed.body.len() < text.len() / 10);
        tags.push(packed.header("etag").unwrap().to_owned());
        let known = [("accept-encoding", accept), ("if-none-match", tags.last().unwrap().as_str())];
        assert_eq!(platform.ask("GET", "/a.css", &known).await.status, 304);
        let head = platform.head("/a.css", &[("accept-encoding", accept)]).await;
        assert_eq!(head.header("content-length"), Some(packed.body.len().to_string().as_str()));
    }
    assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[1] == tags[3], "{tags:?}");
    let part = platform.ask("GET", "/a.css", &[("accept-encoding", "gzip"), ("range", "bytes=0-3")]).await;
    assert_eq!((part.status, part.text(), part.header("content-encoding")), (206, "body", None));
    let picture = platform.ask("GET", "/a.png", &[("accept-encoding", "gzip")]).await;
    assert_eq!((picture.header("content-encoding"), picture.header("vary")), (None, None));
}

#[tokio::test]
async fn a_route_says_how_long_and_what_instead() {
    let platform = Platform::start().await;
    let files: &[(&str, &[u8])] =
        &[("static/app/index.html", b"app"), ("static/app/a.js", b"1"), ("static/app/icon.svg", b"<svg/>")];
    platform.files_of(platform.demo, files).await;
    platform
        .serve_files("/app/*path", "static/app/", |files, _| {
            files.max_age = Some(Duration::from_mins(10));
            files.fallback = Some(path("static/app/index.html"));
        })
        .await;
    assert_eq!(platform.get("/app/a.js").await.header("cache-control"), Some("max-age=600"));
    for page in ["/app/", "/app/users/7", "/app/index.html"] {
        let answer = platform.get(page).await;
        assert_eq!((answer.text(), answer.header("cache-control")), ("app", Some("no-cache")), "{page}");
    }
    platform.get("/app/none.js").await.assert_problem(404, "file_not_found");
    let navigated = platform.ask("GET", "/app/v1.2", &[("accept", "text/html,*/*")]).await;
    assert_eq!(navigated.text(), "app");
    platform.post("/app/a.js", "").await.assert_problem(405, "method_not_allowed");
    let options = platform.ask("OPTIONS", "/app/a.js", &[]).await;
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    // It serves `static/` itself, so that nothing else does.
    platform.get("/a.js").await.assert_problem(404, "route_not_found");
}

#[tokio::test]
async fn access_and_rates_hold_for_files_as_well() {
    let platform = Platform::start().await;
    platform.files_of(platform.demo, &[("static/a.txt", b"a")]).await;
    platform
        .serve_files("/t/*path", "static/", |files, route| {
            files.max_age = Some(Duration::from_mins(1));
            route.access = Some(RouteAccess::Token);
        })
        .await;
    platform.get("/t/a.txt").await.assert_problem(401, "unauthenticated");
    let (token, _) = platform.token(|_| {}).await;
    let bearer = format!("Bearer {token}");
    let shown = platform.ask("GET", "/t/a.txt", &[("authorization", &bearer)]).await;
    assert_eq!((shown.text(), shown.header("cache-control")), ("a", Some("private, max-age=60")));
    platform.serve_files("/h/*path", "static/", |_, route| route.access = Some(RouteAccess::Hmac)).await;
    platform.get("/h/a.txt").await.assert_problem(401, "unauthenticated");
    platform
        .serve_files("/r/*path", "static/", |_, route| {
            let rate: serde_json::Value = serde_json::json!({ "requests": 1, "seconds": 3600 });
            route.rate_limit = serde_json::from_value(rate).unwrap();
        })
        .await;
    assert!(platform.get("/r/a.txt").await.header("ratelimit").is_some());
    platform.get("/r/a.txt").await.assert_problem(429, "rate_limited");
    platform.access(serde_json::json!({ "cors": { "origins": ["https://a.example"] } })).await;
    let from =
        platform.ask("GET", "/t/a.txt", &[("origin", "https://a.example"), ("authorization", &bearer)]).await;
    assert_eq!(from.header("access-control-allow-origin"), Some("https://a.example"));
    platform.access(serde_json::json!({ "deny_ips": ["127.0.0.0/8"] })).await;
    platform
        .ask("GET", "/t/a.txt", &[("authorization", &bearer)])
        .await
        .assert_problem(403, "address_denied");
}

#[tokio::test]
async fn another_apps_file_and_a_planted_link_are_not_served() {
    let platform = Platform::start().await;
    let other = platform.store.create_app(&AppName::new("other").unwrap()).await.unwrap().id;
    platform.node.app_changed(other).await;
    platform.files_of(other, &[("static/a.txt", b"of other")]).await;
    platform.files_of(platform.demo, &[("static/b.txt", b"of demo")]).await;
    platform.get("/a.txt").await.assert_problem(404, "file_not_found");
    // A link in the cache, in the place of a content that is known only to the database yet.
    let outside = platform.folder.path().join("keys");
    let folder = platform.folder.path().join("files").join(platform.demo.to_string());
    std::fs::create_dir_all(&folder).unwrap();
    symlink(&outside, folder.join(FileHash::of(b"of demo").to_string())).unwrap();
    for _ in 0..2 {
        assert_eq!(platform.get("/b.txt").await.text(), "of demo");
    }
    // And a content that was changed on disk.
    std::fs::write(folder.join(FileHash::of(b"of demo").to_string()), "changed").unwrap();
    assert_eq!(platform.get("/b.txt").await.text(), "of demo");
}

#[tokio::test]
async fn a_file_that_is_deleted_while_it_is_sent_is_sent_whole() {
    let platform = Platform::start().await;
    let content = vec![7_u8; 8 << 20];
    platform.files_of(platform.demo, &[("static/big.bin", &content)]).await;
    assert_eq!(platform.get("/big.bin").await.body.len(), content.len());
    let mut client = platform.client().await;
    client.send(request("GET", "/big.bin", &[])).await;
    let first = client.read(100_000).await.unwrap();
    let gone = Effects { files: [(path("static/big.bin"), FileWrite::Delete)].into(), ..Effects::default() };
    platform.write_files(platform.demo, gone).await;
    std::fs::remove_dir_all(platform.folder.path().join("files")).unwrap();
    assert!(client.read(content.len() - first.len()).await.is_some());
    platform.get("/big.bin").await.assert_problem(404, "route_not_found");
}

#[tokio::test]
async fn a_type_that_was_chosen_cannot_add_headers() {
    let platform = Platform::start().await;
    assert!(ContentType::new("text/html\r\nset-cookie: a=b").is_err());
    let write =
        FileWrite::set(&path("static/x"), "<b>".into(), Some(ContentType::new("text/html;x=\"y\"").unwrap()));
    let effects = Effects { files: [(path("static/x"), write)].into(), ..Effects::default() };
    platform.write_files(platform.demo, effects).await;
    let answer = platform.get("/x").await;
    assert_eq!(answer.header("content-type"), Some("text/html;x=\"y\""));
    assert_eq!(answer.header("set-cookie"), None);
    let shared = platform.raw("GET /@demo/x HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await;
    assert!(shared.header("content-security-policy").is_some());
}

#[tokio::test]
async fn without_a_database_files_are_unavailable() {
    let platform = Platform::start().await;
    platform.files_of(platform.demo, &[("static/a.txt", b"a")]).await;
    platform.store.close().await;
    platform.get("/a.txt").await.assert_problem(503, "database_unavailable");
}
