// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! Maps a buffer for the PFs, lists what is mapped, and unmaps it: what a program does
//! around handing the IOVA to its device. Needs the module and a PF.

use qat_iommu::{Access, Context, Mapping, MappingMut, Placement};
use std::process::ExitCode;

fn run() -> Result<(), qat_iommu::Error> {
    let context = Context::open()?;
    let mut buffer = vec![0_u8; 1 << 20];
    let text = b"the device reads this";

    let mut mapping = MappingMut::new(&context, &mut buffer, Access::ReadWrite, Placement::Any)?;
    let input = Mapping::new(&context, text, Placement::Any)?;
    mapping.copy_in(0, text);
    println!(
        "to be written at {}, read at {}",
        mapping.iova(),
        input.iova()
    );
    for mapped in context.mappings() {
        println!("mapped: {:?}", mapped?);
    }

    input.unmap()?;
    mapping.unmap()?;
    println!("{} mappings left", context.mappings().count());
    println!("{}", String::from_utf8_lossy(&buffer[..text.len()]));
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
