//! Names of types, compared.

/// A type's text without what the evidences tell differently: kinds of bodies, paths of the standard library, spaces.
pub fn plain(name: &str) -> String {
    let mut plain = String::new();
    let mut braces = 0;
    let mut path = String::new();
    for c in name.chars().chain([' ']) {
        match c {
            '{' => braces += 1,
            '}' => braces -= 1,
            _ if braces > 0 => {}
            c if c.is_alphanumeric() || c == '_' || c == ':' => path.push(c),
            c => {
                let standard = ["core::", "alloc::", "std::"].iter().any(|root| path.starts_with(root));
                plain.push_str(if standard { path.rsplit("::").next().unwrap_or_default() } else { &path });
                path.clear();
                plain.extend(Some(c).filter(|c| *c != ' '));
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_one_type_are_plainly_the_same() {
        assert_eq!(plain("a::f<u8>::{async_fn}"), plain("a::f<u8>::{{closure}}"));
        assert_eq!(
            plain("Pin<Box<dyn Future<Output = u64> + Send>>"),
            plain(
                "core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future<Output = u64> + core::marker::Send>>"
            )
        );
        assert_ne!(plain("a::left::{async}"), plain("a::right::{async}"));
    }
}
