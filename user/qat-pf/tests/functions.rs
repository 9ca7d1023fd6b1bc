// SPDX-License-Identifier: GPL-2.0
//! What comes and goes: VFs that the PF turns on and off, devices that QEMU unplugs and plugs in, resets; each also
//! while a transfer runs.

mod qemu;

use qemu::*;
use rustix::process::Signal;
use std::os::unix::fs::FileExt;

const SRIOV: u64 = 0x150;
/// Where a VF's registers lie in its configuration space.
const WINDOW: u64 = 0x108;

impl Wire {
    fn config(&mut self, offset: u64, size: u32) -> Vec<u8> {
        let payload = access(7, offset, size, &[]);
        self.ask(REGION_READ, &payload, &[]).expect("config")[16..].to_vec()
    }

    fn set_config(&mut self, offset: u64, data: &[u8]) {
        let size = u32::try_from(data.len()).expect("small");
        let payload = access(7, offset, size, data);
        self.ask(REGION_WRITE, &payload, &[]).expect("config");
    }

    /// A VF's register, in halves, as a guest reaches it.
    fn vf_read(&mut self, register: u64) -> u64 {
        let halves = [0, 4].map(|half| self.config(WINDOW + register + half, 4));
        u64::from_le_bytes(halves.concat().try_into().expect("eight"))
    }

    fn vf_write(&mut self, register: u64, value: u64) {
        let bytes = value.to_le_bytes();
        // The lower half starts a command, so it comes last.
        self.set_config(WINDOW + register + 4, &bytes[4..]);
        self.set_config(WINDOW + register, &bytes[..4]);
    }

    fn vf_start(&mut self, command: u64, source: u64, destination: u64, length: u64) {
        self.vf_write(0x08, source);
        self.vf_write(0x10, destination);
        self.vf_write(0x18, length);
        self.vf_write(0x20, command);
    }

    fn enable_vfs(&mut self, number: u16) {
        self.set_config(SRIOV + 0x10, &number.to_le_bytes());
        let control = if number > 0 { 9u16 } else { 0 };
        self.set_config(SRIOV + 8, &control.to_le_bytes());
    }

    /// Where the PCI Express capability is.
    fn express(&mut self) -> u64 {
        let first = u64::from(self.config(0x34, 1)[0]);
        let mut at = first;
        while self.config(at, 1)[0] != 0x10 {
            at = u64::from(self.config(at + 1, 1)[0]);
        }
        at
    }

    fn flr(&mut self) {
        let express = self.express();
        self.set_config(express + 8, &[0x10, 0xa8]);
    }

    /// Transactions Pending of the device status.
    fn pending(&mut self) -> bool {
        let express = self.express();
        self.config(express + 10, 1)[0] & 0x20 != 0
    }
}

/// A PF with two VFs, all of them past the reset that QEMU begins with.
fn card(options: &[&str]) -> (Client, [Wire; 2]) {
    let mut client = Client::greet(Program::start_with(&[&["--vfs", "2"], options].concat()));
    let mut vfs = [0, 1].map(|index| client.virtual_function(index));
    client.ask(RESET, &[], &[]).expect("reset");
    for vf in &mut vfs {
        vf.ask(RESET, &[], &[]).expect("reset");
    }
    (client, vfs)
}

/// Memory that a function reaches from 0 on.
fn reach(wire: &mut Wire, size: u64) -> std::fs::File {
    let ram = memory(size);
    wire.map(&ram, 3, 0, 0, size).expect("map");
    ram
}

#[test]
fn sriov_is_hidden_from_qemu_and_not_from_the_guest() {
    let mut client = Client::greet(Program::start_with(&["--vfs", "2"]));
    let mut vf = client.virtual_function(0);
    // What QEMU looks at: a vendor-specific capability, and VFs that have an identity.
    assert_eq!(client.config(SRIOV, 4), [0x0b, 0, 1, 0]);
    assert_eq!(vf.config(0, 4), [0x86, 0x80, 0x41, 0x49]);
    assert_eq!(vf.config(0x100, 4), [0x0b, 0, 1, 0]);
    client.ask(RESET, &[], &[]).expect("reset");
    vf.ask(RESET, &[], &[]).expect("reset");
    assert_eq!(client.config(SRIOV, 4), [0x10, 0, 1, 0]);
    assert_eq!(client.config(SRIOV + 0x0e, 2), [2, 0]);
    assert_eq!(client.config(SRIOV + 0x1a, 2), [0x41, 0x49]);
    // Not there before it is turned on.
    assert_eq!(vf.config(0, 64), [0xff; 64]);
    assert_eq!(vf.vf_read(0), u64::MAX);
    client.enable_vfs(1);
    assert_eq!(vf.vf_read(0), u64::from_le_bytes(*b"QATPFDMA"));
    assert_eq!(vf.config(0, 4), [0xff; 4]);
}

