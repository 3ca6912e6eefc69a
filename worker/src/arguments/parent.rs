//! The part of the command line that says on which physical device vGPUs stand.

use mdev::host::PciAddress;

use super::attribute;
use super::sandbox::bytes;

/// The physical device, if vGPUs stand on one.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ParentArguments {
    /// The physical device that the vGPU stands on, which vfio-pci must have: a PCI address
    #[arg(long = "parent", value_name = "ADDRESS", id = "parent")]
    pub address: Option<PciAddress>,

    /// An open socket over which the files of that device come. Then vGPUs are asked for over the
    /// control socket, and there may be several
    #[arg(
        long,
        value_name = "FDNUM",
        requires_all = ["parent", "control"],
        conflicts_with_all = ["type_name", "socket_path", "fd", "leased", "attributes"]
    )]
    pub parent_files: Option<i32>,

    /// A setting of the physical device; may be given several times
    #[arg(long = "parent-setting", value_name = "NAME=VALUE", requires = "parent", value_parser = attribute)]
    pub settings: Vec<(String, String)>,

    /// Most memory that may be locked for the physical device, in bytes or with K, M or G, as far as
    /// whoever starts this may raise it
    #[arg(long, value_name = "BYTES", requires = "parent", value_parser = bytes)]
    pub lock_limit: Option<u64>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::Arguments;

    #[test]
    fn a_device_has_one_vgpu_that_is_named_or_those_that_are_asked_for() {
        let one = ["--parent", "01:00.0", "--type", "t", "--socket-path", "p"];
        let many = [
            "--parent",
            "01:00.0",
            "--parent-files",
            "3",
            "--control",
            "c",
        ];
        for (arguments, more, good) in [
            (&one, &[][..], true),
            (
                &one,
                &["--parent-setting", "a=1", "--lock-limit", "64M"],
                true,
            ),
            (&one, &["--parent-setting", "a"], false),
            (&one, &["--parent-files", "3", "--control", "c"], false),
            (&many, &[], true),
            (&many, &["--parent-setting", "a=1"], true),
            (&many, &["--type", "t"], false),
            (&many, &["--socket-path", "p"], false),
            (&many, &["--fd", "4"], false),
            (&many, &["-o", "a=1"], false),
            (&many, &["--leased"], false),
        ] {
            let all = std::iter::once(&"vgpu-worker").chain(arguments).chain(more);
            let parsed = Arguments::try_parse_from(all);
            assert_eq!(parsed.is_ok(), good, "{arguments:?} {more:?}");
        }
        for arguments in [
            &many[..4],
            &["--parent-files", "3", "--control", "c"],
            &["--type", "t", "--socket-path", "p", "--lock-limit", "1M"],
        ] {
            let all = std::iter::once(&"vgpu-worker").chain(arguments);
            assert!(Arguments::try_parse_from(all).is_err(), "{arguments:?}");
        }
    }
}
