// SPDX-License-Identifier: GPL-2.0
//! The program as a PF that QEMU drives.

mod qemu;

use qemu::*;
use rustix::process::Signal;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

#[test]
fn a_device_is_described() {
    let mut client = Client::new();
    let words = |bytes: &[u8]| -> Vec<u32> {
        bytes
            .chunks(4)
            .map(|word| u32::from_le_bytes(word.try_into().expect("four")))
            .collect()
    };
    let info = client.ask(
        GET_INFO,
        &[16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[],
    );
    assert_eq!(words(&info.expect("info")), [16, 3, 9, 5]);
    for (region, size) in [(0u32, 4096), (1, 0), (2, 8192), (6, 0), (7, 4096), (8, 0)] {
        let ask = bytes(&[
            &32u32.to_le_bytes(),
            &[0; 4],
            &region.to_le_bytes(),
            &[0; 20],
        ]);
        let info = words(&client.ask(GET_REGION_INFO, &ask, &[]).expect("region"));
        let flags = if size == 0 { 0 } else { 3 };
        assert_eq!(info, [32, flags, region, 0, size, 0, 0, 0]);
    }
    let ask = bytes(&[&16u32.to_le_bytes(), &[0; 4], &2u32.to_le_bytes(), &[0; 4]]);
    let info = words(&client.ask(GET_IRQ_INFO, &ask, &[]).expect("irq"));
    assert_eq!((info[2], info[3]), (2, 4));
    let config = client
        .ask(REGION_READ, &access(7, 0, 4096, &[]), &[])
        .expect("config");
    assert_eq!(config[16..20], [0x86, 0x80, 0x40, 0x49]);
    assert_eq!(client.read(0), u64::from_le_bytes(*b"QATPFDMA"));
    let (output, record) = client.leave();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert_eq!(
        (&record["name"], &record["id"]),
        (&"pf3".into(), &"8086:4940".into())
    );
}

#[test]
fn shared_memory_is_copied_and_the_transfer_over_before_the_next_read() {
    let mut client = Client::new();
    let ram = memory(0x8000);
    ram.write_all_at(b"across two pages", 0xff8).expect("write");
    client.map(&ram, 1, 0, 0x10_0000, 0x2000).expect("map");
    client.map(&ram, 3, 0x4000, 0x20_0000, 0x1000).expect("map");
    client.bus_master();
    client.start(1, 0x10_0ff8, 0x20_0100, 16);
    assert_eq!(client.read(0x28), 1);
    let mut seen = [0; 16];
    ram.read_exact_at(&mut seen, 0x4100).expect("read");
    assert_eq!(&seen, b"across two pages");

    // An interrupt, once a vector is set.
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).expect("eventfd");
    let set: Vec<u8> = [20u32, 0x24, 2, 0, 1]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    client
        .ask(SET_IRQS, &set, &[event.as_fd()])
        .expect("vector");
    client.start(2, 0, 0x20_0000, 8);
    let mut count = [0; 8];
    rustix::io::read(&event, &mut count).expect("an interrupt");
    assert_eq!(u64::from_le_bytes(count), 1);

    client.write(0x50, 1);
    let payload = unmap(0x10_0000, 0x2000);
    assert_eq!(client.ask(DMA_UNMAP, &payload, &[]), Ok(payload));
    client.map(&ram, 1, 0x1000, 0x30_0000, 0x1000).expect("map");
    assert_eq!(client.map(&ram, 3, 0, 0x30_0800, 0x1000), Err(EEXIST));
    assert_eq!(
        (client.read(0x68), client.read(0x70), client.read(0x98)),
        (2, 0x2000, 1)
    );
    let (output, record) = client.leave();
    assert!(output.status.success(), "{output:?}");
    let range = |iova: u64, size: u64, write: bool| serde_json::json!({"iova": iova, "size": size, "read": true, "write": write});
    let (first, second, third) = (
        range(0x10_0000, 0x2000, false),
        range(0x20_0000, 0x1000, true),
        range(0x30_0000, 0x1000, false),
    );
    assert_eq!(record["now"], serde_json::json!([second, third]));
    assert_eq!(record["ever"], serde_json::json!([first, second, third]));
    assert_eq!(record["added_after_boot"], 1);
    assert_eq!(
        record["added_after_boot_ranges"],
        serde_json::json!([third])
    );
    assert_eq!(
        (&record["maps"], &record["unmaps"], &record["refused"]),
        (&3.into(), &1.into(), &1.into())
    );
    assert_eq!(
        (&record["dma"]["done"], &record["dma"]["bytes"]),
        (&2.into(), &24.into())
    );
}

