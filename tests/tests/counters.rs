//! Which counter task ids come from, in builds of every kind: without symbols it is told by the code alone, and is the same that
//! the symbols name.

use observer::runtime::{self, Found, IdCounter};
use observer::symbols::{Image, demangle};
use tests::fixture::{cells, path};

/// The same image as `strip` leaves it: without sections, and so without symbols.
fn stripped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    // e_shoff, and e_shentsize to e_shstrndx, of an ELF header of 64 bits.
    bytes[0x28..0x30].fill(0);
    bytes[0x3a..0x40].fill(0);
    bytes
}

fn counter(bytes: &[u8], what: &str) -> IdCounter {
    let image = Image::parse(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    let Found::Runtime(found) = runtime::analyse(&image) else { panic!("{what} holds a runtime") };
    found.ids
}

#[test]
fn the_counter_of_task_ids_is_told_by_the_code_as_symbols_name_it() {
    let mut compared = 0;
    for cell in cells("matrix") {
        let what = format!("{cell} matrix-glibc");
        let bytes = std::fs::read(path(&cell, "matrix-glibc")).expect("it can be read");
        let image = Image::parse(&bytes).expect("it is an image");
        let named = image.symbols().find(|symbol| {
            let of_tasks = symbol.name.contains("NEXT_ID") && symbol.name.contains("task");
            of_tasks && demangle(symbol.name).is_some_and(|name| name.ends_with("next::NEXT_ID"))
        });
        let told = counter(&stripped(&bytes), &what);
        println!("{what}: {told:?}, named {named:?}");
        match named {
            Some(symbol) => {
                assert_eq!(told, IdCounter::At(symbol.at), "{what}: {}", symbol.name);
                assert_eq!(counter(&bytes, &what), told, "{what}: by name");
                compared += 1;
            }
            None => assert!(image.is_stripped() && matches!(told, IdCounter::At(_)), "{what}: {told:?}"),
        }
    }
    assert!(compared >= 8, "only {compared} have symbols");
}
