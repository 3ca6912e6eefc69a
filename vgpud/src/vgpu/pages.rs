//! `vgpu completions`, `vgpu man`: made of the command line's own description.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::Vgpu;
use crate::output::print;

#[derive(clap::Args)]
pub(crate) struct CompletionsArguments {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(clap::Args)]
pub(crate) struct ManArguments {
    /// Where to write vgpu.1, and a page for each command
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
    written.with_context(what)
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
