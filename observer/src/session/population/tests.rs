use super::*;
use crate::model::{BuildId, FileOffset, LoadSegment, ProcAddr, VirtAddr};

const APP: FileId = FileId { major: 1, minor: 2, inode: 10 };
const LIBRARY: FileId = FileId { major: 1, minor: 2, inode: 11 };

fn code(file: FileId, start: u64) -> Code {
    Code { file, path: "/app".into(), start: ProcAddr(start), length: 0x2000, offset: FileOffset(0) }
}

fn mapped(file: FileId) -> Step {
    Step::Mapped(code(file, 0x40_0000), Enclosure::default())
}

/// Whose images are attached: each of these, with code from its first byte on.
fn population(files: &[FileId]) -> Population {
    let mut population = Population::new(Catalog::default(), Members::Everyone);
    for file in files {
        attach(&mut population, *file);
    }
    population
}

fn attach(population: &mut Population, file: FileId) -> Vec<Change> {
    let segment = LoadSegment { offset: FileOffset(0), address: VirtAddr(0), executable: true };
    let facts = Arc::new(ImageFacts::sample(BuildId::Content(file.inode), vec![segment]));
    let image = population.number(ImageEntry::sample(Vec::new()));
    population.attached(file, Attached { facts, image, missing: Vec::new() })
}

fn begins(id: u32, why: Beginning) -> Change {
    Change::Begins { id: TargetId(id), why }
}

fn ends(id: u32, pid: u32, why: Ending) -> Change {
    Change::Ends { id: TargetId(id), pid: Pid(pid), why }
}

#[test]
fn a_program_is_observed_from_its_mapping_to_its_end() {
    let mut population = population(&[APP]);
    assert_eq!(population.step(Pid(7), &Step::Execed), []);
    assert_eq!(population.step(Pid(7), &mapped(LIBRARY)), [], "nothing is known of it");
    assert_eq!(population.step(Pid(7), &mapped(APP)), [begins(0, Beginning::Execed)]);
    let bias = population.catalog().target(TargetId(0)).unwrap().images[0].bias;
    assert_eq!(bias, Bias(0x40_0000));
    assert_eq!(population.step(Pid(7), &Step::Ended), [ends(0, 7, Ending::Exited)]);
    assert!(!population.is_run(APP));
}

#[test]
fn each_program_of_a_process_is_a_target_of_its_own() {
    let mut population = population(&[APP, LIBRARY]);
    population.step(Pid(7), &mapped(APP));
    assert_eq!(population.step(Pid(7), &Step::Execed), [ends(0, 7, Ending::Execed)]);
    assert_eq!(population.step(Pid(7), &mapped(APP)), [begins(1, Beginning::Execed)]);
    assert_eq!(population.step(Pid(7), &mapped(LIBRARY)), [begins(1, Beginning::Loaded)]);
}

#[test]
fn a_child_is_a_target_from_its_first_hit_on_and_whoever_had_its_number_has_ended() {
    let mut population = population(&[APP]);
    population.step(Pid(7), &mapped(APP));
    population.step(Pid(8), &mapped(APP));
    let fork = Step::Forked { child: Pid(8), enclosure: Enclosure::default() };
    assert_eq!(population.step(Pid(7), &fork), [ends(1, 8, Ending::Exited)]);
    assert_eq!(population.adopt(Pid(8), None), [begins(2, Beginning::Forked)]);
    assert_eq!(population.adopt(Pid(8), None), [], "once");
    assert_eq!(population.adopt(Pid(9), None), [], "nobody knows it");
}

#[test]
fn who_is_hit_in_an_image_has_mapped_it_under_the_one_name_that_nobody_knows() {
    let mut population = population(&[APP]);
    let image = Arc::clone(&population.attached[&APP].image);
    population.step(Pid(7), &mapped(LIBRARY));
    assert_eq!(population.adopt(Pid(7), None), []);
    assert_eq!(population.adopt(Pid(7), Some(&image)), [begins(0, Beginning::Execed)]);
    assert_eq!(population.step(Pid(8), &mapped(LIBRARY)), [begins(1, Beginning::Execed)], "from now on it is known");
    let other = FileId { inode: 12, ..APP };
    population.step(Pid(9), &Step::Mapped(code(other, 0x9000), Enclosure::default()));
    population.step(Pid(9), &Step::Mapped(code(FileId { inode: 13, ..APP }, 0x5000), Enclosure::default()));
    assert_eq!(population.adopt(Pid(9), Some(&image)), [], "it may be the one or the other");
}

#[test]
fn who_is_there_when_probes_come_in_is_found_and_who_has_gone_meanwhile_has_ended() {
    let mut population = population(&[]);
    let resident = |file| Resident { code: vec![code(file, 0x1000)], ..Resident::default() };
    population.listed(vec![(Pid(7), resident(APP)), (Pid(8), resident(APP))]);
    assert_eq!(attach(&mut population, APP), [begins(0, Beginning::Found), begins(1, Beginning::Found)]);
    // Something was missed: one has ended, and one began since the machine began to be looked at.
    assert_eq!(population.listed(vec![(Pid(8), resident(APP))]), []);
    population.step(Pid(9), &mapped(APP));
    assert_eq!(population.listing_over(), [ends(0, 7, Ending::Exited)]);
}

#[test]
fn what_runs_another_program_than_was_known_is_another_target() {
    let mut population = population(&[APP, LIBRARY]);
    population.step(Pid(7), &mapped(APP));
    let other = Resident { code: vec![code(LIBRARY, 0x9000)], ..Resident::default() };
    let changes = population.listed(vec![(Pid(7), other)]);
    assert_eq!(changes, [ends(0, 7, Ending::Execed), begins(1, Beginning::Found)]);
}

#[test]
fn a_target_whose_last_image_is_released_ends_and_its_points_are_forgotten() {
    let mut population = population(&[APP, LIBRARY]);
    population.step(Pid(7), &mapped(APP));
    population.step(Pid(7), &mapped(LIBRARY));
    assert_eq!(population.released(APP), []);
    assert_eq!(population.released(LIBRARY), [ends(0, 7, Ending::Released)]);
    assert_eq!(population.catalog().images().len(), 0);
}

#[test]
fn only_named_processes_are_targets_where_some_are_named() {
    let mut population = population(&[APP]);
    population.members = Members::Named(HashSet::from([Pid(7)]));
    assert_eq!(population.step(Pid(8), &mapped(APP)), []);
    assert_eq!(population.step(Pid(7), &mapped(APP)), [begins(0, Beginning::Execed)]);
}
