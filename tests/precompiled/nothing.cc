// SPDX-License-Identifier: Apache-2.0
//
// What the targets here compile, so that there is something to precompile headers for.
