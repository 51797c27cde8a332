// SPDX-License-Identifier: Apache-2.0
#include "provider/contract/copy_index.h"

#include "tests/support/catch.h"
#include "umbra/vss.h"

namespace {

using namespace umbra;
using namespace umbra::contract;

cow::SnapshotRecord record(std::uint32_t attributes) {
  cow::SnapshotRecord record;
  record.set_id = SnapshotSetId::random();
  record.session_id = SessionId::random();
  record.attributes = attributes;
  return record;
}

TEST_CASE("the index of copies never says none where there is one", "[contract]") {
  CopyIndex index;
  const auto kept = record(context::kAppRollback);
  const auto released = record(context::kBackup);
  index.add(kept);
  index.add(released);
  CHECK(index.may_have_set(kept.set_id));
  CHECK(index.may_have_set(released.set_id));
  CHECK(index.may_release(released.session_id));
  CHECK_FALSE(index.may_release(kept.session_id));
  CHECK_FALSE(index.may_have_set(SnapshotSetId::random()));
}

TEST_CASE("an index that is mostly of what has gone is counted anew", "[contract]") {
  CopyIndex index;
  const auto kept = record(context::kBackup);
  index.add(kept);
  std::size_t added = 1;
  for (; !index.is_worn(1); ++added) {
    REQUIRE(added < 10'000);
    index.add(record(context::kBackup));
  }
  CHECK_FALSE(index.is_worn(added));
  index.count_anew({kept});
  CHECK_FALSE(index.is_worn(1));
  CHECK(index.may_have_set(kept.set_id));
  CHECK(index.may_release(kept.session_id));
}

}  // namespace
