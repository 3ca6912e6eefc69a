//! The archive format of initramfs images: cpio, "newc".
//!
//! The layout is in the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

/// File type and permission bits, as in `st_mode`.
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_777;

/// An archive in the making. Paths have no leading slash; a folder comes before what is in it.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY, b"");
    }

    /// Adds a file, executable: nothing here minds.
    pub fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, content);
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK, target.as_bytes());
    }

    /// Closes the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = 1;
        let name_len = path.len() + 1;
        let header = [
            self.entries,
            mode,
            0, // uid
            0, // gid
            links,
            0, // mtime
            content.len() as u32,
            0, // device, major and minor
            0,
            0, // device that a node stands for, major and minor
            0,
            name_len as u32,
            0, // checksum, unused in newc
        ];
        self.bytes.extend(b"070701");
        for field in header {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    /// Names and contents end on a multiple of four bytes.
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_starts_on_four_bytes_and_says_its_sizes() {
        for (name, content) in [("a", ""), ("ab", "x"), ("abc", "xyz"), ("abcd", "wxyz1")] {
            let mut archive = Archive::default();
            archive.file(name, content.as_bytes());
            let bytes = archive.finish();
            let field = |n: usize| {
                let text = str::from_utf8(&bytes[6 + 8 * n..][..8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            assert_eq!(field(6), content.len(), "{name}");
            assert_eq!(field(11), name.len() + 1, "{name}");
            let data = (110 + name.len() + 1).next_multiple_of(4);
            assert_eq!(&bytes[data..][..content.len()], content.as_bytes());
            let next = (data + content.len()).next_multiple_of(4);
            assert_eq!(&bytes[next..][..6], b"070701", "{name}");
            assert_eq!(bytes.len() % 4, 0, "{name}");
        }
    }
}
