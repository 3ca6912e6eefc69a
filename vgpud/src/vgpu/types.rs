//! `vgpu types`: what can be run.

use serde::Serialize;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One type, as it is printed.
#[derive(Serialize)]
struct Row {
    name: String,
    title: String,
    description: String,
    /// Bytes.
    video_memory: u64,
}

pub(crate) fn list(arguments: &Arguments) -> anyhow::Result<()> {
    let rows: Vec<Row> = drivers::DRIVERS
        .iter()
        .flat_map(|driver| driver.types())
        .map(|spec| Row {
            name: spec.name,
            title: spec.title,
            description: spec.description,
            video_memory: spec.video_memory,
        })
        .collect();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in rows {
        println!("{:width$}  {}", row.name, row.description);
    }
    Ok(())
}
