// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Marks what libumbra-writer exports; everything else in it is hidden.

#pragma once

#if defined(_WIN32)
#define UMBRA_WRITER_EXPORT
#else
#define UMBRA_WRITER_EXPORT __attribute__((visibility("default")))
#endif
