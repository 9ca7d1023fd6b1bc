// SPDX-License-Identifier: GPL-2.0
//! The kernel's log, read record by record from `/dev/kmsg`.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The log as `dmesg` writes it: `[seconds.microseconds] text`, a line each.
pub fn read() -> Result<Vec<String>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open("/dev/kmsg", flags, Mode::empty())?;
    let mut lines = Vec::new();
    let mut record = [0; 8192];
    loop {
        match rustix::io::read(&file, &mut record) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(lines),
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]);
                lines.extend(line(&text));
            }
            // Overwritten while it was read; the next one is good again.
            Err(Errno::PIPE | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The last line of the log that mentions all of `words`.
pub fn last_about(words: &[&str]) -> Option<String> {
    let lines = read().ok()?;
    let about = |line: &&String| words.iter().all(|word| line.contains(word));
    let line = lines.iter().rev().find(about)?;
    let text = line
        .split_once("] ")
        .map_or(line.as_str(), |(_, text)| text);
    Some(text.to_owned())
}

/// One record: `priority,sequence,microseconds,flags;text`, then lines of its own.
fn line(record: &str) -> Option<String> {
    let (head, text) = record.split_once(';')?;
    let microseconds: u64 = head.split(',').nth(2)?.parse().ok()?;
    let (seconds, rest) = (microseconds / 1_000_000, microseconds % 1_000_000);
    Some(format!("[{seconds:5}.{rest:06}] {}", text.lines().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_lines_with_a_time() {
        let record = "3,511,12345678,-;DMAR: [DMA Read NO_PASID] fault\n SUBSYSTEM=pci\n";
        assert_eq!(
            line(record).as_deref(),
            Some("[   12.345678] DMAR: [DMA Read NO_PASID] fault")
        );
        assert_eq!(line("nonsense"), None);
    }
}