#[test]
fn a_vf_moves_data_of_its_own_and_has_a_record_of_its_own() {
    let (mut client, [mut first, mut second]) = card(&[]);
    client.enable_vfs(2);
    let ram = reach(&mut first, 0x4000);
    ram.write_all_at(b"by a VF", 0x123).expect("write");
    first.set_config(4, &[4, 0]);
    first.vf_start(1, 0x123, 0x2000, 7);
    assert_eq!(first.vf_read(0x28), 1);
    let mut seen = [0; 7];
    ram.read_exact_at(&mut seen, 0x2000).expect("read");
    assert_eq!(&seen, b"by a VF");

    // What one reaches the others do not.
    second.set_config(4, &[4, 0]);
    assert_eq!((second.vf_read(0x70), client.read(0x70)), (0, 0));
    second.vf_start(3, 0x123, 0, 7);
    let (id, command, iova, ..) = second.dma_request();
    assert_eq!((command, iova), (DMA_READ, 0x123));
    second.send(&message(id, DMA_READ, 0x21, &[]), &[]);
    assert_eq!((second.vf_read(0x28), second.vf_read(0x30)), (2, 0x123));

    first.vf_write(0xa8, 1);
    assert_eq!(
        [0xa8, 0xc0, 0xc8, 0xd0].map(|register| first.vf_read(register)),
        [1, 0, 0x4000, 3]
    );
    drop((first, second));
    let (output, record) = client.leave();
    assert!(output.status.success(), "{output:?}");
    let vfs = record["vfs"].as_array().expect("a list");
    assert_eq!(
        (&vfs[0]["name"], &vfs[0]["id"]),
        (&"pf3.vf0".into(), &"8086:4941".into())
    );
    assert_eq!(vfs[0]["ever"], serde_json::json!([range(0, 0x4000)]));
    assert_eq!(
        (&vfs[0]["dma"]["done"], &vfs[1]["dma"]["faults"]),
        (&1.into(), &1.into())
    );
    assert_eq!(
        (&record["ever"], &record["dma"]["done"]),
        (&serde_json::json!([]), &0.into())
    );
}

#[test]
fn turning_vfs_off_ends_their_transfers() {
    let (mut client, [mut vf, _]) = card(&[]);
    for round in 0..2 {
        client.enable_vfs(2);
        vf.set_config(4, &[4, 0]);
        vf.vf_start(3, 0x1000, 0, 1);
        let (id, ..) = vf.dma_request();
        assert_eq!(vf.vf_read(0x28), 0);
        if round == 0 {
            client.enable_vfs(0);
        } else {
            client.flr();
        }
        assert_eq!(vf.config(0, 16), [0xff; 16]);
        // QEMU's answer to the transfer that is no more.
        let late = bytes(&[&0x1000u64.to_le_bytes(), &1u64.to_le_bytes(), b"x"]);
        vf.send(&message(id, DMA_READ, 1, &late), &[]);
        client.enable_vfs(2);
        assert_eq!(
            [0x08, 0x28, 0x40, 0x88].map(|r| vf.vf_read(r)),
            [0, 1, 0, 0]
        );
        assert_eq!(vf.config(4, 1), [0], "bus mastering is off again");
        client.enable_vfs(0);
    }
    // Fewer than there are, and more.
    client.enable_vfs(1);
    assert_eq!(vf.vf_read(0x28), 1);
    client.enable_vfs(200);
    assert_eq!(vf.vf_read(0x28), 1);
}

