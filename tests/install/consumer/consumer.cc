// SPDX-License-Identifier: Apache-2.0
//
// Uses both SDKs as a customer would; without umbrad both say so.
#include <cstdio>

#include "umbra/requester/backup_session.h"
#include "umbra/requester/client.h"
#include "umbra/writer/writer.h"

namespace {

class Nothing final : public umbra::writer::Writer {
  umbra::Status on_prepare_for_snapshot(umbra::writer::Context&) override { return {}; }
  umbra::Status on_freeze(umbra::writer::Context&) override { return {}; }
  void on_thaw(umbra::writer::Context&) noexcept override {}
  void on_abort(umbra::writer::Context&) noexcept override {}
};

}  // namespace

int main() {
  Nothing nothing;
  umbra::writer::Options options;
  options.class_id = umbra::WriterClassId::random();
  options.name = "nothing";
  options.socket_path = "/no/such/socket";
  const auto writer = umbra::writer::Session::connect(nothing, options);
  umbra::requester::ConnectOptions connection;
  connection.socket_path = "/no/such/socket";
  const auto session = umbra::requester::BackupSession::connect(connection);
  const auto client = umbra::requester::Client::connect(connection);
  if (writer || session || client) return 1;
  std::puts(writer.error().to_string().c_str());
  const bool lost = writer.error().code == umbra::Errc::coordinator_lost &&
                    session.error().code == umbra::Errc::coordinator_lost &&
                    client.error().code == umbra::Errc::coordinator_lost;
  return lost ? 0 : 1;
}
