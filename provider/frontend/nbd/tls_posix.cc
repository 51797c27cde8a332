// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/tls_posix.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace umbra::nbd {
namespace {

// 1.2 at least, as the protocol document asks for.
constexpr const char* kPriorities = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
// And keys shared before, with a key exchange of their own, so that what was recorded stays secret
// when they become known.
constexpr const char* kSharedKeyPriorities =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK";

struct FreeCertificates {
  void operator()(gnutls_certificate_credentials_t credentials) const {
    gnutls_certificate_free_credentials(credentials);
  }
};
struct FreeSharedKeys {
  void operator()(gnutls_psk_server_credentials_t credentials) const {
    gnutls_psk_free_server_credentials(credentials);
  }
};
using Certificates =
    std::unique_ptr<std::remove_pointer_t<gnutls_certificate_credentials_t>, FreeCertificates>;
using SharedKeys =
    std::unique_ptr<std::remove_pointer_t<gnutls_psk_server_credentials_t>, FreeSharedKeys>;

struct Credentials {
  Certificates certificates;
  SharedKeys shared_keys;
};

Status check_readable(const std::string& file, bool is_secret) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0 || ::access(file.c_str(), R_OK) != 0) {
    return fail(Errc::invalid_argument,
                file + ": " + std::generic_category().message(errno) + "; TLS needs it");
  }
  if (is_secret && (status.st_mode & S_IRWXO) != 0) {
    return fail(Errc::access_denied,
                file + " is a secret that every user of this machine may read; chmod o= it");
  }
  return {};
}

Status check_step(int result, const std::string& what) {
  if (result >= 0) return {};
  return fail(Errc::invalid_argument, what + ": " + gnutls_strerror(result));
}

Result<Certificates> load_certificates(const std::string& directory) {
  const std::string authority = directory + "/ca-cert.pem";
  const std::string revoked = directory + "/ca-crl.pem";
  const std::string certificate = directory + "/server-cert.pem";
  const std::string key = directory + "/server-key.pem";
  for (const auto* file : {&authority, &certificate, &key}) {
    if (const Status good = check_readable(*file, file == &key); !good) return fail(good.error());
  }
  gnutls_certificate_credentials_t made = nullptr;
  if (const Status done = check_step(gnutls_certificate_allocate_credentials(&made), "TLS");
      !done) {
    return fail(done.error());
  }
  Certificates certificates(made);
  const int authorities =
      gnutls_certificate_set_x509_trust_file(made, authority.c_str(), GNUTLS_X509_FMT_PEM);
  if (authorities == 0) return fail(Errc::invalid_argument, authority + " holds no certificate");
  Status done = check_step(authorities, authority);
  if (done && ::access(revoked.c_str(), F_OK) == 0) {
    done = check_step(
        gnutls_certificate_set_x509_crl_file(made, revoked.c_str(), GNUTLS_X509_FMT_PEM), revoked);
  }
  if (done) {
    done = check_step(gnutls_certificate_set_x509_key_file(made, certificate.c_str(), key.c_str(),
                                                           GNUTLS_X509_FMT_PEM),
                      certificate + " and " + key);
  }
  if (!done) return fail(done.error());
  return certificates;
}

Result<SharedKeys> load_shared_keys(const std::string& file) {
  if (const Status good = check_readable(file, true); !good) return fail(good.error());
  gnutls_psk_server_credentials_t made = nullptr;
  if (const Status done = check_step(gnutls_psk_allocate_server_credentials(&made), "TLS"); !done) {
    return fail(done.error());
  }
  SharedKeys keys(made);
  const Status done = check_step(gnutls_psk_set_server_credentials_file(made, file.c_str()), file);
  if (!done) return fail(done.error());
  (void)gnutls_psk_set_server_known_dh_params(made, GNUTLS_SEC_PARAM_MEDIUM);
  return keys;
}

