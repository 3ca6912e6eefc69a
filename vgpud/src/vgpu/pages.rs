//! `vgpu completions`, `vgpu man`: made of the command lines' own descriptions.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use vgpud::arguments;

use crate::Vgpu;
use crate::output::print;

/// The page of what mounts the mdev files.
fn write_mdevs(path: &Path) -> io::Result<()> {
    let page = Man::new(arguments::MdevArguments::command()).section("8");
    page.render(&mut File::create(path)?)
}

/// What no command line tells of the daemon.
const DAEMON_DESCRIPTION: &str = include_str!("vgpud-description.roff");
const DAEMON_SECTIONS: &str = include_str!("vgpud-sections.roff");

#[derive(clap::Args)]
pub(crate) struct CompletionsArguments {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(clap::Args)]
pub(crate) struct ManArguments {
    /// Where to write vgpu.1, a page for each command, and vgpud.8 and vgpu-mdev.8
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(crate) fn completions(arguments: &CompletionsArguments) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Vgpu::command(), "vgpu", &mut script);
    Ok(print(&String::from_utf8(script)?)?)
}

pub(crate) fn man(arguments: &ManArguments) -> anyhow::Result<()> {
    let Some(folder) = &arguments.folder else {
        let mut page = Vec::new();
        Man::new(Vgpu::command()).render(&mut page)?;
        return Ok(print(&String::from_utf8(page)?)?);
    };
    let what = || format!("cannot write to {}", folder.display());
    let written: io::Result<()> =
        fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Vgpu::command(), folder));
    written
        .and_then(|()| write_daemons(&folder.join("vgpud.8")))
        .and_then(|()| write_mdevs(&folder.join("vgpu-mdev.8")))
        .with_context(what)
}

/// The page of the daemon, which prints none itself: it is no command of people's.
fn write_daemons(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let page = Man::new(arguments::Arguments::command()).section("8");
    page.render_title(&mut file)?;
    page.render_name_section(&mut file)?;
    page.render_synopsis_section(&mut file)?;
    file.write_all(DAEMON_DESCRIPTION.as_bytes())?;
    page.render_options_section(&mut file)?;
    file.write_all(DAEMON_SECTIONS.as_bytes())?;
    page.render_version_section(&mut file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Vgpu::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_says_what_it_is() {
        for command in Vgpu::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{name} {}",
                    argument.get_id()
                );
            }
        }
    }
}
