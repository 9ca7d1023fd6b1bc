// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The layout of the interface, written out by hand once, and held against what
//! bindgen made of the header and against what C compilers make of it, for
//! 64-bit and 32-bit callers.

use qat_iommu_uapi as uapi;
use std::{
    fmt::Write as _,
    io::Write as _,
    mem::{align_of, offset_of, size_of},
    path::Path,
    process::{Command, Stdio},
};

/// One structure: its name, size, and the offset and size of every field.
struct Layout {
    name: &'static str,
    size: usize,
    fields: &'static [(&'static str, usize, usize)],
}

const LAYOUTS: &[Layout] = &[
    Layout {
        name: "qat_iommu_pf",
        size: 24,
        fields: &[
            ("segment", 0, 4),
            ("bus", 4, 1),
            ("device", 5, 1),
            ("function", 6, 1),
            ("reserved", 7, 1),
            ("vendor_id", 8, 2),
            ("device_id", 10, 2),
            ("flags", 12, 4),
            ("space", 16, 8),
        ],
    },
    Layout {
        name: "qat_iommu_range",
        size: 16,
        fields: &[("first", 0, 8), ("last", 8, 8)],
    },
    Layout {
        name: "qat_iommu_info",
        size: 88,
        fields: &[
            ("size", 0, 4),
            ("flags", 4, 4),
            ("abi_version", 8, 4),
            ("mode", 12, 4),
            ("aperture_first", 16, 8),
            ("aperture_last", 24, 8),
            ("page_sizes", 32, 8),
            ("generation", 40, 8),
            ("pfs", 48, 8),
            ("reserved_ranges", 56, 8),
            ("num_pfs", 64, 4),
            ("num_reserved_ranges", 68, 4),
            ("iommu_pages", 72, 8),
            ("space", 80, 8),
        ],
    },
    Layout {
        name: "qat_iommu_attach",
        size: 24,
        fields: &[
            ("size", 0, 4),
            ("flags", 4, 4),
            ("segment", 8, 4),
            ("bus", 12, 1),
            ("device", 13, 1),
            ("function", 14, 1),
            ("reserved", 15, 1),
            ("space", 16, 8),
        ],
    },
    Layout {
        name: "qat_iommu_map_phys",
        size: 40,
        fields: &[
            ("size", 0, 4),
            ("flags", 4, 4),
            ("phys", 8, 8),
            ("iova", 16, 8),
            ("length", 24, 8),
            ("mapped", 32, 8),
        ],
    },
    Layout {
        name: "qat_iommu_unmap",
        size: 24,
        fields: &[
            ("size", 0, 4),
            ("flags", 4, 4),
            ("iova", 8, 8),
            ("length", 16, 8),
        ],
    },
    Layout {
        name: "qat_iommu_user_buffer",
        size: 24,
        fields: &[("va", 0, 8), ("length", 8, 8), ("iova", 16, 8)],
    },
    Layout {
        name: "qat_iommu_map_user",
        size: 40,
        fields: &[
            ("size", 0, 4),
            ("flags", 4, 4),
            ("va", 8, 8),
            ("length", 16, 8),
            ("alignment", 24, 8),
            ("iova", 32, 8),
        ],
    },
    Layout {
        name: "qat_iommu_unmap_user",
        size: 24,
        fields: &[
            ("size", 0, 4),
            ("flags", 4, 4),
            ("va", 8, 8),
            ("length", 16, 8),
        ],
    },
    Layout {
        name: "qat_iommu_query",
        size: 40,
        fields: &[
            ("size", 0, 4),
            ("flags", 4, 4),
            ("iova", 8, 8),
            ("length", 16, 8),
            ("backing", 24, 8),
            ("kind", 32, 4),
            ("map_flags", 36, 4),
        ],
    },
    Layout {
        name: "qat_iommu_map_user_batch",
        size: 32,
        fields: &[
            ("size", 0, 4),
            ("flags", 4, 4),
            ("buffers", 8, 8),
            ("alignment", 16, 8),
            ("count", 24, 4),
            ("failed", 28, 4),
        ],
    },
    Layout {
        name: "qat_iommu_unmap_range",
        size: 16,
        fields: &[("iova", 0, 8), ("length", 8, 8)],
    },
    Layout {
        name: "qat_iommu_unmap_batch",
        size: 24,
        fields: &[
            ("size", 0, 4),
            ("flags", 4, 4),
            ("ranges", 8, 8),
            ("count", 16, 4),
            ("failed", 20, 4),
        ],
    },
];

