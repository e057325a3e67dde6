//! `cargo xtask fixtures`: builds every program that the live tests observe into `tests/fixtures/target/bin/`.
//!
//! What is up to date costs a second. It knows how programs are built, not what they do or what is expected of them.

mod bpftool;
mod dwz;
mod pprof;
mod shipped;

mod debian;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::pip;
use crate::stamp::Stamp;

/// Arguments of the word.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Only this one (repeatable): a cell of tests/fixtures/cells.txt, or `refused`, `bare`, `awaits-apart`, `uv`, `pprof`, `bpftool`
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// List the names and stop
    #[arg(long)]
    list: bool,
}

impl Options {
    /// Only this one.
    pub fn only(name: &str) -> Self {
        Self { only: vec![name.to_owned()], list: false }
    }
}

/// Something to build under a name.
struct Job {
    name: String,
    what: What,
}

enum What {
    /// A line of cells.txt.
    Cell { package: String, profile: String, programs: Vec<String>, flags: String },
    /// One whose programs are made of those of another.
    Shipped { of: String, way: String, programs: Vec<String> },
    /// The program with a tokio that is too old.
    Refused,
    /// The C and assembler programs.
    Bare,
    /// A program and its debug information, each in a file of its own.
    Apart,
    /// The program from elsewhere.
    Uv,
    /// The tool that reads profiles.
    Pprof,
    /// The tool that lists what the kernel holds.
    Bpftool,
}

/// Builds what was asked for.
pub fn run(options: &Options) -> Result<()> {
    let root = root();
    let mut jobs = jobs(&root)?;
    if options.list {
        jobs.iter().for_each(|job| println!("{}", job.name));
        return Ok(());
    }
    for name in &options.only {
        ensure!(
            jobs.iter().any(|job| job.name == *name),
            "no fixture is called {name}: see cargo xtask fixtures --list"
        );
    }
    jobs.retain(|job| options.only.is_empty() || options.only.contains(&job.name));
    let began = Instant::now();
    let count = jobs.len();
    for (index, job) in jobs.iter().enumerate() {
        let began = Instant::now();
        let destination = root.join("target/bin").join(&job.name);
        std::fs::create_dir_all(&destination)?;
        job.build(&root, &destination).with_context(|| format!("fixture {} could not be built", job.name))?;
        eprintln!("[{:>2}/{count}] {:<16} {:>6.1} s", index + 1, job.name, began.elapsed().as_secs_f32());
    }
    eprintln!("fixtures are ready after {:.1} s", began.elapsed().as_secs_f32());
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

fn jobs(root: &Path) -> Result<Vec<Job>> {
    let path = root.join("cells.txt");
    let table = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut jobs = Vec::new();
    for line in table.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(package), Some(profile), Some(programs)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            bail!("{}: a line wants name, package, profile and programs: {line}", path.display());
        };
        let programs = programs
            .split(',')
            .flat_map(|program| match program {
                "matrix" => vec!["matrix-glibc", "matrix-mimalloc", "matrix-jemalloc"],
                "crowd" => vec!["crowd-glibc", "crowd-mimalloc", "crowd-jemalloc"],
                other => vec![other],
            })
            .map(String::from)
            .collect();
        let what = match package.strip_prefix("of:") {
            Some(of) => What::Shipped { of: of.into(), way: profile.into(), programs },
            None => What::Cell {
                package: package.into(),
                profile: profile.into(),
                programs,
                flags: words.collect::<Vec<_>>().join(" "),
            },
        };
        jobs.push(Job { name: name.into(), what });
    }
    let others = [
        ("refused", What::Refused),
        ("bare", What::Bare),
        ("awaits-apart", What::Apart),
        ("uv", What::Uv),
        ("pprof", What::Pprof),
        ("bpftool", What::Bpftool),
    ];
    jobs.extend(others.map(|(name, what)| Job { name: name.into(), what }));
    Ok(jobs)
}

impl Job {
    fn build(&self, root: &Path, destination: &Path) -> Result<()> {
        match &self.what {
            What::Cell { package, profile, programs, flags } => {
                // One directory a package: the versions of tokio share no build anyway, and names of programs would meet.
                let target = root.join("target").join(package);
                let mut cargo = cargo(&root.join(package), profile, &target, flags);
                cargo.env("JEMALLOC_OVERRIDE", jemalloc(root)?);
                programs.iter().for_each(|program| {
                    match program.strip_suffix(".so") {
                        Some(library) => cargo.args(["--example", library]),
                        None => cargo.args(["--bin", program]),
                    };
                });
                succeed(&mut cargo)?;
                let built = target.join(if profile == "dev" { "debug" } else { profile });
                programs.iter().try_for_each(|program| {
                    let library = program.ends_with(".so").then(|| format!("examples/lib{program}"));
                    let from = built.join(library.as_ref().unwrap_or(program));
                    split(&from, destination)?;
                    place(&from, &destination.join(program))
                })
            }
            What::Shipped { of, way, programs } => {
                let whole = root.join("target/bin").join(of);
                let tools = root.join("target/dwz");
                programs.iter().try_for_each(|program| shipped::make(way, (&whole, &tools), destination, program))
            }
            What::Refused => {
                let target = root.join("target/refused");
                succeed(&mut cargo(&root.join("refused"), "release", &target, ""))?;
                place(&target.join("release/refused"), &destination.join("refused"))
            }
            What::Bare => bare(root, destination),
            What::Apart => apart(root, destination),
            What::Uv => uv(root, destination),
            What::Pprof => pprof::fetch(root, destination),
            What::Bpftool => bpftool::fetch(root, destination),
        }
    }
}

