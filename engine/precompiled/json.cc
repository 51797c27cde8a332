// SPDX-License-Identifier: Apache-2.0
//
// What umbra_json_headers compiles, so that there is a target to precompile headers for.
