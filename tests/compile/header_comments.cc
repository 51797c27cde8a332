// SPDX-License-Identifier: Apache-2.0
//
// The examples in the comments that open the public headers, word for word: they must compile. (No
// more than that: nothing here is run.) What an example takes for granted is a parameter.
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/hardware_provider.h"
#include "umbra/provider/session.h"
#include "umbra/requester/async.h"
#include "umbra/requester/backup_session.h"
#include "umbra/requester/bundle.h"
#include "umbra/requester/client.h"
#include "umbra/requester/examine_writer_metadata.h"
#include "umbra/requester/file_list.h"
#include "umbra/requester/management.h"
#include "umbra/requester/restore_session.h"
#include "umbra/requester/snapshot_reader.h"
#include "umbra/writer/exclusions.h"
#include "umbra/writer/express.h"
#include "umbra/writer/writer.h"

void client_h();
void client_h() {
  auto client = umbra::requester::Client::connect({});
  auto list = client->list_snapshots();
}

void management_h(const umbra::VolumeRef& volume);
void management_h(const umbra::VolumeRef& volume) {
  auto client = umbra::requester::Client::connect({.admin = true});
  umbra::requester::Management management(*client);
  auto operation = management.change_diff_area_maximum_size({volume}, 20LL << 30);
  auto ended = management.wait_operation(*operation, std::chrono::minutes(5));
}

std::string backup_session_h();
std::string backup_session_h() {
  auto volume = umbra::requester::resolve_volume("/srv/db");
  auto session = umbra::requester::BackupSession::connect({});
  auto set = session->create_snapshot_set({.volumes = {*volume}});
  // read set->snapshots[0].device_object
  return set->snapshots[0].device_object;
}

void async_h(umbra::requester::BackupSession* session, void (*draw)(),
             void (*say)(const umbra::requester::AsyncStatus&));
void async_h(umbra::requester::BackupSession* session, void (*draw)(),
             void (*say)(const umbra::requester::AsyncStatus&)) {
  using umbra::Errc;
  auto creation = session->start_do_snapshot_set();
  while (creation->wait(std::chrono::seconds(1))->code == Errc::async_pending) draw();
  if (auto end = creation->query_status(); end->code != Errc::async_finished) say(*end);
}

void restore_session_h();
void restore_session_h() {
  auto bundle = umbra::requester::load_bundle("orders.umbra.xml");
  auto session = umbra::requester::RestoreSession::connect({});
  auto report = session->restore(*bundle, {.relocations = {{"/", "/srv/restored"}}});
}

void examine_writer_metadata_h(std::string_view text,
                               void (*look)(const umbra::ComponentInfo& component));
void examine_writer_metadata_h(std::string_view text,
                               void (*look)(const umbra::ComponentInfo& component)) {
  auto writer = umbra::requester::ExamineWriterMetadata::load_from_xml(text);
  for (const umbra::ComponentInfo& component : writer->document().components) look(component);
}

struct Archive {
  umbra::Status (*add)(const std::string& original, const std::string& source,
                       const std::vector<umbra::requester::FileRange>& ranges);
};
void file_list_h(umbra::requester::Client& client, const umbra::BackupBundle& bundle,
                 const Archive& archive);
void file_list_h(umbra::requester::Client& client, const umbra::BackupBundle& bundle,
                 const Archive& archive) {
  auto done = umbra::requester::list_files(
      client, bundle, {}, [&](const umbra::requester::ListedFile& file) {
        return archive.add(file.original, file.source, file.ranges);
      });
}

void snapshot_reader_h(const umbra::SnapshotId& snapshot_id, std::uint64_t offset,
                       std::span<std::byte> buffer);
void snapshot_reader_h(const umbra::SnapshotId& snapshot_id, std::uint64_t offset,
                       std::span<std::byte> buffer) {
  auto reader = umbra::requester::SnapshotReader::open(snapshot_id);
  auto status = reader->read(offset, buffer);
}

void writer_h(umbra::writer::Writer& writer, const umbra::WriterClassId& kLedgerId);
void writer_h(umbra::writer::Writer& writer, const umbra::WriterClassId& kLedgerId) {
  auto session = umbra::writer::Session::connect(writer, {.class_id = kLedgerId, .name = "ledger"});
  auto ended = session->run();  // until request_stop()
}

void express_h(const umbra::WriterClassId& kId);
void express_h(const umbra::WriterClassId& kId) {
  auto express = umbra::writer::ExpressWriter::create_metadata({.class_id = kId, .name = "menu"});
  auto done = express->add_component({.name = "menu", .files = {{.path = "/var/lib/menu"}}});
  done = express->set_restore_rules({.method = umbra::RestoreMethod::restore_if_can_replace});
  done = express->register_writer();
}

void exclusions_h(const umbra::writer::Context& context, const std::string& mounted);
void exclusions_h(const umbra::writer::Context& context, const std::string& mounted) {
  // the copy of the volume that is mounted on /srv is mounted on `mounted`:
  auto report = umbra::writer::delete_excluded_files(context.metadata()->excludes_from_snapshot,
                                                     {.volume = "/srv", .copy = mounted});
}

void provider_session_h(umbra::Provider& provider, const umbra::LogSink& to_stderr);
void provider_session_h(umbra::Provider& provider, const umbra::LogSink& to_stderr) {
  auto session = umbra::provider::Session::connect(provider, {.log = to_stderr});
  auto ended = session->run();  // until request_stop()
}
