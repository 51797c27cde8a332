// SPDX-License-Identifier: Apache-2.0

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "writer-sdk/writers/postgresql/connection.h"

namespace umbra::postgresql {

using namespace std::chrono_literals;

namespace {

constexpr auto kPollSlice = 50ms;  // How soon a wait notices that it has become pointless.
// A server that ends a statement at its limit is given this long to say so.
constexpr auto kServerGrace = 500ms;

struct ClearResult {
  void operator()(PGresult* result) const noexcept { PQclear(result); }
};
using OwnedResult = std::unique_ptr<PGresult, ClearResult>;

// Whether the socket became ready before the limit was over.
bool wait_for(int socket, short events, const Limit& limit) {
  while (!limit.is_over()) {
    pollfd entry{socket, events, 0};
    const auto slice = std::min<std::chrono::milliseconds>(limit.left(), kPollSlice);
    const int ready = ::poll(&entry, 1, static_cast<int>(slice.count()));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
  return false;
}

std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const bool gap = c == '\n' || c == '\t' || c == ' ';
    if (!gap || (!line.empty() && line.back() != ' ')) line.push_back(gap ? ' ' : c);
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

// What will be the same in ten minutes unless somebody changes something: SQLSTATE classes 28
// (authorization), 3D (no such database), 42 (privilege, syntax, undefined), 0A (not supported).
bool is_final(std::string_view sqlstate) {
  for (const std::string_view kind : {"28", "3D", "42", "0A", "22"}) {
    if (sqlstate.substr(0, 2) == kind) return true;
  }
  return false;
}

// libpq tells no SQLSTATE of a failed connection; these are libpq's and the server's own words (a
// server that speaks another language counts as retryable).
bool is_refusal(const std::string& message) {
  for (const char* words : {"authentication failed", "does not exist", "no pg_hba.conf entry",
                            "password", "not permitted to log in"}) {
    if (message.find(words) != std::string::npos) return true;
  }
  return false;
}

}  // namespace

void Connection::Close::operator()(pg_conn* connection) const noexcept { PQfinish(connection); }

Result<Connection> Connection::open(const Target& target, const Limit& limit,
                                    std::chrono::milliseconds idle_limit) {
  std::vector<const char*> keywords;
  std::vector<const char*> values;
  const auto add = [&](const char* keyword, const char* value) {
    keywords.push_back(keyword);
    values.push_back(value);
  };
  // Ours first: what the administrator wrote wins.
  add("application_name", "umbra-writer-postgresql");
  add("gssencmode", "disable");  // Kerberos would be asked without a time limit.
  add("tcp_user_timeout", "10000");
  for (const auto& [keyword, value] : target.parameters) add(keyword.c_str(), value.c_str());
  add("client_encoding", "UTF8");
  add(nullptr, nullptr);
  Connection connection(PQconnectStartParams(keywords.data(), values.data(), 0));
  if (!connection.connection_) return fail(Errc::writererror_outofresources, "no memory");
  if (auto up = connection.establish(limit); !up) return fail(std::move(up.error()));
  if (auto set = connection.set_limits(limit, idle_limit); !set) {
    return fail(std::move(set.error()));
  }
  return connection;
}

Status Connection::establish(const Limit& limit) {
  PostgresPollingStatusType state = PGRES_POLLING_WRITING;
  if (PQstatus(connection_.get()) == CONNECTION_BAD) state = PGRES_POLLING_FAILED;
  while (state == PGRES_POLLING_READING || state == PGRES_POLLING_WRITING) {
    const short events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT;
    if (!wait_for(PQsocket(connection_.get()), events, limit)) {
      return lost("no answer to the connection within the time limit");
    }
    state = PQconnectPoll(connection_.get());
  }
  if (state != PGRES_POLLING_OK) {
    const auto message = one_line(PQerrorMessage(connection_.get()));
    connection_.reset();
    return fail(is_refusal(message) ? Errc::writererror_nonretryable : Errc::writererror_retryable,
                message);
  }
  // From here on nothing blocks, the goodbye of PQfinish included.
  if (PQsetnonblocking(connection_.get(), 1) != 0) return lost("cannot be made non-blocking");
  return {};
}

Status Connection::set_limits(const Limit& limit, std::chrono::milliseconds idle_limit) {
  const auto set = [&](const char* name, std::chrono::milliseconds time) -> Status {
    auto done =
        query("SET " + std::string(name) + " = '" + std::to_string(time.count()) + "ms'", limit);
    if (!done) return fail(std::move(done.error()));
    return {};
  };
  if (auto done = set("lock_timeout", 1s); !done) return done;
  if (auto done = set("idle_in_transaction_session_timeout", 10s); !done) return done;
  if (server_version() < 140000) return {};
  if (auto done = set("idle_session_timeout", idle_limit); !done) return done;
  return set("client_connection_check_interval", 1s);
}

Status Connection::set_statement_limit(std::chrono::milliseconds time, const Limit& limit) {
  // Set again only when it differs much: each change is a round trip.
  if (statement_limit_ > time * 3 / 4 && statement_limit_ <= time) return {};
  auto sent = send("SET statement_timeout = '" + std::to_string(time.count()) + "ms'");
  if (!sent) return sent;
  auto done = receive(limit);
  if (!done) return fail(std::move(done.error()));
  statement_limit_ = time;
  return {};
}

Result<std::vector<Row>> Connection::query(const std::string& sql, const Limit& limit) {
  const auto ours = limit.left();
  const auto servers = std::max<std::chrono::milliseconds>(
      ours > 2 * kServerGrace ? ours - kServerGrace : ours / 2, 1ms);
  if (auto set = set_statement_limit(servers, limit); !set) return fail(std::move(set.error()));
  if (auto sent = send(sql); !sent) return fail(std::move(sent.error()));
  return receive(limit);
}

Status Connection::send(const std::string& sql) {
  sqlstate_.clear();
  if (!connection_) return fail(Errc::writererror_retryable, "the session was lost");
  if (PQsendQuery(connection_.get(), sql.c_str()) != 1) {
    return lost(one_line(PQerrorMessage(connection_.get())));
  }
  // What does not fit into the socket now goes out in receive().
  if (PQflush(connection_.get()) < 0) return lost(one_line(PQerrorMessage(connection_.get())));
  return {};
}

Status Connection::flush(const Limit& limit) {
  for (;;) {
    const int left = PQflush(connection_.get());
    if (left == 0) return {};
    if (left < 0) return lost(one_line(PQerrorMessage(connection_.get())));
    if (!wait_for(PQsocket(connection_.get()), POLLOUT | POLLIN, limit)) {
      return lost("no answer within the time limit");
    }
    if (PQconsumeInput(connection_.get()) != 1) {
      return lost(one_line(PQerrorMessage(connection_.get())));
    }
  }
}

Result<std::vector<Row>> Connection::receive(const Limit& limit) {
  if (!connection_) return fail(Errc::writererror_retryable, "the session was lost");
  if (auto flushed = flush(limit); !flushed) return fail(std::move(flushed.error()));
  OwnedResult last;
  for (;;) {
    while (PQisBusy(connection_.get()) == 1) {
      if (!wait_for(PQsocket(connection_.get()), POLLIN, limit)) {
        return lost("no answer within the time limit");
      }
      if (PQconsumeInput(connection_.get()) != 1) {
        return lost(one_line(PQerrorMessage(connection_.get())));
      }
    }
    OwnedResult next(PQgetResult(connection_.get()));
    if (!next) break;
    last = std::move(next);
  }
  if (!last) return lost("an answer without a result");
  return read(last.get());
}

Result<std::vector<Row>> Connection::read(pg_result* result) {
  const auto status = PQresultStatus(result);
  if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
    const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char* message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    sqlstate_ = state ? state : "";
    const auto why = one_line(message ? message : PQresultErrorMessage(result));
    if (PQstatus(connection_.get()) != CONNECTION_OK) return lost(why);
    if (sqlstate_ == "57014") return fail(Errc::writererror_timeout, why);
    return fail(is_final(sqlstate_) ? Errc::writererror_nonretryable : Errc::writererror_retryable,
                why);
  }
  std::vector<Row> rows(static_cast<std::size_t>(PQntuples(result)));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (int column = 0; column < PQnfields(result); ++column) {
      rows[i].emplace_back(PQgetvalue(result, static_cast<int>(i), column));
    }
  }
  return rows;
}

int Connection::server_version() const noexcept {
  return connection_ ? PQserverVersion(connection_.get()) : 0;
}

tl::unexpected<Error> Connection::lost(const std::string& why) {
  connection_.reset();
  return fail(Errc::writererror_retryable, why.empty() ? "the connection was lost" : why);
}

}  // namespace umbra::postgresql
