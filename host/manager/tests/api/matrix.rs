//! Every operation of the committed document, called by everybody with every token. What must come out is worked out
//! from the document and the meaning of the roles alone; what the code does is not asked.

use std::{fmt, net::Ipv4Addr};

use axum::{
    body::Body,
    http::{Request, Response},
};
use http_body_util::BodyExt as _;
use picloud_core::{AppId, AppName, AppRole, InstanceRole, PrincipalId, Scope};
use serde_json::Value;

use crate::support::Server;

const DOCUMENT: &str = include_str!("../../../../docs/openapi.json");

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    /// Of the installation, and of no app.
    Member,
    /// Of the app `own`.
    MemberOf(AppRole),
    Owner,
}

const EVERYBODY: [Who; 6] = [
    Who::Nobody,
    Who::Member,
    Who::MemberOf(AppRole::Viewer),
    Who::MemberOf(AppRole::Editor),
    Who::MemberOf(AppRole::AppAdmin),
    Who::Owner,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Own,
    Other,
}

const PLACES: [Place; 2] = [Place::Own, Place::Other];

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Other => "other",
        }
    }
}

/// One call of the matrix.
#[derive(Clone, Copy, Debug)]
struct Case {
    who: Who,
    scope: Scope,
    /// The only app that the token is good for.
    token_of: Option<Place>,
    /// The app that is called for.
    target: Place,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Unauthenticated,
    Forbidden,
    AppNotFound,
    /// The handler has it; whatever it says of an empty request.
    Allowed,
}

/// One operation, as the document has it.
struct Operation {
    method: String,
    path: String,
    of: String,
    scope: Option<Scope>,
    role: Option<String>,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Operation {
    fn all() -> Vec<Self> {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut operations = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                operations.push(Self::read(path, &method.to_uppercase(), operation));
            }
        }
        operations
    }

    fn read(path: &str, method: &str, operation: &Value) -> Self {
        let access = &operation["x-picloud-access"];
        let text = |name: &str| access[name].as_str().map(str::to_owned);
        let of = text("of").unwrap_or_else(|| panic!("{method} {path} does not say who may call it"));
        let operation = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            scope: text("scope").map(|scope| scope.parse().unwrap()),
            role: text("role"),
            of,
        };
        let (has_scope, has_role, has_app) = match operation.of.as_str() {
            "anyone" | "caller" => (false, false, false),
            "scope" => (true, false, false),
            "instance" => (true, true, false),
            "app" | "app_or_new" => (true, true, true),
            other => panic!("{operation} is of {other}, which nobody knows"),
        };
        assert_eq!(operation.scope.is_some(), has_scope, "{operation}: a scope");
        assert_eq!(operation.role.is_some(), has_role, "{operation}: a least role");
        assert_eq!(text("capability").is_some(), has_role, "{operation}: a capability");
        assert_eq!(path.contains("{app}"), has_app, "{operation}: an app in its path");
        operation
    }

    fn is_of_app(&self) -> bool {
        self.path.contains("{app}")
    }

    fn expected(&self, case: Case) -> Outcome {
        if self.of == "anyone" {
            return Outcome::Allowed;
        }
        if case.who == Who::Nobody {
            return Outcome::Unauthenticated;
        }
        if self.scope.is_some_and(|needed| needed != case.scope) {
            return Outcome::Forbidden;
        }
        match self.of.as_str() {
            "caller" | "scope" => Outcome::Allowed,
            "instance" => match (case.token_of, case.who) {
                (None, Who::Owner) => Outcome::Allowed,
                (None, _) if self.role.as_deref() == Some("member") => Outcome::Allowed,
                _ => Outcome::Forbidden,
            },
            _ => self.expected_in_app(case),
        }
    }

    fn expected_in_app(&self, case: Case) -> Outcome {
        if case.token_of.is_some_and(|only| only != case.target) {
            return Outcome::AppNotFound;
        }
        let role = match case.who {
            Who::Owner => return Outcome::Allowed,
            Who::MemberOf(role) if case.target == Place::Own => role,
            _ => return Outcome::AppNotFound,
        };
        let order = ["viewer", "editor", "app_admin"];
        let rank = |role: &str| order.iter().position(|known| *known == role);
        if rank(role.as_str()) >= rank(self.role.as_deref().unwrap()) {
            Outcome::Allowed
        } else {
            Outcome::Forbidden
        }
    }

    fn request(&self, target: Place, token: Option<&str>) -> Request<Body> {
        let id = uuid::Uuid::nil().to_string();
        let path = self.path.replace("{app}", target.name()).replace("{id}", &id);
        // Nothing else that is named is there: what may be done does nothing.
        let path: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { "missing" } else { part }).collect();
        let mut request =
            Request::builder().method(self.method.as_str()).uri(path.join("/")).header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Body::empty()).unwrap()
    }
}

