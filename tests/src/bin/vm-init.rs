//! The first process of a virtual machine that runs live tests: mounts what they need, runs them, says how they ended,
//! and powers off. `cargo xtask vm` puts it there and reads what it says.
//!
//! Does not know what is tested: each line of `/commands` is a program with its arguments.

use std::ffi::CStr;
use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// What the host looks for in the console's lines.
const SAYS: &str = "vm-init:";

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("this is the first process of a virtual machine; run `cargo xtask vm`");
        return ExitCode::FAILURE;
    }
    if let Err(error) = run() {
        println!("{SAYS} failed: {error}");
    }
    // SAFETY: no pointers.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    ExitCode::FAILURE
}

fn run() -> std::io::Result<()> {
    mount(c"proc", c"/proc")?;
    mount(c"sysfs", c"/sys")?;
    mount(c"devtmpfs", c"/dev")?;
    mount(c"tmpfs", c"/tmp")?;
    mount(c"tracefs", c"/sys/kernel/tracing")?;
    mount(c"bpf", c"/sys/fs/bpf")?;
    raise_loopback()?;
    println!("{SAYS} kernel {}", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());
    for line in fs::read_to_string("/commands")?.lines() {
        let mut words = line.split_whitespace();
        let Some(program) = words.next() else { continue };
        let began = Instant::now();
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).env("PATH", "/bin").env("TMPDIR", "/tmp");
        command.env("ASYNC_OBSERVER", "/bin/async-observer").env("RUST_BACKTRACE", "0");
        let status = command.status()?;
        println!("{SAYS} {program}: {status} in {:.1} s", began.elapsed().as_secs_f64());
    }
    println!("{SAYS} done");
    Ok(())
}

fn mount(kind: &CStr, place: &CStr) -> std::io::Result<()> {
    let place_text = place.to_string_lossy().into_owned();
    fs::create_dir_all(&place_text)?;
    // SAFETY: the texts outlive the call; no options.
    match unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) } {
        0 => Ok(()),
        _ => {
            let error = std::io::Error::last_os_error();
            Err(std::io::Error::new(error.kind(), format!("mounting {place_text}: {error}")))
        }
    }
}

/// Programs talk to themselves over it.
fn raise_loopback() -> std::io::Result<()> {
    // SAFETY: plain numbers, and a request that outlives its calls, with the name that the kernel gives the device.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let raised = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
        let error = std::io::Error::last_os_error();
        libc::close(socket);
        if raised == 0 { Ok(()) } else { Err(error) }
    }
}
