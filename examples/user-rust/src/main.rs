// SPDX-License-Identifier: GPL-2.0
//! Zero-copy in Rust: a PF reads one buffer of this program and writes another. A mapping
//! borrows its buffer, so that the buffer cannot be freed or read carelessly meanwhile.

mod pf;

use pf::Pf;
use qat_iommu::{Access, Context, Mapping, MappingMut, Placement};
use std::{error::Error, process::ExitCode};

fn run() -> Result<(), Box<dyn Error>> {
    let mut pf = Pf::open()?;
    let context = Context::open()?;

    // What the PF reads: any bytes that stay where they are.
    let text = b"the device reads this".as_slice();
    let input = Mapping::new(&context, text, Placement::Any)?;
    println!(
        "1. {} bytes to read are at IOVA {}",
        text.len(),
        input.iova()
    );

    // What it writes: lent to the device until it is unmapped.
    let mut buffer = vec![0_u8; 1 << 20];
    let output = MappingMut::new(&context, &mut buffer, Access::ReadWrite, Placement::Any)?;
    println!(
        "2. {} bytes to write are at IOVA {}",
        output.len(),
        output.iova()
    );

    let status = pf.sum(input.iova().get(), text.len() as u64);
    if status != pf::DONE || pf.checksum() != pf::fnv1a(text) {
        return Err(format!("the PF read something else (status {status})").into());
    }
    println!(
        "3. PF {} read the first: checksum {:#x}, as computed here",
        pf.name,
        pf.checksum()
    );

    let word = *b"written!";
    let status = pf.fill(output.iova().get(), 1 << 20, u64::from_le_bytes(word));
    let mut seen = [0; 8];
    output.copy_out((1 << 20) - 8, &mut seen);
    if status != pf::DONE || seen != word {
        return Err(format!("the PF wrote something else (status {status})").into());
    }
    println!(
        "4. it wrote the second: it ends with \"{}\"",
        String::from_utf8_lossy(&seen)
    );

    // From here on the buffer is ours again.
    let iova = output.iova();
    output.unmap()?;
    input.unmap()?;
    if pf.fill(iova.get(), 8, 0) == pf::DONE || buffer[..8] != word {
        return Err("the PF still reaches the buffer".into());
    }
    println!("5. unmapped: the PF is refused at IOVA {:#x}", pf.fault());
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line that says what was wrong, and what to do.
            println!("   FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}
