// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Marks what libumbra-provider exports; everything else in it is hidden.

#pragma once

#if defined(_WIN32)
#define UMBRA_PROVIDER_EXPORT
#else
#define UMBRA_PROVIDER_EXPORT __attribute__((visibility("default")))
#endif