/// Every constant of the interface and its value.
const CONSTANTS: &[(&str, u32)] = &[
    ("QAT_IOMMU_ABI_VERSION", 1),
    ("QAT_IOMMU_TYPE", 0x71),
    ("QAT_IOMMU_INFO", 0x7180),
    ("QAT_IOMMU_ATTACH", 0x7181),
    ("QAT_IOMMU_MAP_PHYS", 0x7182),
    ("QAT_IOMMU_UNMAP", 0x7183),
    ("QAT_IOMMU_MAP_USER", 0x7184),
    ("QAT_IOMMU_UNMAP_USER", 0x7185),
    ("QAT_IOMMU_QUERY", 0x7186),
    ("QAT_IOMMU_MAP_USER_BATCH", 0x7187),
    ("QAT_IOMMU_UNMAP_BATCH", 0x7188),
    ("QAT_IOMMU_MODE_NONE", 0),
    ("QAT_IOMMU_MODE_OWNED", 1),
    ("QAT_IOMMU_MODE_SHARED", 2),
    ("QAT_IOMMU_MODE_UNTRANSLATED", 3),
    ("QAT_IOMMU_MODE_VM", 4),
    ("QAT_IOMMU_PF_OWNED", 1),
    ("QAT_IOMMU_PF_TRANSLATED", 2),
    ("QAT_IOMMU_PF_INCOMPLETE", 4),
    ("QAT_IOMMU_PF_NO_FIXED", 8),
    ("QAT_IOMMU_PF_UNRESERVED", 16),
    ("QAT_IOMMU_ATTACH_DEFAULT", 1),
    ("QAT_IOMMU_MAP_READ", 1),
    ("QAT_IOMMU_MAP_WRITE", 2),
    ("QAT_IOMMU_MAP_FIXED", 4),
    ("QAT_IOMMU_UNMAP_FORCE", 1),
    ("QAT_IOMMU_QUERY_PHYS", 0),
    ("QAT_IOMMU_QUERY_USER", 1),
    ("QAT_IOMMU_BATCH_MAX", 65536),
];

fn size_of_field<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// Checks one generated structure against its entry of [`LAYOUTS`], field by
/// field and in order.
macro_rules! check_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {{
        let layout = LAYOUTS
            .iter()
            .find(|layout| layout.name == stringify!($name))
            .expect("a layout for every structure");
        let generated = [$((
            stringify!($field),
            offset_of!(uapi::$name, $field),
            size_of_field(|s: &uapi::$name| &s.$field),
        )),*];
        assert_eq!(generated[..], layout.fields[..], "{}", layout.name);
        assert_eq!(size_of::<uapi::$name>(), layout.size, "{}", layout.name);
        assert_eq!(align_of::<uapi::$name>(), 8, "{}", layout.name);
        // The pattern stops compiling when the header gains a field.
        let uapi::$name { $($field: _),* } = uapi::$name::default();
        1
    }};
}

#[test]
fn generated_structures_have_the_layout() {
    let checked = check_struct!(qat_iommu_pf {
        segment,
        bus,
        device,
        function,
        reserved,
        vendor_id,
        device_id,
        flags,
        space,
    }) + check_struct!(qat_iommu_range { first, last })
        + check_struct!(qat_iommu_info {
            size,
            flags,
            abi_version,
            mode,
            aperture_first,
            aperture_last,
            page_sizes,
            generation,
            pfs,
            reserved_ranges,
            num_pfs,
            num_reserved_ranges,
            iommu_pages,
            space,
        })
        + check_struct!(qat_iommu_attach {
            size,
            flags,
            segment,
            bus,
            device,
            function,
            reserved,
            space,
        })
        + check_struct!(qat_iommu_map_phys {
            size,
            flags,
            phys,
            iova,
            length,
            mapped,
        })
        + check_struct!(qat_iommu_unmap {
            size,
            flags,
            iova,
            length,
        })
        + check_struct!(qat_iommu_user_buffer { va, length, iova })
        + check_struct!(qat_iommu_map_user {
            size,
            flags,
            va,
            length,
            alignment,
            iova,
        })
        + check_struct!(qat_iommu_unmap_user {
            size,
            flags,
            va,
            length,
        })
        + check_struct!(qat_iommu_query {
            size,
            flags,
            iova,
            length,
            backing,
            kind,
            map_flags,
        })
        + check_struct!(qat_iommu_map_user_batch {
            size,
            flags,
            buffers,
            alignment,
            count,
            failed,
        })
        + check_struct!(qat_iommu_unmap_range { iova, length })
        + check_struct!(qat_iommu_unmap_batch {
            size,
            flags,
            ranges,
            count,
            failed,
        });
    assert_eq!(checked, LAYOUTS.len());
}

