//! Where files can be written: Landlock, of Linux 5.19 and later.

use std::path::PathBuf;

#[cfg(target_os = "linux")]
pub(super) fn restrict(writable: &[PathBuf]) -> Result<(), String> {
    use landlock::{
        ABI, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
        RulesetStatus, path_beneath_rules,
    };

    // The first version refuses to move files between folders, which PostgreSQL does.
    let least = AccessFs::from_write(ABI::V2);
    let all = AccessFs::from_write(ABI::V3);
    let restricted = || {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(least)?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?;
        ruleset.create()?.add_rules(path_beneath_rules(writable, all))?.restrict_self()
    };
    match restricted() {
        Ok(status) if status.ruleset != RulesetStatus::NotEnforced => Ok(()),
        Ok(_) => Err("this kernel does not have it".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn restrict(_writable: &[PathBuf]) -> Result<(), String> {
    Err("only Linux has it".into())
}
