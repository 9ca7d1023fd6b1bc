// SPDX-License-Identifier: GPL-2.0
//! The tool `qat-iommu`.

pub mod boots;
pub mod commands;
pub mod doctor;
pub mod explain;
pub mod manual;
pub mod programs;

use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;

/// A file with other content until this goes.
pub struct Changed {
    path: PathBuf,
    before: Option<Vec<u8>>,
}

impl Changed {
    pub fn new(path: impl Into<PathBuf>, text: &str) -> Result<Self> {
        let path = path.into();
        let before = fs::read(&path).ok();
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, before })
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        // A failure shows in the tests that follow.
        let _ = match &self.before {
            // Of a list of choices the one in brackets.
            Some(bytes) => fs::write(&self.path, chosen(bytes)),
            None => fs::remove_file(&self.path),
        };
    }
}

fn chosen(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let inside = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(bytes.to_vec(), |(choice, _)| choice.as_bytes().to_vec())
}