#[test]
fn layouts_leave_no_hidden_padding() {
    for layout in LAYOUTS {
        let end = layout.fields.iter().fold(0, |end, (field, offset, size)| {
            assert_eq!(*offset, end, "{}.{field}", layout.name);
            assert_eq!(offset % size, 0, "{}.{field}", layout.name);
            offset + size
        });
        assert_eq!(end, layout.size, "{}", layout.name);
    }
}

#[test]
fn generated_constants_have_their_values() {
    let generated = [
        uapi::QAT_IOMMU_ABI_VERSION.into(),
        uapi::QAT_IOMMU_TYPE.into(),
        uapi::QAT_IOMMU_INFO,
        uapi::QAT_IOMMU_ATTACH,
        uapi::QAT_IOMMU_MAP_PHYS,
        uapi::QAT_IOMMU_UNMAP,
        uapi::QAT_IOMMU_MAP_USER,
        uapi::QAT_IOMMU_UNMAP_USER,
        uapi::QAT_IOMMU_QUERY,
        uapi::QAT_IOMMU_MAP_USER_BATCH,
        uapi::QAT_IOMMU_UNMAP_BATCH,
        uapi::QAT_IOMMU_MODE_NONE,
        uapi::QAT_IOMMU_MODE_OWNED,
        uapi::QAT_IOMMU_MODE_SHARED,
        uapi::QAT_IOMMU_MODE_UNTRANSLATED,
        uapi::QAT_IOMMU_MODE_VM,
        uapi::QAT_IOMMU_PF_OWNED,
        uapi::QAT_IOMMU_PF_TRANSLATED,
        uapi::QAT_IOMMU_PF_INCOMPLETE,
        uapi::QAT_IOMMU_PF_NO_FIXED,
        uapi::QAT_IOMMU_PF_UNRESERVED,
        uapi::QAT_IOMMU_ATTACH_DEFAULT,
        uapi::QAT_IOMMU_MAP_READ,
        uapi::QAT_IOMMU_MAP_WRITE,
        uapi::QAT_IOMMU_MAP_FIXED,
        uapi::QAT_IOMMU_UNMAP_FORCE,
        uapi::QAT_IOMMU_QUERY_PHYS,
        uapi::QAT_IOMMU_QUERY_USER,
        uapi::QAT_IOMMU_BATCH_MAX,
    ];
    let written: Vec<u32> = CONSTANTS.iter().map(|(_, value)| *value).collect();
    assert_eq!(generated[..], written[..]);
}

/// The same facts as C assertions.
fn assertions() -> String {
    let mut source = String::from("#include <linux/qat_iommu.h>\n#include <stddef.h>\n");
    for (name, value) in CONSTANTS {
        writeln!(source, "_Static_assert({name} == {value}, \"{name}\");").unwrap();
    }
    for Layout { name, size, fields } in LAYOUTS {
        writeln!(
            source,
            "_Static_assert(sizeof(struct {name}) == {size}, \"{name}\");\n\
             _Static_assert(_Alignof(struct {name}) == 8, \"{name}\");"
        )
        .unwrap();
        for (field, offset, size) in *fields {
            writeln!(
                source,
                "_Static_assert(offsetof(struct {name}, {field}) == {offset}, \"{name}.{field}\");\n\
                 _Static_assert(sizeof(((struct {name} *)0)->{field}) == {size}, \"{name}.{field}\");"
            )
            .unwrap();
        }
    }
    source
}

fn compile_for(word: &str) {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../include/uapi");
    let mut cc = Command::new("cc")
        // Free-standing: a 32-bit C library need not be installed.
        .args([word, "-ffreestanding", "-fsyntax-only", "-std=gnu11"])
        .args(["-Wall", "-Wextra", "-Werror", "-I"])
        .arg(include)
        .args(["-xc", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("cc runs");
    cc.stdin
        .take()
        .unwrap()
        .write_all(assertions().as_bytes())
        .unwrap();
    assert!(cc.wait().unwrap().success(), "cc {word} refused the layout");
}

#[test]
fn c_has_the_layout_for_64_bit_callers() {
    compile_for("-m64");
}

#[test]
fn c_has_the_layout_for_32_bit_callers() {
    compile_for("-m32");
}
