//! An OpenID Connect issuer with one user, over real sockets: its document, its keys, and a token endpoint that checks
//! codes, clients and PKCE as the standards say. A test can make it misbehave.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::BodyExt as _;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

pub(crate) const CLIENT_ID: &str = "picloud";
pub(crate) const CLIENT_SECRET: &str = "a secret: of 100%";

/// Made for these tests with `openssl genpkey -algorithm RSA`, and known to everybody.
const RSA_KEY: &[u8] = include_bytes!("issuer-rsa.pk8");

/// Runs until it is dropped.
pub(crate) struct TestIssuer {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    _answering: AbortOnDropHandle<()>,
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signing {
    Rs256,
    Es256,
    /// `alg` is `none`, and there is no signature.
    None,
    /// HMAC with the public RSA key as its secret.
    HmacWithPublicKey,
    /// The signature is of another text.
    Forged,
    /// By a key that the issuer does not publish, under the id of one that it does.
    ForeignKey,
}

/// What the token endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenEndpoint {
    Good,
    /// Sends the client elsewhere, where it would be answered.
    Redirects,
    /// Never stops.
    Endless,
    /// Sends a byte now and then.
    Trickling,
    /// Is no JSON.
    Garbage,
    Fails,
}

pub(crate) struct State {
    pub(crate) signing: Signing,
    pub(crate) tokens: TokenEndpoint,
    /// Changes the claims before they are signed.
    pub(crate) claims: fn(&mut Value),
    /// Whether the address is in the userinfo answer and not in the token.
    pub(crate) email_in_userinfo: bool,
    /// Whether everything is 503.
    pub(crate) down: bool,
    /// What the document says of the issuer, where that is not its address.
    pub(crate) issuer: Option<String>,
    /// Who is signed in at the issuer.
    pub(crate) subject: String,
    pub(crate) email: String,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
    kid: u32,
    codes: HashMap<String, Grant>,
    /// Calls by path.
    pub(crate) calls: HashMap<String, usize>,
    url: String,
}

struct Grant {
    nonce: String,
    challenge: String,
    redirect_uri: String,
}

fn ec_key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap()
}

