// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The C code in README, docs/ and the man pages compiles, without a warning, and links
//! against nothing but this library.
//!
//! A block of Markdown that is a piece of a function has a comment line before it that says
//! around what: `<!-- c: void f(void *buff, size_t size) -->`.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A block of C code, and where it is.
struct Block {
    place: String,
    /// The function that it is a piece of; `None` for a whole file.
    around: Option<String>,
    code: String,
}

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The blocks between "```c" and "```".
fn of_markdown(place: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut inside, mut around) = (false, None);
    for line in text.lines() {
        let line = line.trim();
        match line {
            "```c" => {
                inside = true;
                blocks.push(Block {
                    place: format!("{place}, block {}", blocks.len() + 1),
                    around: around.take(),
                    code: String::new(),
                });
            }
            "```" => inside = false,
            _ if inside => {
                let block = blocks.last_mut().expect("a block has begun");
                block.code.extend([line, "\n"]);
            }
            _ => {
                let comment = line.strip_prefix("<!-- c: ");
                if let Some(function) = comment.and_then(|rest| rest.strip_suffix(" -->")) {
                    around = Some(function.to_owned());
                }
            }
        }
    }
    blocks
}

/// The displays that begin with an #include, which are whole files.
fn of_man_page(place: &str, text: &str) -> Vec<Block> {
    text.split("\n.Bd -literal\n")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("\n.Ed")?.0))
        .filter(|code| code.starts_with("#include"))
        .map(|code| Block {
            place: place.to_owned(),
            around: None,
            code: code.replace("\\e", "\\"),
        })
        .collect()
}

/// What the compiler gets: the includes first, then the function around the rest.
fn program(block: &Block) -> String {
    let Some(function) = &block.around else {
        return block.code.clone();
    };
    let (includes, rest): (Vec<_>, Vec<_>) = block
        .code
        .lines()
        .partition(|line| line.starts_with("#include"));
    format!(
        "#include <stdlib.h>\n#include <err.h>\n{}\nextern uint64_t virt_to_phys(void *);\n{function};\n{function}\n{{\n{}\n}}\n",
        includes.join("\n"),
        rest.join("\n")
    )
}

fn compile(block: &Block) {
    let include = project().join("include");
    let mut compiler = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"])
        .arg("-I")
        .arg(include.join("qat_iommu"))
        .arg("-I")
        .arg(include.join("uapi"))
        .args(["-x", "c", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a C compiler: install gcc or clang");
    let text = program(block);
    let mut stdin = compiler.stdin.take().expect("a pipe");
    stdin
        .write_all(text.as_bytes())
        .expect("the compiler reads");
    drop(stdin);
    let output = compiler.wait_with_output().expect("the compiler ends");
    assert!(
        output.status.success(),
        "{}:\n{}\n{text}",
        block.place,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The files of a folder whose names end so.
fn files(folder: &Path, ends: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| {
            let name = path.to_string_lossy();
            ends.iter().any(|end| name.ends_with(end))
        })
        .collect();
    found.sort();
    found
}

fn compile_all(paths: &[PathBuf], find: impl Fn(&str, &str) -> Vec<Block>) -> usize {
    let mut blocks = 0;
    for path in paths {
        let text = fs::read_to_string(path).expect("it can be read");
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for block in find(&name, &text) {
            compile(&block);
            blocks += 1;
        }
    }
    blocks
}

#[test]
fn code_in_markdown_compiles() {
    let mut paths = files(&project().join("docs"), &[".md"]);
    paths.push(project().join("README.md"));
    assert!(compile_all(&paths, of_markdown) >= 2);
}

#[test]
fn code_in_man_pages_compiles() {
    let pages = files(&project().join("docs/man"), &[".3", ".4", ".7"]);
    assert!(compile_all(&pages, of_man_page) >= 3);
}

/// Every function of the headers has a man page of its name.
#[test]
fn every_function_has_a_man_page() {
    let exports = include_str!("../exports.map");
    let mut functions = 0;
    for line in exports.lines().map(str::trim) {
        let Some(name) = line.strip_suffix(';').filter(|name| *name != "*") else {
            continue;
        };
        if name.starts_with('}') {
            continue;
        }
        let page = project().join(format!("docs/man/{name}.3"));
        let text =
            fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        let text = match text.strip_prefix(".so man3/") {
            Some(other) => fs::read_to_string(project().join("docs/man").join(other.trim()))
                .expect("the page that it refers to"),
            None => text,
        };
        assert!(text.contains(name), "{name} is not in its page");
        functions += 1;
    }
    assert!(functions >= 14, "{functions}");
}

/// What a document quotes from the code: the lines of a block, or the first cells of a table,
/// after the comment line `<!-- from the code -->`.
fn quoted(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for part in text.split("<!-- from the code -->\n").skip(1) {
        match part.strip_prefix("```\n") {
            Some(block) => found.extend(block.lines().take_while(|line| *line != "```")),
            None => found.extend(
                part.lines()
                    .take_while(|line| line.starts_with('|'))
                    .filter_map(|line| line.split('`').nth(1)),
            ),
        }
    }
    found
}

/// The words of a message that stand in the code as they are: without what differs from case
/// to case.
fn fixed_words(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for word in line.split(' ') {
        let errno = word.starts_with('(') && word.ends_with(')');
        if errno || word.contains("...") || word.contains(|c: char| c.is_ascii_digit() || c == '/')
        {
            parts.push(String::new());
            continue;
        }
        let part = parts.last_mut().expect("there is one");
        if !part.is_empty() {
            part.push(' ');
        }
        part.push_str(word);
        if word.ends_with(':') {
            parts.push(String::new());
        }
    }
    parts.retain(|part| part.len() >= 12);
    parts
}

/// All Rust and C source below a folder, each string in one line.
fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            if path.file_name() != Some("target".as_ref()) {
                sources(&path, into);
            }
        } else if path
            .extension()
            .is_some_and(|end| end == "rs" || end == "c")
        {
            let text = fs::read_to_string(&path).expect("it can be read");
            for (number, piece) in text.split("\\\n").enumerate() {
                into.push_str(if number == 0 {
                    piece
                } else {
                    piece.trim_start()
                });
            }
        }
    }
}

/// The messages by which people look for help are those that they see.
#[test]
fn quoted_messages_are_in_the_code() {
    let mut code = String::new();
    for folder in ["remap", "iova", "user"] {
        sources(&project().join(folder), &mut code);
    }
    let mut messages = 0;
    for path in files(&project().join("docs"), &[".md"]) {
        let text = fs::read_to_string(&path).expect("it can be read");
        for line in quoted(&text) {
            for words in fixed_words(line) {
                assert!(
                    code.contains(&words),
                    "{}: no message says \"{words}\"",
                    path.display()
                );
                messages += 1;
            }
        }
    }
    assert!(messages >= 15, "{messages}");
}
