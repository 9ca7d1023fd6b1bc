// SPDX-License-Identifier: GPL-2.0
//! Numbers and sizes as people write and read them.

/// An address or a count: decimal, or hexadecimal with 0x.
pub fn parse(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16),
        _ if text.starts_with('+') => "".parse(),
        _ => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is not a number: write 0x1000 or 4096"))
}

/// A size: a number, or one with K, M, G or T (powers of 1024).
pub fn parse_size(text: &str) -> Result<u64, String> {
    let upper = text.trim_end_matches(['i', 'B']).to_ascii_uppercase();
    let hexadecimal = upper.starts_with("0X");
    let shift = match upper.chars().last() {
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        _ => 0,
    };
    let wrong = || format!("`{text}` is not a size: write 4096, 0x1000, 64K, 2M or 1G");
    if shift == 0 || hexadecimal {
        return parse(text).map_err(|_| wrong());
    }
    let count = parse(&upper[..upper.len() - 1]).map_err(|_| wrong())?;
    count.checked_mul(1 << shift).ok_or_else(wrong)
}

/// A size in the largest unit that leaves a short number.
pub fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1 << 40, "T"),
        (1 << 30, "G"),
        (1 << 20, "M"),
        (1 << 10, "K"),
    ];
    for (unit, name) in UNITS {
        if bytes >= unit && bytes % unit == 0 {
            return format!("{}{name}", bytes / unit);
        }
        if bytes >= 10 * unit {
            return format!("{}.{}{name}", bytes / unit, bytes % unit * 10 / unit);
        }
    }
    format!("{bytes}B")
}

/// The sizes of a bitmap of page sizes, smallest first.
pub fn page_sizes(bitmap: u64) -> String {
    let sizes: Vec<String> = (0..64)
        .filter(|bit| (bitmap >> bit) & 1 != 0)
        .map(|bit| size(1 << bit))
        .collect();
    sizes.join(" ")
}

/// `1 thing`, `2 things`.
pub fn count(number: usize, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_two_bases_and_no_sign() {
        assert_eq!(parse("0x1F"), Ok(31));
        assert_eq!(parse("31"), Ok(31));
        for wrong in ["", "0x", "+1", "0x+1", "-1", "1f", "0x10000000000000000"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("64K"), Ok(65536));
        assert_eq!(parse_size("2MiB"), Ok(2 << 20));
        assert_eq!(parse_size("1g"), Ok(1 << 30));
        assert_eq!(parse_size("0x1000"), Ok(4096));
        assert_eq!(parse_size("5000"), Ok(5000));
        for wrong in ["", "K", "1X", "0x10K", "99999999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_written_short() {
        assert_eq!(size(0), "0B");
        assert_eq!(size(4096), "4K");
        assert_eq!(size(5000), "5000B");
        assert_eq!(size(3 << 19), "1536K");
        assert_eq!(size((64 << 20) + 4096), "64.0M");
        assert_eq!(page_sizes(0x4020_1000), "4K 2M 1G");
    }
}
