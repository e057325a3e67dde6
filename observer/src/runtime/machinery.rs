//! Which functions are a runtime's or the standard library's own, by their names.
//!
//! Does not know: stacks.

/// Crates whose functions nobody looks for in a stack.
const CRATES: [&str; 6] = ["tokio", "std", "core", "alloc", "std_detect", "__rustc"];

/// Whether the function of this path is machinery. Of a trait's function it is the type's crate that counts: a future
/// of one's own is polled by one's own code.
pub fn is_machinery(path: &str) -> bool {
    let path = path.trim_start_matches(['<', '&', '*', '[', '(']);
    let path = ["mut ", "const ", "dyn ", "impl "].into_iter().fold(path, |path, word| path.trim_start_matches(word));
    let path = path.trim_start_matches(['<', '&', '*', '[', '(']);
    let name = path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    CRATES.contains(&name) && path[name.len()..].starts_with("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_crate_of_a_path_decides() {
        for path in [
            "tokio::runtime::task::raw::poll",
            "tokio::task::spawn::spawn<app::serve::{async_fn_env#0}>",
            "<core::pin::Pin<P> as core::future::future::Future>::poll",
            "<&mut alloc::boxed::Box<app::Job> as core::ops::function::FnOnce<()>>::call_once",
            "std::thread::local::LocalKey<T>::with",
            "<*const core::ffi::c_void as core::fmt::Debug>::fmt",
        ] {
            assert!(is_machinery(path), "{path}");
        }
        for path in [
            "app::serve::{{closure}}",
            "<app::Job as core::future::future::Future>::poll",
            "tokio_util::task::spawn_pinned",
            "core_service::run",
            "main",
            "tokio",
            "",
            "<",
        ] {
            assert!(!is_machinery(path), "{path}");
        }
    }
}
