//! Host names that belong to an app.

use axum::{Json, extract::State, http::StatusCode};
use picloud_core::{AppId, Capability, DomainChallenge, DomainId, DomainName, ErrorCode, ProofMethod};
use picloud_edge::Problem;
use picloud_store::{Domain, DomainCheck, Store};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    access::{Caller, TargetApp},
    context::Context,
    error::ApiError,
    extract::{JsonBody, PathNames},
    page::Page,
    store_error::from_store,
};

/// A host for an app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDomain {
    /// A host name in lower case, without a port.
    #[schema(value_type = String, example = "shop.example.org")]
    domain: DomainName,
}

/// How a host is proved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DomainProof {
    /// `dns`, which is also meant where it is left out, looks for the TXT record. `operator` vouches for the host
    /// without a proof; that is for owners of the installation.
    #[schema(value_type = Option<String>, example = "dns")]
    #[serde(default = "dns")]
    method: ProofMethod,
}

/// A host that an app claims, or answers for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DomainView {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: DomainId,
    /// The host name.
    #[schema(value_type = String)]
    domain: DomainName,
    /// Since when it is served for the app; null until it is proved.
    #[serde(with = "time::serde::rfc3339::option")]
    verified_at: Option<OffsetDateTime>,
    /// How it was proved: `dns` or `operator`; null until then.
    #[schema(value_type = Option<String>)]
    verified_by: Option<ProofMethod>,
    /// What proves it; null once it is.
    proof: Option<ProofView>,
    /// When it was added.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// What has to be in DNS. It can be removed once it was seen.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProofView {
    /// The name of a TXT record.
    record: String,
    /// Its text.
    value: String,
}

impl From<Domain> for DomainView {
    fn from(domain: Domain) -> Self {
        let proof = domain.verified.is_none().then(|| ProofView {
            record: DomainChallenge::record(&domain.name),
            value: domain.challenge.proof(),
        });
        let (verified_at, verified_by) = domain.verified.unzip();
        Self {
            id: domain.id,
            domain: domain.name,
            verified_at,
            verified_by,
            proof,
            created_at: domain.created_at,
        }
    }
}

const fn dns() -> ProofMethod {
    ProofMethod::Dns
}

/// The hosts of an app, by name.
#[utoipa::path(get, path = "/api/v1/apps/{app}/domains", tag = "domains",
    responses((status = 200, description = "All of them", body = Page<DomainView>)))]
pub(crate) async fn list_domains(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
) -> Result<Json<Page<DomainView>>, ApiError> {
    let domains = context.store.domains(app.id).await.map_err(from_store)?;
    Ok(Json(Page::whole(domains.into_iter().map(DomainView::from).collect())))
}

/// Claims a host for an app. It is served once it is proved. Its DNS and TLS are the operator's.
#[utoipa::path(post, path = "/api/v1/apps/{app}/domains", tag = "domains", request_body = NewDomain,
    responses((status = 201, description = "The host", body = DomainView)))]
pub(crate) async fn create_domain(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    JsonBody(new): JsonBody<NewDomain>,
) -> Result<(StatusCode, Json<DomainView>), ApiError> {
    if let Some(own) = context.config.apps.owner_of(&new.domain) {
        let detail = format!("{} belongs to the platform, as everything under {own} does", new.domain);
        return Err(ApiError::new(ErrorCode::Invalid, detail).field("domain"));
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| ApiError::internal("a challenge", &error))?;
    let challenge = DomainChallenge::from_random(random);
    let domain = context.store.create_domain(app.id, &new.domain, &challenge).await.map_err(from_store)?;
    Ok((StatusCode::CREATED, Json(domain.into())))
}

/// Looks for the proof of a host, and serves it for the app from then on.
#[utoipa::path(post, path = "/api/v1/apps/{app}/domains/{id}/verify", tag = "domains", request_body = DomainProof,
    responses((status = 200, description = "The host", body = DomainView)))]
pub(crate) async fn verify_domain(
    State(context): State<Context>,
    caller: Caller,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, DomainId)>,
    JsonBody(DomainProof { method }): JsonBody<DomainProof>,
) -> Result<Json<DomainView>, ApiError> {
    match method {
        ProofMethod::Dns => {
            let domain = due(&context.store, app.id, id).await?;
            if domain.verified.is_none() {
                context.domain_proofs.look(&domain.name, &domain.challenge).await?;
            }
        }
        ProofMethod::Operator => caller.may(Capability::InstanceVouchDomains)?,
    }
    let domain = context.store.verify_domain(app.id, id, method).await.map_err(from_store)?;
    context.app_changed(app.id).await;
    Ok(Json(domain.into()))
}

async fn due(store: &Store, app: AppId, id: DomainId) -> Result<Domain, ApiError> {
    match store.begin_domain_check(app, id).await.map_err(from_store)? {
        DomainCheck::Due(domain) => Ok(domain),
        DomainCheck::TooSoon => {
            let seconds = Store::DOMAIN_CHECK_SECONDS;
            let detail =
                format!("the proof of this host was looked for just now; once in {seconds} s is allowed");
            Err(Problem::new(ErrorCode::RateLimited).detail(detail).retry_after(seconds).into())
        }
    }
}

/// Takes a host from an app.
#[utoipa::path(delete, path = "/api/v1/apps/{app}/domains/{id}", tag = "domains",
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete_domain(
    State(context): State<Context>,
    TargetApp(app): TargetApp,
    PathNames((_, id)): PathNames<(String, DomainId)>,
) -> Result<StatusCode, ApiError> {
    context.store.delete_domain(app.id, id).await.map_err(from_store)?;
    context.app_changed(app.id).await;
    Ok(StatusCode::NO_CONTENT)
}
