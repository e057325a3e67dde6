//! What of an image's debug information is there and not read, as it would cost too much: said, with what to do.
//!
//! Does not know: what is in it.

use crate::symbols::{Debug, Image, TooCostly};
use crate::target::Module;

/// Says it of an image whose types are named.
pub(super) fn say_unread(image: &Image<'_>, module: &Module, say: &dyn Fn(u8, &str)) {
    if Debug::is_cut_short(image) {
        say(1, &cut_short(&module.path));
    }
    if let Some(why) = TooCostly::of(image) {
        say(1, &unnamed(&module.path, why));
    }
}

fn cut_short(image: &str) -> String {
    format!(
        "{image} has compressed debug information that would become too long: at most 256 MiB a section, 512 MiB together and 64 times its \
         own length is read; what is only there is not told: unpack it (objcopy --decompress-debug-sections)"
    )
}

fn unnamed(image: &str, why: TooCostly) -> String {
    format!("the calls of stacks are named by the symbols of {image} alone, without lines: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_said_with_what_to_do() {
        let said = cut_short("/app");
        assert!(said.starts_with("/app has compressed") && said.ends_with("(objcopy --decompress-debug-sections)"));
        let said = unnamed("/app", TooCostly::Lines);
        assert_eq!(
            said,
            "the calls of stacks are named by the symbols of /app alone, without lines: its debug information has more lines, or longer paths \
             of files, than are read"
        );
    }
}
