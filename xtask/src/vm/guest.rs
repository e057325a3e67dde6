//! One guest: booted, listened to, and ended, whatever it does. Does not know what its lines mean.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::packages::Kernel;

/// The disk is of the one kind whose driver is built into Debian's kernels, as that of its file system is. Programs reserve
/// more memory than a guest has, and use little of it. Debian's kernels have a third level of paranoia, which is its default
/// and no other's: capabilities count for nothing there. Where the machine is busy, an emulated timer's first ticks come later
/// than the kernel waits for them, and it would give up.
const KERNEL_LINE: &str = "root=/dev/nvme0n1 rootfstype=ext4 rootflags=noinit_itable rw rootwait init=/init no_timer_check \
    console=ttyS0 quiet oops=panic panic=-1 mitigations=off random.trust_cpu=on sysctl.vm.overcommit_memory=1 \
    sysctl.kernel.perf_event_paranoid=2";
/// As many as tests of several threads need.
const CPUS: &str = "2";

/// A running guest. Dropping it kills it.
pub struct Guest {
    emulator: Child,
    lines: Receiver<String>,
}

/// What a guest is made of.
pub struct Machine<'a> {
    /// What it boots.
    pub kernel: &'a Kernel,
    /// What it boots from; nothing is ever written to it.
    pub disk: &'a Path,
    /// Its memory in MiB.
    pub memory: u32,
    /// More for the kernel's command line; what the kernel does not know is the first process's environment.
    pub append: &'a str,
}

/// What a guest does next.
pub enum Heard {
    /// It says a line.
    Line(String),
    /// It has powered off, or its kernel has given up.
    Ended,
    /// Neither, for too long.
    Late,
}

impl Machine<'_> {
    /// Boots it; these are the arguments of its first process.
    pub fn boot(&self, arguments: &str) -> Result<Guest> {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", &self.memory.to_string(), "-smp", CPUS]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]);
        let disk = self.disk.to_str().context("the checkout's path is text")?;
        command.args(["-drive", &format!("file={disk},if=none,id=disk,format=raw,snapshot=on,cache=unsafe")]);
        command.args(["-device", "nvme,drive=disk,serial=disk"]);
        command.arg("-kernel").arg(&self.kernel.image);
        command.args(["-append", &format!("{KERNEL_LINE} {} -- {arguments}", self.append)]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut emulator = command.spawn().context("starting qemu-system-x86_64")?;
        let console = emulator.stdout.take().context("the console is piped")?;
        let (say, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Guest { emulator, lines })
    }
}

impl Guest {
    /// Waits for what it does next.
    pub fn hear(&mut self, until: Instant) -> Result<Heard> {
        Ok(
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)))
            {
                Ok(line) => Heard::Line(line),
                Err(RecvTimeoutError::Timeout) => Heard::Late,
                Err(RecvTimeoutError::Disconnected) => {
                    self.emulator.wait().context("waiting for the emulator")?;
                    Heard::Ended
                }
            },
        )
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        self.emulator.kill().ok();
        self.emulator.wait().ok();
    }
}
