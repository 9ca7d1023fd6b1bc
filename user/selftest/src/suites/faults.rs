// SPDX-License-Identifier: GPL-2.0
//! Every failure of every operation: each is done again and again, and each time the next of
//! the allocations and user copies in it fails, until there is none left that could. A failed one
//! has changed nothing, and the next try succeeds.

mod buffers;
mod clients;
mod files;
mod pfs;
mod poison;
mod ranges;
mod state;
mod sweep;

use crate::host::Host;
use crate::ktap::Test;

/// All that never undoes a mapping while something fails: on virtio-iommu to undo one can fail.
fn making() -> Vec<Vec<Test<Host>>> {
    vec![files::tests(), ranges::map_tests(), buffers::map_tests()]
}

/// With an owned PF, behind an IOMMU that can always undo.
pub fn suite_parts() -> Vec<Vec<Test<Host>>> {
    let mut parts = making();
    parts.extend([
        files::close_tests(),
        ranges::unmap_tests(),
        buffers::unmap_tests(),
        clients::tests(),
    ]);
    parts
}

/// With an owned PF behind virtio-iommu.
pub fn virtio_parts() -> Vec<Vec<Test<Host>>> {
    let mut parts = making();
    parts.push(poison::tests());
    parts
}

/// With a PF that its own driver holds.
pub fn shared_parts() -> Vec<Vec<Test<Host>>> {
    vec![
        ranges::map_tests(),
        buffers::map_tests(),
        files::close_tests(),
        ranges::unmap_tests(),
        buffers::unmap_tests(),
        pfs::shared_tests(),
    ]
}

/// Owned PFs that come and go, where the kernel's default domain passes through: to attach another
/// kind of domain on the way out takes memory, and the kernel warns when it does not get it.
pub fn pf_parts() -> Vec<Vec<Test<Host>>> {
    vec![pfs::tests()]
}

/// Buffers alone, for a kernel that watches what is freed while an IOMMU maps it. (Physical
/// ranges are whoever's they are.)
pub fn buffer_parts() -> Vec<Vec<Test<Host>>> {
    vec![buffers::map_tests(), buffers::unmap_tests()]
}