Result<Credentials> load(const TlsOptions& options) {
  Credentials credentials;
  if (options.certificates.empty() && options.shared_keys.empty()) {
    return fail(Errc::invalid_argument, "TLS needs certificates or shared keys");
  }
  if (!options.certificates.empty()) {
    auto loaded = load_certificates(options.certificates);
    if (!loaded) return fail(loaded.error());
    credentials.certificates = std::move(*loaded);
  }
  if (!options.shared_keys.empty()) {
    auto loaded = load_shared_keys(options.shared_keys);
    if (!loaded) return fail(loaded.error());
    credentials.shared_keys = std::move(*loaded);
  }
  return credentials;
}

std::string subject_of_peer(gnutls_session_t session) {
  unsigned count = 0;
  const gnutls_datum_t* chain = gnutls_certificate_get_peers(session, &count);
  if (chain == nullptr || count == 0) return {};
  gnutls_x509_crt_t certificate = nullptr;
  if (gnutls_x509_crt_init(&certificate) < 0) return {};
  std::string subject;
  gnutls_datum_t text{};
  if (gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) >= 0 &&
      gnutls_x509_crt_get_dn3(certificate, &text, 0) >= 0) {
    subject.assign(reinterpret_cast<const char*>(text.data), text.size);
    gnutls_free(text.data);
  }
  gnutls_x509_crt_deinit(certificate);
  return subject;
}

// Why a handshake failed, from whichever side knows more.
std::string why(gnutls_session_t session, int result) {
  if (result == GNUTLS_E_PREMATURE_TERMINATION) return "the client left, or took too long";
  std::string text = gnutls_strerror(result);
  if (result == GNUTLS_E_FATAL_ALERT_RECEIVED) {
    const char* alert = gnutls_alert_get_name(gnutls_alert_get(session));
    return text + " by the client: " + (alert != nullptr ? alert : "unknown");
  }
  if (result != GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) return text;
  gnutls_datum_t told{};
  if (gnutls_certificate_verification_status_print(gnutls_session_get_verify_cert_status(session),
                                                   GNUTLS_CRT_X509, &told, 0) >= 0) {
    text += ": " + std::string(reinterpret_cast<const char*>(told.data));
    gnutls_free(told.data);
  }
  return text;
}

}  // namespace

struct TlsStream::Session {
  Credentials credentials;
  gnutls_session_t handle = nullptr;

  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() {
    if (handle != nullptr) gnutls_deinit(handle);
  }

  [[nodiscard]] Status begin() {
    if (Status made = check_step(gnutls_init(&handle, GNUTLS_SERVER), "TLS"); !made) {
      return made;
    }
    const char* priorities = credentials.shared_keys ? kSharedKeyPriorities : kPriorities;
    Status set = check_step(gnutls_priority_set_direct(handle, priorities, nullptr), priorities);
    if (set && credentials.shared_keys) {
      set = check_step(
          gnutls_credentials_set(handle, GNUTLS_CRD_PSK, credentials.shared_keys.get()), "TLS");
    }
    if (set && credentials.certificates) {
      set = check_step(
          gnutls_credentials_set(handle, GNUTLS_CRD_CERTIFICATE, credentials.certificates.get()),
          "TLS");
      gnutls_certificate_server_set_request(handle, GNUTLS_CERT_REQUIRE);
      // Not asked for with a shared key: that proves enough.
      static unsigned char purpose[] = GNUTLS_KP_TLS_WWW_CLIENT;
      static gnutls_typed_vdata_st wanted = {GNUTLS_DT_KEY_PURPOSE_OID, purpose, 0};
      gnutls_session_set_verify_cert2(handle, &wanted, 1, 0);
    }
    return set;
  }
};

Status check_tls(const TlsOptions& options) {
  const auto loaded = load(options);
  return loaded ? Status{} : Status(fail(loaded.error()));
}

TlsStream::TlsStream(Stream& below) : below_(below), session_(std::make_unique<Session>()) {}
TlsStream::~TlsStream() = default;

