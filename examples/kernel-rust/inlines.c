// SPDX-License-Identifier: GPL-2.0
/* What the kernel has only inline, and so not for Rust. */
#include <linux/io.h>
#include <linux/mm.h>

phys_addr_t qat_client_rust_page_to_phys(struct page *page);

phys_addr_t qat_client_rust_page_to_phys(struct page *page)
{
	return page_to_phys(page);
}