#[test]
fn registers_are_served_while_a_message_is_on_its_way() {
    let mut client = Client::new();
    client.bus_master();
    client.start(3, 0x5555_0123, 0, 8);
    let (id, command, iova, count, data) = client.dma_request();
    assert_eq!(
        (command, iova, count, data.len()),
        (DMA_READ, 0x5555_0123, 1, 0)
    );
    assert_eq!(client.read(0x28), 0);
    client.write(0x38, 7);
    assert_eq!(client.read(0x28), 0);
    // An answer to something else first; then the refusal.
    client.send(&message(id ^ 0x8000, DMA_READ, 0x21, &[]), &[]);
    assert_eq!(client.read(0x28), 0);
    client.send(&message(id, DMA_READ, 0x21, &[]), &[]);
    assert_eq!((client.read(0x28), client.read(0x30)), (2, 0x5555_0123));
    let (_, record) = client.leave();
    assert_eq!(record["dma"]["faults"], 1);
}

#[test]
fn messages_carry_the_data_where_nothing_is_shared() {
    let mut client = Client::new();
    client.bus_master();
    client.start(1, 0xff0, 0x8000, 0x20);
    let text = b"thirty-two bytes in all, no more";
    let (mut from, mut to) = (0usize, vec![]);
    while to.len() < text.len() {
        let (id, command, iova, count, data) = client.dma_request();
        let size = usize::try_from(count).expect("small");
        if command == DMA_READ {
            assert_eq!(iova, 0xff0 + u64::try_from(from).expect("small"));
            let payload = bytes(&[
                &iova.to_le_bytes(),
                &count.to_le_bytes(),
                &text[from..from + size],
            ]);
            from += size;
            client.send(&message(id, DMA_READ, 1, &payload), &[]);
        } else {
            assert_eq!((command, data.len()), (DMA_WRITE, size));
            assert_eq!(iova, 0x8000 + u64::try_from(to.len()).expect("small"));
            to.extend(data);
            client.send(&message(id, DMA_WRITE, 1, &[]), &[]);
        }
    }
    assert_eq!(
        (to, client.read(0x28), client.read(0x90)),
        (text.to_vec(), 1, 64)
    );
}

