//! What libvirt is told, and what it asks for.
//!
//! - [`metadata`]: the vGPUs that a domain names, as XML: written by `vgpu attach`, read by the hook.
//! - [`domain`]: the XML that `vgpu attach --format libvirt` prints.
//! - [`hook`]: `vgpu libvirt-hook`, which libvirt's hook script runs: it starts the vGPUs that a
//!   domain names before the domain, and ends them after it.

pub(crate) mod domain;
pub(crate) mod hook;
pub(crate) mod metadata;

/// Text inside an attribute in single quotes, or between tags.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&apos;"),
            c => escaped.push(c),
        }
    }
    escaped
}
