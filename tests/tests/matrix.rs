//! Every cell of the matrix: each build profile, each tokio version, each allocator, exact to the last task.
//!
//! The truth is the program's own: what it spawned, what its allocator saw freed, how each task was made to end.

use tests::fixture::{Fixture, cells};
use tests::life::Lives;
use tests::observer::Observer;
use tests::truth::differences;

/// Observes the program in every cell that has it, reports each, and fails with all that differ.
fn every_cell(program: &str) {
    let mut report = Vec::new();
    let mut wrong = 0;
    for cell in cells("matrix") {
        // A cell that fails by panic (the observer refused, the program is missing) does not hide the others.
        let faults = std::panic::catch_unwind(|| observe(&cell, program)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            vec![text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_default()]
        });
        wrong += usize::from(!faults.is_empty());
        report.push(match faults.as_slice() {
            [] => format!("{cell:<16} exact"),
            faults => format!("{cell:<16} {}", faults.join("\n                 ")),
        });
    }
    let report = report.join("\n");
    assert_eq!(wrong, 0, "{program} differs in {wrong} cells\n{report}");
    println!("{program}\n{report}");
}

fn observe(cell: &str, program: &str) -> Vec<String> {
    let mut fixture = Fixture::start(cell, program, &[]);
    let observer = Observer::attach(fixture.pid(), &[]);
    fixture.release();
    let truth = fixture.truth();
    let stream = observer.stream();
    let lives = Lives::of(&stream);
    let mut faults: Vec<String> = lives.faults.iter().take(5).cloned().collect();
    faults.extend(differences(&stream, &lives, &truth));
    if stream.images().len() != 1 {
        faults.push(format!("{} images with a runtime, not 1", stream.images().len()));
    }
    faults
}

#[test]
fn every_cell_is_exact_with_the_c_library_s_allocator() {
    every_cell("matrix-glibc");
}

#[test]
fn every_cell_is_exact_with_mimalloc() {
    every_cell("matrix-mimalloc");
}

#[test]
fn every_cell_is_exact_with_jemalloc() {
    every_cell("matrix-jemalloc");
}