#[test]
fn with_messages_alone_the_table_is_recorded_and_moves_nothing() {
    let mut client = Client::greet(Program::start_with(&["--messages"]));
    let ram = memory(0x1000);
    ram.write_all_at(b"stale", 0).expect("write");
    client.map(&ram, 3, 0, 0x10_0000, 0x1000).expect("map");
    client.write(0x58, 0x10_0000);
    assert_eq!((client.read(0x60), client.read(0x70)), (3, 0x1000));
    client.bus_master();

    // One byte is read as QEMU has it, not the file; it is refused where it is to be written.
    client.start(1, 0x10_0000, 0x10_0800, 1);
    let (id, command, iova, count, _) = client.dma_request();
    assert_eq!((command, iova, count), (DMA_READ, 0x10_0000, 1));
    let reply = bytes(&[&iova.to_le_bytes(), &count.to_le_bytes(), b"Q"]);
    client.send(&message(id, DMA_READ, 1, &reply), &[]);
    let (id, command, iova, _, data) = client.dma_request();
    assert_eq!((command, iova), (DMA_WRITE, 0x10_0800));
    assert_eq!(data, b"Q");
    client.send(&message(id, DMA_WRITE, 0x21, &[]), &[]);
    assert_eq!((client.read(0x28), client.read(0x30)), (4, 0x10_0800));

    // A fill asks too, and so does the next transfer after a reset.
    client.ask(RESET, &[], &[]).expect("reset");
    client.bus_master();
    client.start(2, 0, 0x10_0000, 1);
    let (id, command, iova, ..) = client.dma_request();
    assert_eq!((command, iova), (DMA_WRITE, 0x10_0000));
    client.send(&message(id, DMA_WRITE, 1, &[]), &[]);
    assert_eq!((client.read(0x28), client.read(0x90)), (1, 1));

    let mut seen = vec![0; 0x1000];
    ram.read_exact_at(&mut seen, 0).expect("read");
    assert_eq!(&seen[..5], b"stale");
    assert!(seen[5..].iter().all(|&byte| byte == 0));
    let (output, record) = client.leave();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert_eq!(record["now"], serde_json::json!([range(0x10_0000, 0x1000)]));
    assert_eq!(
        (&record["maps"], &record["refused"]),
        (&1.into(), &0.into())
    );
}

#[test]
fn a_reset_forgets_the_transfer_and_its_late_answer() {
    let mut client = Client::new();
    client.bus_master();
    client.start(3, 0x1000, 0, 1);
    let (id, ..) = client.dma_request();
    client.ask(RESET, &[], &[]).expect("reset");
    assert_eq!(
        (client.read(0x28), client.read(0x08), client.read(0x40)),
        (1, 0, 0)
    );
    let late = bytes(&[&0x1000u64.to_le_bytes(), &1u64.to_le_bytes(), b"x"]);
    client.send(&message(id, DMA_READ, 1, &late), &[]);
    assert_eq!(
        (client.read(0x28), client.read(0x40), client.read(0x88)),
        (1, 0, 0)
    );
    // Bus mastering went with the reset.
    client.start(3, 0x1000, 0, 1);
    assert_eq!((client.read(0x28), client.read(0x30)), (2, 0x1000));
}

