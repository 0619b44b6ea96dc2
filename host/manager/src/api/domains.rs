//! Host names that belong to an app.

use axum::{Json, extract::State, http::StatusCode};
use picloud_core::{DomainId, DomainName, ErrorCode};
use picloud_store::Domain;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::{
    access::TargetApp,
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

/// A host that an app answers for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DomainView {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: DomainId,
    /// The host name.
    #[schema(value_type = String)]
    domain: DomainName,
    /// When it was added.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<Domain> for DomainView {
    fn from(domain: Domain) -> Self {
        Self { id: domain.id, domain: domain.name, created_at: domain.created_at }
    }
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

/// Gives a host to an app. Its DNS and TLS are the operator's.
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
    let domain = context.store.create_domain(app.id, &new.domain).await.map_err(from_store)?;
    context.app_changed(app.id).await;
    Ok((StatusCode::CREATED, Json(domain.into())))
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
