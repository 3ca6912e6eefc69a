//! What is packaged beside the programs says what is so.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Daemon, uuid};
use vgpud::config::Config;

fn packaged(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../packaging")
        .join(path)
}

fn read(path: &str) -> String {
    let path = packaged(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Words of a text that begin as metrics of ours do.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_of_word(c));
    let ours = words.filter(|word| word.starts_with("vgpud_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboard_look_at_metrics_that_are_served() {
    let daemon = Daemon::start();
    daemon.create(uuid(1), "bochs-4m");
    let served = daemon.client.metrics().unwrap();
    let names: BTreeSet<_> = served
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    for file in ["monitoring/alerts.yml", "monitoring/dashboard.json"] {
        let text = read(file);
        let wanted = metrics_in(&text);
        assert!(wanted.len() > 3, "{file}: {wanted:?}");
        for name in wanted {
            assert!(names.contains(name.as_str()), "{file}: {name}");
        }
    }
    // States are words of the metrics' labels as well.
    for state in ["failed", "starting", "recovering", "stopping"] {
        assert!(read("monitoring/alerts.yml").contains(state), "{state}");
        assert!(served.contains(&format!("state=\"{state}\"")), "{state}");
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("monitoring/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
}

/// The keys that the sources of the configuration have, as they are written in the file.
fn keys() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut keys = BTreeSet::new();
    for file in ["config.rs", "config/lasting.rs", "config/workers.rs"] {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        let mut is_file = false;
        for line in text.lines() {
            if line.contains("derive(") {
                is_file = line.contains("Deserialize");
            } else if line.starts_with('}') {
                is_file = false;
            }
            let field = line.strip_prefix("    ");
            let field = field.map(|field| field.strip_prefix("pub ").unwrap_or(field));
            let name = field
                .and_then(|field| field.split_once(": "))
                .map(|it| it.0);
            let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if let Some(name) = name.filter(is_name)
                && is_file
            {
                keys.insert(name.replace('_', "-"));
            }
        }
    }
    keys
}

#[test]
fn the_page_of_the_configuration_names_every_key() {
    let page = read("man/vgpud.toml.5").replace("\\-", "-");
    let config = read("config/vgpud.toml");
    let keys = keys();
    for known in [
        "on-stop",
        "token-file",
        "most-crashes",
        "video-memory",
        "first",
    ] {
        assert!(keys.contains(known), "{known}: {keys:?}");
    }
    for key in keys {
        let is_told = |text: &str| {
            let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
            text.split(|c| !is_of_word(c)).any(|word| word == key)
        };
        assert!(is_told(&page), "vgpud.toml(5) does not tell '{key}'");
        assert!(is_told(&config), "vgpud.toml does not show '{key}'");
    }
}

#[test]
fn the_configuration_that_is_packaged_changes_nothing_and_all_of_it_is_taken() {
    let text = read("config/vgpud.toml");
    assert_eq!(Config::parse(&text).unwrap(), Config::default());
    let shown: Vec<_> = text
        .lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .filter(|line| !line.starts_with(' '))
        .collect();
    let all = Config::parse(&shown.join("\n")).unwrap();
    assert_ne!(all, Config::default());
    assert_eq!(all.types.len(), 1);
}

#[test]
fn pages_are_written_for_every_program_and_groff_finds_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_vgpu"))
        .arg("man")
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    let daemons = fs::read_to_string(dir.path().join("vgpud.8")).unwrap();
    for section in [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "FILES",
        "ENVIRONMENT",
        "SIGNALS",
        "EXIT STATUS",
        "SEE ALSO",
    ] {
        assert!(daemons.contains(&format!(".SH {section}\n")), "{section}");
    }
    let written = fs::read_dir(dir.path()).unwrap();
    let pages = written.map(|entry| entry.unwrap().path());
    for page in pages.chain([packaged("man/vgpud.toml.5")]) {
        let groff = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(&page)
            .output();
        let Ok(output) = groff else {
            eprintln!("NOT RUN: there is no groff");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, "", "{}", page.display());
    }
}

#[test]
fn the_descriptor_names_the_program_that_is_packaged() {
    let text = read("vfio-user/50-vgpu-worker.json");
    let descriptor: serde_json::Value = serde_json::from_str(&text).unwrap();
    let binary = descriptor["binary"].as_str().unwrap();
    let manifest = include_str!("../Cargo.toml");
    let folder = binary
        .strip_prefix('/')
        .unwrap()
        .strip_suffix("vgpu-worker");
    let asset = format!("\"target/release/vgpu-worker\", \"{}\"", folder.unwrap());
    assert!(manifest.contains(&asset), "{asset}");
}
