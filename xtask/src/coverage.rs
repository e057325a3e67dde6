//! How much is told of images that others build and ship: they are fetched, and looked at without being run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::page::{Piece, Table};
use crate::stamp::Stamp;
use crate::{pip, preflight};

/// Which, with their versions and sums.
const IMAGES: &str = "tests/fixtures/third_party/coverage.txt";
/// Where they are kept.
const KEPT: &str = "tests/fixtures/target/coverage";

/// Takes the program or library, the largest file, out of each wheel of a folder.
const UNPACK: &str = "import glob, os, sys, zipfile
for path in sorted(glob.glob(sys.argv[1] + '/*.whl')):
    wheel = zipfile.ZipFile(path)
    largest = max(wheel.infolist(), key=lambda part: part.file_size)
    name, version = os.path.basename(path).split('-')[:2]
    open(f'{sys.argv[2]}/{name} {version}', 'wb').write(wheel.read(largest))
";

/// Fetches them, if they are not there, and looks at each.
pub fn piece(root: &Path) -> Result<Piece> {
    let images = fetch(root)?;
    preflight::cargo(root, &["build", "--locked", "--release", "--package", "observer", "--example", "image"])?;
    let mut table = Table::of(&["image"], COLUMNS);
    for image in images {
        // Each by itself: the most memory is of one.
        let said = Command::new(root.join("target/release/examples/image")).arg(&image).output()?;
        ensure!(said.status.success(), "{}: {}", image.display(), String::from_utf8_lossy(&said.stderr));
        let name = image.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        table.row(row(name, &serde_json::from_slice(&said.stdout)?)?);
    }
    Ok(Piece { name: "names coverage", text: table.text() })
}

const COLUMNS: [&str; 11] = [
    "MiB",
    "tokio",
    "types",
    "named",
    "perhaps named",
    "tasks",
    "placed",
    "perhaps placed",
    "neither",
    "seconds",
    "memory, MiB",
];

fn row(name: String, of: &Value) -> Result<Vec<String>> {
    let figure = |member: &str| of[member].as_u64().with_context(|| format!("no {member} in {of}"));
    let mib = |member: &str| figure(member).map(|bytes| (bytes >> 20).to_string());
    let version = of["version"].as_str().unwrap_or("not told").to_owned();
    let seconds = of["ms"].as_f64().context("no ms")? / 1e3;
    let mut cells = vec![name, mib("bytes")?, version];
    for member in ["types", "names", "likelyNames", "tasks", "places", "likelyPlaces", "neither"] {
        cells.push(figure(member)?.to_string());
    }
    cells.extend([format!("{seconds:.2}"), mib("peakBytes")?]);
    Ok(cells)
}

fn fetch(root: &Path) -> Result<Vec<std::path::PathBuf>> {
    let (list, kept) = (root.join(IMAGES), root.join(KEPT));
    let (wheels, images) = (kept.join("wheels"), kept.join("images"));
    let stamp = Stamp::of(&list, &kept)?;
    if !stamp.is_there() {
        if kept.exists() {
            std::fs::remove_dir_all(&kept)?;
        }
        std::fs::create_dir_all(&images)?;
        pip::download(&list, &wheels)?;
        let unpacked = Command::new("python3").args(["-c", UNPACK]).args([&wheels, &images]).status()?;
        ensure!(unpacked.success(), "the wheels could not be unpacked");
        stamp.put()?;
    }
    let mut found: Vec<_> =
        std::fs::read_dir(&images)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_a_row_and_one_that_lacks_a_figure_is_refused() {
        let mut of = json!({"bytes": 3 << 20, "version": null, "types": 9, "names": 1, "likelyNames": 2, "tasks": 8, "places": 3,
            "likelyPlaces": 4, "neither": 0, "ms": 1234.5, "peakBytes": 5 << 20});
        let row_of = row("app 1.0".to_owned(), &of).expect("all is there");
        assert_eq!(row_of, ["app 1.0", "3", "not told", "9", "1", "2", "8", "3", "4", "0", "1.23", "5"]);
        assert_eq!(row_of.len(), COLUMNS.len() + 1);
        of["places"] = Value::Null;
        assert!(row("app 1.0".to_owned(), &of).is_err());
    }
}
