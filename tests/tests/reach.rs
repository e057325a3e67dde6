//! Probes stand in a file: a process that does not run that file's code is not said to be observed.

use std::process::Command;

use tests::fixture::{Fixture, Scratch, path};
use tests::observer::Observer;

const RUN_TIME: i32 = 1;

/// Runs a program from the lower layer of an overlay, in a mount namespace of its own.
const ON_OVERLAY: &str = r#"
    mount -t tmpfs none "$1" && mkdir "$1/lower" "$1/upper" "$1/work" "$1/merged" || exit 9
    cp "$2" "$1/lower/program" || exit 9
    mount -t overlay none -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/merged" || exit 9
    exec "$1/merged/program" still
"#;

fn on_overlay(folder: &Scratch) -> Fixture {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", ON_OVERLAY, "sh"]);
    let fixture = Fixture::spawn("on an overlay", command.arg(folder.path()).arg(path("newest-release", "leaks")));
    fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    fixture
}

/// Changes nothing of the program but its mode: the overlay copies it, and what runs is the file below.
fn copy_up(fixture: &Fixture, folder: &Scratch) {
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--target", &fixture.pid().to_string(), "chmod", "700"]);
    let done = command.arg(folder.path().join("merged/program")).status().expect("nsenter starts");
    assert!(done.success(), "the mode can be changed");
}

#[test]
fn a_program_that_was_copied_up_under_its_process_is_said_not_to_be_reached() {
    let folder = Scratch::new("copied-up");
    let (fixture, other) = (on_overlay(&folder), Fixture::start("newest-release", "leaks", &["still"]));
    let pid = fixture.pid().to_string();
    let points = |target: &serde_json::Value| {
        let images = target["images"].as_array().expect("images are a list").iter();
        images.filter_map(|image| image["points"].as_u64()).sum::<u64>()
    };
    let said = |target: &serde_json::Value| target["missing"].to_string().contains("did not reach");

    let before = Observer::attach(fixture.pid(), &["-d", "100ms"]).stream();
    let target = &before.start()["targets"][0];
    assert!(points(target) > 0 && !said(target), "{target:#}");

    copy_up(&fixture, &folder);
    for more in [&[][..], &["--attach-with", "tracefs"]] {
        let tried = Observer::run(["--json", "-d", "100ms", "--pid", &pid].iter().chain(more)).ended();
        assert_eq!((tried.code, tried.stdout.len()), (Some(RUN_TIME), 0), "{more:?}: {:?}", tried.stderr);
        let [.., why, step] = &tried.stderr[..] else { panic!("{more:?}: nothing is said") };
        assert!(why.contains(&format!("did not reach process {pid} ")), "{why}");
        assert!(step.contains("restart it") && step.contains("ps"), "{step}");
    }

    // Beside one that is reached it is listed, without an image and with the reason.
    let both = Observer::attach(other.pid(), &["-d", "300ms", "--pid", &pid]).stream();
    let targets = both.start()["targets"].as_array().expect("targets are a list").clone();
    let of = |pid: u32| targets.iter().find(|target| target["pid"] == pid).expect("both are targets");
    assert!(points(of(fixture.pid())) == 0 && said(of(fixture.pid())), "{targets:#?}");
    assert!(points(of(other.pid())) > 0 && !said(of(other.pid())), "{targets:#?}");
    assert!(both.of("init").all(|init| init["pid"] == other.pid()), "nothing is said of whom nothing is seen");
    assert!(both.total("init") > 0, "the other's tasks are found");

    // What is advised works.
    let look = Observer::run(["ps", "--json", "--pid", &pid]).look();
    assert!(look.live(fixture.pid()) > 0, "memory can be read");
}