impl TestIssuer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let url = format!("http://{address}/realm");
        let state = Arc::new(Mutex::new(State {
            signing: Signing::Rs256,
            tokens: TokenEndpoint::Good,
            claims: |_| {},
            email_in_userinfo: false,
            down: false,
            issuer: None,
            subject: "248289761001".into(),
            email: "ada@example.org".into(),
            ec: ec_key(),
            rsa: RsaKeyPair::from_pkcs8(RSA_KEY).unwrap(),
            kid: 1,
            codes: HashMap::new(),
            calls: HashMap::new(),
            url: url.clone(),
        }));
        let answering = tokio::spawn(serve(listener, Arc::clone(&state)));
        Self { url, state, _answering: AbortOnDropHandle::new(answering) }
    }

    /// Changes what it does.
    pub(crate) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// Throws its EC key away for a new one with another id.
    pub(crate) fn rotate(&self) {
        self.set(|state| {
            state.kid += 1;
            state.ec = ec_key();
        });
    }

    /// How often a path was called.
    pub(crate) fn calls(&self, path: &str) -> usize {
        self.state.lock().unwrap().calls.get(path).copied().unwrap_or_default()
    }

    /// What its page does when the user agrees: checks the query of the client's redirect, and answers the query to send
    /// the browser back with.
    pub(crate) fn agree(&self, location: &str) -> String {
        let (page, query) = location.split_once('?').unwrap();
        assert_eq!(page, format!("{}/authorize", self.url));
        let query: HashMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let read = |name: &str| query.get(name).cloned().unwrap_or_else(|| panic!("no {name} in {location}"));
        assert_eq!((read("response_type"), read("client_id")), ("code".into(), CLIENT_ID.into()));
        assert_eq!((read("code_challenge_method"), read("scope")), ("S256".into(), "openid email".into()));
        assert!(read("state").len() >= 43 && read("nonce").len() >= 43, "{location}");
        let code = format!("code+&{}", uuid::Uuid::new_v4());
        let grant = Grant {
            nonce: read("nonce"),
            challenge: read("code_challenge"),
            redirect_uri: read("redirect_uri"),
        };
        self.state.lock().unwrap().codes.insert(code.clone(), grant);
        form_urlencoded::Serializer::new(String::new())
            .append_pair("code", &code)
            .append_pair("state", &read("state"))
            .append_pair("session_state", "issuers send more")
            .finish()
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let state = Arc::clone(&state);
        let service = service_fn(move |request: Request<Incoming>| {
            let state = Arc::clone(&state);
            async move { Ok::<_, Infallible>(answer(&state, request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

async fn answer(state: &Mutex<State>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut state = state.lock().unwrap();
    let path = parts.uri.path().to_owned();
    *state.calls.entry(path.clone()).or_default() += 1;
    if state.down {
        return reply(503, "down");
    }
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    match path.as_str() {
        "/realm/.well-known/openid-configuration" => state.document(),
        "/realm/keys" => json_reply(&state.keys()),
        "/realm/token" => state.token_endpoint(&body, header("authorization")),
        "/elsewhere" => state.tokens_for(&body),
        "/realm/userinfo" if header("authorization") == Some("Bearer access") => {
            json_reply(&json!({ "sub": state.subject, "email": state.email, "email_verified": true }))
        }
        _ => reply(404, "nothing"),
    }
}

fn reply(status: u16, text: &str) -> Response<Body> {
    Response::builder().status(status).body(Body::from(text.to_owned())).unwrap()
}

fn json_reply(value: &Value) -> Response<Body> {
    let reply = Response::builder().header("content-type", "application/json");
    reply.body(Body::from(value.to_string())).unwrap()
}

fn refuse(error: &str) -> Response<Body> {
    let mut reply = json_reply(&json!({ "error": error }));
    *reply.status_mut() = hyper::StatusCode::BAD_REQUEST;
    reply
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl State {
    fn document(&self) -> Response<Body> {
        let url = &self.url;
        json_reply(&json!({
            "issuer": self.issuer.as_ref().unwrap_or(url),
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "jwks_uri": format!("{url}/keys"),
            "userinfo_endpoint": format!("{url}/userinfo"),
            "response_types_supported": ["code"],
        }))
    }

    fn keys(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        let rsa: RsaPublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        json!({ "keys": [
            { "kty": "OKP", "crv": "X448", "x": "unknown kinds are left out", "kid": "strange" },
            { "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": format!("ec-{}", self.kid),
              "x": encoded(&point[1..33]), "y": encoded(&point[33..]) },
            { "kty": "RSA", "use": "sig", "kid": "rsa",
              "n": encoded(&rsa.n),
              "e": encoded(&rsa.e) },
        ] })
    }

    fn token_endpoint(&mut self, body: &[u8], authorization: Option<&str>) -> Response<Body> {
        let basic = authorization.and_then(|value| value.strip_prefix("Basic "));
        let basic = basic.map(|text| base64::engine::general_purpose::STANDARD.decode(text).unwrap());
        if basic.as_deref() != Some(b"picloud:a+secret%3A+of+100%25") {
            return refuse("invalid_client");
        }
        match self.tokens {
            TokenEndpoint::Good => self.tokens_for(body),
            TokenEndpoint::Redirects => {
                let place = self.url.replace("/realm", "/elsewhere");
                Response::builder().status(307).header("location", place).body(Body::empty()).unwrap()
            }
            TokenEndpoint::Endless => {
                let more = || async { Some((Ok::<_, Infallible>(vec![b' '; 64 << 10]), ())) };
                Response::new(Body::from_stream(futures_util::stream::unfold((), move |()| more())))
            }
            TokenEndpoint::Trickling => {
                let byte = |()| async {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    Some((Ok::<_, Infallible>(" "), ()))
                };
                Response::new(Body::from_stream(futures_util::stream::unfold((), byte)))
            }
            TokenEndpoint::Garbage => reply(200, "<html>"),
            TokenEndpoint::Fails => reply(500, "oops"),
        }
    }

    fn tokens_for(&mut self, body: &[u8]) -> Response<Body> {
        let form: HashMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        let read = |name: &str| form.get(name).map_or("", String::as_str);
        if read("grant_type") != "authorization_code" {
            return refuse("unsupported_grant_type");
        }
        let Some(grant) = self.codes.remove(read("code")) else { return refuse("invalid_grant") };
        let verified = encoded(Sha256::digest(read("code_verifier"))) == grant.challenge;
        if !verified || read("redirect_uri") != grant.redirect_uri {
            return refuse("invalid_grant");
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let mut claims = json!({
            "iss": self.url, "sub": self.subject, "aud": CLIENT_ID, "nonce": grant.nonce,
            "iat": now.as_secs(), "exp": (now + Duration::from_mins(5)).as_secs(),
        });
        if !self.email_in_userinfo {
            claims["email"] = json!(self.email);
            claims["email_verified"] = json!(true);
        }
        (self.claims)(&mut claims);
        let id_token = self.sign(&claims);
        json_reply(&json!({ "access_token": "access", "token_type": "Bearer", "id_token": id_token }))
    }

    fn sign(&self, claims: &Value) -> String {
        let random = SystemRandom::new();
        let header = match self.signing {
            Signing::Es256 | Signing::Forged | Signing::ForeignKey => {
                json!({ "alg": "ES256", "kid": format!("ec-{}", self.kid) })
            }
            Signing::Rs256 => json!({ "alg": "RS256", "kid": "rsa" }),
            Signing::None => json!({ "alg": "none" }),
            Signing::HmacWithPublicKey => json!({ "alg": "HS256", "kid": "rsa" }),
        };
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signature = match self.signing {
            Signing::Es256 => self.ec.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Signing::Forged => self.ec.sign(&random, b"another text").unwrap().as_ref().to_vec(),
            Signing::ForeignKey => ec_key().sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Signing::Rs256 => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Signing::None => Vec::new(),
            Signing::HmacWithPublicKey => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.rsa.public().as_ref());
                hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
            }
        };
        format!("{message}.{}", encoded(signature))
    }
}
