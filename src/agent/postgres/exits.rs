//! Knowing at once that a process has exited that is not our child. Called for the process that
//! receives WAL, and for a postmaster that outlived its agent.

/// Waits for the process's exit; false where the kernel does not tell.
#[cfg(target_os = "linux")]
#[expect(deprecated, reason = "its successor is unsafe for types that may close their descriptor; an OwnedFd does not")]
pub async fn exit_of(pid: u32) -> bool {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use tokio::io::{Interest, unix::AsyncFd};

    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        // A descriptor of a process can be "read" once it has exited (pidfd_open(2)).
        Ok(descriptor) => match AsyncFd::with_interest(descriptor, Interest::READABLE) {
            Ok(descriptor) => descriptor.readable().await.is_ok(),
            Err(_) => false,
        },
        Err(rustix::io::Errno::SRCH) => true,
        Err(_) => false,
    }
}

/// Elsewhere the next look shows it.
#[cfg(not(target_os = "linux"))]
pub async fn exit_of(_pid: u32) -> bool {
    false
}
