//! What the database wants of this process: every installation with its settings, kept up to date by reading only what
//! has changed.
//!
//! Every change of an installation gives it the next revision, so what is new is what has a revision that was not seen. A
//! deletion leaves nothing to read; the number of installations betrays it, and then all are read again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::catalogue::Catalogue;
use super::secret_place;
use crate::db::installations::{InstallationRow, SecretRow};
use crate::db::tracks::VersionSettings;
use crate::db::{Db, DbError, TenantDb};
use crate::secrets::SecretBox;

/// One installation as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Without secrets.
    pub row: InstallationRow,
    /// Its secrets, sealed.
    pub secrets: Vec<SecretRow>,
    /// Settings for versions that need others.
    pub version_settings: Vec<VersionSettings>,
}

/// Settings as they are stored: what may be shown, and the rest by name, sealed.
pub type Stored = (Map<String, Value>, Vec<(String, Vec<u8>)>);

/// Everything that the database wants.
#[derive(Default)]
pub(super) struct Wishes {
    /// Everything before this was seen; `None` when nothing was.
    revision: Option<i64>,
    catalogue_revision: Option<i64>,
    pub(super) catalogue: Arc<Catalogue>,
    /// In the order of tenants and ids.
    pub(super) installations: BTreeMap<(i64, String), Arc<Wish>>,
}

impl Wishes {
    /// Reads what has changed. `false` when nothing has.
    pub(super) async fn refresh(&mut self, db: &Db) -> Result<bool, DbError> {
        let system = db.system();
        // Read before the rows: a change in between is seen again next time, never missed.
        let revision = system.plugin_revision().await?;
        if self.revision == Some(revision) {
            return Ok(false);
        }
        let catalogue_revision = system.catalogue_revision().await?;
        if self.catalogue_revision != Some(catalogue_revision) {
            self.catalogue = Arc::new(Catalogue::read(db, &self.catalogue).await?);
            self.catalogue_revision = Some(catalogue_revision);
        }
        self.read_since(db, self.revision.unwrap_or(0)).await?;
        if system.installation_count().await? != self.installations.len() as i64 {
            self.installations.clear();
            self.read_since(db, 0).await?;
        }
        self.revision = Some(revision);
        Ok(true)
    }

    async fn read_since(&mut self, db: &Db, revision: i64) -> Result<(), DbError> {
        let system = db.system();
        let mut changed: BTreeMap<(i64, String), Wish> = BTreeMap::new();
        for row in system.installations_since(revision).await? {
            let wish = Wish {
                row: row.clone(),
                secrets: Vec::new(),
                version_settings: Vec::new(),
            };
            changed.insert((row.tenant_id, row.id), wish);
        }
        // What is not there yet was made after its row was looked for, and is read with it next time.
        for secret in system.secrets_since(revision).await? {
            let key = (secret.tenant_id, secret.installation_id.clone());
            if let Some(wish) = changed.get_mut(&key) {
                wish.secrets.push(secret);
            }
        }
        for settings in system.version_settings_since(revision).await? {
            let key = (settings.tenant_id, settings.installation_id.clone());
            if let Some(wish) = changed.get_mut(&key) {
                wish.version_settings.push(settings);
            }
        }
        let changed = changed.into_iter().map(|(key, wish)| (key, Arc::new(wish)));
        self.installations.extend(changed);
        Ok(())
    }
}

impl Wish {
    /// Reads one installation; `None` when the tenant has none with this id.
    pub async fn read(db: &TenantDb, id: &str) -> Result<Option<Wish>, DbError> {
        let Some(row) = db.installation(id).await? else {
            return Ok(None);
        };
        Ok(Some(Wish {
            secrets: db.installation_secrets(id).await?,
            version_settings: db.version_settings(id).await?,
            row,
        }))
    }

    /// Every installation of a tenant, by name.
    pub async fn all(db: &TenantDb) -> Result<Vec<Wish>, DbError> {
        let (mut secrets, mut settings) = (BTreeMap::new(), BTreeMap::new());
        for secret in db.all_secrets().await? {
            let of: &mut Vec<_> = secrets.entry(secret.installation_id.clone()).or_default();
            of.push(secret);
        }
        for one in db.all_version_settings().await? {
            let of: &mut Vec<_> = settings.entry(one.installation_id.clone()).or_default();
            of.push(one);
        }
        let rows = db.installations().await?.into_iter();
        let wishes = rows.map(|row| Wish {
            secrets: secrets.remove(&row.id).unwrap_or_default(),
            version_settings: settings.remove(&row.id).unwrap_or_default(),
            row,
        });
        Ok(wishes.collect())
    }

    /// The settings for a version as they may be shown, and the names of those that may not.
    ///
    /// # Errors
    /// [`DbError::Corrupt`]; so of all methods here.
    pub fn shown(
        &self,
        digest: Option<&str>,
    ) -> Result<(Map<String, Value>, Vec<String>), DbError> {
        match digest.and_then(|digest| self.own_settings(digest)) {
            Some(own) => Ok((own.shown()?, own.secret_names()?)),
            None => {
                let names = self.secrets.iter().map(|secret| secret.name.clone());
                Ok((self.row.settings()?, names.collect()))
            }
        }
    }

    /// The names of everything that is sealed.
    pub fn sealed_names(&self) -> Result<BTreeSet<String>, DbError> {
        let mut names: BTreeSet<String> = self.secrets.iter().map(|one| one.name.clone()).collect();
        for own in &self.version_settings {
            names.extend(own.secret_names()?);
        }
        Ok(names)
    }

    /// The settings of no version in particular, as they are stored: what may be shown, and the rest sealed.
    pub fn stored(&self) -> Result<Stored, DbError> {
        let secrets = self.secrets.iter();
        let sealed = secrets.map(|one| (one.name.clone(), one.sealed.clone()));
        Ok((self.row.settings()?, sealed.collect()))
    }

    /// The settings that are stored for one version alone.
    pub fn own_settings(&self, digest: &str) -> Option<&VersionSettings> {
        self.version_settings
            .iter()
            .find(|one| one.digest == digest)
    }

    /// The settings for a version with their secrets. The error says what cannot be opened.
    pub(super) fn opened(
        &self,
        digest: Option<&str>,
        secrets: &SecretBox,
    ) -> Result<Map<String, Value>, String> {
        let open = |sealed: &[u8], place: &str| -> Result<Value, String> {
            let text = secrets.open_sealed(sealed, place);
            let text = text.map_err(|error| error.to_string())?;
            serde_json::from_str(&text).map_err(|error| error.to_string())
        };
        let (tenant, id) = (self.row.tenant(), &self.row.id);
        if let Some(own) = digest.and_then(|digest| self.own_settings(digest)) {
            let place = secret_place(tenant, id, &own.digest);
            let mut settings = own.shown().map_err(|error| error.to_string())?;
            let Value::Object(sealed) = open(&own.sealed, &place)? else {
                return Err(format!("the secrets of {place} are no object"));
            };
            settings.extend(sealed);
            return Ok(settings);
        }
        let mut settings = self.row.settings().map_err(|error| error.to_string())?;
        for secret in &self.secrets {
            let value = open(&secret.sealed, &secret_place(tenant, id, &secret.name))?;
            settings.insert(secret.name.clone(), value);
        }
        Ok(settings)
    }
}
