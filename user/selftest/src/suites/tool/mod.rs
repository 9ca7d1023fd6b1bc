// SPDX-License-Identifier: GPL-2.0
//! The tool `qat-iommu`.

pub mod boots;
pub mod commands;
pub mod doctor;
pub mod explain;
pub mod manual;
pub mod programs;
mod setting;
