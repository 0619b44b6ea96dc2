//! What root may do. A server that runs as another user has none of it to lose.

#[cfg(target_os = "linux")]
pub(super) fn drop_unneeded() -> Result<(), String> {
    use rustix::thread::{
        CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
    };

    /// The embedded PostgreSQL runs as another user, whose files and process root has to manage; and ports below
    /// 1024 are root's.
    const NEEDED: CapabilitySet = CapabilitySet::CHOWN
        .union(CapabilitySet::DAC_OVERRIDE)
        .union(CapabilitySet::FOWNER)
        .union(CapabilitySet::KILL)
        .union(CapabilitySet::SETUID)
        .union(CapabilitySet::SETGID)
        .union(CapabilitySet::NET_BIND_SERVICE);

    let drop = || {
        let has = capabilities(None)?;
        if has.permitted.contains(CapabilitySet::SETPCAP) {
            // Those that this kernel does not know are not there to be removed.
            for capability in has.permitted.difference(NEEDED).iter() {
                remove_capability_from_bounding_set(capability)?;
            }
        }
        let kept = has.permitted.intersection(NEEDED);
        set_capabilities(
            None,
            CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
        )
    };
    drop().map_err(|error: rustix::io::Errno| error.to_string())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn drop_unneeded() -> Result<(), String> {
    Err("only Linux has it".into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use rustix::thread::{CapabilitySet, capabilities, capability_is_in_bounding_set};

    use super::*;

    #[test]
    fn what_is_not_needed_is_gone_for_good() {
        thread::scope(|scope| {
            scope.spawn(|| {
                let before = capabilities(None).unwrap().permitted;
                drop_unneeded().unwrap();
                let after = capabilities(None).unwrap();
                let dropped = [CapabilitySet::SYS_ADMIN, CapabilitySet::SYS_PTRACE, CapabilitySet::NET_ADMIN];
                for capability in dropped {
                    assert!(!after.permitted.contains(capability) && !after.effective.contains(capability));
                    // Whoever is not root cannot change the bounding set, which counts for programs of root only.
                    if before.contains(CapabilitySet::SETPCAP) {
                        assert!(!capability_is_in_bounding_set(capability).unwrap(), "{capability:?}");
                    }
                }
                assert_eq!(
                    after.permitted.contains(CapabilitySet::SETUID),
                    before.contains(CapabilitySet::SETUID)
                );
            });
        });
    }
}
