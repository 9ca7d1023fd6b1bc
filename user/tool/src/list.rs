// SPDX-License-Identifier: GPL-2.0
//! `qat-iommu list`: what is mapped, by whom, how large the IOMMU's pages are; once or again and
//! again.

use serde::Serialize;
use std::{fmt::Write as _, time::Duration};

use crate::host::Host;
use crate::number::{count, size};
use crate::output::{on_terminal, put, table, Output};
use crate::records::{Backing, Gone, Mapping, Records, Space};
use crate::signals;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Draw the list again every so many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
    /// Only the space with this number
    #[arg(long, value_name = "NUMBER")]
    space: Option<u64>,
    /// Show the open files of the device node instead
    #[arg(long, conflicts_with = "history")]
    contexts: bool,
    /// Show the mappings that went last instead
    #[arg(long)]
    history: bool,
}

/// A mapping with what follows from it.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    mapping: &'a Mapping,
    length: u64,
    left_behind: bool,
}

#[derive(Serialize)]
struct List<'a> {
    spaces: Vec<&'a Space>,
    mappings: Vec<Listed<'a>>,
    total: Total,
}

#[derive(Serialize)]
struct Total {
    mappings: usize,
    bytes: u64,
    left_behind: usize,
}

pub fn run(arguments: &Arguments, output: Output) -> anyhow::Result<()> {
    let host = Host::here();
    match arguments.watch {
        None => draw(&host, arguments, output),
        Some(seconds) => watch(&host, arguments, output, Duration::from_secs(seconds)),
    }
}

fn watch(
    host: &Host,
    arguments: &Arguments,
    output: Output,
    pause: Duration,
) -> anyhow::Result<()> {
    let mut ended = signals::catch()?;
    loop {
        if on_terminal() && !output.is_json() {
            put("\x1b[H\x1b[2J")?;
        }
        draw(host, arguments, output)?;
        if signals::within(&mut ended, pause).is_some() {
            return Ok(());
        }
    }
}

fn draw(host: &Host, arguments: &Arguments, output: Output) -> anyhow::Result<()> {
    let mut records = Records::read(host)?;
    if let Some(number) = arguments.space {
        anyhow::ensure!(
            records.space(number).is_some(),
            "there is no space {number}; `qat-iommu list` shows those there are"
        );
        records.spaces.retain(|space| space.number == number);
        records.contexts.retain(|context| context.space == number);
        records.mappings.retain(|mapping| mapping.space == number);
        records.history.retain(|gone| gone.mapping.space == number);
    }
    if arguments.contexts {
        return output.show(&records.contexts, |_| contexts(&records));
    }
    if arguments.history {
        return output.show(&records.history, |history| gone(history));
    }
    output.show(&list(&records), people)
}

fn list(records: &Records) -> List<'_> {
    let mappings: Vec<Listed> = records
        .mappings
        .iter()
        .map(|mapping| Listed {
            mapping,
            length: mapping.length(),
            left_behind: mapping.is_left_behind(),
        })
        .collect();
    List {
        spaces: records.spaces.iter().collect(),
        total: Total {
            mappings: mappings.len(),
            bytes: mappings.iter().map(|one| one.length).sum(),
            left_behind: mappings.iter().filter(|one| one.left_behind).count(),
        },
        mappings,
    }
}

fn people(list: &List) -> String {
    let mut text = String::new();
    for space in &list.spaces {
        let mine: Vec<&Listed> = list
            .mappings
            .iter()
            .filter(|one| one.mapping.space == space.number)
            .collect();
        text += &heading(space);
        text += "\n";
        if !mine.is_empty() {
            text += &table(
                ["IOVA", "SIZE", "ACCESS", "PAGES", "OF", "BY"],
                &[1],
                mine.into_iter().map(row).collect(),
            );
        }
        text += "\n";
    }
    if list.spaces.is_empty() {
        text += "no space: there is no usable PF\n";
    }
    let total = &list.total;
    let _ = writeln!(
        text,
        "{}, {}",
        count(total.mappings, "mapping"),
        size(total.bytes)
    );
    if total.left_behind > 0 {
        let _ = writeln!(
            text,
            "* {} left behind by a kernel module that is gone: once no device uses the memory, \
             `qat-iommu unmap --force IOVA SIZE`",
            count(total.left_behind, "mapping")
        );
    }
    text
}

