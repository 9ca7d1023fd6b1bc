// SPDX-License-Identifier: GPL-2.0
//! The kinds of record.

use serde::Serialize;

use super::fields::{range, Fields};

/// One space of IOVAs.
#[derive(Debug, Clone, Serialize)]
pub struct Space {
    #[serde(rename = "space")]
    pub number: u64,
    /// `owned`, `shared` or `vm`.
    pub kind: String,
    pub translated: bool,
    pub pfs: Vec<String>,
    pub aperture: Option<(u64, u64)>,
    /// Bitmap of the IOMMU's page sizes.
    pub page_sizes: u64,
    pub mappings: u64,
    pub bytes: u64,
    pub pinned: u64,
    pub reserved: Vec<(u64, u64)>,
}

/// One open file of the device node.
#[derive(Debug, Clone, Serialize)]
pub struct Context {
    #[serde(rename = "context")]
    pub number: u64,
    pub pid: u64,
    /// 0 before it has one.
    pub space: u64,
    pub mappings: u64,
    pub bytes: u64,
    pub pinned: u64,
    pub comm: String,
}

/// What a mapping is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backing {
    /// A buffer of a program, by its address in there.
    User,
    /// A physical range.
    Phys,
    /// One that the IOMMU did not remove as it should: out of use for good.
    Poisoned,
}

/// One live mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mapping {
    pub space: u64,
    pub first: u64,
    pub last: u64,
    pub kind: Backing,
    pub read: bool,
    pub write: bool,
    /// Where it begins: a physical address, or one of the program.
    pub backing: u64,
    /// Smallest and largest IOMMU page; `None` for one that is gone.
    pub page: Option<(u64, u64)>,
    /// 0 for a kernel client's.
    pub context: u64,
    pub pid: u64,
    /// Which function of which module made it, for a kernel client's.
    pub caller: Option<String>,
    pub comm: String,
}

/// One mapping that went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gone {
    /// Nanoseconds since boot, by the clock of the kernel log.
    pub when: u64,
    /// `unmap`, `close`, `unbind`, `failed`.
    pub why: String,
    #[serde(flatten)]
    pub mapping: Mapping,
}

impl Space {
    pub fn from_fields(fields: &Fields) -> Option<Self> {
        Some(Self {
            number: fields.number("space")?,
            kind: fields.text("kind")?.into(),
            translated: fields.number("translated")? != 0,
            pfs: fields.list("pfs").map(String::from).collect(),
            aperture: fields.range("aperture", "-"),
            page_sizes: fields.number("pages").unwrap_or(0),
            mappings: fields.number("mappings")?,
            bytes: fields.number("bytes")?,
            pinned: fields.number("pinned")?,
            reserved: fields
                .list("reserved")
                .filter_map(|text| range(text, "-"))
                .collect(),
        })
    }
}

impl Context {
    pub fn from_fields(fields: &Fields) -> Option<Self> {
        Some(Self {
            number: fields.number("context")?,
            pid: fields.number("pid")?,
            space: fields.number("space")?,
            mappings: fields.number("mappings")?,
            bytes: fields.number("bytes")?,
            pinned: fields.number("pinned")?,
            comm: fields.text("comm").unwrap_or("-").into(),
        })
    }
}

impl Mapping {
    pub fn from_fields(fields: &Fields) -> Option<Self> {
        let access = fields.text("access")?;
        let kind = match fields.text("kind")? {
            "user" => Backing::User,
            "phys" => Backing::Phys,
            "poisoned" => Backing::Poisoned,
            _ => return None,
        };
        Some(Self {
            space: fields.number("space")?,
            first: fields.number("first")?,
            last: fields.number("last")?,
            kind,
            read: access.contains('r'),
            write: access.contains('w'),
            backing: fields.number("backing")?,
            page: fields.range("page", ".."),
            context: fields.number("context")?,
            pid: fields.number("pid")?,
            caller: fields.text("caller").map(|text| text.replace('/', " ")),
            comm: fields.text("comm").unwrap_or("-").into(),
        })
    }

