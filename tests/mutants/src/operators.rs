// SPDX-License-Identifier: GPL-2.0
//! Operator mutants: every place of a Rust file where a condition can be negated, an operator or a
//! constant changed, a call dropped, a result replaced, or a function emptied. Code in macro calls
//! is not looked at, nor are tests.

use proc_macro2::{LineColumn, Span};
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, Lit, ReturnType, Stmt, Type, UnOp};

use crate::edit::{one_line, Edit};

/// What is done to the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Condition,
    Operator,
    Constant,
    Call,
    Answer,
    Body,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::Condition,
        Self::Operator,
        Self::Constant,
        Self::Call,
        Self::Answer,
        Self::Body,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Condition => "condition",
            Self::Operator => "operator",
            Self::Constant => "constant",
            Self::Call => "call",
            Self::Answer => "answer",
            Self::Body => "body",
        }
    }
}

/// One place that can be changed.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub kind: Kind,
    /// The function that it is in.
    pub place: String,
    pub what: String,
    pub edit: Edit,
}

/// Every candidate of a file, in its order.
pub fn candidates(text: &str) -> syn::Result<Vec<Candidate>> {
    let file = syn::parse_file(text)?;
    let mut finder = Finder {
        text,
        starts: line_starts(text),
        place: Vec::new(),
        unit_result: false,
        found: Vec::new(),
    };
    finder.visit_file(&file);
    Ok(finder.found)
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0)
        .chain(text.match_indices('\n').map(|(at, _)| at + 1))
        .collect()
}

struct Finder<'a> {
    text: &'a str,
    starts: Vec<usize>,
    place: Vec<String>,
    /// The function that is looked at answers `Ok(())` where all is well.
    unit_result: bool,
    found: Vec<Candidate>,
}

impl Finder<'_> {
    fn offset(&self, at: LineColumn) -> usize {
        let start = self.starts[at.line - 1];
        // Columns count characters.
        let line = &self.text[start..];
        start
            + line
                .char_indices()
                .nth(at.column)
                .map_or(line.len(), |(offset, _)| offset)
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.offset(span.start())..self.offset(span.end())
    }

    fn add(&mut self, kind: Kind, range: Range<usize>, with: String, what: &str) {
        let gone = one_line(&self.text[range.clone()]);
        let what = match (what, with.is_empty()) {
            ("", _) => format!("`{gone}` becomes `{}`", one_line(&with)),
            (what, _) => format!("{what} `{gone}`"),
        };
        self.found.push(Candidate {
            kind,
            place: self.place.join("::"),
            what: if what.chars().count() > 160 {
                what.chars().take(157).chain("...".chars()).collect()
            } else {
                what
            },
            edit: Edit { range, with },
        });
    }

    fn negate(&mut self, condition: &Expr) {
        // `let` cannot be negated; what stands beside it is found as an operator.
        if has_let(condition) {
            return;
        }
        let range = self.range(condition.span());
        let with = format!("!({})", &self.text[range.clone()]);
        self.add(Kind::Condition, range, with, "negated:");
    }

    fn within(&mut self, name: String, work: impl FnOnce(&mut Self)) {
        self.place.push(name);
        work(self);
        self.place.pop();
    }

    fn function(&mut self, output: &ReturnType, block: &syn::Block) {
        let answer = match output {
            ReturnType::Default => None,
            ReturnType::Type(_, kind) => empty_answer(kind),
        };
        self.unit_result = answer == Some("{ Ok(()) }");
        if block.stmts.is_empty() {
            return;
        }
        let with = match output {
            ReturnType::Default => Some("{}"),
            ReturnType::Type(_, kind) => empty_answer(kind),
        };
        if let Some(with) = with {
            let range = self.range(block.span());
            if one_line(&self.text[range.clone()]) != with {
                self.add(Kind::Body, range, with.to_owned(), "");
                if let Some(last) = self.found.last_mut() {
                    last.what = format!("the whole function becomes `{with}`");
                }
            }
        }
    }
}

fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        Expr::Paren(paren) => has_let(&paren.expr),
        _ => false,
    }
}

/// The body of a function that does nothing and says that all is well, or that there is nothing.
fn empty_answer(kind: &Type) -> Option<&'static str> {
    let Type::Path(path) = kind else {
        return None;
    };
    let last = path.path.segments.last()?;
    let first_argument = match &last.arguments {
        syn::PathArguments::AngleBracketed(list) => list.args.first(),
        _ => None,
    };
    match last.ident.to_string().as_str() {
        "bool" => Some("{ false }"),
        "Option" => Some("{ None }"),
        "Result" => match first_argument {
            None => Some("{ Ok(()) }"),
            Some(syn::GenericArgument::Type(Type::Tuple(unit))) if unit.elems.is_empty() => {
                Some("{ Ok(()) }")
            }
            _ => None,
        },
        "u64" | "usize" | "u32" => Some("{ 0 }"),
        _ => None,
    }
}

