// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The table as the calls use it.

use super::*;
use proptest::prelude::*;

fn record(address: usize, length: usize, iova: u64) -> Record {
    Record {
        address,
        length,
        iova,
        owner: Owner::Container(1),
    }
}

fn buffer(address: usize, length: usize) -> Wanted {
    Wanted::Buffer { address, length }
}

#[test]
fn what_is_taken_is_not_found_any_more() {
    let buffers = Buffers::new().unwrap();
    buffers.add([record(0x10000, 0x3000, 0x7000)]);
    assert_eq!(buffers.lookup(0x12fff), Some(0x9fff));
    for wrong in [buffer(0x10000, 0x2000), buffer(0x11000, 0x2000)] {
        assert_eq!(buffers.take(wrong, |_| true), None);
    }
    assert_eq!(buffers.lookup(0x10000), Some(0x7000));
    let taken = buffers.take(buffer(0x10000, 0x3000), |_| true).unwrap();
    assert_eq!(buffers.lookup(0x10000), None);
    assert_eq!(buffers.lookup(0x11000), None);
    buffers.add([taken]);
    assert_eq!(buffers.lookup(0x11000), Some(0x8000));
}

#[test]
fn alone_means_not_a_byte_in_common() {
    let buffers = Buffers::new().unwrap();
    assert!(buffers.add_alone(record(0x10000, 0x1000, 0x7000)));
    for (address, length) in [(0x10000, 0x1000), (0xf000, 0x2000), (0x10fff, 1)] {
        assert!(buffers.touches(address, length));
        assert!(!buffers.add_alone(record(address, length, 0x20_0000)));
    }
    assert!(!buffers.touches(0x11000, 0x1000));
    assert!(buffers.add_alone(record(0x11000, 0x1000, 0x20_0000)));
    assert_eq!(buffers.lookup(0x10fff), Some(0x7fff));
}

#[test]
fn several_are_taken_or_none() {
    let buffers = Buffers::new().unwrap();
    buffers.add([record(0x10000, 100, 0x7000), record(0x20000, 100, 0x9000)]);
    let missing = [
        buffer(0x10000, 100),
        buffer(0x20000, 100),
        buffer(0x10000, 100),
    ];
    assert_eq!(buffers.take_each(missing, |_| true), Err(2));
    assert_eq!(buffers.lookup(0x10000), Some(0x7000));
    let both = [buffer(0x20000, 100), buffer(0x10000, 100)];
    assert_eq!(buffers.take_each(both, |_| true).unwrap().len(), 2);
    assert_eq!(buffers.lookup(0x10000), None);
    assert_eq!(buffers.take_each(both, |_| true), Err(0));
}

fn context() -> &'static Context {
    Box::leak(Box::new(Context::open_node("/dev/null").unwrap()))
}

#[test]
fn a_new_context_empties_what_the_old_one_held() {
    let (old, new) = (context(), context());
    let by = |owner, address| Record {
        owner,
        ..record(address, 0x1000, address as u64 + 0x70_0000)
    };
    let buffers = Buffers::new().unwrap();
    buffers.add([
        by(Owner::Context(old), 0x1000),
        by(Owner::Context(old), 0x2000),
        by(Owner::Container(1), 0x3000),
    ]);
    // The second one has no record.
    buffers.add_one(by(Owner::Context(old), 0x5000));
    assert!(buffers.lookup(0x1000).is_some() && buffers.lookup(0x5000).is_some());
    buffers.add([by(Owner::Context(new), 0x4000)]);
    let pages = [0x1000, 0x2000, 0x3000, 0x4000, 0x5000];
    let found = pages.map(|address| buffers.lookup(address).is_some());
    assert_eq!(found, [false, false, true, true, false]);
    for gone in [0x1000, 0x5000] {
        assert_eq!(buffers.take(buffer(gone, 0x1000), |_| true), None);
    }
    assert_eq!(buffers.take_all(|_| true).len(), 2);
    assert!(buffers.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Add(usize, usize),
    AddAlone(usize, usize),
    AddContained(usize, usize),
    Take(usize, usize),
    /// By the IOVAs of a record, if it is there.
    TakeRange(prop::sample::Index),
    TakePages(prop::sample::Index),
    TakeBoth(prop::sample::Index, prop::sample::Index),
    TakeContained,
    NewContext,
}

fn step() -> impl Strategy<Value = Step> {
    // Few of them, most of them whole pages: so that they meet.
    let address = (
        0x400..0x406_usize,
        prop_oneof![6 => Just(0), 1 => Just(0x800)],
    );
    let address = address.prop_map(|(page, offset)| (page << 12) + offset);
    let length = prop_oneof![6 => Just(0x1000), 1 => Just(0x2000), 1 => Just(0x100)];
    let buffer = (address, length);
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => buffer.clone().prop_map(|(a, l)| Step::Add(a, l)),
        6 => buffer.clone().prop_map(|(a, l)| Step::AddAlone(a, l)),
        2 => buffer.clone().prop_map(|(a, l)| Step::AddContained(a, l)),
        8 => buffer.prop_map(|(a, l)| Step::Take(a, l)),
        1 => index().prop_map(Step::TakeRange),
        1 => index().prop_map(Step::TakePages),
        1 => (index(), index()).prop_map(|(one, other)| Step::TakeBoth(one, other)),
        1 => Just(Step::TakeContained),
        1 => Just(Step::NewContext),
    ]
}

/// The table as a list, the newest last.
#[derive(Default)]
struct List(Vec<Record>);

