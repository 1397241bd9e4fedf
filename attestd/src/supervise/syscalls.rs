//! The `default` filter of system calls, as a classic BPF program (seccomp(2), "struct seccomp_data").
//!
//! What it refuses: looking into other processes, code and keys in the kernel, mounts and namespaces, the machine's clock,
//! swap and power. It answers "no such call" to whatever it does not know, so that a later kernel's calls, and those of
//! the x32 table on x86-64, are refused too.

use std::ffi::c_long;

use seccompiler::sock_filter;

/// The program; none where the machine's architecture is not known to us.
pub(super) fn default_profile() -> Option<Vec<sock_filter>> {
    let mut program = vec![
        load(ARCHITECTURE_OFFSET),
        jump(EQUAL, ARCHITECTURE?, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER_OFFSET),
        jump(AT_LEAST, u32::try_from(HIGHEST_KNOWN).ok()?.checked_add(1)?, 0, 1),
        no(libc::ENOSYS)?,
        // Its flags are behind a pointer, where no filter can read them; libc goes on with clone.
        jump(EQUAL, u32::try_from(libc::SYS_clone3).ok()?, 0, 1),
        no(libc::ENOSYS)?,
    ];
    for number in REFUSED.iter().chain(REFUSED_HERE) {
        program.extend([jump(EQUAL, u32::try_from(*number).ok()?, 0, 1), no(libc::EPERM)?]);
    }
    program.extend([
        jump(EQUAL, u32::try_from(libc::SYS_clone).ok()?, 0, 3),
        load(FIRST_ARGUMENT_OFFSET),
        jump(ANY_BIT, u32::try_from(NEW_NAMESPACE).ok()?, 0, 1),
        no(libc::EPERM)?,
        answer(libc::SECCOMP_RET_ALLOW),
    ]);
    Some(program)
}

const fn load(offset: u32) -> sock_filter {
    sock_filter { code: 0x20, jt: 0, jf: 0, k: offset } // BPF_LD | BPF_W | BPF_ABS
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

const fn answer(k: u32) -> sock_filter {
    sock_filter { code: 0x06, jt: 0, jf: 0, k } // BPF_RET | BPF_K
}

fn no(errno: i32) -> Option<sock_filter> {
    Some(answer(libc::SECCOMP_RET_ERRNO | u32::try_from(errno).ok()?))
}

/// BPF_JMP | BPF_K, with BPF_JEQ, BPF_JGE and BPF_JSET (linux/bpf_common.h).
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const ANY_BIT: u16 = 0x45;

/// struct seccomp_data: int nr, __u32 arch, __u64 instruction_pointer, __u64 args\[6\]. Both architectures below are
/// little-endian, and give clone's flags first.
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
const FIRST_ARGUMENT_OFFSET: u32 = 16;

/// linux/audit.h: AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64.
const ARCHITECTURE: Option<u32> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// Newest call that was looked at when this list was made (Linux 6.10); since 424 all architectures number alike.
const HIGHEST_KNOWN: c_long = libc::SYS_mseal;

const NEW_NAMESPACE: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

const REFUSED: &[c_long] = &[
    // other processes
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_userfaultfd,
    // the kernel's code and keys
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_request_key,
    libc::SYS_syslog,
    // mounts, namespaces, files by handle
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // the machine
    libc::SYS_acct,
    libc::SYS_clock_settime,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] = &[libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_uselib];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer: the five instructions that the program is made of.
    fn asked(number: u32, architecture: u32, first_argument: u32) -> u32 {
        let program = default_profile().unwrap();
        let (mut at, mut held) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            at += 1;
            match code {
                0x20 if k == NUMBER_OFFSET => held = number,
                0x20 if k == ARCHITECTURE_OFFSET => held = architecture,
                0x20 if k == FIRST_ARGUMENT_OFFSET => held = first_argument,
                0x06 => return k,
                _ => {}
            }
            let jumps = match code {
                EQUAL => Some(held == k),
                AT_LEAST => Some(held >= k),
                ANY_BIT => Some(held & k != 0),
                _ => None,
            };
            at += usize::from(jumps.map_or(0, |yes| if yes { jt } else { jf }));
        }
    }

    fn number(call: c_long) -> u32 {
        u32::try_from(call).unwrap()
    }

    #[test]
    fn refuses_what_is_listed_unknown_or_of_another_architecture_and_nothing_else() {
        let Some(here) = ARCHITECTURE else { return };
        let refused = |errno: i32| libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap();
        for call in REFUSED.iter().chain(REFUSED_HERE) {
            assert_eq!(asked(number(*call), here, 0), refused(libc::EPERM), "{call}");
        }
        for call in [libc::SYS_execve, libc::SYS_openat, libc::SYS_read, libc::SYS_exit_group, HIGHEST_KNOWN] {
            assert_eq!(asked(number(call), here, 0), libc::SECCOMP_RET_ALLOW, "{call}");
        }
        let (ptrace_of_x32, beyond) = (0x4000_0000 + 521, number(HIGHEST_KNOWN) + 1);
        for call in [ptrace_of_x32, 0x4000_0000, beyond, u32::MAX, number(libc::SYS_clone3)] {
            assert_eq!(asked(call, here, 0), refused(libc::ENOSYS), "{call}");
        }
        assert_eq!(asked(number(libc::SYS_read), 0x4000_0003, 0), libc::SECCOMP_RET_KILL_PROCESS); // i386
        let clone = |flags: i32| asked(number(libc::SYS_clone), here, u32::try_from(flags).unwrap());
        assert_eq!(clone(libc::CLONE_VM | libc::CLONE_THREAD | libc::SIGCHLD), libc::SECCOMP_RET_ALLOW);
        assert_eq!(clone(libc::CLONE_NEWUSER | libc::SIGCHLD), refused(libc::EPERM));
    }

    #[test]
    fn the_kernel_takes_it() {
        let confined = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            seccompiler::apply_filter(&default_profile().unwrap()).unwrap();
            let us =
                rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).unwrap();
            let taken = rustix::process::pidfd_getfd(&us, 0, rustix::process::PidfdGetfdFlags::empty()).unwrap_err();
            (taken, std::thread::spawn(|| 7).join().unwrap())
        });
        assert_eq!(confined.join().unwrap(), (rustix::io::Errno::PERM, 7));
    }
}