#[test]
fn thousands_of_maps_need_one_descriptor() {
    let mut client = Client::new();
    let ram = memory(0x1000 * 4096);
    for page in 0..4096u64 {
        client
            .map(&ram, 3, page * 4096, page * 8192, 4096)
            .expect("map");
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", client.child.id())).expect("descriptors");
    assert!(open.count() < 20);
    assert_eq!((client.read(0xa0), client.read(0x68)), (4096, 4096));
    // All of them in two halves, as QEMU does, the second of which ends at 2^64.
    client
        .ask(DMA_UNMAP, &unmap(0, 1 << 63), &[])
        .expect("unmap");
    client
        .ask(DMA_UNMAP, &unmap(1 << 63, 1 << 63), &[])
        .expect("unmap");
    assert_eq!((client.read(0xa0), client.read(0x70)), (0, 0));
}

#[test]
fn a_request_without_reply_gets_none() {
    let mut client = Client::new();
    let payload = access(0, 0x08, 8, &0x1234u64.to_le_bytes());
    client.send(&message(9, REGION_WRITE, 0x10, &payload), &[]);
    let bad = access(0, 0x10_0000, 8, &[0; 8]);
    client.send(&message(10, REGION_WRITE, 0x10, &bad), &[]);
    assert_eq!(client.read(0x08), 0x1234);
}

#[test]
fn malformed_requests_are_refused_and_do_no_harm() {
    let mut client = Client::new();
    let ram = memory(0x2000);
    let fd = || vec![ram.as_fd()];
    let cases: Vec<(u16, Vec<u8>, Vec<BorrowedFd>, u32)> = vec![
        (VERSION, vec![1, 0, 0, 0], vec![], EINVAL),
        (DMA_MAP, vec![], vec![], EINVAL),
        (DMA_MAP, map(3, 0, 0, 0x1000)[..31].to_vec(), fd(), EINVAL),
        (DMA_MAP, map(3, 0, 0, 0), fd(), EINVAL),
        (DMA_MAP, map(3, 0, u64::MAX, 2), fd(), EINVAL),
        (DMA_MAP, map(3, 0x1001, 0, 0x1000), fd(), EINVAL),
        (DMA_MAP, map(3, u64::MAX, 0, 0x1000), fd(), EINVAL),
        (DMA_MAP, map(0x10, 0, 0, 0x1000), fd(), EINVAL),
        (
            DMA_MAP,
            map(3, 0, 0, 0x1000),
            vec![ram.as_fd(), ram.as_fd()],
            EINVAL,
        ),
        (
            DMA_MAP,
            map(3, 0, 0, 0x1000),
            vec![client.socket.as_fd()],
            EINVAL,
        ),
        (DMA_UNMAP, unmap(0, 0), vec![], EINVAL),
        (DMA_UNMAP, vec![0; 3], vec![], EINVAL),
        (
            GET_REGION_INFO,
            bytes(&[&[0; 8], &99u32.to_le_bytes(), &[0; 20]]),
            vec![],
            EINVAL,
        ),
        (
            GET_IRQ_INFO,
            bytes(&[&[0; 8], &5u32.to_le_bytes(), &[0; 4]]),
            vec![],
            EINVAL,
        ),
        (SET_IRQS, vec![0; 7], vec![], EINVAL),
        (REGION_READ, access(0, 4090, 8, &[]), vec![], EINVAL),
        (REGION_READ, access(0, u64::MAX, 8, &[]), vec![], EINVAL),
        (REGION_READ, access(1, 0, 1, &[]), vec![], EINVAL),
        (REGION_READ, access(42, 0, 1, &[]), vec![], EINVAL),
        (REGION_READ, access(7, 0, u32::MAX, &[]), vec![], EINVAL),
        (REGION_WRITE, access(0, 0, 8, &[0; 7]), vec![], EINVAL),
        (REGION_WRITE, access(0, 0, 7, &[0; 8]), vec![], EINVAL),
        (DIRTY_PAGES, vec![0; 16], vec![], EOPNOTSUPP),
        (DMA_READ, vec![0; 16], vec![], ENOSYS),
        (0xffff, vec![], vec![], ENOSYS),
    ];
    // Descriptors of the test itself cannot be borrowed while the client is asked.
    let cases: Vec<_> = cases
        .into_iter()
        .map(|(command, payload, fds, error)| {
            let fds: Vec<_> = fds
                .iter()
                .map(|fd| fd.try_clone_to_owned().expect("dup"))
                .collect();
            (command, payload, fds, error)
        })
        .collect();
    for (command, payload, fds, error) in cases {
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        let result = client.ask(command, &payload, &fds);
        assert_eq!(result, Err(error), "command {command} {payload:?}");
    }
    assert_eq!(
        (client.read(0), client.read(0xa0)),
        (u64::from_le_bytes(*b"QATPFDMA"), 0)
    );
    let (output, record) = client.leave();
    assert!(output.status.success());
    assert_eq!(record["maps"], 0);
}

#[test]
fn noise_in_well_formed_messages_does_not_stop_the_server() {
    let mut client = Client::new();
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..3000 {
        let command = u16::try_from(random() % 20).expect("small");
        let size = usize::try_from(random() % 48).expect("small");
        // Small numbers now and then, so that some of it makes sense.
        let payload: Vec<u8> = (0..size)
            .map(|_| {
                if random() % 3 == 0 {
                    random().to_le_bytes()[0]
                } else {
                    0
                }
            })
            .collect();
        // Flagged as a request that wants no reply, or as a reply to nobody.
        let flags = if random() % 4 == 0 { 1 } else { 0x10 };
        client.send(&message(1, command, flags, &payload), &[]);
    }
    client.send(&message(0x7777, REGION_READ, 0, &access(0, 0, 8, &[])), &[]);
    loop {
        let incoming = client.receive();
        if incoming.flags & 0xf == 1 {
            assert_eq!(
                (incoming.id, &incoming.payload[16..]),
                (0x7777, &b"QATPFDMA"[..])
            );
            break;
        }
    }
    let (output, _) = client.leave();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stderr)
        .expect("text")
        .lines()
        .count();
    assert_eq!(
        lines, 10,
        "a nonsensical client is complained about, within bounds"
    );
}

