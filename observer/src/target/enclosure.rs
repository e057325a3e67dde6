//! Reading what encloses a process: `/proc/PID/status`, `/proc/PID/cgroup`, `/proc/PID/ns`.
//!
//! The forms of paths are those that container engines write; where a path has none of them, nothing is guessed. Does
//! not know: any engine's own interface.

use std::fs;
use std::io;
use std::path::Path;

use super::error::TargetError;
use super::process::Process;
use crate::model::{ContainerId, Enclosure, NamespaceId, Pid};

/// What engines write before the id in a group's name: Docker, containerd, CRI-O and Podman under systemd.
const ENGINES: [&str; 4] = ["docker", "cri-containerd", "crio", "libpod"];
/// How many digits an id has where no engine's name stands before it.
const BARE: usize = 64;

impl Process {
    /// What encloses it now.
    pub fn enclosure(&self) -> Result<Enclosure, TargetError> {
        read(&self.path("")).map_err(|source| self.refused("cgroup", source))
    }
}

/// What encloses the process of this number now, without taking hold of it.
pub fn enclosure_of(pid: Pid) -> Result<Enclosure, TargetError> {
    let what = format!("/proc/{pid}/cgroup");
    read(Path::new(&format!("/proc/{pid}"))).map_err(|source| TargetError::of_file(pid, what, source))
}

fn read(folder: &Path) -> io::Result<Enclosure> {
    let text = |name: &str| Ok::<_, io::Error>(String::from_utf8_lossy(&fs::read(folder.join(name))?).into_owned());
    let status = text("status")?;
    let cgroup = match text("cgroup") {
        Ok(text) => parse_cgroup(&text).map(str::to_owned),
        // A kernel without control groups has no such file, while there is a status.
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.join("status").exists() => None,
        Err(error) => return Err(error),
    };
    let namespace = |name: &str| {
        let link = fs::read_link(folder.join(name)).ok()?;
        parse_namespace(link.to_str()?)
    };
    Ok(Enclosure {
        ns_pid: parse_ns_pid(&status),
        pid_namespace: namespace("ns/pid"),
        mount_namespace: namespace("ns/mnt"),
        container: cgroup.as_deref().and_then(container_in),
        cgroup,
    })
}

/// The last number of `NSpid:` in the text of `/proc/PID/status`: the one that the process sees itself.
pub fn parse_ns_pid(status: &str) -> Option<Pid> {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_ascii_whitespace().next_back()?.parse().ok().map(Pid)
}

/// The path in the text of `/proc/PID/cgroup`: that of the one hierarchy (`0::PATH`); where this is the root, as beside
/// hierarchies of single controllers (`5:memory:PATH`), the longest of theirs.
pub fn parse_cgroup(text: &str) -> Option<&str> {
    let paths = text.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        // The group can be removed while the process is a zombie.
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        path.starts_with('/').then_some(((number, controllers) == ("0", ""), path))
    });
    let mut best: Option<(bool, &str)> = None;
    for (of_all, path) in paths {
        // The one hierarchy counts only where it says something.
        let rank = |of_all: bool, path: &str| (of_all && path != "/", path.len());
        if best.is_none_or(|(before, longest)| rank(of_all, path) > rank(before, longest)) {
            best = Some((of_all, path));
        }
    }
    best.map(|(_, path)| path)
}

/// The innermost container that a control group's path names.
pub fn container_in(cgroup: &str) -> Option<ContainerId> {
    cgroup.rsplit('/').find_map(|part| {
        let name = part.strip_suffix(".scope").unwrap_or(part);
        // `docker-ID.scope` under systemd; `PARENT:cri-containerd:ID` with systemd's names but without it.
        let of_engine = ENGINES.iter().find_map(|engine| {
            let under_systemd = name.strip_prefix(engine).and_then(|rest| rest.strip_prefix('-'));
            under_systemd.or_else(|| {
                let (before, id) = name.rsplit_once(':')?;
                (before.rsplit(':').next() == Some(*engine)).then_some(id)
            })
        });
        match of_engine {
            Some(id) => ContainerId::new(id),
            None => ContainerId::new(part).filter(|id| id.as_str().len() == BARE),
        }
    })
}

