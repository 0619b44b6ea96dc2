//! System calls that neither the server nor PostgreSQL needs, refused by seccomp.
//!
//! It is a list of what is refused and not of what is allowed: libraries and kernels add calls all the time, and a
//! server that fails after an update of its C library is no safer. What is refused are the ways into the kernel and
//! into other processes that exploits take, and families of sockets beside those of the internet.

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
))]
mod linux {
    use std::{collections::BTreeMap, env};

    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op, SeccompCondition,
        SeccompFilter, SeccompRule, TargetArch,
    };

    /// What is refused whatever its arguments are.
    pub(super) const REFUSED: &[libc::c_long] = &[
        // Other processes.
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_process_madvise,
        libc::SYS_pidfd_getfd,
        libc::SYS_kcmp,
        // The kernel, its code and its keys.
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
        libc::SYS_syslog,
        // The machine.
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_acct,
        libc::SYS_quotactl,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_adjtimex,
        libc::SYS_clock_adjtime,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_vhangup,
        libc::SYS_personality,
        // Files by other ways than paths, and other views of the files.
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_open_by_handle_at,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        libc::SYS_fanotify_init,
    ];

    /// The processor's ports, where it has any.
    #[cfg(target_arch = "x86_64")]
    const PORTS: &[libc::c_long] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_kexec_file_load];
    #[cfg(not(target_arch = "x86_64"))]
    const PORTS: &[libc::c_long] = &[];

    /// Local sockets, the internet, and netlink, which the C library asks for the machine's addresses.
    const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

    pub(super) fn program() -> Result<BpfProgram, String> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for call in REFUSED.iter().chain(PORTS) {
            // Without a rule of its own, the call matches whatever its arguments are.
            rules.insert(*call, Vec::new());
        }
        let is_other = FAMILIES
            .map(|family| SeccompCondition::new(0, Length::Dword, Op::Ne, family.unsigned_abs().into()));
        let is_other: Result<Vec<_>, _> = is_other.into_iter().collect();
        let other = is_other.and_then(SeccompRule::new).map_err(|error| error.to_string())?;
        rules.insert(libc::SYS_socket, vec![other]);
        let architecture = TargetArch::try_from(env::consts::ARCH).map_err(|error| error.to_string())?;
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture);
        filter.and_then(TryInto::try_into).map_err(|error| error.to_string())
    }
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
))]
pub(super) fn refuse_unneeded() -> Result<(), String> {
    seccompiler::apply_filter(&linux::program()?).map_err(|error| error.to_string())
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
)))]
pub(super) fn refuse_unneeded() -> Result<(), String> {
    Err("there is no filter for this kind of machine".into())
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixStream, process::Command, thread};

    use rustix::{io::Errno, net};

    use super::*;

    #[test]
    fn what_is_refused_fails_and_the_rest_works() {
        thread::scope(|scope| {
            scope.spawn(|| {
                refuse_unneeded().unwrap();
                let socket = |family| net::socket(family, net::SocketType::DGRAM, None).map(drop);
                for family in [net::AddressFamily::VSOCK, net::AddressFamily::PACKET] {
                    assert_eq!(socket(family), Err(Errno::PERM), "{family:?}");
                }
                for family in [net::AddressFamily::INET, net::AddressFamily::INET6] {
                    assert_eq!(socket(family), Ok(()), "{family:?}");
                }
                UnixStream::pair().unwrap();
                TcpListener::bind("127.0.0.1:0").unwrap();
                // What it starts is held to it as well.
                let child = Command::new("unshare").args(["--mount", "true"]).output().unwrap();
                assert!(!child.status.success(), "{child:?}");
                assert!(Command::new("true").status().unwrap().success());
            });
        });
    }

    #[test]
    fn every_call_is_named_once() {
        let mut calls = linux::REFUSED.to_vec();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), linux::REFUSED.len());
    }
}
