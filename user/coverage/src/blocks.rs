// SPDX-License-Identifier: GPL-2.0
//! Which instructions ran, from a disassembly (of `llvm-objdump`) and the calls that are known to
//! have been made. Between two places where control can come or go, all instructions run or none
//! does; so one such piece ran if the first call in it was made, and after each call what follows is
//! that call's. A piece without a call ran if one ran that leads to it.

use anyhow::{ensure, Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What every block calls at its beginning.
const CALLED: &str = "<__sanitizer_cov_trace_pc>";

struct Instruction {
    address: u64,
    /// Where it jumps to.
    target: Option<u64>,
    /// What follows it is not run after it.
    ends: bool,
    /// It tells where it is.
    tells: bool,
}

/// A function: its instructions in order.
type Function = Vec<Instruction>;

/// All functions that tell where they are.
pub struct Code(Vec<Function>);

fn instruction(line: &str) -> Option<Instruction> {
    let (address, rest) = line.trim_start().split_once(':')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let mut words = rest.split_whitespace();
    let word = words.next()?;
    let operand = words.next().unwrap_or_default();
    let jumps = word.starts_with('j');
    let target = operand.strip_prefix("0x").filter(|_| jumps);
    Some(Instruction {
        address,
        target: target.and_then(|text| u64::from_str_radix(text, 16).ok()),
        ends: word.starts_with("jmp") || word.starts_with("ret") || word.starts_with("ud2"),
        tells: word.starts_with("call") && line.contains(CALLED),
    })
}

impl Code {
    /// Reads a disassembly.
    pub fn parse(text: &str) -> Result<Self> {
        let mut functions = vec![Function::new()];
        for line in text.lines() {
            if line.ends_with(">:") {
                functions.push(Function::new());
            } else if let Some(one) = instruction(line) {
                functions.last_mut().context("there is one")?.push(one);
            }
        }
        functions.retain(|function| function.iter().any(|one| one.tells));
        ensure!(!functions.is_empty(), "nothing in it tells where it is");
        Ok(Self(functions))
    }

    /// Where the calls return to.
    pub fn sites(&self) -> BTreeSet<u64> {
        let pairs = self.0.iter().flat_map(|function| function.windows(2));
        pairs
            .filter_map(|pair| match pair {
                [call, next] if call.tells => Some(next.address),
                _ => None,
            })
            .collect()
    }

    /// Whether each instruction ran, where the calls returned to these places.
    pub fn ran(&self, seen: &BTreeSet<u64>) -> BTreeMap<u64, bool> {
        let mut all = BTreeMap::new();
        for function in &self.0 {
            judge(function, seen, &mut all);
        }
        all
    }
}

fn judge(function: &Function, seen: &BTreeSet<u64>, all: &mut BTreeMap<u64, bool>) {
    let targets: BTreeSet<u64> = function.iter().filter_map(|one| one.target).collect();
    // The pieces: index of the first instruction of each.
    let mut starts = vec![0];
    for (index, pair) in function.windows(2).enumerate() {
        let [one, next] = pair else { continue };
        if one.ends || one.target.is_some() || targets.contains(&next.address) {
            starts.push(index + 1);
        }
    }
    let mut ran: Vec<Option<bool>> = Vec::new();
    let mut last: Vec<Option<bool>> = Vec::new();
    let end_of = |piece: usize| starts.get(piece + 1).copied().unwrap_or(function.len());
    let told = |index: usize| {
        let returns = function.get(index + 1).map(|next| next.address);
        returns.is_some_and(|place| seen.contains(&place))
    };
    for (piece, start) in starts.iter().enumerate() {
        let calls: Vec<usize> = (*start..end_of(piece))
            .filter(|index| function[*index].tells)
            .collect();
        ran.push(calls.first().map(|index| told(*index)));
        last.push(calls.last().map(|index| told(*index)));
    }
    // What leads to a piece without a call.
    let piece_at = |address: u64| {
        let index = function
            .binary_search_by_key(&address, |one| one.address)
            .ok()?;
        starts.binary_search(&index).ok()
    };
    let mut leads: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for piece in 0..starts.len() {
        let Some(end) = function.get(end_of(piece) - 1) else {
            continue;
        };
        if let Some(next) = end.target.and_then(piece_at) {
            leads.entry(next).or_default().push(piece);
        }
        if !end.ends && piece + 1 < starts.len() {
            leads.entry(piece + 1).or_default().push(piece);
        }
    }
    // From piece to piece until nothing changes.
    let mut open: Vec<usize> = (0..starts.len())
        .filter(|piece| ran[*piece].is_none())
        .collect();
    let mut changed = true;
    while changed {
        changed = false;
        open.retain(|piece| {
            let from = leads.get(piece).map(Vec::as_slice).unwrap_or_default();
            let comes = from.iter().any(|before| last[*before] == Some(true));
            if comes {
                ran[*piece] = Some(true);
                last[*piece] = Some(true);
                changed = true;
            }
            !comes
        });
    }
    for (piece, start) in starts.iter().enumerate() {
        let mut now = ran[piece] == Some(true);
        let piece = function.iter().enumerate().take(end_of(piece));
        for (index, one) in piece.skip(*start) {
            if one.tells {
                now = told(index);
            }
            all.insert(one.address, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
0000000000001000 <f>:
    1000: endbr64
    1004: callq 0x9000 <__sanitizer_cov_trace_pc>
    1009: testq %rdi, %rdi
    100c: je 0x1020 <f+0x20>
    100e: movl $1, %eax
    1013: callq 0x9000 <__sanitizer_cov_trace_pc>
    1018: jmp 0x1030 <f+0x30>
    1020: movl $2, %eax
    1025: callq 0x9000 <__sanitizer_cov_trace_pc>
    102a: nop
    1030: retq
0000000000002000 <other>:
    2000: retq
";

    fn ran(seen: &[u64]) -> Vec<u64> {
        let code = Code::parse(TEXT).unwrap();
        let all = code.ran(&seen.iter().copied().collect());
        all.into_iter()
            .filter(|(_, ran)| *ran)
            .map(|(at, _)| at)
            .collect()
    }

    #[test]
    fn calls_return_behind_themselves() {
        let sites = Code::parse(TEXT).unwrap().sites();
        assert_eq!(sites, BTreeSet::from([0x1009, 0x1018, 0x102a]));
    }

    #[test]
    fn a_piece_runs_whole_from_where_control_can_come() {
        let way = [0x1000, 0x1004, 0x1009, 0x100c];
        let left = [0x100e, 0x1013, 0x1018, 0x1030];
        assert_eq!(ran(&[0x1009, 0x1018]), [&way[..], &left].concat());
        let right = [0x1020, 0x1025, 0x102a, 0x1030];
        assert_eq!(ran(&[0x1009, 0x102a]), [&way[..], &right].concat());
        assert_eq!(ran(&[]), []);
    }
}
