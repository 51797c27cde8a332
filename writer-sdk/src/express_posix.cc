// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Every change is made to a copy, by the rules of ordinary writers, and kept if an express writer
// may have the result.
#include "umbra/writer/express.h"

#include "engine/documents/express.h"
#include "engine/documents/express_store.h"
#include "engine/documents/xml.h"
#include "engine/platform/run_dir.h"

namespace umbra::writer {
namespace {

Result<std::string> chosen(const std::string& directory) {
  if (directory.empty()) return ExpressWriter::directory_of();
  if (!directory.starts_with('/')) {
    return fail(Errc::invalid_argument, "directory '" + directory + "' must be absolute");
  }
  return directory;
}

}  // namespace

template <class Change>
Status ExpressWriter::change(Change edit) {
  WriterMetadataDocument changed = document_;
  MetadataBuilder builder(changed);
  if (Status done = edit(builder); !done) return done;
  if (Status sound = documents::check_express(changed); !sound) return sound;
  document_ = std::move(changed);
  return {};
}

Result<ExpressWriter> ExpressWriter::create_metadata(ExpressIdentity identity) {
  ExpressWriter writer;
  WriterIdentity& own = writer.document_.identity;
  own.class_id = identity.class_id;
  own.name = std::move(identity.name);
  own.usage = identity.usage;
  own.source = SourceType::other;
  own.version_major = identity.version_major;
  own.version_minor = identity.version_minor;
  documents::settle_express_identity(writer.document_);
  if (const Status sound = documents::check_express(writer.document_); !sound) {
    return fail(sound.error());
  }
  return writer;
}

Result<ExpressWriter> ExpressWriter::load_metadata(std::string_view xml) {
  auto document = documents::parse_writer_metadata(xml);
  if (!document) return fail(document.error());
  if (const Status sound = documents::check_express(*document); !sound) return fail(sound.error());
  ExpressWriter writer;
  writer.document_ = std::move(*document);
  documents::settle_express_identity(writer.document_);
  return writer;
}

Status ExpressWriter::add_exclude_files(FileSet files) {
  return change(
      [&](MetadataBuilder& builder) { return builder.add_exclude_files(std::move(files)); });
}
Status ExpressWriter::add_component(ComponentInfo component) {
  return change(
      [&](MetadataBuilder& builder) { return builder.add_component(std::move(component)); });
}
Status ExpressWriter::add_files_to_file_group(const ComponentName& group, FileSet files) {
  return change([&](MetadataBuilder& builder) {
    return builder.add_files_to_file_group(group, std::move(files));
  });
}
Status ExpressWriter::set_restore_rules(RestoreRules rules) {
  return change(
      [&](MetadataBuilder& builder) { return builder.set_restore_rules(std::move(rules)); });
}
Status ExpressWriter::add_component_dependency(const ComponentName& component,
                                               ComponentDependency dependency) {
  return change([&](MetadataBuilder& builder) {
    return builder.add_component_dependency(component, std::move(dependency));
  });
}
Status ExpressWriter::set_backup_schema(std::uint32_t schema) {
  return change([&](MetadataBuilder& builder) -> Status {
    builder.set_backup_schema(schema);
    return {};
  });
}

std::string ExpressWriter::save_as_xml() const { return documents::to_xml(document_); }

Status ExpressWriter::register_writer(const std::string& directory) const {
  const auto where = chosen(directory);
  if (!where) return fail(where.error());
  return documents::register_express_writer(*where, document_);
}

Status ExpressWriter::unregister_writer(const WriterClassId& class_id,
                                        const std::string& directory) {
  const auto where = chosen(directory);
  if (!where) return fail(where.error());
  return documents::unregister_express_writer(*where, class_id);
}

Result<ExpressWriter::Registered> ExpressWriter::list(const std::string& directory) {
  const auto where = chosen(directory);
  if (!where) return fail(where.error());
  auto present = documents::read_express_writers(*where);
  if (!present) return fail(present.error());
  Registered answer;
  for (auto& entry : present->writers) answer.writers.push_back(std::move(entry.document));
  answer.refused = std::move(present->refused);
  return answer;
}

Result<std::string> ExpressWriter::directory_of(const std::string& run_dir) {
  if (!run_dir.empty()) return documents::express_directory(run_dir);
  return default_run_dir().map(documents::express_directory);
}

}  // namespace umbra::writer