#[test]
fn what_is_no_vfio_user_ends_with_one_line() {
    let long = message(1, VERSION, 0, &[0; 8]);
    let mut too_long = long.clone();
    too_long[4..8].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    let mut too_short = long.clone();
    too_short[4..8].copy_from_slice(&8u32.to_le_bytes());
    let web = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec();
    let too_early = message(1, GET_INFO, 0, &[0; 16]);
    for bad in [too_long, too_short, web, too_early] {
        let mut client = Program::start().connect();
        client.socket.write_all(&bad).expect("write");
        let output = finish(client.child);
        let text = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(record_in(&client.folder)["ended"], "error");
    }
}

#[test]
fn a_message_in_pieces_is_one_message() {
    let mut client = Client::new();
    let whole = message(3, REGION_READ, 0, &access(0, 0, 8, &[]));
    for byte in &whole {
        client.socket.write_all(&[*byte]).expect("write");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(&client.receive().payload[16..], b"QATPFDMA");
    // Two in one, and a third cut off by the end of the connection.
    let three = bytes(&[&whole, &whole, &whole[..20]]);
    client.socket.write_all(&three).expect("write");
    assert_eq!(&client.receive().payload[16..], b"QATPFDMA");
    assert_eq!(&client.receive().payload[16..], b"QATPFDMA");
    assert!(client.leave().0.status.success());
}

#[test]
fn a_signal_ends_it_with_a_record_and_without_its_socket() {
    let program = Program::start();
    signal(&program.child, Signal::TERM);
    let output = finish(program.child);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert_eq!(record_in(&program.folder)["ended"], "signal");
    assert!(!program.folder.path().join("socket").exists());

    let mut client = Client::new();
    client.bus_master();
    client.start(3, 0x1000, 0, 1);
    client.dma_request();
    signal(&client.child, Signal::TERM);
    let output = finish(client.child);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(record_in(&client.folder)["ended"], "signal");
}

#[test]
fn signals_set_the_marks() {
    let mut client = Client::new();
    let ram = memory(0x8000);
    client.map(&ram, 3, 0, 0x10_0000, 0x1000).expect("map");
    client.map(&ram, 3, 0, 0x20_0000, 0x1000).expect("map");
    client
        .ask(DMA_UNMAP, &unmap(0x10_0000, 0x1000), &[])
        .expect("unmap");
    assert_eq!(client.read(0x50), 0);
    signal(&client.child, Signal::USR1);
    client.map(&ram, 3, 0, 0x30_0000, 0x1000).expect("map");
    assert_eq!((client.read(0x50), client.read(0x98)), (1, 1));
    client
        .ask(DMA_UNMAP, &unmap(0x30_0000, 0x1000), &[])
        .expect("unmap");
    signal(&client.child, Signal::USR2);
    client.map(&ram, 3, 0, 0x40_0000, 0x1000).expect("map");
    assert_eq!(client.read(0x50), 2);
    let (output, record) = client.leave();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let (boot, before, after) = (
        range(0x10_0000, 0x1000),
        range(0x20_0000, 0x1000),
        range(0x30_0000, 0x1000),
    );
    assert_eq!(record["ended"], "end mark");
    assert_eq!(record["now"], serde_json::json!([before]));
    assert_eq!(record["ever"], serde_json::json!([boot, before, after]));
    assert_eq!(record["at_mark"], serde_json::json!([before]));
    assert_eq!(record["since_mark"], serde_json::json!([before, after]));
    assert_eq!(record["added_after_boot"], 1);
    assert_eq!(
        record["added_after_boot_ranges"],
        serde_json::json!([after])
    );
}

#[test]
fn a_mark_is_set_without_any_request_after_it() {
    // Before QEMU, and with nothing to come but the end.
    let program = Program::start();
    signal(&program.child, Signal::USR1);
    signal(&program.child, Signal::TERM);
    assert!(finish(program.child).status.success());
    let record = record_in(&program.folder);
    assert_eq!(
        (&record["ended"], &record["at_mark"]),
        (&"signal".into(), &serde_json::json!([]))
    );

    // Idle, with QEMU about to go.
    let mut client = Client::new();
    client.map(&memory(0x1000), 3, 0, 0, 0x1000).expect("map");
    signal(&client.child, Signal::USR1);
    signal(&client.child, Signal::USR2);
    let (output, record) = client.leave();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(record["ended"], "end mark");
    assert_eq!(record["at_mark"], serde_json::json!([range(0, 0x1000)]));
    assert_eq!(record["added_after_boot"], 0);
}

#[test]
fn a_mark_during_a_request_is_not_lost() {
    const SIZE: u64 = 16 << 20;
    let mut client = Client::new();
    let ram = memory(SIZE);
    client.map(&ram, 3, 0, 0, SIZE).expect("map");
    client.bus_master();
    client.write(0x18, SIZE);
    // The reply to this comes when the whole checksum is done.
    let payload = access(0, 0x20, 8, &3u64.to_le_bytes());
    client.send(&message(1, REGION_WRITE, 0, &payload), &[]);
    std::thread::sleep(Duration::from_millis(2));
    signal(&client.child, Signal::USR1);
    assert_eq!((client.receive().id, client.read(0x28)), (1, 1));
    client.map(&ram, 3, 0, 1 << 32, 0x1000).expect("map");
    assert_eq!((client.read(0x50), client.read(0x98)), (1, 1));
    let (output, record) = client.leave();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(record["at_mark"], serde_json::json!([range(0, SIZE)]));
    assert_eq!(
        record["added_after_boot_ranges"],
        serde_json::json!([range(1 << 32, 0x1000)])
    );
}

#[test]
fn marks_that_wait_together_are_begin_then_end() {
    let mut client = Client::new();
    let ram = memory(0x1000);
    client.map(&ram, 3, 0, 0, 0x1000).expect("map");
    stop(&client.child);
    signal(&client.child, Signal::USR1);
    signal(&client.child, Signal::USR2);
    let late = message(1, DMA_MAP, 0, &map(3, 0, 0x10_0000, 0x1000));
    client.send(&late, &[ram.as_fd()]);
    signal(&client.child, Signal::TERM);
    signal(&client.child, Signal::CONT);
    let output = finish(client.child);
    assert!(output.status.success(), "{output:?}");
    let record = record_in(&client.folder);
    assert_eq!(record["ended"], "end mark");
    assert_eq!(record["at_mark"], serde_json::json!([range(0, 0x1000)]));
    assert_eq!(
        (&record["added_after_boot"], &record["maps"]),
        (&0.into(), &1.into())
    );
}

#[test]
fn an_existing_path_is_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("taken");
    std::fs::write(&path, "mine").expect("write");
    let output = Command::new(env!("CARGO_BIN_EXE_qat-pf"))
        .arg("--socket")
        .arg(&path)
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(
        text.lines().count() == 1 && text.contains("--socket"),
        "{text}"
    );
    assert_eq!(std::fs::read(&path).expect("read"), b"mine");
}
