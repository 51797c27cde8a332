// SPDX-License-Identifier: Apache-2.0
//
// The one include of the test framework, so that its next major version is a one-line change.
#pragma once

#include <catch2/catch.hpp>
