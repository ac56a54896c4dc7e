//! What this deployment does for its plugins: keeping values in SQL, sending mail.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shoal_runtime::{KEY_VALUE_MAX_BYTES, KEYS_MAX, KeyValue, KeyValueError, MailRelay, Services};

use crate::clock::Clock;
use crate::db::plugin_kv::{KvMax, KvWrite, KvWritten};
use crate::db::{DbError, TenantDb};

const MAX: KvMax = KvMax {
    keys: KEYS_MAX as i64,
    bytes: KEY_VALUE_MAX_BYTES as i64,
};

/// What every installation may be offered.
#[derive(Clone)]
pub struct PluginServices {
    clock: Clock,
    mail: Option<Arc<dyn MailRelay>>,
}

impl PluginServices {
    /// Values that expire by a clock, and the operator's relay if there is one.
    pub fn new(clock: Clock, mail: Option<Arc<dyn MailRelay>>) -> PluginServices {
        PluginServices { clock, mail }
    }

    /// What one installation is offered.
    pub(super) fn of(&self, db: &TenantDb, installation: &str) -> Services {
        Services {
            kv: Some(Arc::new(SqlKeyValue {
                db: db.clone(),
                installation: installation.to_owned(),
                clock: self.clock.clone(),
            })),
            mail: self.mail.clone(),
        }
    }
}

/// The values of one installation, in SQL.
struct SqlKeyValue {
    db: TenantDb,
    installation: String,
    clock: Clock,
}

impl SqlKeyValue {
    async fn write(
        &self,
        key: &str,
        expected: Option<Option<Vec<u8>>>,
        new: Option<Vec<u8>>,
        ttl: Option<Duration>,
    ) -> Result<bool, KeyValueError> {
        let now = self.clock.now();
        let write = KvWrite {
            installation: &self.installation,
            name: key,
            expected,
            new,
            expires: ttl.map(|ttl| now + ttl),
        };
        match self.db.kv_write(write, MAX, now).await {
            Ok(KvWritten::Yes) => Ok(true),
            Ok(KvWritten::NotExpected) => Ok(false),
            Ok(KvWritten::Full { keys, bytes }) => {
                let count = |count| usize::try_from(count).unwrap_or(usize::MAX);
                KeyValueError::check_total(count(keys), count(bytes)).map(|()| false)
            }
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    /// The plugin is told that it may try again, the operator why.
    fn unavailable(&self, error: &DbError) -> KeyValueError {
        tracing::warn!(
            %error,
            tenant.id = self.db.id().0,
            installation.id = self.installation,
            "the values of a plugin cannot be reached"
        );
        KeyValueError::Unavailable("the database does not answer; try again".to_owned())
    }
}

#[async_trait]
impl KeyValue for SqlKeyValue {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        let value = self.db.kv_get(&self.installation, key, self.clock.now());
        value.await.map_err(|error| self.unavailable(&error))
    }

    async fn set(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<(), KeyValueError> {
        self.write(key, None, Some(value), ttl).await.map(drop)
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
        ttl: Option<Duration>,
    ) -> Result<bool, KeyValueError> {
        self.write(key, Some(expected), new, ttl).await
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.write(key, None, None, None).await.map(drop)
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, KeyValueError> {
        let names = self.db.kv_names(&self.installation, self.clock.now());
        let mut names = names.await.map_err(|error| self.unavailable(&error))?;
        // Here and not in SQL: databases disagree on the order of texts and on which of them are alike.
        names.retain(|name| name.starts_with(prefix));
        names.sort_unstable();
        Ok(names)
    }
}
