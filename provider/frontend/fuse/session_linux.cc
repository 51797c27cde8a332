// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/fuse/session.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/platform/assert.h"
#include "engine/platform/fuse_session.h"
#include "provider/frontend/fuse/wire_linux.h"

namespace umbra::fuse {
namespace {

constexpr std::uint64_t kRootNode = FUSE_ROOT_ID;
// For ever: attributes do not change, and whoever looks at them (the loop driver, when it is asked
// what it stands on) must not wait for a process that may be dead at the moment.
constexpr std::uint64_t kAttributesValidS = std::uint64_t{10} * 365 * 24 * 3600;
constexpr std::uint32_t kMinorSpoken = 38;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kNameBytesMax = 255;
// What the kernel insists on being able to hand over at once.
static_assert(kPayloadBytesMax + kPage >= FUSE_MIN_READ_BUFFER);

// A write's data starts on a page: header and write_in end just before it.
constexpr std::size_t kWriteHeadBytes = sizeof(fuse_in_header) + sizeof(fuse_write_in);
// Four times what a payload needs: where the caller's memory lies in pieces, each piece takes a
// page of its own, and a request that ran out of pages would end in the middle of a block.
constexpr std::uint16_t kPagesMax = 4 * kPayloadBytesMax / kPage;
// First page: reply header and request head. Then the payload, and a page so that an unaligned read
// can be widened.
constexpr std::size_t kSlotBytes = kPage + kPayloadBytesMax + 2 * kPage;
constexpr std::uint32_t kOpenFlags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH;
constexpr std::string_view kStateMagic = "umbra-fuse 1 ";

std::string errno_text(std::string_view what) {
  return std::string(what) + ": " +
         std::strerror(errno);  // NOLINT(concurrency-mt-unsafe): glibc's is.
}

struct Node {
  std::string name;
  std::uint64_t id = 0;
  std::shared_ptr<block::Device> device;
  unsigned mode = 0;
  std::size_t opens = 0;
  std::size_t in_flight = 0;
};

class KernelSession;

// One request on its way. The buffer lies in the session's locked arena.
struct Slot {
  block::Request io;
  KernelSession* session = nullptr;
  std::byte* page = nullptr;     // Reply header; the request head ends where `payload` starts.
  std::byte* payload = nullptr;  // Page-aligned.
  std::shared_ptr<Node> node;
  std::uint64_t unique = 0;
  std::uint32_t opcode = 0;
  std::uint32_t reply_begin = 0;  // Of a read: where in the payload the caller's bytes start,
  std::uint32_t reply_bytes = 0;  // and how many there are. Of a write: the bytes written.
  std::uint64_t left_bytes = 0;   // Of a fallocate: after the part in flight.
  Slot* next = nullptr;

  [[nodiscard]] const std::byte* head() const { return payload - kWriteHeadBytes; }
  template <class T>
  [[nodiscard]] const T& argument() const {
    return *reinterpret_cast<const T*>(head() + sizeof(fuse_in_header));
  }
};

class KernelSession final : public Session {
 public:
  KernelSession(UniqueFd descriptor, std::string mount_point, Shape shape, std::uint32_t group,
                unsigned directory_mode, bool inherited, Log& log)
      : descriptor_(std::move(descriptor)),
        mount_point_(std::move(mount_point)),
        shape_(shape),
        group_(group),
        directory_mode_(directory_mode),
        inherited_(inherited),
        log_(log, "fuse"),
        slots_(kInFlightMax) {}

  ~KernelSession() override {
    // MNT_FORCE aborts the session even if the mount is busy; then it is only left to be forgotten.
    // Somebody else may have unmounted it already, while it is in use.
    if (::umount2(mount_point_.c_str(), MNT_FORCE) != 0) {
      (void)::umount2(mount_point_.c_str(), MNT_DETACH);
      (void)abort_fuse_session(descriptor_.get());
    }
    for (auto& reader : readers_) reader.join();
    {
      std::unique_lock lock(mutex_);
      slot_free_.wait(lock, [this] { return free_count_ == slots_.size() || arena_ == nullptr; });
      helper_stops_ = true;
      help_wanted_.notify_one();
    }
    if (helper_.joinable()) helper_.join();
    if (arena_ != nullptr) (void)::munmap(arena_, kInFlightMax * kSlotBytes);
  }

