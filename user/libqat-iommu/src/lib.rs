// SPDX-License-Identifier: LGPL-2.1-or-later OR BSD-3-Clause
//! The C library. It has no code of its own: it gathers the API families, one crate
//! each, into `libqat_iommu.a`, of which `link.sh` makes `libqat_iommu.so`.

extern crate qat_iommu_capi_icp;
extern crate qat_iommu_capi_native;
extern crate qat_iommu_capi_usdm;