    pub fn covers(&self, iova: u64) -> bool {
        self.first <= iova && iova <= self.last
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// Made by a kernel client that is gone: its function has no name any more.
    pub fn is_left_behind(&self) -> bool {
        let caller = self.caller.as_deref().unwrap_or_default();
        self.context == 0 && self.kind != Backing::Poisoned && caller.starts_with("0x")
    }

    /// Who made it, for people.
    pub fn maker(&self) -> String {
        match &self.caller {
            _ if self.is_left_behind() => "a kernel module that is gone".into(),
            Some(caller) => format!("kernel: {caller}"),
            None if self.pid != 0 => format!("{} (pid {})", self.comm, self.pid),
            None => "unknown".into(),
        }
    }

    /// `r`, `w` or `rw`.
    pub fn access(&self) -> &'static str {
        match (self.read, self.write) {
            (true, true) => "rw",
            (true, false) => "r",
            (false, true) => "w",
            (false, false) => "-",
        }
    }
}

impl Gone {
    pub fn from_fields(fields: &Fields) -> Option<Self> {
        Some(Self {
            when: fields.number("when")?,
            why: fields.text("why")?.into(),
            mapping: Mapping::from_fields(fields)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space() {
        let line = "space=1 kind=owned translated=1 pfs=0000:01:00.0,0000:02:00.0 \
                    aperture=0x0-0xffffffffffff pages=0x40201000 mappings=3 bytes=0x3000 \
                    pinned=0x2000 reserved=0xfee00000-0xfeefffff later=x";
        let space = Space::from_fields(&Fields::new(line)).unwrap();
        assert_eq!(
            (space.number, space.kind.as_str(), space.translated),
            (1, "owned", true)
        );
        assert_eq!(space.pfs, ["0000:01:00.0", "0000:02:00.0"]);
        assert_eq!(space.aperture, Some((0, 0xffff_ffff_ffff)));
        assert_eq!(space.reserved, [(0xfee0_0000, 0xfeef_ffff)]);
        let empty = line.replace("pfs=0000:01:00.0,0000:02:00.0", "pfs=-");
        assert!(Space::from_fields(&Fields::new(&empty))
            .unwrap()
            .pfs
            .is_empty());
    }

    #[test]
    fn mappings_of_programs_and_of_kernel_clients() {
        let program = "space=1 first=0x1000 last=0x2fff kind=user access=r backing=0x7f0000001000 \
                       page=0x1000..0x1000 context=7 pid=123 caller=- comm=my prog";
        let mapping = Mapping::from_fields(&Fields::new(program)).unwrap();
        assert_eq!((mapping.length(), mapping.access()), (0x2000, "r"));
        assert_eq!(mapping.maker(), "my prog (pid 123)");
        assert!(mapping.covers(0x2fff) && !mapping.covers(0x3000));

        let client = "space=1 first=0x1000 last=0x1fff kind=phys access=rw backing=0x9000 \
                      page=0x1000..0x1000 context=0 pid=0 caller=client_map/[qat_kclient] comm=-";
        let mapping = Mapping::from_fields(&Fields::new(client)).unwrap();
        assert_eq!(mapping.maker(), "kernel: client_map [qat_kclient]");
        assert!(!mapping.is_left_behind());
        let left = client.replace("client_map/[qat_kclient]", "0xffffffffc0001234");
        assert!(Mapping::from_fields(&Fields::new(&left))
            .unwrap()
            .is_left_behind());
    }

    #[test]
    fn what_went() {
        let line = "when=5000000000 space=1 first=0x1000 last=0x1fff kind=user access=rw \
                    backing=0x1000 context=7 pid=123 caller=- why=close comm=prog";
        let gone = Gone::from_fields(&Fields::new(line)).unwrap();
        assert_eq!((gone.when, gone.why.as_str()), (5_000_000_000, "close"));
        assert_eq!(gone.mapping.page, None);
    }
}
