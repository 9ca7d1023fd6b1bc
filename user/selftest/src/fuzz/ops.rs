// SPDX-License-Identifier: GPL-2.0
//! What the fuzzer can do, as plain data: it can be made at random, kept in a file, played
//! again and shortened. An operation names things by numbers that the player takes modulo what
//! there is ("the 7th live mapping"), so that every list of operations can be played.

use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// One operation, and whether a look at what the PF reaches follows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    pub op: Op,
    /// Which live mapping, and where in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<u16>,
}

/// One operation. `ctx` is one of the worker's contexts, `target` one of its live mappings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Op {
    MapUser {
        ctx: u8,
        buffer: Buffer,
        flags: u32,
        place: Place,
    },
    MapPhys {
        ctx: u8,
        page: u8,
        pages: u8,
        flags: u32,
        slot: u16,
        odd: PhysOdd,
    },
    Unmap {
        target: u16,
        odd: UnmapOdd,
    },
    UnmapUser {
        target: u16,
        odd: UnmapOdd,
    },
    MapBatch {
        ctx: u8,
        buffers: Vec<Buffer>,
        flags: u32,
        alignment: u64,
        odd: BatchOdd,
    },
    UnmapBatch {
        target: u16,
        count: u8,
        odd: BatchOdd,
    },
    Query {
        ctx: u8,
        at: At,
    },
    /// Every mapping of a context, by QUERY.
    List {
        ctx: u8,
    },
    Info {
        ctx: u8,
        pfs: u8,
        ranges: u8,
    },
    Attach {
        ctx: u8,
        how: Attach,
    },
    Malformed {
        ctx: u8,
        command: Command,
        shape: Shape,
    },
    /// A command that does not exist.
    Unknown {
        ctx: u8,
        command: u32,
    },
    /// Closes a context with all that it holds.
    Close {
        ctx: u8,
    },
    /// Goes on with a duplicate of the descriptor.
    Duplicate {
        ctx: u8,
    },
    /// Sends the descriptor through a socket, closes it, and goes on with what arrives.
    Pass {
        ctx: u8,
    },
    /// A child process that has the contexts too.
    Fork {
        target: u16,
        act: Child,
        page: u8,
        slot: u16,
    },
    /// Maps or unmaps a place that all workers want, through a context that some share.
    Contend {
        slot: u8,
        map: bool,
    },
}

/// A buffer of the program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Buffer {
    /// Small pages.
    Small { page: u8, offset: u16, length: u32 },
    /// Part of a huge page.
    Huge { page: u16, pages: u16 },
    /// Pages that may be read only.
    ReadOnly { page: u8, pages: u8 },
    /// Runs into a hole.
    Hole { before: u8 },
    /// Any numbers.
    Wild { va: u64, length: u64 },
}