fn heading(space: &Space) -> String {
    let pfs = match space.pfs.as_slice() {
        [] => "no PF at the moment".to_owned(),
        pfs => pfs.join(" "),
    };
    // Without a PF there is nothing to translate.
    let translated = if space.translated || space.pfs.is_empty() {
        ""
    } else {
        ", not translated"
    };
    format!(
        "space {} ({}{translated}): {pfs}; {}, {}, {} pinned",
        space.number,
        space.kind,
        count(
            usize::try_from(space.mappings).unwrap_or(usize::MAX),
            "mapping"
        ),
        size(space.bytes),
        size(space.pinned),
    )
}

fn row(one: &Listed) -> [String; 6] {
    let mapping = one.mapping;
    let mark = if one.left_behind { " *" } else { "" };
    [
        format!("{:#x}", mapping.first),
        size(one.length),
        mapping.access().into(),
        mapping.page.map_or("-".into(), pages),
        of(mapping),
        mapping.maker() + mark,
    ]
}

fn pages((least, most): (u64, u64)) -> String {
    if least == most {
        size(least)
    } else {
        format!("{}..{}", size(least), size(most))
    }
}

/// What a mapping is of.
fn of(mapping: &Mapping) -> String {
    match mapping.kind {
        Backing::User => format!("buffer {:#x}", mapping.backing),
        Backing::Phys => format!("physical {:#x}", mapping.backing),
        Backing::Poisoned => "out of use for good".into(),
    }
}

fn contexts(records: &Records) -> String {
    let rows = records.contexts.iter().map(|context| {
        [
            context.number.to_string(),
            context.pid.to_string(),
            context.comm.clone(),
            context.space.to_string(),
            context.mappings.to_string(),
            size(context.bytes),
            size(context.pinned),
        ]
    });
    table(
        [
            "CONTEXT", "PID", "PROGRAM", "SPACE", "MAPPINGS", "SIZE", "PINNED",
        ],
        &[0, 1, 3, 4, 5, 6],
        rows.collect(),
    )
}

fn gone(history: &[Gone]) -> String {
    let rows = history.iter().map(|gone| {
        let mapping = &gone.mapping;
        [
            format!(
                "{}.{:06}",
                gone.when / 1_000_000_000,
                gone.when / 1000 % 1_000_000
            ),
            mapping.space.to_string(),
            format!("{:#x}", mapping.first),
            size(mapping.length()),
            gone.why.clone(),
            of(mapping),
            mapping.maker(),
        ]
    });
    table(
        ["TIME", "SPACE", "IOVA", "SIZE", "WENT BY", "OF", "BY"],
        &[0, 1, 3],
        rows.collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Fields;

    fn heading_of(pfs: &str, translated: u8) -> String {
        let line = format!(
            "space=1 kind=owned translated={translated} pfs={pfs} aperture=0x0-0xffff \
             pages=0x1000 mappings=0 bytes=0x0 pinned=0x0 reserved=-"
        );
        heading(&Space::from_fields(&Fields::new(&line)).unwrap())
    }

    #[test]
    fn only_a_pf_can_go_untranslated() {
        let none = heading_of("-", 0);
        assert!(
            none.starts_with("space 1 (owned): no PF at the moment;"),
            "{none}"
        );
        let one = heading_of("0000:6b:00.0", 0);
        assert!(
            one.starts_with("space 1 (owned, not translated): 0000:6b:00.0;"),
            "{one}"
        );
        assert!(heading_of("0000:6b:00.0", 1).starts_with("space 1 (owned): "));
    }
}
