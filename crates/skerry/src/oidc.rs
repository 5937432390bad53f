//! `[oidc]` of skerry.toml: whose JWTs the bank takes besides its own tokens.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use skerry_book::Role;
use skerry_gateway::oidc::{Algorithm, ClaimNames, OidcSettings};

use crate::config::range;

/// The section. Issuer, audience and key file have no default: a bank trusts nobody unsaid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Oidc {
    /// `iss`, to the letter.
    pub(crate) issuer: String,
    /// What `aud` must name.
    pub(crate) audience: String,
    /// The file with the issuer's JWK set; read again when it is replaced.
    pub(crate) jwks: PathBuf,
    /// Algorithms that are taken.
    #[serde(default = "algorithms")]
    pub(crate) algorithms: Vec<String>,
    /// Seconds by which the issuer's clock may differ.
    #[serde(default = "leeway_seconds")]
    pub(crate) leeway_seconds: u64,
    /// Roles that the issuer may give.
    #[serde(default = "roles")]
    pub(crate) roles: Vec<String>,
    /// Which claims say what.
    #[serde(default)]
    pub(crate) claims: Claims,
}

fn algorithms() -> Vec<String> {
    Algorithm::ALL.iter().map(|algorithm| algorithm.name().to_owned()).collect()
}

const fn leeway_seconds() -> u64 {
    60
}

fn roles() -> Vec<String> {
    ROLES.iter().map(|role| role.name().to_owned()).collect()
}

const ROLES: [Role; 4] = [Role::Operator, Role::Service, Role::Auditor, Role::Customer];

/// Names of claims, or JSON pointers to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Claims {
    pub(crate) role: String,
    pub(crate) customer: String,
    pub(crate) branches: String,
    pub(crate) operations: String,
}

impl Default for Claims {
    fn default() -> Self {
        let ClaimNames { role, customer, branches, operations } = ClaimNames::default();
        Self { role, customer, branches, operations }
    }
}

impl Oidc {
    /// Checks what types cannot.
    ///
    /// # Errors
    ///
    /// The first key that is wrong.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.issuer.is_empty(), "oidc.issuer must not be empty");
        ensure!(!self.audience.is_empty(), "oidc.audience must not be empty");
        range("oidc.leeway_seconds", self.leeway_seconds, 0, 600)?;
        ensure!(!self.algorithms.is_empty(), "oidc.algorithms must name one of RS256, ES256, EdDSA");
        let claims = &self.claims;
        for (key, name) in [
            ("role", &claims.role),
            ("customer", &claims.customer),
            ("branches", &claims.branches),
            ("operations", &claims.operations),
        ] {
            ensure!(!name.is_empty(), "oidc.claims.{key} must not be empty");
        }
        self.settings().map(drop)
    }

    /// As the gateway takes it.
    ///
    /// # Errors
    ///
    /// An algorithm or a role that there is not.
    pub(crate) fn settings(&self) -> anyhow::Result<OidcSettings> {
        let algorithm = |name: &String| {
            Algorithm::named(name).with_context(|| {
                format!("oidc.algorithms may name RS256, ES256 and EdDSA, not {name:?}: HMAC and none are never taken")
            })
        };
        let role = |name: &String| {
            let found = ROLES.into_iter().find(|role| role.name() == name);
            found.with_context(|| {
                format!("oidc.roles may name operator, service, auditor and customer, not {name:?}")
            })
        };
        let Claims { role: role_claim, customer, branches, operations } = self.claims.clone();
        Ok(OidcSettings {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            jwks: self.jwks.clone(),
            algorithms: self.algorithms.iter().map(algorithm).collect::<anyhow::Result<_>>()?,
            leeway_s: self.leeway_seconds,
            roles: self.roles.iter().map(role).collect::<anyhow::Result<_>>()?,
            claims: ClaimNames { role: role_claim, customer, branches, operations },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const SECTION: &str =
        "[oidc]\nissuer = \"https://login.example\"\naudience = \"bank\"\njwks = \"jwks.json\"\n";

    fn parse(more: &str) -> anyhow::Result<Config> {
        let config: Config = toml::from_str(&format!("{SECTION}{more}"))?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn the_section_needs_issuer_audience_and_keys_and_prints_as_it_is_read() {
        let config = parse("").unwrap();
        let settings = config.oidc.as_ref().unwrap().settings().unwrap();
        assert_eq!(
            (settings.algorithms.as_slice(), settings.claims),
            (&Algorithm::ALL[..], ClaimNames::default())
        );
        assert_eq!(toml::from_str::<Config>(&toml::to_string(&config).unwrap()).unwrap(), config);
        for missing in ["issuer", "audience", "jwks"] {
            let text: Vec<_> = SECTION.lines().filter(|line| !line.starts_with(missing)).collect();
            let error = toml::from_str::<Config>(&text.join("\n")).unwrap_err().to_string();
            assert!(error.contains(missing), "{error}");
        }
    }

    #[test]
    fn what_is_never_taken_cannot_be_configured() {
        for (more, named) in [
            ("algorithms = [\"HS256\"]", "HS256"),
            ("algorithms = [\"none\"]", "none"),
            ("algorithms = []", "oidc.algorithms"),
            ("roles = [\"bank\"]", "oidc.roles"),
            ("leeway_seconds = 601", "oidc.leeway_seconds"),
            ("[oidc.claims]\nrole = \"\"", "oidc.claims.role"),
            ("jwks_url = \"https://login.example/keys\"", "jwks_url"),
        ] {
            let error = format!("{:#}", parse(more).unwrap_err());
            assert!(error.contains(named), "{more}: {error}");
        }
    }
}
