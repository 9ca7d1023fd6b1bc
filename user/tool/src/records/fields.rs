// SPDX-License-Identifier: GPL-2.0
//! One record: `key=value` pairs with a space between them. `comm` is the last, as the name of a
//! process may hold spaces.

/// The pairs of one line.
#[derive(Debug)]
pub struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    pub fn new(line: &'a str) -> Self {
        let (pairs, comm) = match line.find("comm=") {
            Some(0) => ("", Some(line)),
            _ => match line.split_once(" comm=") {
                Some((pairs, _)) => (pairs, Some(&line[pairs.len() + 1..])),
                None => (line, None),
            },
        };
        let words = pairs.split(' ').chain(comm);
        Self(words.filter_map(|word| word.split_once('=')).collect())
    }

    /// The text of a key; `-` stands for nothing.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let (_, value) = self.0.iter().find(|(name, _)| *name == key)?;
        (*value != "-").then_some(value)
    }

    pub fn number(&self, key: &str) -> Option<u64> {
        crate::number::parse(self.text(key)?).ok()
    }

    /// `FIRST..LAST` or `FIRST-LAST`.
    pub fn range(&self, key: &str, separator: &str) -> Option<(u64, u64)> {
        range(self.text(key)?, separator)
    }

    /// A list with commas.
    pub fn list(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.text(key).into_iter().flat_map(|text| text.split(','))
    }
}

/// Two numbers with something between them.
pub fn range(text: &str, separator: &str) -> Option<(u64, u64)> {
    let (first, last) = text.split_once(separator)?;
    Some((
        crate::number::parse(first).ok()?,
        crate::number::parse(last).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_may_hold_spaces_and_what_looks_like_pairs() {
        let fields = Fields::new("space=1 caller=- comm=my prog space=2");
        assert_eq!(fields.number("space"), Some(1));
        assert_eq!(fields.text("caller"), None);
        assert_eq!(fields.text("comm"), Some("my prog space=2"));
    }

    #[test]
    fn ranges_and_lists() {
        let fields = Fields::new("page=0x1000..0x200000 pfs=a,b aperture=0x0-0xff");
        assert_eq!(fields.range("page", ".."), Some((0x1000, 0x20_0000)));
        assert_eq!(fields.range("aperture", "-"), Some((0, 0xff)));
        assert_eq!(fields.list("pfs").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(fields.list("none").count(), 0);
    }
}