/// Another operator for this one.
fn other(operator: &BinOp) -> Option<&'static str> {
    Some(match operator {
        BinOp::Add(_) => "-",
        BinOp::Sub(_) => "+",
        BinOp::Mul(_) => "/",
        BinOp::Div(_) => "*",
        BinOp::Rem(_) => "/",
        BinOp::And(_) => "||",
        BinOp::Or(_) => "&&",
        BinOp::BitXor(_) => "|",
        BinOp::BitAnd(_) => "|",
        BinOp::BitOr(_) => "&",
        BinOp::Shl(_) => ">>",
        BinOp::Shr(_) => "<<",
        BinOp::Eq(_) => "!=",
        BinOp::Ne(_) => "==",
        BinOp::Lt(_) => "<=",
        BinOp::Le(_) => "<",
        BinOp::Gt(_) => ">=",
        BinOp::Ge(_) => ">",
        BinOp::AddAssign(_) => "-=",
        BinOp::SubAssign(_) => "+=",
        BinOp::BitOrAssign(_) => "&=",
        BinOp::BitAndAssign(_) => "|=",
        BinOp::BitXorAssign(_) => "|=",
        _ => return None,
    })
}

/// Whether a statement calls something for its effect. Not `drop` of a variable, which goes at the
/// end of its scope in any case, nor what only lets others run.
fn is_call(expr: &Expr) -> bool {
    match expr {
        Expr::Call(call) => match &*call.func {
            Expr::Path(path) => path
                .path
                .segments
                .last()
                .is_none_or(|name| name.ident != "drop" && name.ident != "pause"),
            _ => true,
        },
        Expr::MethodCall(_) => true,
        Expr::Try(inner) => is_call(&inner.expr),
        Expr::Unsafe(block) => match block.block.stmts.as_slice() {
            [Stmt::Expr(inner, _)] => is_call(inner),
            _ => false,
        },
        _ => false,
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        let text = match &attribute.meta {
            syn::Meta::List(list) => list.tokens.to_string(),
            _ => String::new(),
        };
        path.is_ident("kunit_tests") || path.is_ident("cfg") && text.contains("test")
    })
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let name = one_line(&self.text[self.range(item.self_ty.span())]);
        let name = match &item.trait_ {
            Some((_, path, _)) => match path.segments.last() {
                Some(last) => format!("<{name} as {}>", last.ident),
                None => name,
            },
            None => name,
        };
        self.within(name, |me| visit::visit_item_impl(me, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if is_test(&item.attrs) {
            return;
        }
        self.within(item.sig.ident.to_string(), |me| {
            me.function(&item.sig.output, &item.block);
            visit::visit_item_fn(me, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within(item.sig.ident.to_string(), |me| {
            me.function(&item.sig.output, &item.block);
            visit::visit_impl_item_fn(me, item);
        });
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.within(item.ident.to_string(), |me| {
            visit::visit_item_const(me, item)
        });
    }

    fn visit_expr_if(&mut self, item: &'ast syn::ExprIf) {
        self.negate(&item.cond);
        visit::visit_expr_if(self, item);
    }

    fn visit_expr_while(&mut self, item: &'ast syn::ExprWhile) {
        self.negate(&item.cond);
        visit::visit_expr_while(self, item);
    }

    fn visit_arm(&mut self, item: &'ast syn::Arm) {
        if let Some((_, guard)) = &item.guard {
            self.negate(guard);
        }
        visit::visit_arm(self, item);
    }

    fn visit_expr_binary(&mut self, item: &'ast syn::ExprBinary) {
        let lets = has_let(&item.left) || has_let(&item.right);
        if let (Some(with), false) = (other(&item.op), lets) {
            let range = self.range(item.op.span());
            let whole = one_line(&self.text[self.range(item.span())]);
            self.add(Kind::Operator, range.clone(), with.to_owned(), "");
            let gone = self.text[range].to_owned();
            if let Some(last) = self.found.last_mut() {
                last.what = format!("`{gone}` becomes `{with}` in `{whole}`");
            }
        }
        visit::visit_expr_binary(self, item);
    }

    fn visit_expr_unary(&mut self, item: &'ast syn::ExprUnary) {
        if matches!(item.op, UnOp::Not(_)) {
            let range = self.range(item.op.span());
            let whole = one_line(&self.text[self.range(item.span())]);
            self.add(Kind::Operator, range, String::new(), "");
            if let Some(last) = self.found.last_mut() {
                last.what = format!("`!` is dropped from `{whole}`");
            }
        }
        visit::visit_expr_unary(self, item);
    }

    fn visit_lit(&mut self, item: &'ast Lit) {
        let with = match item {
            Lit::Int(number) => number
                .base10_parse::<u128>()
                .ok()
                .map(|value| format!("{}{}", value + 1, number.suffix())),
            Lit::Bool(value) => Some((!value.value).to_string()),
            _ => None,
        };
        if let Some(with) = with {
            self.add(Kind::Constant, self.range(item.span()), with, "");
        }
    }

    // A type's or an attribute's numbers are not what the code does.
    fn visit_type(&mut self, _: &'ast Type) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_stmt(&mut self, item: &'ast Stmt) {
        match item {
            Stmt::Expr(expr, Some(_)) if is_call(expr) => {
                self.add(
                    Kind::Call,
                    self.range(item.span()),
                    String::new(),
                    "dropped:",
                );
            }
            // What follows comes to the same end, or not.
            Stmt::Expr(Expr::Return(_), _) => {
                self.add(
                    Kind::Answer,
                    self.range(item.span()),
                    String::new(),
                    "dropped:",
                );
            }
            _ => {}
        }
        visit::visit_stmt(self, item);
    }

    fn visit_expr_call(&mut self, item: &'ast syn::ExprCall) {
        if let Expr::Path(path) = &*item.func {
            if path.path.is_ident("Some") {
                self.add(Kind::Answer, self.range(item.span()), "None".to_owned(), "");
            }
            if path.path.is_ident("Err") && self.unit_result {
                self.add(
                    Kind::Answer,
                    self.range(item.span()),
                    "Ok(())".to_owned(),
                    "",
                );
            }
        }
        visit::visit_expr_call(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changed texts of one kind.
    fn changed(kind: Kind, text: &str) -> Vec<String> {
        candidates(text)
            .expect("the text is Rust")
            .iter()
            .filter(|candidate| candidate.kind == kind)
            .map(|candidate| {
                candidate
                    .edit
                    .apply(text)
                    .expect("the place is in the text")
            })
            .collect()
    }

    #[test]
    fn a_condition_is_negated() {
        assert_eq!(
            changed(Kind::Condition, "fn f() { if a == b { c() } }"),
            ["fn f() { if !(a == b) { c() } }"]
        );
    }

    #[test]
    fn a_let_is_not_negated() {
        assert!(changed(Kind::Condition, "fn f() { if let Some(a) = b { c() } }").is_empty());
    }

    #[test]
    fn a_guard_is_negated() {
        assert_eq!(
            changed(
                Kind::Condition,
                "fn f() { match a { b if c => {} _ => {} } }"
            ),
            ["fn f() { match a { b if !(c) => {} _ => {} } }"]
        );
    }

    #[test]
    fn operators_become_others() {
        assert_eq!(
            changed(Kind::Operator, "fn f() -> X { a + b <= !c }"),
            [
                "fn f() -> X { a + b < !c }",
                "fn f() -> X { a - b <= !c }",
                "fn f() -> X { a + b <= c }"
            ]
        );
    }

    #[test]
    fn constants_become_others() {
        assert_eq!(
            changed(Kind::Constant, "const A: [u8; 2] = f(7u64, true);"),
            [
                "const A: [u8; 2] = f(8u64, true);",
                "const A: [u8; 2] = f(7u64, false);"
            ]
        );
    }

    #[test]
    fn a_call_is_dropped_and_a_value_is_not() {
        assert_eq!(
            changed(
                Kind::Call,
                "fn f() -> X { a.b()?; let c = d(); unsafe { e() }; g() }"
            ),
            [
                "fn f() -> X {  let c = d(); unsafe { e() }; g() }",
                "fn f() -> X { a.b()?; let c = d();  g() }"
            ]
        );
    }

    #[test]
    fn answers_are_dropped_and_replaced() {
        assert_eq!(
            changed(
                Kind::Answer,
                "fn f() -> Result { if a { return Err(b); } Some(c) }"
            ),
            [
                "fn f() -> Result { if a {  } Some(c) }",
                "fn f() -> Result { if a { return Ok(()); } Some(c) }",
                "fn f() -> Result { if a { return Err(b); } None }"
            ]
        );
    }

    #[test]
    fn functions_are_emptied() {
        assert_eq!(
            changed(
                Kind::Body,
                "fn f() { a() }\nimpl B { fn g() -> Result<(), C> { d() } }"
            ),
            [
                "fn f() {}\nimpl B { fn g() -> Result<(), C> { d() } }",
                "fn f() { a() }\nimpl B { fn g() -> Result<(), C> { Ok(()) } }"
            ]
        );
    }

    #[test]
    fn tests_are_left_alone() {
        assert!(candidates("#[cfg(test)] mod t { fn f() { a() } }")
            .expect("Rust")
            .is_empty());
    }

    #[test]
    fn places_are_named() {
        let found = candidates("impl A for B { fn c() { d(); } }").expect("Rust");
        assert!(found
            .iter()
            .all(|candidate| candidate.place == "<B as A>::c"));
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(
            changed(Kind::Operator, "fn f() -> X { g(\"ü\") == h }"),
            ["fn f() -> X { g(\"ü\") != h }"]
        );
    }
}
