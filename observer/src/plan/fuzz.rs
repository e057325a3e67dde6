//! Hostile images: whatever the bytes, reading, analysing and planning neither panic nor take more memory than they may.
//!
//! Does not know: what is right, only what is possible.

use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use super::plan;
use crate::model::VirtAddr;
use crate::runtime::{Found, analyse};
use crate::symbols::tiny::{CODE, DATA, Tiny};
use crate::symbols::{Debug, Image, TooCostly, name_frames, own};

/// Set in the child process that runs the cases within its memory.
const CHILD: &str = "ASYNC_OBSERVER_FUZZ_CHILD";
/// Address space of that process in KiB: some ten times the largest image tried.
const MEMORY: u64 = 1 << 20;

/// Everything that is ever done with the bytes of a foreign file.
fn digest(bytes: &[u8]) -> Option<usize> {
    let image = Image::parse(bytes).ok()?;
    let named = image.symbols().filter(|s| s.size > 0).count();
    let starts: Vec<VirtAddr> = image.functions().starts().take(64).collect();
    assert_eq!(name_frames(&image, &starts).len(), starts.len());
    _ = Debug::of(&image).map(|debug| debug.functions(&starts.iter().copied().collect()));
    _ = (Debug::is_cut_short(&image), TooCostly::of(&image));
    let Found::Runtime(runtime) = analyse(&image) else { return Some(named) };
    let planned = plan(&image, &runtime);
    assert!(planned.points.iter().all(|p| !p.bytes.is_empty() && image.offset_of(p.at) == Some(p.offset)));
    Some(named + planned.points.len())
}

/// An image with one task type, a birth, a mint, a panic, a jump table and every kind of relocation.
fn with_a_task() -> Tiny {
    let near = |from: u64, to: u64| i32::try_from(to.cast_signed() - from.cast_signed()).expect("near").to_le_bytes();
    let (vtable, counter, table) = (DATA, DATA + 80, DATA + 88);
    let mut code = vec![0x55, 0xb9, 1, 0, 0, 0, 0xf0, 0x48, 0x0f, 0xc1, 0x0d]; // push; mov ecx, 1; lock xadd
    code.extend(near(CODE + code.len() as u64 + 4, counter));
    code.extend([0x48, 0x85, 0xc9, 0x74, 0xec, 0x48, 0x8d, 0x05]); // test; je; lea rax, [rip+vtable]
    code.extend(near(CODE + code.len() as u64 + 4, vtable));
    code.extend([0x48, 0x89, 0x44, 0x24, 0x10, 0x48, 0x89, 0x4c, 0x24, 0x28]); // mov [rsp+16], rax; mov [rsp+40], rcx
    code.extend([0x48, 0xc7, 0x44, 0x24, 0x18, 0, 0, 0, 0, 0x48, 0x89, 0x7c, 0x24, 0x20]); // mov qword [rsp+24], 0; mov [rsp+32], rdi
    code.extend([0x48, 0x8d, 0x15]); // lea rdx, [rip+table]
    code.extend(near(CODE + code.len() as u64 + 4, table));
    code.extend([0xff, 0xe2, 0x48, 0xb9]); // jmp rdx; movabs rcx, class
    code.extend(b"MOZ\0RUST");
    code.extend([0x48, 0x89, 0x08, 0xe8, 0, 0, 0, 0, 0xc3]); // mov [rax], rcx; call; ret
    let body = CODE + code.len() as u64;
    let functions: Vec<_> = (0..7).map(|n| body + 2 * n).collect();
    code.extend([0x55, 0xc3].repeat(7));
    let mut data = [&functions[..], &[88, 32, 40, 1]].concat();
    data.extend([u64::from_le_bytes([16, 0, 0, 0, 20, 0, 0, 0]); 2]);
    let mut bytes: Vec<u8> = data.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(b"/tokio-1.54.1/src/runtime/scheduler/multi_thread/worker.rs park missing");
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let mut tiny = Tiny::new(&code, &bytes);
    tiny.functions = std::iter::once(CODE..body).chain(functions.iter().map(|&at| at..at + 2)).collect();
    tiny.packed = vec![vtable, 0b11_1111 << 1 | 1];
    tiny.relocated = vec![(vtable, functions[0])];
    tiny
}

/// Some bytes overwritten, in the first `front` of them or anywhere, and perhaps the end cut off.
fn mutated(original: Vec<u8>, front: usize) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), any::<bool>(), prop_oneof![Just(0u8), Just(0xff), Just(0x80), any::<u8>()]);
    (vec(change, 1..24), proptest::option::of(any::<Index>())).prop_map(move |(changes, cut)| {
        let mut bytes = original.clone();
        for (index, anywhere, value) in changes {
            let range = if anywhere { bytes.len() } else { front.min(bytes.len()) };
            bytes[index.index(range)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    })
}

fn run(cases: u32, strategy: &impl Strategy<Value = Vec<u8>>) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 256, ..Config::default() };
    let result = TestRunner::new(config).run(strategy, |bytes| {
        digest(&bytes);
        Ok(())
    });
    assert!(result.is_ok(), "a hostile image broke the reader: {:.2000}", format!("{result:?}"));
}

/// Runs one of these tests again in a process that may not take more memory than an image deserves.
fn within_memory(test: &str, cases: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return cases();
    }
    let child = Command::new("/bin/sh")
        .args(["-c", &format!("ulimit -v {MEMORY} && exec \"$0\" --exact \"$1\" --test-threads 1 --nocapture")])
        .arg(std::env::current_exe().expect("tests run from a file"))
        .arg(format!("plan::fuzz::{test}"))
        .env(CHILD, "1")
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&child.stderr));
}

#[test]
fn the_image_that_is_mutated_has_everything_in_it() {
    let bytes = with_a_task().build();
    let image = Image::parse(&bytes).expect("tiny images are images");
    let Found::Runtime(runtime) = analyse(&image) else { panic!("it has a task") };
    let sizes = (runtime.types.len(), runtime.births.len(), runtime.mints.len(), runtime.raises.sites().len());
    assert_eq!(sizes, (1, 1, 1, 1));
    // The mint is a place where an id is taken by a spawner; the birth tells its task's id itself.
    assert_eq!(plan(&image, &runtime).points.len(), 8);
}

#[test]
fn random_bytes_are_survived() {
    within_memory("random_bytes_are_survived", || {
        let header = with_a_task().build()[..64].to_vec();
        run(512, &vec(any::<u8>(), 0..4096));
        run(512, &vec(any::<u8>(), 0..4096).prop_map(move |rest| [&header[..], &rest].concat()));
    });
}

#[test]
fn mutated_images_are_survived() {
    within_memory("mutated_images_are_survived", || {
        let mut fixed = with_a_task();
        fixed.pie = false;
        run(4096, &mutated(with_a_task().build(), 512));
        run(1024, &mutated(fixed.build(), 512));
        // The unwind table, the dynamic section and the relocations.
        let tables = with_a_task().build();
        let changes = vec((0x4000..0x4400usize, any::<u8>()), 1..12);
        let strategy = changes.prop_map(move |changes| {
            let mut bytes = tables.clone();
            changes.into_iter().for_each(|(at, value)| bytes[at] = value);
            bytes
        });
        run(4096, &strategy);
    });
}

#[test]
fn this_program_mutated_is_survived() {
    within_memory("this_program_mutated_is_survived", || {
        let bytes = own::bytes();
        let end = own::image().segments().iter().map(|s| s.file().end).max().expect("segments");
        run(3, &mutated(bytes[..end].to_vec(), 1024));
    });
}
