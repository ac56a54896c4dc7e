//! Who calls: the extractor that turns an API key into the handle of one tenant.
//!
//! A handler without a [`Caller`] has no way to a tenant's data.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::ApiError;
use crate::app::App;
use crate::auth::{Role, key_of};
use crate::db::TenantDb;
use crate::db::tenants::{Authenticated, Tenant};

/// The tenant whose key came with the request.
pub struct Caller {
    /// The tenant.
    pub tenant: Tenant,
    /// What the key allows.
    pub role: Role,
    /// The tenant's data.
    pub db: TenantDb,
    /// The key's id and name, for the audit log.
    pub actor: String,
}

impl Caller {
    /// Fails unless the key allows as much as `needed`.
    pub fn must_be(&self, needed: Role) -> Result<(), ApiError> {
        if self.role >= needed {
            return Ok(());
        }
        Err(ApiError::forbidden(format!(
            "this needs a key with role {}; yours has {}",
            needed.as_str(),
            self.role.as_str()
        )))
    }

    /// The data of the tenant that an operator acts for; without one, the caller's own.
    pub async fn acting_for(
        &self,
        app: &App,
        tenant: Option<String>,
    ) -> Result<TenantDb, ApiError> {
        match tenant {
            Some(key) => self.tenant_named(app, &key).await.map(|(_, db)| db),
            None => Ok(self.db.clone()),
        }
    }

    /// The data of the tenant that a path names: the caller's own, or for the operator any.
    pub async fn tenant_named(&self, app: &App, key: &str) -> Result<(Tenant, TenantDb), ApiError> {
        if key == self.tenant.key {
            return Ok((self.tenant.clone(), self.db.clone()));
        }
        let found = match self.role {
            Role::Operator => app.db.system().tenant_by_key(key).await?,
            Role::Read | Role::Write => None,
        };
        let tenant =
            found.ok_or_else(|| ApiError::not_found(format!("there is no tenant {key:?}")))?;
        let db = app.db.tenant(tenant.id());
        Ok((tenant, db))
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Caller, ApiError> {
        let key = key_of(&parts.headers).ok_or_else(|| {
            ApiError::unauthenticated(
                "an API key is needed: send Authorization: Bearer KEY or X-Api-Key: KEY",
            )
        })?;
        let found = app.db.system().authenticate(&key).await?;
        let found = found.ok_or_else(|| {
            ApiError::unauthenticated(format!("the API key {} is not valid", key.id))
        })?;
        let db = app.db.tenant(found.tenant.id());
        if let Err(error) = db.key_used(&found, app.clock.now()).await {
            tracing::warn!(%error, key.id = %key.id, "cannot note the use of an API key");
        }
        let Authenticated {
            tenant,
            role,
            key,
            key_name,
            ..
        } = found;
        let actor = match key_name.is_empty() {
            true => key.to_string(),
            false => format!("{key} ({key_name})"),
        };
        Ok(Caller {
            tenant,
            role,
            db,
            actor,
        })
    }
}
