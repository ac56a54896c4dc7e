//! Who did what, told with the change that it tells of: a line of the audit log.
//!
//! Where the change is SQL, the line is written in its transaction, so that there is neither a change without a line nor
//! a line without a change.

use serde_json::Value;
use shoal_model::TenantId;

/// Who acts when no key does; the reason is in the line's detail.
pub const SYSTEM: &str = "system";

/// A line to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// Whose it is; `None` for what concerns the deployment.
    pub tenant: Option<TenantId>,
    /// A key's id and name, or [`SYSTEM`].
    pub actor: String,
    /// What was done, such as `plugin.publish`.
    pub action: &'static str,
    /// To what, such as a plugin's id.
    pub subject: String,
    /// More, as a JSON object. Never a secret or a setting's value.
    pub detail: Value,
}