impl List {
    fn take(&mut self, wanted: impl Fn(&Record) -> bool) -> Option<Record> {
        let index = self.0.iter().rposition(wanted)?;
        Some(self.0.remove(index))
    }

    fn lookup(&self, address: usize) -> Option<u64> {
        let holds =
            |record: &&Record| (record.address..record.address + record.length).contains(&address);
        let record = self.0.iter().rfind(holds)?;
        Some(record.iova + (address - record.address) as u64)
    }

    fn touches(&self, address: usize, length: usize) -> bool {
        self.0.iter().any(|record| {
            record.address < address + length && address < record.address + record.length
        })
    }
}

proptest! {
    #[test]
    fn agrees_with_a_list(steps in prop::collection::vec(step(), 0..60)) {
        let buffers = Buffers::new().unwrap();
        let mut list = List::default();
        let contexts = [context(), context()];
        let mut owner = Owner::Context(contexts[0]);
        let mut iovas = (1..).map(|number| number << 20);
        for step in steps {
            let mut new = |owner, address: usize, length| Record {
                owner,
                ..record(address, length, iovas.next().unwrap() + (address & 0xfff) as u64)
            };
            match step {
                Step::Add(address, length) => {
                    let record = new(owner, address, length);
                    buffers.add_one(record);
                    list.0.push(record);
                }
                Step::AddAlone(address, length) => {
                    let record = new(owner, address, length);
                    let free = !list.touches(address, length);
                    prop_assert_eq!(buffers.touches(address, length), !free);
                    prop_assert_eq!(buffers.add_alone(record), free);
                    list.0.extend(free.then_some(record));
                }
                Step::AddContained(address, length) => {
                    let record = new(Owner::Container(1), address, length);
                    buffers.add_one(record);
                    list.0.push(record);
                }
                Step::Take(address, length) => {
                    let wanted = |record: &Record| (record.address, record.length) == (address, length);
                    let taken = buffers.take(buffer(address, length), |_| true);
                    prop_assert_eq!(taken, list.take(wanted));
                }
                Step::TakeRange(index) | Step::TakePages(index) if !list.0.is_empty() => {
                    let Record { iova, length, .. } = list.0[index.index(list.0.len())];
                    let wanted = match step {
                        Step::TakeRange(_) => Wanted::Range { iova, length },
                        _ => Wanted::Pages { iova: iova & !0xfff, length: length + (iova & 0xfff) as usize },
                    };
                    let taken = buffers.take(wanted, |_| true);
                    prop_assert_eq!(taken, list.take(|record| record.iova == iova));
                }
                Step::TakeBoth(one, other) if !list.0.is_empty() => {
                    let pick = |index: prop::sample::Index| list.0[index.index(list.0.len())];
                    let (one, other) = (pick(one), pick(other));
                    if one == other {
                        continue;
                    }
                    let both = [one, other].map(|r| Wanted::Range { iova: r.iova, length: r.length });
                    prop_assert_eq!(buffers.take_each(both, |_| true), Ok(vec![one, other]));
                    list.0.retain(|record| *record != one && *record != other);
                }
                Step::TakeRange(_) | Step::TakePages(_) | Step::TakeBoth(..) => {}
                Step::TakeContained => {
                    let contained = |owner: Owner| owner == Owner::Container(1);
                    let taken = buffers.take_all(contained).len();
                    let before = list.0.len();
                    list.0.retain(|record| !contained(record.owner));
                    prop_assert_eq!(taken, before - list.0.len());
                }
                Step::NewContext => {
                    let next = contexts.into_iter().map(Owner::Context).find(|next| *next != owner);
                    owner = next.unwrap();
                    // The first that is mapped through it shows that the other is gone.
                    let record = new(owner, 0x50_0000, 0x1000);
                    list.0.retain(|record| record.owner == Owner::Container(1));
                    buffers.add_one(record);
                    list.0.push(record);
                }
            }
            prop_assert_eq!(buffers.is_empty(), list.0.is_empty());
            for address in (0x40_0000..0x40_8000).step_by(0x80).chain([0x50_0000]) {
                prop_assert_eq!(buffers.lookup(address), list.lookup(address), "{:#x}", address);
            }
        }
        let left = buffers.take_all(|_| true).len();
        prop_assert_eq!(left, list.0.len());
    }
}

#[test]
fn a_child_finds_nothing_of_its_parent() {
    let buffers = crate::buffers().unwrap();
    buffers.add([record(0x10_0000, 0x1000, 0x7000)]);
    // Another thread may hold it at the moment of the fork.
    let held = buffers.lock();
    #[allow(unsafe_code)]
    // SAFETY: the child calls nothing but malloc and ends without unwinding.
    let status = unsafe {
        match libc::fork() {
            0 => {
                libc::alarm(20);
                let nothing = crate::lookup(0x10_0000).is_none();
                let own = crate::buffers().unwrap();
                let refused = own.take(buffer(0x10_0000, 0x1000), |_| true).is_none();
                own.add([record(0x20_0000, 0x1000, 0x9000)]);
                let found = crate::lookup(0x20_0000) == Some(0x9000);
                let still = crate::lookup(0x10_0000).is_none();
                libc::_exit(i32::from(nothing && refused && found && still))
            }
            child => {
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
                status
            }
        }
    };
    drop(held);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 1);
    assert_eq!(crate::lookup(0x10_0000), Some(0x7000));
    assert_eq!(crate::lookup(0x20_0000), None);
}
