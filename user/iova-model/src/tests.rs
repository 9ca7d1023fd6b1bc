// SPDX-License-Identifier: GPL-2.0

//! The tests, and what they share.

mod arithmetic;
mod gaps;
mod layout;
mod list;
mod reserved;
mod scale;
mod together;
mod tree;

use crate::{
    boxed::Box,
    iova::{
        addr::{Address, Iova, Length, PAGE},
        allocate::align::Alignment,
        span::Span,
        tree::Node,
    },
};

/// What the shape of every tree here grows from, so that a test does the same each time.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

fn span<A: Address>(first: u64, last: u64) -> Span<A> {
    Span::from_bounds(A::new(first), A::new(last)).unwrap()
}

/// `count` pages from page number `first` on.
fn pages<A: Address>(first: u64, count: u64) -> Span<A> {
    Span::new(A::new(first * PAGE), length(count * PAGE)).unwrap()
}

fn length(bytes: u64) -> Length {
    Length::new(bytes).unwrap()
}

fn align(bytes: u64) -> Alignment {
    Alignment::new(bytes).unwrap()
}

fn node<T>(span: Span<Iova>, value: T) -> Box<Node<T>> {
    Box::new(Node::new(span, value))
}