  Status allocate() {
    void* arena = ::mmap(nullptr, kInFlightMax * kSlotBytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (arena == MAP_FAILED) return fail(Errc::out_of_memory, errno_text("mmap"));
    arena_ = static_cast<std::byte*>(arena);
    if (::mlock(arena_, kInFlightMax * kSlotBytes) != 0) {
      log_.warning("cannot lock the request buffers; a kill while memory is short may cost errors",
                   {{"errno", errno}});
    }
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      auto& slot = slots_[i];
      slot.session = this;
      slot.page = arena_ + i * kSlotBytes;
      slot.payload = slot.page + kPage;
      slot.io.owner = &slot;
      slot.io.complete = completed;
      slot.next = free_;
      free_ = &slot;
    }
    free_count_ = slots_.size();
    return {};
  }

  Status start() override {
    if (auto done = allocate(); !done) return done;
    helper_ = std::thread([this] { help(); });
    if (inherited_) {
      // Before anything is read: the kernel queues again what our predecessor left unanswered.
      fuse_out_header header{sizeof(fuse_out_header), kNotifyResend, 0};
      if (::write(descriptor_.get(), &header, sizeof header) < 0) {
        return fail(Errc::io_error, errno_text("FUSE_NOTIFY_RESEND"));
      }
      greeting_ = Greeting::agreed;
    }
    for (std::size_t i = 0; i < kReaderThreads; ++i) readers_.emplace_back([this] { read_all(); });
    std::unique_lock lock(mutex_);
    greeted_.wait_for(lock, std::chrono::seconds(kStartSecondsMax),
                      [this] { return greeting_ != Greeting::awaited; });
    switch (greeting_) {
      case Greeting::agreed: return {};
      case Greeting::no_resend:
        return fail(
            Errc::missing_kernel_feature,
            "FUSE of this kernel does not survive a restart of its server (Linux 6.9 and newer "
            "does)");
      case Greeting::awaited: break;
    }
    return fail(Errc::io_error, "the kernel did not greet on " + mount_point_);
  }

  Status add(std::string_view name, std::shared_ptr<block::Device> device,
             const FileOptions& options) override {
    const bool plausible = name.empty() == (shape_ == Shape::one_file) &&
                           name.size() <= kNameBytesMax && name.find('/') == name.npos;
    if (!plausible) return fail(Errc::invalid_argument, "file name '" + std::string(name) + "'");
    auto node = std::make_shared<Node>();
    node->name = name;
    node->id = name.empty() ? kRootNode : node_of(name);
    const unsigned mask = device->geometry().read_only ? 0555U : 0777U;
    node->mode = options.mode & mask;
    node->device = std::move(device);
    const std::lock_guard lock(mutex_);
    if (!nodes_.emplace(node->id, node).second) {
      return fail(Errc::object_already_exists, std::string(name));
    }
    return {};
  }

  Status remove(std::string_view name, bool force) override {
    std::unique_lock lock(mutex_);
    const auto found = nodes_.find(name.empty() ? kRootNode : node_of(name));
    if (found == nodes_.end()) return fail(Errc::object_not_found, std::string(name));
    const auto node = found->second;
    if (node->opens > 0 && !force) {
      return fail(Errc::volume_in_use, mount_point_ + "/" + std::string(name) + " is open");
    }
    nodes_.erase(found);
    idle_.wait(lock, [&] { return node->in_flight == 0; });
    const auto device = std::move(node->device);  // Destroyed after the lock.
    lock.unlock();
    return {};
  }

  std::size_t open_count(std::string_view name) const override {
    const std::lock_guard lock(mutex_);
    const auto found = nodes_.find(name.empty() ? kRootNode : node_of(name));
    return found == nodes_.end() ? 0 : found->second->opens;
  }

  const std::string& mount_point() const noexcept override { return mount_point_; }
  int descriptor() const noexcept override { return descriptor_.get(); }
  std::string saved_state() const override {
    return std::string(kStateMagic) + (shape_ == Shape::one_file ? "f " : "d ") +
           std::to_string(group_) + " " + std::to_string(directory_mode_) + " " + mount_point_;
  }

 private:
  enum class Greeting : std::uint8_t { awaited, agreed, no_resend };

  // --- the reader threads --------------------------------------------------------------------

  void read_all() noexcept {
    sigset_t all;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, nullptr);
    while (true) {
      Slot& slot = acquire();
      const auto got = ::read(descriptor_.get(), slot.payload - kWriteHeadBytes,
                              kWriteHeadBytes + kPayloadBytesMax);
      if (got < 0) {
        const int error = errno;
        release(slot);
        // ENOENT: the request was interrupted before we took it.
        if (error == EINTR || error == ENOENT || error == EAGAIN) continue;
        if (error != ENODEV && error != ECONNABORTED) {
          log_.error("reading FUSE requests failed", {{"errno", error}, {"mount", mount_point_}});
        }
        return;
      }
      take(slot, static_cast<std::size_t>(got));
    }
  }

