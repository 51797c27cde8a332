// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace umbra::test {

/// From now on freed memory is kept by the process. Tests that make disks of megabytes a thousand
/// times spend most of their time in the kernel otherwise, which gives out and zeroes every page.
void keep_freed_memory() noexcept;

}  // namespace umbra::test
