//! Help, completions and man pages: made of the command line, so that they leave nothing out.

mod cli_support;
mod support;

use std::fs;

use cli_support::printed;

/// The names of all commands, as `vgpu help` lists them.
fn commands() -> Vec<String> {
    let help = printed("--help");
    let listed = help.split_once("Commands:\n").map_or("", |(_, rest)| rest);
    let listed = listed.split_once("\n\n").map_or("", |(list, _)| list);
    let names = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names
        .map(str::to_owned)
        .filter(|name| name != "help")
        .collect()
}

#[test]
fn every_command_is_there_and_its_help_too() {
    let all = commands();
    for name in [
        "types",
        "list",
        "define",
        "undefine",
        "modify",
        "start",
        "stop",
        "show",
        "policy",
        "upgrade",
        "attach",
        "libvirt-hook",
        "screenshot",
        "save",
        "restore",
        "events",
        "doctor",
        "bind",
        "unbind",
        "completions",
        "man",
        "run",
        "status",
        "set",
    ] {
        assert!(all.iter().any(|command| command == name), "{name}");
        assert!(
            printed(&format!("{name} --help")).contains("Usage: vgpu "),
            "{name}"
        );
    }
    let help = printed("--help");
    for code in [
        "0  done",
        "1  refused",
        "2  the command line",
        "3  the daemon",
    ] {
        assert!(help.contains(code), "{code}");
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&format!("completions {shell}"));
        for name in commands() {
            assert!(script.contains(&name), "{shell}: {name}");
        }
    }
}

#[test]
fn there_is_a_man_page_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("man1");
    printed(&format!("man {}", folder.display()));
    let whole = printed("man");
    assert!(
        whole.starts_with(".ie") && whole.contains(".TH vgpu 1"),
        "{whole}"
    );
    for name in commands() {
        let in_roff = name.replace('-', r"\-");
        assert!(
            whole.contains(&format!(r"vgpu\-{in_roff}(1)")),
            "{name}: {whole}"
        );
        let page = fs::read_to_string(folder.join(format!("vgpu-{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    assert!(folder.join("vgpu.1").exists());
}