/// Where a buffer goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Place {
    /// The kernel chooses.
    Any { alignment: u64 },
    /// In the worker's own zone.
    Slot(u16),
    /// On a live mapping, so many pages after its first.
    On(u16, i8),
    /// Any number.
    Wild(u64),
    /// In the zone, with an alignment besides, or with another offset in the page.
    Contradictory {
        slot: u16,
        alignment: u64,
        skew: u16,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PhysOdd {
    None,
    /// Bytes less than whole pages.
    Short(u16),
    Misaligned {
        phys: u16,
        iova: u16,
    },
    Phys(u64),
    Iova(u64),
    Length(u64),
    On(u16, i8),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum UnmapOdd {
    None,
    /// As the interface also allows it: rounded to pages.
    Rounded,
    /// Through another context.
    Foreign(u8),
    Longer(u16),
    Shorter(u16),
    Shifted(i16),
    Length(u64),
    Address(u64),
    Force,
    Flags(u32),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum BatchOdd {
    None,
    /// One element is spoilt.
    Spoilt(u8),
    /// One element stands there twice (of an unmap).
    Twice(u8),
    Empty,
    Count(u32),
    Pointer(u64),
    /// The array cannot be written.
    ReadOnly,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum At {
    Target(u16, i16),
    Any(u64),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Attach {
    Default,
    Address,
    Nobody(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    Info,
    Attach,
    MapPhys,
    Unmap,
    MapUser,
    UnmapUser,
    Query,
    MapBatch,
    UnmapBatch,
}

/// What is wrong with a request, or only unusual.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Shape {
    /// The size field.
    Size(u32),
    /// Longer than the kernel knows; a byte of the tail is this.
    Tail {
        more: u16,
        at: u16,
        byte: u8,
    },
    Pointer(u64),
    /// So many bytes of it are missing: there the memory ends.
    Edge(u8),
    /// The answer cannot be written.
    ReadOnly,
    Flags(u32),
    Reserved(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Child {
    /// It does nothing and goes.
    Exit,
    /// It runs another program.
    Exec,
    /// It unmaps the target, through the context that it has too.
    Unmap,
    /// It maps a page of its own and goes; the mapping stays.
    Map,
}

const READ: u32 = 1;
const WRITE: u32 = 2;
const BOTH: u32 = READ | WRITE;

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 20] = [
    0,
    1,
    0xfff,
    0x1000,
    0x1001,
    0xfee0_0000,
    0xfeef_f000,
    0xffff_f000,
    1 << 32,
    (1 << 39) - 0x1000,
    1 << 40,
    (1 << 47) - 0x1000,
    1 << 47,
    (1 << 48) - 0x1000,
    1 << 48,
    1 << 52,
    1 << 63,
    0xffff_8880_0000_0000,
    u64::MAX - 0xfff,
    u64::MAX,
];

fn wild() -> BoxedStrategy<u64> {
    prop_oneof![
        8 => proptest::sample::select(&EDGES[..]),
        1 => any::<u64>(),
        1 => any::<u64>().prop_map(|number| number & !0xfff),
    ]
    .boxed()
}

fn flags() -> BoxedStrategy<u32> {
    prop_oneof![
        80 => Just(BOTH),
        12 => Just(READ),
        6 => Just(WRITE),
        1 => Just(0),
        1 => (3u32..32, 0..4u32).prop_map(|(bit, rest)| (1 << bit) | rest),
    ]
    .boxed()
}

fn small() -> BoxedStrategy<Buffer> {
    let page = any::<u8>();
    prop_oneof![
        5 => page.prop_map(|page| Buffer::Small { page, offset: 0, length: 4096 }),
        3 => (any::<u8>(), 0..4096u16, 1..4096u32)
            .prop_map(|(page, offset, length)| Buffer::Small { page, offset, length }),
        3 => (any::<u8>(), 0..4096u16, 1..=16_384u32)
            .prop_map(|(page, offset, length)| Buffer::Small { page, offset, length }),
    ]
    .boxed()
}

fn good_buffer() -> BoxedStrategy<Buffer> {
    prop_oneof![
        60 => small(),
        2 => (any::<u16>(), 1..32u16).prop_map(|(page, pages)| Buffer::Huge { page, pages }),
    ]
    .boxed()
}

fn buffer() -> BoxedStrategy<Buffer> {
    prop_oneof![
        90 => good_buffer(),
        1 => Just(Buffer::Huge { page: 0, pages: 512 }),
        4 => (any::<u8>(), 1..8u8).prop_map(|(page, pages)| Buffer::ReadOnly { page, pages }),
        2 => (0..8u8).prop_map(|before| Buffer::Hole { before }),
        2 => (wild(), wild()).prop_map(|(va, length)| Buffer::Wild { va, length }),
    ]
    .boxed()
}

fn alignment() -> BoxedStrategy<u64> {
    prop_oneof![
        60 => Just(0),
        20 => (12..22u32).prop_map(|bit| 1 << bit),
        2 => (22..31u32).prop_map(|bit| 1 << bit),
        2 => proptest::sample::select(&[1, 2048, 3, 0x1800, 0x3000, 1 << 63, u64::MAX][..]),
    ]
    .boxed()
}

fn place() -> BoxedStrategy<Place> {
    prop_oneof![
        64 => alignment().prop_map(|alignment| Place::Any { alignment }),
        32 => any::<u16>().prop_map(Place::Slot),
        2 => (any::<u16>(), -3..4i8).prop_map(|(target, pages)| Place::On(target, pages)),
        1 => wild().prop_map(Place::Wild),
        1 => (any::<u16>(), prop_oneof![Just(0u64), Just(4096), Just(1)], 0..4096u16)
            .prop_map(|(slot, alignment, skew)| Place::Contradictory { slot, alignment, skew }),
    ]
    .boxed()
}

fn phys_odd() -> BoxedStrategy<PhysOdd> {
    prop_oneof![
        80 => Just(PhysOdd::None),
        8 => (1..4096u16).prop_map(PhysOdd::Short),
        1 => (0..4096u16, 0..4096u16)
            .prop_map(|(phys, iova)| PhysOdd::Misaligned { phys, iova }),
        2 => wild().prop_map(PhysOdd::Phys),
        2 => wild().prop_map(PhysOdd::Iova),
        2 => wild().prop_map(PhysOdd::Length),
        3 => (any::<u16>(), -3..4i8).prop_map(|(target, pages)| PhysOdd::On(target, pages)),
    ]
    .boxed()
}

fn unmap_odd() -> BoxedStrategy<UnmapOdd> {
    prop_oneof![
        80 => Just(UnmapOdd::None),
        8 => Just(UnmapOdd::Rounded),
        2 => any::<u8>().prop_map(UnmapOdd::Foreign),
        1 => (1..9000u16).prop_map(UnmapOdd::Longer),
        1 => (1..9000u16).prop_map(UnmapOdd::Shorter),
        2 => (-9000..9000i16).prop_map(UnmapOdd::Shifted),
        1 => wild().prop_map(UnmapOdd::Length),
        1 => wild().prop_map(UnmapOdd::Address),
        1 => Just(UnmapOdd::Force),
        1 => (1..32u32).prop_map(|bit| UnmapOdd::Flags(1 << bit)),
    ]
    .boxed()
}

fn batch_odd() -> BoxedStrategy<BatchOdd> {
    prop_oneof![
        80 => Just(BatchOdd::None),
        6 => any::<u8>().prop_map(BatchOdd::Spoilt),
        3 => any::<u8>().prop_map(BatchOdd::Twice),
        1 => Just(BatchOdd::Empty),
        1 => prop_oneof![Just(65_537u32), Just(1 << 31), Just(u32::MAX)].prop_map(BatchOdd::Count),
        2 => pointer().prop_map(BatchOdd::Pointer),
        2 => Just(BatchOdd::ReadOnly),
    ]
    .boxed()
}

/// Where no memory of a program is.
fn pointer() -> BoxedStrategy<u64> {
    proptest::sample::select(
        &[
            0,
            1,
            0xff8,
            1 << 47,
            1 << 48,
            1 << 63,
            0xffff_8880_0000_0000,
            u64::MAX - 7,
            u64::MAX,
        ][..],
    )
    .boxed()
}

fn command() -> BoxedStrategy<Command> {
    proptest::sample::select(
        &[
            Command::Info,
            Command::Attach,
            Command::MapPhys,
            Command::Unmap,
            Command::MapUser,
            Command::UnmapUser,
            Command::Query,
            Command::MapBatch,
            Command::UnmapBatch,
        ][..],
    )
    .boxed()
}

fn shape() -> BoxedStrategy<Shape> {
    prop_oneof![
        2 => (0..64u32).prop_map(Shape::Size),
        1 => prop_oneof![Just(4097u32), Just(8192), Just(1 << 31), Just(u32::MAX)].prop_map(Shape::Size),
        3 => (1..1024u16, any::<u16>(), prop_oneof![Just(0u8), any::<u8>()])
            .prop_map(|(more, at, byte)| Shape::Tail { more, at, byte }),
        2 => pointer().prop_map(Shape::Pointer),
        2 => any::<u8>().prop_map(Shape::Edge),
        3 => Just(Shape::ReadOnly),
        2 => (3..32u32).prop_map(|bit| Shape::Flags(1 << bit)),
        1 => (1..=u8::MAX).prop_map(Shape::Reserved),
    ]
    .boxed()
}

fn child() -> BoxedStrategy<Child> {
    prop_oneof![
        2 => Just(Child::Exit),
        1 => Just(Child::Exec),
        4 => Just(Child::Unmap),
        4 => Just(Child::Map),
    ]
    .boxed()
}

/// One operation: mostly maps and unmaps that succeed, and all else now and then.
fn op() -> BoxedStrategy<Op> {
    let ctx = any::<u8>;
    let target = any::<u16>;
    prop_oneof![
        280 => (ctx(), buffer(), flags(), place())
            .prop_map(|(ctx, buffer, flags, place)| Op::MapUser { ctx, buffer, flags, place }),
        110 => (ctx(), any::<u8>(), 1..5u8, flags(), any::<u16>(), phys_odd())
            .prop_map(|(ctx, page, pages, flags, slot, odd)| {
                Op::MapPhys { ctx, page, pages, flags, slot, odd }
            }),
        260 => (target(), unmap_odd()).prop_map(|(target, odd)| Op::Unmap { target, odd }),
        90 => (target(), unmap_odd()).prop_map(|(target, odd)| Op::UnmapUser { target, odd }),
        30 => (ctx(), vec(good_buffer(), 1..8), flags(), alignment(), batch_odd())
            .prop_map(|(ctx, buffers, flags, alignment, odd)| {
                Op::MapBatch { ctx, buffers, flags, alignment, odd }
            }),
        40 => (target(), 1..10u8, batch_odd())
            .prop_map(|(target, count, odd)| Op::UnmapBatch { target, count, odd }),
        30 => (ctx(), prop_oneof![
            3 => (target(), -5000..5000i16).prop_map(|(target, by)| At::Target(target, by)),
            1 => wild().prop_map(At::Any),
        ]).prop_map(|(ctx, at)| Op::Query { ctx, at }),
        6 => ctx().prop_map(|ctx| Op::List { ctx }),
        15 => (ctx(), 0..4u8, 0..6u8)
            .prop_map(|(ctx, pfs, ranges)| Op::Info { ctx, pfs, ranges }),
        15 => (ctx(), prop_oneof![
            2 => Just(Attach::Default),
            2 => Just(Attach::Address),
            1 => any::<u8>().prop_map(Attach::Nobody),
        ]).prop_map(|(ctx, how)| Op::Attach { ctx, how }),
        60 => (ctx(), command(), shape())
            .prop_map(|(ctx, command, shape)| Op::Malformed { ctx, command, shape }),
        5 => (ctx(), any::<u32>()).prop_map(|(ctx, command)| Op::Unknown { ctx, command }),
        4 => ctx().prop_map(|ctx| Op::Close { ctx }),
        5 => ctx().prop_map(|ctx| Op::Duplicate { ctx }),
        5 => ctx().prop_map(|ctx| Op::Pass { ctx }),
        1 => (target(), child(), any::<u8>(), any::<u16>())
            .prop_map(|(target, act, page, slot)| Op::Fork { target, act, page, slot }),
        40 => (any::<u8>(), any::<bool>()).prop_map(|(slot, map)| Op::Contend { slot, map }),
    ]
    .boxed()
}

/// A list of operations; one in seven is followed by a look.
pub fn steps(length: usize) -> BoxedStrategy<Vec<Step>> {
    let step = (op(), proptest::option::weighted(0.14, any::<u16>()));
    vec(step.prop_map(|(op, check)| Step { op, check }), length).boxed()
}