  Slot& acquire() {
    std::unique_lock lock(mutex_);
    slot_free_.wait(lock, [this] { return free_ != nullptr; });
    Slot& slot = *free_;
    free_ = slot.next;
    --free_count_;
    return slot;
  }

  void release(Slot& slot) noexcept {
    std::shared_ptr<Node> node = std::move(slot.node);
    const std::lock_guard lock(mutex_);
    slot.next = free_;
    free_ = &slot;
    ++free_count_;
    slot_free_.notify_all();
    if (node != nullptr && --node->in_flight == 0) idle_.notify_all();
  }

  // The kernel is trusted as to lengths; what it passes on from users (names, offsets) is not.
  void take(Slot& slot, std::size_t size) noexcept {
    const auto& header = *reinterpret_cast<const fuse_in_header*>(slot.head());
    UMBRA_ASSERT(size >= sizeof header && size == header.len);
    slot.unique = header.unique;
    slot.opcode = header.opcode;
    switch (header.opcode) {
      case FUSE_INIT: return greet(slot);
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT: return release(slot);  // Have no reply.
      case FUSE_DESTROY: return reply(slot, 0);
      case FUSE_STATFS: return reply_statfs(slot);
      case FUSE_LOOKUP: return lookup(slot, header.nodeid, size);
      case FUSE_OPENDIR: return reply_with(slot, fuse_open_out{0, 0, 0});
      case FUSE_READDIR: return read_directory(slot);
      case FUSE_RELEASEDIR:
      case FUSE_FSYNCDIR: return reply(slot, 0);
      default: break;
    }
    take_for_node(slot, header.nodeid);
  }

