//! The first process of a virtual machine that runs live tests: mounts what they need, runs them, says how they ended,
//! and powers off. `cargo xtask vm` puts it there and reads what it says.
//!
//! Its arguments are the folder in `/kernels` of what is for this kernel, the number of the first command to run, and how many.
//! Does not know what is tested: each line of `commands` there is a name and a program with its arguments.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{Error, Result};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// What the host looks for in the console's lines.
const SAYS: &str = "vm-init:";
/// What is mounted, and where.
const MOUNTS: [(&CStr, &CStr); 11] = [
    (c"proc", c"/proc"),
    (c"sysfs", c"/sys"),
    (c"devtmpfs", c"/dev"),
    (c"devpts", c"/dev/pts"),
    (c"tmpfs", c"/dev/shm"),
    (c"tmpfs", c"/run"),
    (c"debugfs", c"/sys/kernel/debug"),
    (c"tracefs", c"/sys/kernel/tracing"),
    (c"securityfs", c"/sys/kernel/security"),
    (c"bpf", c"/sys/fs/bpf"),
    (c"cgroup2", c"/sys/fs/cgroup"),
];
/// As a system's own first process puts what it starts into groups.
const GROUP: &str = "/sys/fs/cgroup/tests.slice";
/// Descriptors a process may have.
const DESCRIPTORS: u64 = 1 << 16;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("this is the first process of a virtual machine; run `cargo xtask vm`");
        return ExitCode::FAILURE;
    }
    if let Err(error) = run() {
        println!("{SAYS} failed {error}");
    }
    // SAFETY: no pointers.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    ExitCode::FAILURE
}

fn run() -> Result<()> {
    for (kind, place) in MOUNTS {
        mount(kind, place)?;
    }
    raise_loopback()?;
    fs::create_dir(GROUP)?;
    fs::write(Path::new(GROUP).join("cgroup.procs"), "1")?;
    let limit = libc::rlimit { rlim_cur: DESCRIPTORS, rlim_max: DESCRIPTORS };
    // SAFETY: the limit outlives the call.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    println!("{SAYS} kernel {}", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim());

    let mut arguments = std::env::args().skip(1);
    let place = Path::new("/kernels").join(arguments.next().unwrap_or_default());
    let mut number = || arguments.next().and_then(|number| number.parse().ok());
    let (from, count) = (number().unwrap_or(0), number().unwrap_or(usize::MAX));
    for entry in fs::read_dir(&place)? {
        let file = entry?.path();
        if file.to_string_lossy().contains(".ko") {
            load(&file)?;
        }
    }
    for line in fs::read_to_string(place.join("commands"))?.lines().skip(from).take(count) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(program)) = (words.next(), words.next()) else { continue };
        println!("{SAYS} begins {name}");
        let began = Instant::now();
        let mut command = Command::new(program);
        command
            .args(words)
            .stdin(Stdio::null())
            .env("PATH", "/usr/bin:/usr/sbin")
            .env("TMPDIR", "/tmp")
            .env("HOME", "/root");
        command.env("ASYNC_OBSERVER", "/usr/bin/async-observer").env("RUST_BACKTRACE", "0");
        let well = wait(command.spawn()?.id())?;
        println!("{SAYS} ended {} {:.1}", if well { "well" } else { "badly" }, began.elapsed().as_secs_f64());
    }
    println!("{SAYS} done");
    Ok(())
}

/// Waits for the end of a child, and reaps everything else that lost its parent; whether the child ended well.
fn wait(child: u32) -> Result<bool> {
    loop {
        let mut status = 0;
        // SAFETY: a place for the status.
        match unsafe { libc::waitpid(-1, &raw mut status, 0) } {
            -1 => return Err(Error::last_os_error()),
            pid if pid.cast_unsigned() == child => return Ok(status == 0),
            _ => {}
        }
    }
}

fn mount(kind: &CStr, place: &CStr) -> Result<()> {
    let place_text = place.to_string_lossy().into_owned();
    if !Path::new(&place_text).exists() {
        fs::create_dir_all(&place_text)?;
    }
    // SAFETY: the texts outlive the call; no options.
    match unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) } {
        0 => Ok(()),
        _ => {
            let error = Error::last_os_error();
            // The kernel has mounted it by itself.
            if error.raw_os_error() == Some(libc::EBUSY) {
                return Ok(());
            }
            Err(Error::new(error.kind(), format!("mounting {place_text}: {error}")))
        }
    }
}

/// Loads a module of the kernel, which unpacks it where it is compressed.
fn load(module: &Path) -> Result<()> {
    const COMPRESSED: libc::c_int = 4;
    let file = File::open(module)?;
    let flags = if module.extension().is_some_and(|of| of == "ko") { 0 } else { COMPRESSED };
    let options = CString::default();
    // SAFETY: an open file, a text that outlives the call, and a number.
    match unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), options.as_ptr(), flags) } {
        0 => Ok(()),
        _ => Err(Error::other(format!("loading {}: {}", module.display(), Error::last_os_error()))),
    }
}

/// Programs talk to themselves over it.
fn raise_loopback() -> Result<()> {
    // SAFETY: plain numbers, and a request that outlives its calls, with the name that the kernel gives the device.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(Error::last_os_error());
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let raised = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
        let error = Error::last_os_error();
        libc::close(socket);
        if raised == 0 { Ok(()) } else { Err(error) }
    }
}
