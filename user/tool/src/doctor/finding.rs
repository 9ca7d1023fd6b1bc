// SPDX-License-Identifier: GPL-2.0
//! What a check has found.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Warning,
    Failure,
}

/// One finding; `id` is for programs and stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub id: &'static str,
    pub status: Status,
    /// What it is about, where there can be several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    pub text: String,
    /// What to do, with the line to type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    pub fn ok(id: &'static str, text: impl Into<String>) -> Self {
        Self {
            id,
            status: Status::Ok,
            about: None,
            text: text.into(),
            remedy: None,
        }
    }

    pub fn warning(id: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            status: Status::Warning,
            remedy: Some(remedy.into()),
            ..Self::ok(id, text)
        }
    }

    pub fn failure(id: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            status: Status::Failure,
            remedy: Some(remedy.into()),
            ..Self::ok(id, text)
        }
    }

    /// The same, about one PF or file.
    pub fn about(mut self, what: impl ToString) -> Self {
        self.about = Some(what.to_string());
        self
    }
}
