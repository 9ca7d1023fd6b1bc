// SPDX-License-Identifier: GPL-2.0
//! Every suite there is.

mod badinput;
mod churn;
mod compat32;
mod examples;
mod faults;
mod freed;
mod fuzz;
mod hostile;
mod identity;
mod info;
mod kclient;
mod kunit;
mod leaks;
mod library;
mod life;
mod lifetime;
mod lockdown;
mod mapping;
mod modparams;
mod multi;
mod nopf;
mod overlap;
mod process;
mod rebind;
mod several;
mod shared;
mod tool;
mod unmapping;
mod usdm;
mod user;
mod vm;
mod watch;

use crate::host::Host;
use crate::ktap::{Suite, Test};

fn suite(name: &'static str, about: &'static str, parts: Vec<Vec<Test<Host>>>) -> Suite<Host> {
    Suite {
        name,
        about,
        tests: parts.into_iter().flatten().collect(),
    }
}

/// All suites.
pub fn all() -> Vec<Suite<Host>> {
    vec![
        suite(
            "owned",
            "PFs of our own driver: map, unmap, overlap, lifetime, with real DMA",
            vec![
                mapping::tests(),
                unmapping::tests(),
                overlap::tests(),
                lifetime::tests(),
            ],
        ),
        suite(
            "edu",
            "the same in short on QEMU's edu device, the second opinion",
            vec![
                mapping::essential_tests(),
                unmapping::essential_tests(),
                overlap::essential_tests(),
                lifetime::essential_tests(),
            ],
        ),
        suite("info", "what INFO and ATTACH say", vec![info::tests()]),
        suite(
            "badinput",
            "malformed and forbidden requests of every kind",
            vec![badinput::tests()],
        ),
        suite("compat32", "32-bit callers", vec![compat32::tests()]),
        suite("multi", "several owned PFs", vec![multi::tests()]),
        suite(
            "rebind",
            "owned PFs that come and go",
            vec![rebind::tests()],
        ),
        suite(
            "life",
            "PFs that come and go while four threads map, unmap, look up and do DMA",
            life::suite_parts(),
        ),
        suite(
            "life-sriov",
            "the same with virtual functions",
            life::sriov_parts(),
        ),
        suite(
            "life-growth",
            "a group that grows while the module holds its PF",
            life::growth_parts(),
        ),
        suite(
            "life-hotplug",
            "PFs that are pulled out of their slots, and put in again",
            life::hotplug_parts(),
        ),
        suite(
            "churn",
            "random things done to PFs while four threads map, unmap, look up and do DMA",
            vec![churn::tests()],
        ),
        suite(
            "fuzz",
            "random commands of every kind, from threads and processes, against a model",
            vec![fuzz::tests()],
        ),
        suite(
            "user",
            "buffers of programs in an owned space, with real DMA",
            user::suite_parts(),
        ),
        suite(
            "user-edu",
            "the same in short on QEMU's edu device, with what is too much for the emulated PF",
            user::edu_parts(),
        ),
        suite(
            "user-many",
            "300,000 mapped buffers, and what the last of them cost",
            vec![user::many::tests()],
        ),
        suite(
            "user-untranslated",
            "buffers of programs where nothing translates, or nothing is done (a VM)",
            vec![user::untranslated::tests()],
        ),
        suite(
            "shared",
            "a PF that its own driver holds",
            vec![
                shared::tests(),
                mapping::shared_tests(),
                unmapping::tests(),
                overlap::tests(),
                lifetime::essential_tests(),
            ],
        ),
        suite(
            "shared-virtio",
            "the same behind virtio-iommu, which refuses it",
            vec![shared::virtio_tests()],
        ),
        suite(
            "shared-user",
            "buffers of programs in the space of a PF that its own driver holds",
            shared::user_parts(),
        ),
        suite(
            "shared-user-virtio",
            "the same behind virtio-iommu, where the kernel alone chooses addresses",
            shared::user_virtio_parts(),
        ),
        suite(
            "shared-load",
            "our mappings beside a driver at work",
            vec![shared::load_tests()],
        ),
        suite(
            "shared-load-virtio",
            "the same behind virtio-iommu",
            vec![shared::load_virtio_tests()],
        ),
        suite(
            "several",
            "several PFs: owned, shared, and both",
            several::suite_parts(),
        ),
        suite(
            "several-virtio",
            "the same behind virtio-iommu",
            several::virtio_parts(),
        ),
        suite(
            "shared-lazy",
            "addresses that the DMA API released and has yet to flush",
            vec![shared::lazy_tests()],
        ),
        suite(
            "identity",
            "PFs whose accesses are not translated",
            vec![identity::tests()],
        ),
        suite(
            "identity-owned",
            "the same of an owned PF",
            vec![identity::owned_tests()],
        ),
        suite(
            "nopf",
            "no usable PF",
            vec![nopf::tests(), user::nopf_tests()],
        ),
        suite(
            "unbound",
            "a PF that no driver holds, and then one does",
            vec![nopf::unbound_tests()],
        ),
        suite(
            "vm",
            "in a virtual machine: everything succeeds, nothing is done",
            vec![vm::tests(), library::vm_tests()],
        ),
        suite(
            "vm-as-host",
            "a virtual machine that is told to be a host",
            vec![vm::as_host_tests()],
        ),
        suite(
            "process",
            "contexts handed on and lost, cgroups without memory, the module that comes and goes",
            process::suite_parts(),
        ),
        suite(
            "process-shared",
            "what of that matters where PFs have drivers of their own",
            process::shared_parts(),
        ),
        suite(
            "leaks",
            "what the kernel has lost, where kmemleak looks for it",
            vec![leaks::tests()],
        ),
        suite(
            "hostile",
            "callers without rights, memory that changes or never comes, a million mappings",
            hostile::suite_parts(),
        ),
        suite(
            "faults",
            "every failure of every operation, with an owned PF",
            faults::suite_parts(),
        ),
        suite(
            "faults-virtio",
            "the same behind virtio-iommu, where to undo a mapping can fail",
            faults::virtio_parts(),
        ),
        suite(
            "faults-shared",
            "the same with a PF that its own driver holds",
            faults::shared_parts(),
        ),
        suite(
            "faults-pfs",
            "every failure while an owned PF comes or goes",
            faults::pf_parts(),
        ),
        suite(
            "faults-buffers",
            "every failure of what is done to buffers alone",
            faults::buffer_parts(),
        ),
        suite(
            "kunit",
            "what KUnit found inside the kernel, where it has KUnit",
            vec![kunit::tests()],
        ),
        suite(
            "watch",
            "listings, history and tracepoints, against what is really there",
            watch::suite_parts(),
        ),
        suite(
            "watch-shared",
            "the same in short for a PF that its own driver holds",
            watch::shared_parts(),
        ),
        suite(
            "usdm",
            "the zero-copy calls from C programs",
            vec![usdm::tests()],
        ),
        suite(
            "examples",
            "the programs and kernel modules under examples/",
            vec![examples::tests()],
        ),
        suite(
            "examples-shared",
            "those of them that a shared PF allows",
            vec![examples::shared_tests()],
        ),
        suite(
            "library",
            "the classic calls from a C program",
            vec![library::tests()],
        ),
        suite(
            "kclient",
            "the classic calls from kernel modules",
            vec![kclient::tests()],
        ),
        suite(
            "tool",
            "the tool's commands, and its manual",
            vec![
                tool::manual::tests(),
                tool::commands::tests(),
                tool::programs::tests(),
            ],
        ),
        suite(
            "tool-doctor",
            "hosts that are broken on purpose, and what doctor says of them",
            vec![tool::doctor::tests()],
        ),
        suite(
            "tool-explain",
            "faults of every kind, by real DMA, and what explain says of them",
            vec![tool::explain::tests()],
        ),
        suite(
            "tool-edu",
            "explain and selftest with QEMU's edu device",
            vec![tool::explain::edu_tests(), tool::commands::edu_tests()],
        ),
        suite(
            "tool-amd",
            "explain where the IOMMU tells no address",
            vec![tool::explain::amd_tests()],
        ),
        suite(
            "tool-virtio",
            "explain behind virtio-iommu",
            vec![tool::explain::virtio_tests()],
        ),
        suite(
            "tool-no-iommu",
            "doctor without an IOMMU",
            vec![tool::boots::no_iommu()],
        ),
        suite(
            "tool-iommu-off",
            "doctor with an IOMMU that is off",
            vec![tool::boots::iommu_off()],
        ),
        suite(
            "tool-passthrough",
            "doctor with an IOMMU that passes through",
            vec![tool::boots::passthrough()],
        ),
        suite(
            "tool-no-pf",
            "doctor without a PF",
            vec![tool::boots::no_pf()],
        ),
        suite(
            "tool-vm",
            "doctor in a virtual machine",
            vec![tool::boots::in_a_vm()],
        ),
        suite(
            "tool-shared",
            "doctor with a shared PF",
            vec![tool::boots::shared()],
        ),
        suite(
            "tool-shared-virtio",
            "the same behind virtio-iommu",
            vec![tool::boots::shared_virtio()],
        ),
        suite(
            "tool-vfs",
            "doctor and bind with VFs that are on",
            vec![tool::boots::vfs()],
        ),
        suite(
            "tool-group",
            "doctor and bind with a group of several devices",
            vec![tool::boots::grouped()],
        ),
        suite(
            "tool-signatures",
            "doctor where only signed modules are loaded",
            vec![tool::boots::signatures()],
        ),
        suite(
            "tool-lockdown",
            "doctor on a kernel that is locked down",
            vec![tool::boots::lockdown()],
        ),
        suite(
            "modparams",
            "the module's parameters",
            vec![modparams::tests()],
        ),
        suite(
            "lockdown",
            "a kernel that is locked down; ends what its machine is good for",
            vec![lockdown::tests()],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::all;
    use std::collections::BTreeSet;

    const SECURITY: &str = include_str!("../../../docs/security.md");

    /// The last column of its table of attacks.
    fn named() -> BTreeSet<&'static str> {
        let (_, table) = SECURITY
            .split_once("| attack | what happens | tests |")
            .expect("a table");
        table
            .lines()
            .filter_map(|line| line.strip_suffix(" |")?.rsplit_once(" | "))
            .flat_map(|(_, tests)| tests.split(", "))
            .map(|test| test.trim_matches('`'))
            .filter(|test| *test != "---")
            .collect()
    }

    #[test]
    fn every_test_that_the_documentation_names_exists() {
        let suites = all();
        let known: BTreeSet<String> = suites
            .iter()
            .flat_map(|suite| suite.tests.iter().map(move |test| (suite.name, test.name)))
            .map(|(suite, test)| format!("{suite}::{test}"))
            .collect();
        let named = named();
        assert!(named.len() > 50, "only {} are named", named.len());
        for test in named {
            assert!(known.contains(test), "docs/security.md names {test}");
        }
    }
}
