//! Who the bank of a data folder is, and what of it a configuration may say otherwise: nothing, but fewer branches.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use skerry_proof::HashAlgorithm;

use super::{IDENTITY_FILE, write_new};
use crate::config::Config;

/// Who the bank is: fixed at the first start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// The layout of this folder.
    pub(crate) format: u32,
    pub(crate) institution: String,
    pub(crate) branches: u16,
    pub(crate) currencies: Vec<String>,
    pub(crate) offset_minutes: i16,
    pub(crate) cutoff_minutes: u16,
    /// Behind record roots and history.
    #[serde(default = "blake3")]
    pub(crate) evidence_hash: String,
}

/// What folders have that are older than the choice.
fn blake3() -> String {
    "blake3".to_owned()
}

impl Identity {
    pub(super) fn make(config: &Config) -> anyhow::Result<Self> {
        for currency in &config.bank.currencies {
            ensure!(
                skerry_money::Currency::from_alpha(currency).is_some(),
                "bank.currencies: {currency:?} is not in ISO 4217"
            );
        }
        Ok(Self {
            format: 1,
            institution: config.bank.institution.clone(),
            branches: config.bank.branches,
            currencies: config.bank.currencies.clone(),
            offset_minutes: config.offset_minutes()?,
            cutoff_minutes: config.cutoff_minutes()?,
            evidence_hash: config.evidence.hash.clone(),
        })
    }

    /// Reads the identity of a data folder.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is of another format.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
        let identity: Self = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        ensure!(
            identity.format == 1,
            "{} is of format {}; this release reads 1",
            path.display(),
            identity.format
        );
        Ok(identity)
    }

    /// Writes it as a data folder's.
    ///
    /// # Errors
    ///
    /// Names the file.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        write_new(path, toml::to_string(self)?.as_bytes(), 0o644)
    }

    /// The same bank with so many branches.
    pub(crate) fn with_branches(self, branches: u16) -> Self {
        Self { branches, ..self }
    }

    /// The institution's identity as records carry it: its name, zero padded, cut to 16 bytes.
    pub(crate) fn institution_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(self.institution.bytes()) {
            *to = from;
        }
        bytes
    }

    /// The hash behind record roots and history.
    ///
    /// # Errors
    ///
    /// If this release does not know it.
    pub(crate) fn evidence(&self) -> anyhow::Result<HashAlgorithm> {
        let mut config = Config::default();
        config.evidence.hash.clone_from(&self.evidence_hash);
        config.evidence_hash().with_context(|| format!("in {IDENTITY_FILE}"))
    }

    /// What was fixed at the first start must still be what the configuration says, where it says anything.
    pub(super) fn compare(&self, config: &Config, path: &Path) -> anyhow::Result<()> {
        let default = Config::default().bank;
        let now = &config.bank;
        let differs = |said: bool, key: &str, was: &dyn std::fmt::Debug| {
            if said {
                bail!("{key} was fixed at the first start: {} says {was:?}", path.display())
            } else {
                Ok(())
            }
        };
        differs(
            now.institution != default.institution && now.institution != self.institution,
            "bank.institution",
            &self.institution,
        )?;
        // Branches are added, never taken away: fewer are those that it was founded with.
        if now.branches != default.branches && now.branches > self.branches {
            bail!(
                "bank.branches is the number that the bank was founded with: {} says that it has {}; 'skerry branch create' adds \
                 branches to a bank that runs",
                path.display(),
                self.branches
            );
        }
        differs(
            now.time_zone != default.time_zone && config.offset_minutes()? != self.offset_minutes,
            "bank.time_zone",
            &self.offset_minutes,
        )?;
        differs(
            now.cutoff != default.cutoff && config.cutoff_minutes()? != self.cutoff_minutes,
            "bank.cutoff",
            &self.cutoff_minutes,
        )?;
        let hash = &config.evidence.hash;
        differs(
            *hash != Config::default().evidence.hash && *hash != self.evidence_hash,
            "evidence.hash",
            &self.evidence_hash,
        )
    }
}
