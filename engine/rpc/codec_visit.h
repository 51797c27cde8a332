// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Private to codec.cc: what the members() of a message are written with.

#pragma once

#include <type_traits>

namespace umbra::rpc {
namespace {

template <class Visitor, class T>
using Ref = std::conditional_t<Visitor::kWrites, const T&, T&>;

// Fields whose text form is not that of their type: see "Conventions" in messages.h.
template <class T>
struct AsPath {
  T& text;
};
template <class T>
struct AsBytes {
  T& text;  // A string, or a vector of them.
};
template <class T>
struct AsDecimal {
  T& number;
};
template <class T>
AsPath<T> path(T& text) {
  return {text};
}
template <class T>
AsBytes<T> bytes(T& text) {
  return {text};
}
template <class T>
AsDecimal<T> decimal(T& number) {
  return {number};
}

}  // namespace
}  // namespace umbra::rpc
