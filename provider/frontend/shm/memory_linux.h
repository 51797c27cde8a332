// SPDX-License-Identifier: Apache-2.0
//
// Memory that this process writes and others can only read.

#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "engine/platform/unique_fd.h"
#include "umbra/result.h"

namespace umbra::shm {

/// Zeroes at first, all of it there: writing to it later takes no memory. Its size cannot change,
/// and whoever gets the descriptor can map it for reading only (memfd seals).
class SealedMemory {
 public:
  /// Errors: limit_reached (no memory for it); missing_kernel_feature.
  [[nodiscard]] static Result<SealedMemory> create(const std::string& name, std::size_t bytes);
  SealedMemory(SealedMemory&& other) noexcept;
  SealedMemory& operator=(SealedMemory&&) = delete;
  ~SealedMemory();

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  [[nodiscard]] int descriptor() const noexcept { return fd_.get(); }

 private:
  SealedMemory(UniqueFd fd, std::span<std::byte> bytes) noexcept;
  UniqueFd fd_;
  std::span<std::byte> bytes_;
};

/// The page that says whether this process lives: a file in the run directory, so that a successor
/// finds it, whatever became of everybody else.
class LifePage {
 public:
  /// Ends the page of the process before, and makes a new one in its place. To be called before
  /// anything is opened that the process before may have served. Errors: io_error.
  [[nodiscard]] static Result<LifePage> begin(const std::string& path);
  LifePage(LifePage&& other) noexcept;
  LifePage& operator=(LifePage&&) = delete;
  ~LifePage();  // Ends it.

  /// For reading only.
  [[nodiscard]] int descriptor() const noexcept { return read_only_.get(); }

 private:
  LifePage(UniqueFd read_only, std::byte* memory) noexcept;
  UniqueFd read_only_;
  std::byte* memory_ = nullptr;
};

}  // namespace umbra::shm
