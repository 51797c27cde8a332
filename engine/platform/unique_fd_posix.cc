// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <unistd.h>

#include "engine/platform/unique_fd.h"

namespace umbra {

void close_fd(int fd) noexcept {
  if (fd >= 0) (void)::close(fd);
}

}  // namespace umbra
