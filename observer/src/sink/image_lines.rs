//! The two lines that tell a person of an image.

use std::io::{self, Write};

use crate::model::MappedImage;

/// Writes them; `more` follows the number of points.
pub(super) fn write_image(mapped: &MappedImage, more: &str, out: &mut dyn Write) -> io::Result<()> {
    let MappedImage { image, path, .. } = mapped;
    let version = image.version.as_deref().unwrap_or("(version not found)");
    let unstable = if image.unstable { ", tokio_unstable" } else { "" };
    let stripped = if image.stripped { ", stripped" } else { "" };
    let (types, sites, points) = (image.types.len(), image.spawn_sites, image.points.len());
    writeln!(out, "  {path}: tokio {version}{unstable}{stripped}")?;
    writeln!(out, "    {types} future types, {sites} spawn sites, {points} points{more}")
}