Result<std::unique_ptr<TlsStream>> TlsStream::accept(Stream& below, const TlsOptions& options) {
  auto loaded = load(options);
  if (!loaded) return fail(loaded.error());
  std::unique_ptr<TlsStream> stream(new TlsStream(below));
  stream->session_->credentials = std::move(*loaded);
  if (const Status begun = stream->session_->begin(); !begun) return fail(begun.error());
  if (const Status shaken = stream->shake_hands(); !shaken) return fail(shaken.error());
  return stream;
}

Status TlsStream::shake_hands() {
  const auto session = session_->handle;
  gnutls_transport_set_ptr(session, this);
  gnutls_transport_set_pull_function(
      session, [](gnutls_transport_ptr_t self, void* to, std::size_t size) -> ssize_t {
        const iovec vector{to, size};
        return static_cast<ssize_t>(
            static_cast<TlsStream*>(self)->below_.receive(std::span(&vector, 1)));
      });
  gnutls_transport_set_push_function(
      session, [](gnutls_transport_ptr_t pointer, const void* from, std::size_t size) -> ssize_t {
        auto& self = *static_cast<TlsStream*>(pointer);
        const iovec vector{const_cast<void*>(from), size};
        const auto outcome = self.below_.send(std::span(&vector, 1), self.may_block_.load());
        if (outcome.sent == Sent::some) return static_cast<ssize_t>(outcome.bytes);
        gnutls_transport_set_errno(self.session_->handle,
                                   outcome.sent == Sent::would_block ? EAGAIN : EPIPE);
        return -1;
      });
  int result = 0;
  do {
    result = gnutls_handshake(session);
  } while (result < 0 && gnutls_error_is_fatal(result) == 0);
  if (result < 0) {
    // So that the other side knows as well; nobody waits for it.
    may_block_ = false;
    (void)gnutls_alert_send_appropriate(session, result);
    return fail(Errc::access_denied, why(session, result));
  }
  if (gnutls_auth_get_type(session) == GNUTLS_CRD_CERTIFICATE) {
    peer_ = "certificate " + subject_of_peer(session);
  } else {
    const char* user = gnutls_psk_server_get_username(session);
    peer_ = std::string("key of ") + (user != nullptr ? user : "?");
  }
  return {};
}

std::size_t TlsStream::receive(std::span<const iovec> to) noexcept {
  const auto into =
      std::find_if(to.begin(), to.end(), [](const iovec& v) { return v.iov_len > 0; });
  while (true) {
    const ssize_t got = gnutls_record_recv(session_->handle, into->iov_base, into->iov_len);
    if (got >= 0) return static_cast<std::size_t>(got);
    // A client that wants to negotiate anew (TLS 1.2) ends here as well.
    if (got != GNUTLS_E_INTERRUPTED && got != GNUTLS_E_AGAIN) return 0;
  }
}

// A record at a time. What is small is gathered, so that a reply's header and its payload do not
// travel apart.
Stream::Outcome TlsStream::send(std::span<const iovec> from, bool may_block) noexcept {
  may_block_ = may_block;
  ssize_t sent = 0;
  do {
    if (is_unsent_) {
      sent = gnutls_record_send(session_->handle, nullptr, 0);
    } else if (from.front().iov_len >= kRecordBytes) {
      sent = gnutls_record_send(session_->handle, from.front().iov_base, kRecordBytes);
    } else {
      std::size_t count = 0;
      for (const iovec& vector : from) {
        const auto size = std::min(vector.iov_len, kRecordBytes - count);
        std::memcpy(gathered_.data() + count, vector.iov_base, size);
        count += size;
      }
      sent = gnutls_record_send(session_->handle, gathered_.data(), count);
    }
    is_unsent_ = sent == GNUTLS_E_AGAIN || sent == GNUTLS_E_INTERRUPTED;
  } while (is_unsent_ && may_block);
  if (is_unsent_) return {Sent::would_block, 0};
  if (sent <= 0) return {Sent::failed, 0};
  return {Sent::some, static_cast<std::size_t>(sent)};
}

void TlsStream::say_goodbye() noexcept {
  may_block_ = false;
  (void)gnutls_bye(session_->handle, GNUTLS_SHUT_WR);
}

}  // namespace umbra::nbd