#[test]
fn resets_and_bus_mastering_off_end_a_long_transfer() {
    const SIZE: u64 = 4 << 30;
    let (mut client, [mut vf, _]) = card(&[]);
    client.enable_vfs(2);
    let ram = memory(SIZE);
    client.map(&ram, 3, 0, 0, SIZE).expect("map");
    vf.map(&ram, 3, 0, 0, SIZE).expect("map");
    vf.set_config(4, &[4, 0]);

    // Each is stopped while it runs; a checksum of so much takes many turns.
    client.bus_master();
    client.start(3, 0, 0, SIZE);
    assert_eq!(client.read(0x28), 0, "it runs");
    client.set_config(4, &[2, 0]);
    let (status, at, moved) = (client.read(0x28), client.read(0x30), client.read(0x88));
    assert_eq!(status, 2, "no bus mastering is a fault");
    assert!(at == moved && (1..SIZE).contains(&at), "{at:#x} {moved:#x}");

    client.bus_master();
    client.start(3, 0, 0, SIZE);
    vf.vf_start(3, 0, 0, SIZE);
    assert_eq!((client.read(0x28), vf.vf_read(0x28)), (0, 0));
    client.flr();
    assert_eq!([0x28, 0x40, 0x88].map(|r| client.read(r)), [1, 0, 0]);
    assert_eq!(vf.vf_read(0x28), u64::MAX, "the VFs went with the reset");
    assert_eq!(
        client.read(0x70),
        SIZE,
        "what it may reach is the IOMMU's affair"
    );
    client.enable_vfs(1);
    assert_eq!([0x28, 0x40, 0x88].map(|r| vf.vf_read(r)), [1, 0, 0]);
    vf.set_config(4, &[4, 0]);
    vf.vf_start(3, 0, 0, SIZE);
    assert_eq!(vf.vf_read(0x28), 0);
    vf.flr();
    assert_eq!([0x28, 0x40, 0x88].map(|r| vf.vf_read(r)), [1, 0, 0]);
    drop((vf, ram));
    assert_eq!(client.read(0), u64::from_le_bytes(*b"QATPFDMA"));
}

#[test]
fn a_write_on_its_way_is_pending_until_it_is_answered_whatever_is_reset() {
    let mut client = Client::new();
    client.bus_master();
    assert!(!client.pending());
    client.start(2, 0, 0x5555_0000, 8);
    let (id, command, ..) = client.dma_request();
    assert_eq!((command, client.pending()), (DMA_WRITE, true));
    client.flr();
    assert!(client.pending(), "QEMU may still write it");
    client.send(&message(id, DMA_WRITE, 1, &[]), &[]);
    assert!(!client.pending());
}

#[test]
fn an_unplugged_device_comes_back_new_and_its_record_goes_on() {
    let (mut client, [mut vf, other]) = card(&["--stay"]);
    reach(&mut client, 0x1000);
    client.bus_master();
    client.start(3, 0, 0, 0x1000);
    client.enable_vfs(1);
    reach(&mut vf, 0x2000);
    vf.set_config(4, &[4, 0]);
    vf.vf_start(3, 0x1_0000, 0, 1);
    vf.dma_request();
    // Unplugged in the middle, without a word.
    let path = client.folder.path().join("socket");
    let Client {
        child,
        folder,
        wire,
    } = client;
    drop((wire, vf, other));
    let mut client = Client {
        child,
        folder,
        wire: Wire::greeted(&path),
    };
    let mut vf = client.virtual_function(0);
    assert_eq!(
        client.config(SRIOV, 4),
        [0x0b, 0, 1, 0],
        "hidden from QEMU again"
    );
    assert_eq!(client.config(4, 1), [0]);
    client.ask(RESET, &[], &[]).expect("reset");
    vf.ask(RESET, &[], &[]).expect("reset");
    assert_eq!(
        [0x28, 0x70, 0xa0].map(|r| client.read(r)),
        [1, 0, 0],
        "nothing is within reach"
    );
    assert_eq!(vf.vf_read(0), u64::MAX);
    client.enable_vfs(1);
    assert_eq!([0x28, 0x70].map(|r| vf.vf_read(r)), [1, 0]);
    client
        .map(&memory(0x1000), 3, 0, 0x5000, 0x1000)
        .expect("map");

    signal(&client.child, Signal::TERM);
    let output = finish(client.child);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let record = record_in(&client.folder);
    assert_eq!(record["ended"], "signal");
    assert_eq!(record["now"], serde_json::json!([range(0x5000, 0x1000)]));
    let ever = serde_json::json!([range(0, 0x1000), range(0x5000, 0x1000)]);
    assert_eq!(
        (&record["ever"], &record["dma"]["done"]),
        (&ever, &1.into())
    );
    assert_eq!(
        record["vfs"][0]["ever"],
        serde_json::json!([range(0, 0x2000)])
    );
}

#[test]
fn without_stay_it_ends_when_the_last_function_has_gone() {
    let (client, [first, second]) = card(&[]);
    let Client {
        mut child,
        folder,
        wire,
    } = client;
    drop((wire, first));
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(child.try_wait().expect("wait").is_none());
    drop(second);
    assert!(finish(child).status.success());
    assert_eq!(record_in(&folder)["ended"], "disconnect");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("list").count(),
        1,
        "only the record is left"
    );
}
