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