  void take_for_node(Slot& slot, std::uint64_t id) noexcept {
    if (slot.opcode == FUSE_GETATTR && id == kRootNode && shape_ == Shape::directory) {
      return reply_attributes(slot, directory_attributes());
    }
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = nodes_.find(id); found != nodes_.end()) {
        slot.node = found->second;
        ++slot.node->in_flight;
        if (slot.opcode == FUSE_OPEN) ++slot.node->opens;
        if (slot.opcode == FUSE_RELEASE && slot.node->opens > 0) --slot.node->opens;
      }
    }
    if (slot.opcode == FUSE_RELEASE) return reply(slot, 0);
    // close() has nothing to write back, and must not wait for us: we may be dead at the moment, or
    // it may be ourselves who close. ENOSYS makes the kernel stop asking.
    if (slot.opcode == FUSE_FLUSH) return reply(slot, ENOSYS);
    if (slot.node == nullptr) return reply(slot, EIO);  // Removed while it was open.
    switch (slot.opcode) {
      case FUSE_GETATTR: return reply_attributes(slot, attributes(*slot.node));
      case FUSE_SETATTR: return set_attributes(slot);
      case FUSE_OPEN: return reply_with(slot, fuse_open_out{0, kOpenFlags, 0});
      case FUSE_READ: return read(slot);
      case FUSE_WRITE: return write(slot);
      case FUSE_FSYNC: return submit(slot, block::Op::flush, 0, 0);
      case FUSE_FALLOCATE: return allocate_range(slot);
      case FUSE_IOCTL: return reply(slot, ENOTTY);
      default: return reply(slot, ENOSYS);
    }
  }

  void greet(Slot& slot) noexcept {
    const auto& in = slot.argument<fuse_init_in>();
    constexpr std::uint64_t kWanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES |
                                      FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_INIT_EXT |
                                      kHasResend;
    const std::uint64_t offered = in.flags | (std::uint64_t{in.flags2} << 32U);
    const std::uint64_t flags = offered & kWanted;
    fuse_init_out out{};
    out.major = FUSE_KERNEL_VERSION;
    out.minor = std::min(in.minor, kMinorSpoken);
    out.max_readahead = in.max_readahead;
    out.flags = static_cast<std::uint32_t>(flags);
    out.flags2 = static_cast<std::uint32_t>(flags >> 32U);
    out.max_background = kInFlightMax;
    out.congestion_threshold = kInFlightMax * 3 / 4;
    out.max_write = kPayloadBytesMax;
    out.max_pages = kPagesMax;
    out.time_gran = 1;
    reply_with(slot, out);
    const std::lock_guard lock(mutex_);
    greeting_ = (flags & kHasResend) != 0 ? Greeting::agreed : Greeting::no_resend;
    greeted_.notify_all();
  }

  void lookup(Slot& slot, std::uint64_t parent, std::size_t size) noexcept {
    const auto* text = reinterpret_cast<const char*>(slot.head() + sizeof(fuse_in_header));
    const std::string_view name(text, ::strnlen(text, size - sizeof(fuse_in_header)));
    fuse_entry_out out{};
    {
      const std::lock_guard lock(mutex_);
      const auto found = nodes_.find(node_of(name));
      if (parent != kRootNode || found == nodes_.end() || found->second->name != name) {
        out.nodeid = 0;
      } else {
        out.nodeid = found->first;
        out.attr = attributes(*found->second);
        out.attr_valid = kAttributesValidS;  // The entry itself is asked for every time.
      }
    }
    if (out.nodeid == 0) return reply(slot, ENOENT);
    reply_with(slot, out);
  }

  fuse_attr attributes(const Node& node) const noexcept {
    fuse_attr out{};
    out.ino = node.id;
    out.mode = S_IFREG | node.mode;
    out.nlink = 1;
    out.gid = group_;
    out.size = node.device->geometry().size_bytes;
    out.blocks = out.size / 512;
    out.blksize = kPage;
    return out;
  }
  fuse_attr directory_attributes() const noexcept {
    fuse_attr out{};
    out.ino = kRootNode;
    out.mode = S_IFDIR | directory_mode_;
    out.nlink = 2;
    out.gid = group_;
    out.blksize = kPage;
    return out;
  }

  // Times may be set to anything, since they are not kept; a size only to what it is.
  void set_attributes(Slot& slot) noexcept {
    const auto& in = slot.argument<fuse_setattr_in>();
    const bool resize =
        (in.valid & FATTR_SIZE) != 0 && in.size != slot.node->device->geometry().size_bytes;
    if (resize || (in.valid & (FATTR_MODE | FATTR_UID | FATTR_GID)) != 0) {
      return reply(slot, EPERM);
    }
    reply_attributes(slot, attributes(*slot.node));
  }

  void read_directory(Slot& slot) noexcept {
    const auto& in = slot.argument<fuse_read_in>();
    const std::size_t room = std::min(in.size, kPayloadBytesMax);
    const std::uint64_t after = in.offset;  // The node number of the last entry seen.
    std::size_t used = 0;
    std::unique_lock lock(mutex_);
    for (auto at = nodes_.upper_bound(after); at != nodes_.end(); ++at) {
      const auto& name = at->second->name;
      const std::size_t size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name.size());
      if (used + size > room) break;
      std::memset(slot.payload + used, 0, size);
      fuse_dirent entry{};
      entry.ino = entry.off = at->first;
      entry.namelen = static_cast<std::uint32_t>(name.size());
      entry.type = DT_REG;
      std::memcpy(slot.payload + used, &entry, FUSE_NAME_OFFSET);
      std::memcpy(slot.payload + used + FUSE_NAME_OFFSET, name.data(), name.size());
      used += size;
    }
    lock.unlock();
    send(slot, 0, slot.payload, used);
    release(slot);
  }

  // --- I/O -------------------------------------------------------------------------------------

  void read(Slot& slot) noexcept {
    const auto& in = slot.argument<fuse_read_in>();
    const auto geometry = slot.node->device->geometry();
    if (in.offset >= geometry.size_bytes) return reply(slot, 0);
    const std::uint64_t wanted =
        std::min<std::uint64_t>({in.size, kPayloadBytesMax, geometry.size_bytes - in.offset});
    const std::uint64_t block = geometry.block_bytes;
    const std::uint64_t begin = in.offset / block * block;
    const std::uint64_t end = (in.offset + wanted + block - 1) / block * block;
    slot.reply_begin = static_cast<std::uint32_t>(in.offset - begin);
    slot.reply_bytes = static_cast<std::uint32_t>(wanted);
    submit(slot, block::Op::read, begin, end - begin);
  }

  void write(Slot& slot) noexcept {
    const auto& in = slot.argument<fuse_write_in>();
    const auto geometry = slot.node->device->geometry();
    if (geometry.read_only) return reply(slot, EROFS);
    if (in.offset > geometry.size_bytes || in.size > geometry.size_bytes - in.offset) {
      return reply(slot, ENOSPC);
    }
    if (in.offset % geometry.block_bytes != 0 || in.size % geometry.block_bytes != 0) {
      return reply(slot, EINVAL);
    }
    slot.reply_bytes = in.size;
    submit(slot, block::Op::write, in.offset, in.size);
  }

  // Loop devices turn discard and write-zeroes into the same hole punching, so both are zeroes.
  void allocate_range(Slot& slot) noexcept {
    const auto& in = slot.argument<fuse_fallocate_in>();
    const auto geometry = slot.node->device->geometry();
    const bool punch = (in.mode & FALLOC_FL_PUNCH_HOLE) != 0;
    const bool zero = (in.mode & FALLOC_FL_ZERO_RANGE) != 0;
    if (geometry.read_only) return reply(slot, EROFS);
    if (!punch && !zero) return reply(slot, EOPNOTSUPP);
    if (in.offset >= geometry.size_bytes) return reply(slot, EINVAL);
    const auto length = std::min(in.length, geometry.size_bytes - in.offset);
    if (in.offset % geometry.block_bytes != 0 || length % geometry.block_bytes != 0) {
      return reply(slot, EINVAL);
    }
    if (length == 0) return reply(slot, 0);
    slot.io.no_hole = zero;
    const auto part = std::min(length, part_bytes_max(geometry));
    slot.left_bytes = length - part;
    submit(slot, block::Op::write_zeroes, in.offset, part);
  }

  static std::uint64_t part_bytes_max(const block::Geometry& geometry) noexcept {
    return std::max<std::uint64_t>(
        geometry.request_bytes_max / geometry.block_bytes * geometry.block_bytes,
        geometry.block_bytes);
  }

  void submit(Slot& slot, block::Op op, std::uint64_t offset, std::uint64_t size) noexcept {
    auto& io = slot.io;
    io.op = op;
    io.fua = false;
    io.error = 0;
    io.offset_bytes = offset;
    io.size_bytes = size;
    io.buffer = slot.payload;
    io.next = nullptr;
    slot.node->device->submit(io);
  }

  // Any thread.
  static void completed(block::Request& io) noexcept {
    Slot& slot = *static_cast<Slot*>(io.owner);
    auto& self = *slot.session;
    if (io.error != 0) return self.reply(slot, io.error);
    switch (slot.opcode) {
      case FUSE_READ:
        self.send(slot, 0, slot.payload + slot.reply_begin, slot.reply_bytes);
        return self.release(slot);
      case FUSE_WRITE: return self.reply_with(slot, fuse_write_out{slot.reply_bytes, 0});
      case FUSE_FALLOCATE:
        // Not from here: a device that completes inside submit() would recurse once per part.
        if (slot.left_bytes > 0) return self.give_to_helper(slot);
        return self.reply(slot, 0);
      default: return self.reply(slot, 0);
    }
  }

  void give_to_helper(Slot& slot) noexcept {
    const std::lock_guard lock(mutex_);
    slot.next = to_continue_;
    to_continue_ = &slot;
    help_wanted_.notify_one();
  }

  void help() noexcept {
    sigset_t all;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, nullptr);
    std::unique_lock lock(mutex_);
    while (true) {
      help_wanted_.wait(lock, [this] { return helper_stops_ || to_continue_ != nullptr; });
      if (to_continue_ == nullptr) return;
      Slot& slot = *to_continue_;
      to_continue_ = slot.next;
      lock.unlock();
      const auto part = std::min(slot.left_bytes, part_bytes_max(slot.node->device->geometry()));
      slot.left_bytes -= part;
      submit(slot, block::Op::write_zeroes, slot.io.offset_bytes + slot.io.size_bytes, part);
      lock.lock();
    }
  }

  // --- replies ---------------------------------------------------------------------------------

  // The header lies in the slot's locked page. A failed write means that the kernel has given up on
  // the request or the session; there is nobody to tell.
  void send(Slot& slot, int error, const void* data, std::size_t size) noexcept {
    auto* header = reinterpret_cast<fuse_out_header*>(slot.page);
    header->len = static_cast<std::uint32_t>(sizeof *header + size);
    header->error = -error;
    header->unique = slot.unique;
    std::array<iovec, 2> vectors{{{header, sizeof *header}, {const_cast<void*>(data), size}}};
    while (::writev(descriptor_.get(), vectors.data(), size > 0 ? 2 : 1) < 0 && errno == EINTR) {
    }
  }
  void reply(Slot& slot, int error) noexcept {
    send(slot, error, nullptr, 0);
    release(slot);
  }
  template <class T>
  void reply_with(Slot& slot, const T& out) noexcept {
    // Copied to the locked page: the kernel must not fault on it while we die.
    auto* copy = slot.page + sizeof(fuse_out_header);
    static_assert(sizeof(fuse_out_header) + sizeof(T) <= kPage - kWriteHeadBytes);
    std::memcpy(copy, &out, sizeof out);
    send(slot, 0, copy, sizeof out);
    release(slot);
  }
  void reply_attributes(Slot& slot, const fuse_attr& attributes) noexcept {
    fuse_attr_out out{};
    out.attr_valid = kAttributesValidS;
    out.attr = attributes;
    reply_with(slot, out);
  }
  void reply_statfs(Slot& slot) noexcept {
    fuse_statfs_out out{};
    out.st.bsize = kPage;
    out.st.frsize = kPage;
    out.st.namelen = kNameBytesMax;
    reply_with(slot, out);
  }

  UniqueFd descriptor_;
  std::string mount_point_;
  Shape shape_;
  std::uint32_t group_;
  unsigned directory_mode_;
  bool inherited_;
  Logger log_;
  std::byte* arena_ = nullptr;

  mutable std::mutex mutex_;
  std::condition_variable slot_free_;
  std::condition_variable idle_;  // Some node has no request in flight.
  std::condition_variable greeted_;
  std::condition_variable help_wanted_;
  std::vector<Slot> slots_;
  Slot* free_ = nullptr;
  std::size_t free_count_ = 0;
  Slot* to_continue_ = nullptr;
  bool helper_stops_ = false;
  Greeting greeting_ = Greeting::awaited;
  std::map<std::uint64_t, std::shared_ptr<Node>> nodes_;
  std::vector<std::thread> readers_;
  std::thread helper_;
};

}  // namespace