/// `pid:[4026531836]`, what a link in `/proc/PID/ns` says.
fn parse_namespace(link: &str) -> Option<NamespaceId> {
    let (_, rest) = link.split_once(":[")?;
    rest.strip_suffix(']')?.parse().ok().map(NamespaceId)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::target::sleeper::Sleeper;

    fn id() -> String {
        "0123456789abcdef".repeat(4)
    }

    #[test]
    fn a_process_sees_itself_by_the_last_number() {
        assert_eq!(parse_ns_pid("Name:\tx\nNSpid:\t4711\t15\t1\nNSpgid:\t4711\n"), Some(Pid(1)));
        assert_eq!(parse_ns_pid("NSpid:\t4711\n"), Some(Pid(4711)));
        for text in ["", "NSpid:\n", "NSpid:\tx\n", "Pid:\t7\n"] {
            assert_eq!(parse_ns_pid(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_group_is_that_of_the_one_hierarchy_or_the_longest() {
        assert_eq!(parse_cgroup("0::/user.slice/a.scope\n"), Some("/user.slice/a.scope"));
        assert_eq!(parse_cgroup("5:memory:/docker/abcdef\n1:name=systemd:/x\n0::/unified\n"), Some("/unified"));
        assert_eq!(parse_cgroup("5:memory:/\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/x\n0::/\n"), Some("/docker/ab"));
        assert_eq!(parse_cgroup("0::/\n"), Some("/"));
        assert_eq!(parse_cgroup("0::/a:b (deleted)\n"), Some("/a:b"));
        for text in ["", "\n", "0:", "0::", "0::x", "x"] {
            assert_eq!(parse_cgroup(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_engines_path_names_its_container() {
        let (id, short) = (id(), "0123456789abcdef".repeat(2));
        for path in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/system.slice/docker-{id}.scope/init.scope"),
            format!("/kubepods/burstable/pod2c48913c-b29f-11e7-9350-020968147796/{id}"),
            format!("/kubepods.slice/kubepods-pod2c48913c_b29f.slice/cri-containerd-{id}.scope"),
            format!("/kubepods.slice/kubepods-pod2c48913c_b29f.slice/crio-{id}.scope"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/libpod_parent/libpod-{id}"),
            format!("/system.slice/containerd.service/kubepods-besteffort-pod1.slice:cri-containerd:{id}"),
            format!("/ecs/{short}/{id}"),
            format!("/docker/{}/docker/{id}", "f".repeat(64)),
            format!("/../../docker-{id}.scope"),
        ] {
            assert_eq!(container_in(&path).as_ref().map(ContainerId::as_str), Some(&*id), "{path}");
        }
        let of_32 = container_in(&format!("/machine.slice/libpod-{short}.scope"));
        assert_eq!(of_32.as_ref().map(ContainerId::as_str), Some(&*short));
    }

    #[test]
    fn a_path_that_names_no_container_is_not_guessed_about() {
        let (id, short) = (id(), "0123456789abcdef".repeat(2));
        for path in [
            "/".to_owned(),
            String::new(),
            "/user.slice/user-1000.slice/session-2.scope".into(),
            "/system.slice/docker.service".into(),
            "/system.slice/docker-volumes.service".into(),
            format!("/machine.slice/libpod-conmon-{id}.scope"),
            format!("/build/{short}"),
            format!("/build/{id}0"),
            format!("/build/{}", id.to_uppercase()),
            format!("/a:{id}"),
        ] {
            assert_eq!(container_in(&path), None, "{path}");
        }
    }

    #[test]
    fn we_are_enclosed_by_what_the_kernel_links_to() {
        let us = Process::open(Pid(std::process::id())).unwrap();
        let enclosure = us.enclosure().unwrap();
        let truth = |name: &str| Some(NamespaceId(fs::metadata(format!("/proc/self/ns/{name}")).unwrap().ino()));
        assert_eq!((enclosure.pid_namespace, enclosure.mount_namespace), (truth("pid"), truth("mnt")));
        // SAFETY: no arguments.
        assert_eq!(enclosure.ns_pid, Some(Pid(unsafe { libc::getpid() } as u32)));
        assert_eq!(enclosure_of(us.pid()).unwrap(), enclosure);
        let gone = enclosure_of(Pid(0x7fff_fff0));
        assert!(matches!(gone, Err(TargetError::Vanished { .. })), "{gone:?}");
    }

    #[test]
    fn the_first_process_of_a_pid_namespace_sees_itself_as_the_first() {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--mount", "--fork", "--kill-child", "sleep", "60"]);
        let mut outer = unshare.spawn().unwrap();
        let children = PathBuf::from(format!("/proc/{0}/task/{0}/children", outer.id()));
        let deadline = Instant::now() + Duration::from_secs(60);
        let inner = loop {
            let text = fs::read_to_string(&children).unwrap_or_default();
            let ready = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
            match text.split_ascii_whitespace().next().and_then(|pid| pid.parse().ok()).filter(ready) {
                Some(pid) => break Some(Pid(pid)),
                None if outer.try_wait().unwrap().is_some() => break None,
                None => assert!(Instant::now() < deadline, "no process came up in the new namespace"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let Some(inner) = inner else {
            eprintln!("NOT TESTED: a pid namespace needs root");
            return;
        };
        let (inside, outside) = (enclosure_of(inner), enclosure_of(Pid(std::process::id())).unwrap());
        let truth = fs::metadata(format!("/proc/{inner}/ns/pid")).unwrap().ino();
        outer.kill().unwrap();
        outer.wait().unwrap();
        let inside = inside.unwrap();
        assert_eq!((inside.ns_pid, inside.pid_namespace), (Some(Pid(1)), Some(NamespaceId(truth))));
        assert_ne!(inside.pid_namespace, outside.pid_namespace);
        assert_ne!(inside.mount_namespace, outside.mount_namespace);
        assert_eq!(inside.cgroup, outside.cgroup);
    }

    #[test]
    fn a_process_in_a_containers_group_is_known_by_its_id() {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let of_all = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (at, kind) = (words.next()?, words.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(at))
        });
        let group = of_all.map(|root| root.join(format!("async-observer-test-{}", std::process::id())));
        let scope = group.as_ref().map(|group| group.join(format!("docker-{}.scope", id())));
        let (Some(group), Some(scope)) = (group, scope.filter(|scope| fs::create_dir_all(scope).is_ok())) else {
            eprintln!("NOT TESTED: no control group can be made here");
            return;
        };
        let mut child = Sleeper::start();
        fs::write(scope.join("cgroup.procs"), child.pid().to_string()).unwrap();
        let enclosure = child.process().enclosure();
        child.end();
        // Both are empty again; a zombie's group can be removed.
        fs::remove_dir(&scope).unwrap();
        fs::remove_dir(&group).unwrap();
        let enclosure = enclosure.unwrap();
        assert!(enclosure.container_begins_with(&id()[..12]), "{enclosure:?}");
        assert!(enclosure.cgroup_contains("async-observer-test-"), "{enclosure:?}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", near in "[-0-9a-f:/.dockersp\n\t]{0,200}") {
            for text in [&text, &near] {
                let _ = (parse_ns_pid(text), parse_cgroup(text), container_in(text), parse_namespace(text));
            }
        }

        #[test]
        fn an_id_is_found_below_any_path(before in "(/[a-z.]{1,9}){0,4}", behind in "(/[a-z.]{1,9}){0,2}", id in "[0-9a-f]{64}") {
            let found = container_in(&format!("{before}/docker-{id}.scope{behind}"));
            prop_assert_eq!(found.as_ref().map(ContainerId::as_str), Some(&*id));
        }
    }
}
