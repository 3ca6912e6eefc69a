//! Kernel modules: found by name, ordered by what they say of themselves.
//!
//! A module lists what it needs in its own `.modinfo` section, so neither depmod nor its
//! `modules.dep` is wanted. What a kernel has built in, no module lists.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A module, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// As `lsmod` shows it: with underscores.
    pub name: String,
    /// The ELF file, uncompressed.
    pub image: Vec<u8>,
}

/// The modules that come with one kernel.
#[derive(Debug)]
pub struct ModuleTree {
    files: HashMap<String, PathBuf>,
    builtin: HashSet<String>,
}

impl ModuleTree {
    /// Finds the modules under `lib/modules/VERSION`.
    pub fn open(root: &Path) -> Result<Self> {
        let mut files = HashMap::new();
        find_modules(&root.join("kernel"), &mut files)?;
        let builtin = fs::read_to_string(root.join("modules.builtin")).unwrap_or_default();
        let builtin = builtin.lines().filter_map(|path| name_of(Path::new(path)));
        Ok(Self {
            files,
            builtin: builtin.collect(),
        })
    }

    /// Reads the wanted modules and everything that they need, each after what it needs itself.
    ///
    /// Those that the kernel has built in are left out.
    pub fn load_order(&self, wanted: &[String]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        for name in wanted {
            self.add(&name.replace('-', "_"), &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn add(&self, name: &str, seen: &mut HashSet<String>, order: &mut Vec<Module>) -> Result<()> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self
            .files
            .get(name)
            .ok_or_else(|| Error::Malformed(format!("this kernel has no module {name}")))?;
        let image = read_module(path)?;
        let info = modinfo(&image)
            .ok_or_else(|| Error::Malformed(format!("{}: no .modinfo", path.display())))?;
        for needed in depends(info) {
            self.add(&needed, seen, order)?;
        }
        order.push(Module {
            name: name.to_owned(),
            image,
        });
        Ok(())
    }
}

/// Adds every module below `directory` to `files`, by name.
fn find_modules(directory: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    let failed = || Error::io("list", directory);
    for entry in fs::read_dir(directory).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let path = entry.path();
        if entry.file_type().map_err(failed())?.is_dir() {
            find_modules(&path, files)?;
        } else if let Some(name) = name_of(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// The name of the module in `path`, if a module's file it is.
fn name_of(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let stem = file.strip_suffix(".xz").unwrap_or(file);
    Some(stem.strip_suffix(".ko")?.replace('-', "_"))
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    if path.extension().is_none_or(|extension| extension != "xz") {
        return Ok(bytes);
    }
    let mut image = Vec::new();
    lzma_rs::xz_decompress(&mut Cursor::new(bytes), &mut image)
        .map_err(|error| Error::Malformed(format!("{}: {error:?}", path.display())))?;
    Ok(image)
}

/// The modules that a `.modinfo` section says are needed.
fn depends(info: &[u8]) -> Vec<String> {
    info.split(|&byte| byte == 0)
        .filter_map(|entry| str::from_utf8(entry).ok()?.strip_prefix("depends="))
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

/// Finds the section `.modinfo` in a 64-bit little-endian ELF file.
fn modinfo(elf: &[u8]) -> Option<&[u8]> {
    let table = number(elf, 0x28, 8)?;
    let entry_len = number(elf, 0x3a, 2)?;
    let entries = number(elf, 0x3c, 2)?;
    let names = number(elf, 0x3e, 2)?;
    // `sh_name` is at 0 of a section header, `sh_offset` at 0x18, `sh_size` at 0x20.
    let content = |header: usize| {
        let offset = number(elf, header + 0x18, 8)?;
        elf.get(offset..offset + number(elf, header + 0x20, 8)?)
    };
    let names = content(table + names * entry_len)?;
    (0..entries)
        .map(|n| table + n * entry_len)
        .find(|&header| {
            let name = number(elf, header, 4).and_then(|at| names.get(at..));
            name.is_some_and(|name| name.starts_with(b".modinfo\0"))
        })
        .and_then(content)
}

/// Reads a little-endian number of `len` bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + len)?;
    Some(bytes.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with three sections: none, the names, and `.modinfo` holding `info`.
    fn elf(info: &[u8]) -> Vec<u8> {
        let names = b"\0.shstrtab\0.modinfo\0";
        let mut file = vec![0; 0x40];
        let sections = [(0, &b""[..]), (1, names), (11, info)];
        let mut headers = Vec::new();
        for (name, content) in sections {
            let mut header = [0; 0x40];
            header[..4].copy_from_slice(&u32::to_le_bytes(name));
            header[0x18..0x20].copy_from_slice(&(file.len() as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(content.len() as u64).to_le_bytes());
            headers.extend(header);
            file.extend(content);
        }
        let table = file.len() as u64;
        file[0x28..0x30].copy_from_slice(&table.to_le_bytes());
        file[0x3a..0x40].copy_from_slice(&[0x40, 0, 3, 0, 1, 0]);
        file.extend(headers);
        file
    }

    fn tree(modules: &[(&str, &str)], builtin: &str) -> (tempfile::TempDir, ModuleTree) {
        let root = tempfile::tempdir().unwrap();
        let kernel = root.path().join("kernel/drivers");
        fs::create_dir_all(&kernel).unwrap();
        for (file, needs) in modules {
            let info = format!("license=GPL\0depends={needs}\0name=x\0");
            fs::write(kernel.join(file), elf(info.as_bytes())).unwrap();
        }
        fs::write(root.path().join("modules.builtin"), builtin).unwrap();
        let tree = ModuleTree::open(root.path()).unwrap();
        (root, tree)
    }

    #[test]
    fn a_module_comes_once_and_after_what_it_needs() {
        let (_root, tree) = tree(
            &[
                ("drm.ko", ""),
                ("ttm.ko", "drm"),
                ("drm-kms-helper.ko", "drm"),
                ("bochs.ko", "drm-kms-helper,ttm,drm"),
            ],
            "kernel/drivers/8250_pci.ko\n",
        );
        let wanted = ["8250_pci", "bochs", "drm-kms-helper"].map(str::to_owned);
        let order = tree.load_order(&wanted).unwrap();
        let names: Vec<_> = order.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["drm", "drm_kms_helper", "ttm", "bochs"]);
    }

    #[test]
    fn an_unknown_module_is_an_error_that_names_it() {
        let (_root, tree) = tree(&[("a.ko", "b")], "");
        let error = tree.load_order(&["a".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "this kernel has no module b");
    }
}
