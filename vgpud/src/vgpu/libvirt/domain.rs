//! The XML that `vgpu attach --format libvirt` prints: the parts of a domain, or a whole small one.

use std::fmt::Write;

use super::escape;
use super::metadata::Metadata;

/// What is to be printed.
pub(crate) struct Domain<'a> {
    /// Its name, if it is to be a whole one.
    pub(crate) name: Option<&'a str>,
    /// Its memory, a number with M or G.
    pub(crate) memory: &'a str,
    /// The vGPUs, for the hook.
    pub(crate) metadata: &'a Metadata,
    /// The same, each as the value of QEMU's `-device`.
    pub(crate) devices: &'a [String],
}

/// What a whole one has beside the parts. The vGPU is its only display, and what is shared with a
/// device cannot be given back by a balloon.
const REST: &str = "  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
  </os>
  <features>
    <acpi/>
    <apic/>
  </features>
  <cpu mode='maximum'/>
  <devices>
    <console type='pty'/>
    <video>
      <model type='none'/>
    </video>
    <memballoon model='none'/>
  </devices>
";

impl Domain<'_> {
    pub(crate) fn xml(&self) -> String {
        let kind = if self.name.is_some() {
            " type='kvm'"
        } else {
            ""
        };
        let mut text =
            format!("<domain{kind} xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n");
        // Writing to a String cannot fail.
        if let Some(name) = self.name {
            let _ = writeln!(text, "  <name>{}</name>", escape(name));
        }
        text.push_str("  <metadata>\n");
        self.metadata.write(&mut text, "    ");
        text.push_str("  </metadata>\n");
        if self.name.is_some() {
            let number = self.memory.trim_end_matches(['M', 'G']);
            let unit = if self.memory.ends_with('G') {
                "GiB"
            } else {
                "MiB"
            };
            let _ = writeln!(text, "  <memory unit='{unit}'>{number}</memory>");
        }
        text.push_str(
            "  <memoryBacking>\n    <source type='memfd'/>\n    <access mode='shared'/>\n  </memoryBacking>\n",
        );
        if self.name.is_some() {
            text.push_str(REST);
        }
        text.push_str("  <qemu:commandline>\n");
        for device in self.devices {
            let device = escape(device);
            text.push_str("    <qemu:arg value='-device'/>\n");
            let _ = writeln!(text, "    <qemu:arg value='{device}'/>");
        }
        text.push_str("  </qemu:commandline>\n</domain>\n");
        text
    }
}