fn cargo(package: &Path, profile: &str, target: &Path, flags: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--locked", "--quiet", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(package)
        .env("RUSTFLAGS", flags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo
}

/// jemalloc is built once: its own build is longer than that of a whole cell, and no profile changes it.
fn jemalloc(root: &Path) -> Result<PathBuf> {
    let kept = root.join("target/jemalloc/libjemalloc_pic.a");
    if !kept.exists() {
        let target = root.join("target/jemalloc");
        let mut build = cargo(&root.join("zoo-newest"), "release", &target, "");
        succeed(build.args(["--package", "tikv-jemalloc-sys"]).env_remove("JEMALLOC_OVERRIDE"))?;
        let builds = target.join("release/build");
        let library = std::fs::read_dir(&builds)?
            .filter_map(|entry| Some(entry.ok()?.path().join("out/lib/libjemalloc_pic.a")))
            .find(|path| path.exists())
            .with_context(|| format!("no libjemalloc_pic.a under {}", builds.display()))?;
        place(&library, &kept)?;
    }
    Ok(kept.canonicalize()?)
}

/// Puts split debug information of a program beside it, too: what is tested is all in one folder, and may be moved.
fn split(built: &Path, destination: &Path) -> Result<()> {
    let package = built.with_added_extension("dwp");
    let units = built.parent().map(|folder| folder.join("deps")).and_then(|folder| std::fs::read_dir(folder).ok());
    let units = units.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let units = units.filter(|path| path.extension().is_some_and(|kind| kind == "dwo"));
    for from in units.chain(package.exists().then_some(package)) {
        if let Some(name) = from.file_name() {
            place(&from, &destination.join(name))?;
        }
    }
    Ok(())
}

/// As distributions make packages of programs and of their debug information; that of another build lies there, too.
fn apart(root: &Path, destination: &Path) -> Result<()> {
    let built = |cell: &str| root.join("target/bin").join(cell).join("awaits");
    let keep = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to)?;
        succeed(Command::new("objcopy").arg("--only-keep-debug").arg(from).arg(to.join("awaits.debug")))
    };
    let whole = built("awaits-release");
    ensure!(
        whole.exists(),
        "it is made of another: cargo xtask fixtures --only awaits-release --only awaits-fat first"
    );
    keep(&whole, &destination.join("debug"))?;
    keep(&built("awaits-fat"), &destination.join("of-another"))?;
    succeed(Command::new("strip").arg("-o").arg(destination.join("awaits")).arg(&whole))
}

/// Programs without Rust.
fn bare(root: &Path, destination: &Path) -> Result<()> {
    let source = root.join("bare");
    let gcc = |options: &[&str], from: &str, to: &str| {
        let mut gcc = Command::new("gcc");
        gcc.args(options).arg("-o").arg(destination.join(to)).arg(source.join(from));
        succeed(&mut gcc)
    };
    for (from, to) in [("no_runtime.c", "no-runtime"), ("refusing.c", "refusing"), ("tracer.c", "tracer")] {
        gcc(&["-O1", "-static"], from, to)?;
    }
    gcc(&["-m32", "-static", "-nostdlib"], "thirty_two.S", "thirty-two")
}

/// The stripped `uv` as its makers ship it, its version and sha256 in third_party/requirements.txt.
fn uv(root: &Path, destination: &Path) -> Result<()> {
    let requirements = root.join("third_party/requirements.txt");
    let program = destination.join("uv");
    let stamp = Stamp::of(&requirements, destination)?;
    if program.exists() && stamp.is_there() {
        return Ok(());
    }
    let wheels = root.join("target/uv");
    if wheels.exists() {
        std::fs::remove_dir_all(&wheels)?;
    }
    pip::download(&requirements, &wheels)?;
    let unpack = "import glob, sys, zipfile\n\
                  wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + '/uv-*.whl')[0])\n\
                  name = [n for n in wheel.namelist() if n.endswith('/scripts/uv')][0]\n\
                  open(sys.argv[2], 'wb').write(wheel.read(name))\n";
    succeed(Command::new("python3").args(["-c", unpack]).arg(&wheels).arg(&program))?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    stamp.put()
}

/// Puts a built program where the tests look for it. A hard link, so that nothing is copied; a copy where that fails.
fn place(built: &Path, to: &Path) -> Result<()> {
    let same = |a: &Path, b: &Path| -> Option<bool> {
        use std::os::unix::fs::MetadataExt;
        Some(a.metadata().ok()?.ino() == b.metadata().ok()?.ino())
    };
    if same(built, to) == Some(true) {
        return Ok(());
    }
    if to.exists() {
        std::fs::remove_file(to)?;
    }
    if std::fs::hard_link(built, to).is_err() {
        std::fs::copy(built, to).with_context(|| built.display().to_string())?;
    }
    Ok(())
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("{command:?} could not start"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
