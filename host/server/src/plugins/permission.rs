//! What an installation may do: asked ∩ approved ∩ granted ∩ ceiling, and for what is missing, who can grant it.

use serde_json::{Map, Value};
use shoal_model::grant::{Capability, Grants};

use super::ceiling::Ceiling;

/// The four sides' agreement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Permission {
    /// What all agree to.
    pub effective: Grants,
    /// What is asked for and one of them does not agree to.
    pub missing: Vec<Missing>,
}

/// Something that a version asks for and an installation does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What.
    pub capability: Capability,
    /// Who does not agree.
    pub by: Side,
}

/// Who has a say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Approves for a version.
    Operator,
    /// Grants for an installation.
    Tenant,
    /// Bounds the deployment.
    Ceiling,
}

impl Side {
    /// Its name, as the API shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Operator => "operator",
            Side::Tenant => "tenant",
            Side::Ceiling => "ceiling",
        }
    }
}

/// What the sides say.
pub(super) struct Sides<'a> {
    /// By the version.
    pub(super) asked: &'a Grants,
    /// By the operator, for the version.
    pub(super) approved: &'a Grants,
    /// By the tenant; `None` grants what is approved.
    pub(super) granted: Option<&'a Grants>,
    /// By the deployment.
    pub(super) ceiling: &'a Ceiling,
    /// What names destinations.
    pub(super) settings: &'a Map<String, Value>,
}

impl Sides<'_> {
    /// What they come to.
    pub(super) fn permission(&self) -> Permission {
        let mut permission = Permission::default();
        for capability in &self.asked.0 {
            match self.objection(capability) {
                None => {
                    permission.effective.0.insert(capability.clone());
                }
                Some(by) => permission.missing.push(Missing {
                    capability: capability.clone(),
                    by,
                }),
            }
        }
        permission
    }

    fn objection(&self, capability: &Capability) -> Option<Side> {
        let has = |grants: &Grants| grants.0.contains(capability);
        if !has(self.approved) {
            Some(Side::Operator)
        } else if !self.granted.is_none_or(has) {
            Some(Side::Tenant)
        } else {
            (!self.ceiling.allows(capability, self.settings)).then_some(Side::Ceiling)
        }
    }
}

impl Permission {
    /// Why a plugin cannot run without a capability, who can grant it, and how.
    pub(super) fn why_missing(
        &self,
        capability: &Capability,
        plugin: &str,
        digest: &str,
    ) -> String {
        let missing = self
            .missing
            .iter()
            .find(|one| one.capability == *capability);
        let remedy = match missing.map(|missing| missing.by) {
            Some(Side::Operator) => format!(
                "the operator has not approved it for this version and does so with: shoal plugin approve {plugin} --digest {digest} --grant '{capability}'"
            ),
            Some(Side::Ceiling) => "it is beyond the ceiling of this deployment; the operator allows it with a line in ceiling of [plugins] in the configuration, and starts the server again".to_owned(),
            Some(Side::Tenant) | None => format!(
                "the tenant has not granted it and does so with --grant '{capability}' of: shoal plugin enable {plugin}, or of shoal plugin configure"
            ),
        };
        format!("{plugin} cannot run without {capability}: {remedy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(list: &[&str]) -> Grants {
        let parse = |text: &&str| text.parse::<Capability>().expect("a capability");
        list.iter().map(parse).collect()
    }

    #[test]
    fn what_is_missing_says_who_can_grant_it() {
        let ceiling = Ceiling::new(&["http *.example".to_owned(), "kv".to_owned()]).expect("good");
        let asked = grants(&["http a.example", "http b.example", "http c.org", "kv"]);
        let permission = Sides {
            asked: &asked,
            approved: &grants(&["http b.example", "http c.org", "kv"]),
            granted: Some(&grants(&["http c.org", "kv"])),
            ceiling: &ceiling,
            settings: &Map::new(),
        }
        .permission();
        assert_eq!(permission.effective, grants(&["kv"]));
        let sides: Vec<_> = permission.missing.iter().map(|one| one.by).collect();
        assert_eq!(sides, [Side::Operator, Side::Tenant, Side::Ceiling]);
        for (capability, wanted) in [
            (
                "http a.example",
                "shoal plugin approve p --digest sha256:d --grant 'http a.example'",
            ),
            (
                "http b.example",
                "--grant 'http b.example' of: shoal plugin enable p",
            ),
            ("http c.org", "ceiling of [plugins]"),
        ] {
            let capability = capability.parse().expect("a capability");
            let why = permission.why_missing(&capability, "p", "sha256:d");
            assert!(why.contains(wanted), "{why}");
        }
    }
}
