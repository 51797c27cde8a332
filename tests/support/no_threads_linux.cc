// SPDX-License-Identifier: Apache-2.0
#include "tests/support/no_threads.h"

#include <pthread.h>

#include <cstddef>

#include "tests/support/catch.h"

namespace umbra::test {

struct NoThreads::Usual {
  pthread_attr_t attributes{};
};

NoThreads::NoThreads() : usual_(std::make_unique<Usual>()) {
  pthread_attr_init(&usual_->attributes);
  REQUIRE(pthread_getattr_default_np(&usual_->attributes) == 0);
  pthread_attr_t huge;
  pthread_attr_init(&huge);
  pthread_attr_setstacksize(&huge, std::size_t{1} << 46U);
  const int failed = pthread_setattr_default_np(&huge);
  pthread_attr_destroy(&huge);
  REQUIRE(failed == 0);
}

NoThreads::~NoThreads() {
  pthread_setattr_default_np(&usual_->attributes);
  pthread_attr_destroy(&usual_->attributes);
}

}  // namespace umbra::test