std::uint64_t node_of(std::string_view name) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325U;  // FNV-1a.
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  return hash > kRootNode ? hash : hash + 2;
}

Result<std::unique_ptr<Session>> Session::create(const SessionOptions& options, Log& log) {
  UniqueFd descriptor(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!descriptor) {
    const auto code =
        errno == EACCES || errno == EPERM ? Errc::missing_privilege : Errc::missing_kernel_feature;
    return fail(code, errno_text("cannot open /dev/fuse"));
  }
  const unsigned root = options.shape == Shape::one_file ? S_IFREG : S_IFDIR;
  std::array<char, 128> data{};
  (void)std::snprintf(
      data.data(), data.size(),
      "fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other,default_permissions,max_read=%u",
      descriptor.get(), root, kPayloadBytesMax);
  if (::mount("umbra", options.mount_point.c_str(), "fuse.umbra", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              data.data()) != 0) {
    const auto code = errno == EPERM ? Errc::missing_privilege : Errc::io_error;
    return fail(code, errno_text("cannot mount FUSE on " + options.mount_point));
  }
  return std::make_unique<KernelSession>(std::move(descriptor), options.mount_point, options.shape,
                                         options.group, options.directory_mode, false, log);
}

Result<std::unique_ptr<Session>> Session::take_over(UniqueFd descriptor,
                                                    std::string_view saved_state, Log& log) {
  if (saved_state.substr(0, 11) != kStateMagic.substr(0, 11)) {
    return fail(Errc::invalid_argument, "not the state of a FUSE session");
  }
  if (saved_state.substr(0, kStateMagic.size()) != kStateMagic) {
    return fail(Errc::version_mismatch, "state of a FUSE session: " + printable(saved_state, 32));
  }
  saved_state.remove_prefix(kStateMagic.size());
  const auto word = [&] {
    const auto end = std::min(saved_state.find(' '), saved_state.size());
    const std::string text(saved_state.substr(0, end));
    saved_state.remove_prefix(std::min(end + 1, saved_state.size()));
    return text;
  };
  const auto shape = word();
  const auto group = std::strtoul(word().c_str(), nullptr, 10);
  const auto mode = std::strtoul(word().c_str(), nullptr, 10);
  if ((shape != "f" && shape != "d") || saved_state.empty() || saved_state.front() != '/') {
    return fail(Errc::invalid_argument, "the state of a FUSE session is damaged");
  }
  return std::make_unique<KernelSession>(std::move(descriptor), std::string(saved_state),
                                         shape == "f" ? Shape::one_file : Shape::directory,
                                         static_cast<std::uint32_t>(group),
                                         static_cast<unsigned>(mode), true, log);
}

}  // namespace umbra::fuse