/// Two apps, everybody, and their tokens.
struct World {
    server: Server,
    /// In the order of [`EVERYBODY`], without nobody.
    principals: Vec<(Who, PrincipalId)>,
    tokens: Vec<(Who, Scope, Option<Place>, String)>,
}

impl World {
    async fn make() -> Self {
        let server = Server::start().await;
        let mut principals = vec![(Who::Owner, server.owner_id().await)];
        principals.push((Who::Member, server.user("stranger", InstanceRole::Member).await.id));
        for role in AppRole::ALL {
            let name = format!("{role}");
            principals.push((Who::MemberOf(*role), server.user(&name, InstanceRole::Member).await.id));
        }
        let mut world = Self { server, principals, tokens: Vec::new() };
        world.make_apps().await;
        world
    }

    /// The apps with their members and tokens. Those that are there stay.
    async fn make_apps(&mut self) {
        let mut apps = Vec::new();
        for place in PLACES {
            let name = AppName::new(place.name()).unwrap();
            let app = match self.server.store.app_by_name(&name).await.unwrap() {
                Some(app) => app.id,
                None => self.server.store.create_app(&name).await.unwrap().id,
            };
            apps.push((place, app));
        }
        for (who, principal) in &self.principals {
            if let Who::MemberOf(role) = who {
                self.server.store.put_member(apps[0].1, *principal, *role).await.unwrap();
            }
        }
        self.tokens.clear();
        let limits: Vec<Option<(Place, AppId)>> =
            [None].into_iter().chain(apps.into_iter().map(Some)).collect();
        for (who, principal) in &self.principals {
            for scope in Scope::ALL {
                for limit in &limits {
                    let token = self.server.token_of(*principal, &[*scope], limit.map(|(_, app)| app)).await;
                    self.tokens.push((*who, *scope, limit.map(|(place, _)| place), token));
                }
            }
        }
    }

    fn token(&self, case: Case) -> Option<&str> {
        let of_case = |token: &&(Who, Scope, Option<Place>, String)| {
            (token.0, token.1, token.2) == (case.who, case.scope, case.token_of)
        };
        self.tokens.iter().find(of_case).map(|token| token.3.as_str())
    }

    async fn call(&mut self, operation: &Operation, case: Case) -> Outcome {
        let request = operation.request(case.target, self.token(case));
        let response = self.server.manager.respond(Ipv4Addr::LOCALHOST.into(), request).await;
        let outcome = outcome(response).await;
        // Some of what is allowed removes the app that everything else needs.
        if outcome == Outcome::Allowed && operation.method == "DELETE" && operation.is_of_app() {
            let name = AppName::new(case.target.name()).unwrap();
            if self.server.store.app_by_name(&name).await.unwrap().is_none() {
                self.make_apps().await;
            }
        }
        outcome
    }
}

async fn outcome(response: Response<Body>) -> Outcome {
    let status = response.status().as_u16();
    if status < 400 {
        return Outcome::Allowed;
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    match (status, problem["code"].as_str().unwrap()) {
        (401, "unauthenticated") => Outcome::Unauthenticated,
        (403, "forbidden") => Outcome::Forbidden,
        (404, "app_not_found") => Outcome::AppNotFound,
        (401 | 403, other) => panic!("{status} with {other}"),
        (500.., other) => panic!("{status} with {other}: {problem}"),
        _ => Outcome::Allowed,
    }
}

fn cases(operation: &Operation) -> Vec<Case> {
    let mut cases = Vec::new();
    for who in EVERYBODY {
        if who == Who::Nobody {
            cases.push(Case { who, scope: Scope::ScriptRead, token_of: None, target: Place::Own });
            continue;
        }
        for scope in Scope::ALL.iter().copied() {
            for token_of in [None, Some(Place::Own), Some(Place::Other)] {
                for target in PLACES {
                    // Where the path names no app, the target makes no difference.
                    if operation.is_of_app() || target == Place::Own {
                        cases.push(Case { who, scope, token_of, target });
                    }
                }
            }
        }
    }
    cases
}

#[tokio::test]
async fn every_operation_does_for_everybody_what_the_document_says() {
    let mut world = World::make().await;
    let mut calls = 0;
    let mut wrong = Vec::new();
    for operation in Operation::all() {
        for case in cases(&operation) {
            calls += 1;
            let (expected, found) = (operation.expected(case), world.call(&operation, case).await);
            if expected != found {
                wrong.push(format!("{operation} with {case:?}: {found:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {calls} calls:\n{}", wrong.len(), wrong.join("\n"));
    assert!(calls > 5000, "{calls}");
}
