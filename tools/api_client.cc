#include "tools/api_client.h"

#include <google/protobuf/util/json_util.h>
#include <grp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "control/api/api.pb.h"

namespace guideway {
namespace {

namespace http = boost::beast::http;

// Waits until `fd` is ready for `events`; false when the time is over.
bool WaitFor(int fd, short events, absl::Time until) {
  for (;;) {
    const int64_t ms = absl::ToInt64Milliseconds(until - absl::Now());
    pollfd p = {.fd = fd, .events = events, .revents = 0};
    const int ready = poll(&p, 1, ms > 0 ? static_cast<int>(ms) : 0);
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

// «the group guideway», as the file says.
std::string GroupOf(const std::string& path) {
  struct stat found;
  const group* entry = stat(path.c_str(), &found) == 0 ? getgrgid(found.st_gid) : nullptr;
  return entry == nullptr ? "its group" : absl::StrCat("the group ", entry->gr_name);
}

absl::Status Unreachable(const std::string& path, int error) {
  constexpr char kTry[] =
      "start it with `guidewayd --config FILE`, or name its socket with --socket";
  switch (error) {
    case ENOENT:
      return absl::UnavailableError(absl::StrCat(
          "guidewayd does not run here: there is no control socket ", path, "; ", kTry));
    case ECONNREFUSED:
      if (struct stat found; stat(path.c_str(), &found) == 0 && !S_ISSOCK(found.st_mode)) {
        return absl::UnavailableError(
            absl::StrCat(path, " is ", S_ISDIR(found.st_mode) ? "a directory" : "a file",
                         ", not a control socket; name guidewayd's with --socket"));
      }
      return absl::UnavailableError(absl::StrCat(
          "guidewayd does not run any more: nobody serves the control socket ", path, "; ", kTry));
    case EACCES:
    case EPERM: {
      const std::string group = GroupOf(path);
      return absl::UnavailableError(absl::StrCat(
          "no permission to use the control socket ", path, "; run as root",
          group == "the group root"
              ? ", or have `control: { group: … }` in the configuration name a group that may"
              : absl::StrCat(" or as a member of ", group)));
    }
    case EAGAIN:
      return absl::UnavailableError(absl::StrCat("guidewayd does not answer on the control socket ",
                                                 path, ": others wait already; look at its log"));
    case ENAMETOOLONG:
      return absl::UnavailableError(absl::StrCat(
          "the control socket's path ", path, " is too long; Unix sockets have at most 107 bytes"));
    default:
      return absl::UnavailableError(absl::StrCat("cannot connect to the control socket ", path,
                                                 ": ", std::strerror(error), "; ", kTry));
  }
}

}  // namespace

std::string QueryPart(absl::string_view name, absl::string_view value) {
  std::string out = absl::StrCat(name, "=");
  for (const char c : value) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains("-._~", c)) {
      out += c;
    } else {
      absl::StrAppend(&out, "%", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    }
  }
  return out;
}

absl::Status ApiClient::Get(const std::string& path, google::protobuf::Message* answer) {
  return Call(absl::StrCat("GET ", path, " HTTP/1.1\r\n"), "", answer);
}

absl::Status ApiClient::Post(const std::string& path, const google::protobuf::Message& body,
                             google::protobuf::Message* answer) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(body, &json, options).ok()) {
    return absl::InvalidArgumentError("the names are not valid UTF-8");
  }
  return Call(absl::StrCat("POST ", path, " HTTP/1.1\r\nContent-Type: application/json\r\n"), json,
              answer);
}

absl::Status ApiClient::PostFile(const std::string& path, const std::string& file_name,
                                 std::string text, google::protobuf::Message* answer) {
  // What the daemon remembers means the same wherever it is read.
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(file_name, error);
  const bool is_file = !error && std::filesystem::exists(absolute, error);
  // A header is one line.
  const std::string name = absl::StrReplaceAll(
      is_file ? absolute.lexically_normal().string() : file_name, {{"\r", "?"}, {"\n", "?"}});
  return Call(absl::StrCat("POST ", path, " HTTP/1.1\r\nContent-Type: application/yaml\r\n",
                           "Guideway-File: ", name, "\r\n"),
              text, answer);
}

absl::StatusOr<bool> ApiClient::Exchange(const std::string& head, const std::string& body,
                                         bool patience_each,
                                         absl::FunctionRef<bool(const char*, size_t)> take) {
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  if (socket_path_.size() >= sizeof(address.sun_path)) {
    return Unreachable(socket_path_, ENAMETOOLONG);
  }
  std::memcpy(address.sun_path, socket_path_.data(), socket_path_.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Unreachable(socket_path_, errno);
  absl::Cleanup close_fd = [fd] { close(fd); };
  // Of a daemon that accepts nobody, connect waits for a place in the queue.
  const timeval patience = absl::ToTimeval(patience_);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return Unreachable(socket_path_, errno);
  }

  absl::Time until = absl::Now() + patience_;
  const absl::Status too_slow = absl::UnavailableError(
      absl::StrCat("guidewayd did not answer within ", absl::FormatDuration(patience_),
                   " on the control socket ", socket_path_, "; look at its log"));
  const std::string request =
      absl::StrCat(head, "Host: guideway\r\nConnection: close\r\nContent-Length: ", body.size(),
                   "\r\n\r\n", body);
  // A daemon that refuses early closes before all is sent; its answer is there all the same.
  for (size_t sent = 0; sent < request.size();) {
    if (!WaitFor(fd, POLLOUT, until)) return too_slow;
    const ssize_t n = send(fd, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) break;
    sent += static_cast<size_t>(n);
  }
  bool any = false;
  char buffer[65536];
  for (;;) {
    if (!WaitFor(fd, POLLIN, until)) return too_slow;
    const ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    any = true;
    if (!take(buffer, static_cast<size_t>(n))) break;
    if (patience_each) until = absl::Now() + patience_;
  }
  return any;
}

absl::Status ApiClient::NoAnswer() const {
  return absl::UnavailableError(absl::StrCat("guidewayd closed the control socket ", socket_path_,
                                             " without an answer; look at its log"));
}

absl::Status ApiClient::NotGuidewayd() const {
  return absl::UnavailableError(absl::StrCat(
      "who serves ", socket_path_, " does not answer as guidewayd does; is it the right socket?"));
}

namespace {

// What an answer other than 200 says; ResourceExhausted: to ask again may help.
template <typename Response>
absl::Status Refusal(const Response& response) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;  // of a newer daemon
  api::Error error;
  (void)google::protobuf::util::JsonStringToMessage(response.body(), &error, options);
  // With Retry-After it is not for a moment: whoever asked decides.
  const bool in_a_moment = response.result() == http::status::service_unavailable &&
                           response.find(http::field::retry_after) == response.end();
  const auto code = response.result() == http::status::bad_request
                        ? absl::StatusCode::kInvalidArgument
                    : response.result() == http::status::not_found ? absl::StatusCode::kNotFound
                    : in_a_moment ? absl::StatusCode::kResourceExhausted
                                  : absl::StatusCode::kFailedPrecondition;
  return absl::Status(code, error.error().empty() ? absl::StrCat("guidewayd refused: HTTP status ",
                                                                 response.result_int())
                                                  : error.error());
}

absl::Status AskAgain(absl::FunctionRef<absl::Status()> ask) {
  absl::Status status = ask();
  // Those who were turned away together do not come back together.
  absl::Duration wait = absl::Milliseconds(50 + getpid() % 50);
  for (int i = 0; i < 4 && absl::IsResourceExhausted(status); ++i, wait *= 2) {
    absl::SleepFor(wait);
    status = ask();
  }
  return absl::IsResourceExhausted(status) ? absl::FailedPreconditionError(status.message())
                                           : status;
}

}  // namespace

absl::Status ApiClient::GetLines(const std::string& path,
                                 absl::FunctionRef<bool(absl::string_view)> take) {
  return AskAgain([&] { return GetLinesOnce(path, take); });
}

absl::Status ApiClient::Call(const std::string& head, const std::string& body,
                             google::protobuf::Message* answer) {
  return AskAgain([&] { return CallOnce(head, body, answer); });
}

absl::Status ApiClient::GetLinesOnce(const std::string& path,
                                     absl::FunctionRef<bool(absl::string_view)> take) {
  http::response_parser<http::string_body> parser;
  parser.body_limit(std::numeric_limits<uint64_t>::max());
  std::string line;  // that has not ended yet
  bool wants_more = true;
  auto on_piece = [&](uint64_t, boost::beast::string_view piece, boost::system::error_code&) {
    for (const char c : piece) {
      if (c != '\n') {
        line += c;
      } else if (wants_more) {
        wants_more = take(line);
        line.clear();
      }
    }
    return piece.size();
  };
  parser.on_chunk_body(on_piece);
  std::string unread;
  boost::system::error_code e;
  const absl::StatusOr<bool> any = Exchange(
      absl::StrCat("GET ", path, " HTTP/1.1\r\n"), "", true, [&](const char* data, size_t size) {
        unread.append(data, size);
        size_t parsed = 0;
        while (parsed < unread.size() && !parser.is_done()) {
          const size_t n =
              parser.put(boost::asio::buffer(unread.data() + parsed, unread.size() - parsed), e);
          parsed += n;
          if (e == http::error::need_more) {
            e = {};
            break;
          }
          if (e || n == 0) break;
        }
        unread.erase(0, parsed);
        return !e && wants_more && !parser.is_done();
      });
  if (!any.ok()) return any.status();
  if (!*any) return NoAnswer();
  if (e || !parser.is_header_done()) return NotGuidewayd();
  if (parser.get().result() != http::status::ok) return Refusal(parser.get());
  if (wants_more && !parser.is_done()) {
    return absl::UnavailableError(
        absl::StrCat("guidewayd's answer on ", socket_path_, " was cut short; look at its log"));
  }
  return absl::OkStatus();
}

absl::Status ApiClient::CallOnce(const std::string& head, const std::string& body,
                                 google::protobuf::Message* answer) {
  std::string received;
  const absl::StatusOr<bool> any = Exchange(head, body, false, [&](const char* data, size_t size) {
    received.append(data, size);
    return true;
  });
  if (!any.ok()) return any.status();
  if (!*any) return NoAnswer();

  http::response_parser<http::string_body> parser;
  parser.eager(true);
  parser.body_limit(std::numeric_limits<uint64_t>::max());
  boost::system::error_code e;
  for (size_t parsed = 0; !e && parsed < received.size() && !parser.is_done();) {
    parsed +=
        parser.put(boost::asio::buffer(received.data() + parsed, received.size() - parsed), e);
  }
  if (!e) parser.put_eof(e);
  if (e || !parser.is_done()) return NotGuidewayd();
  if (parser.get().result() != http::status::ok) return Refusal(parser.get());
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;  // of a newer daemon
  const auto status =
      google::protobuf::util::JsonStringToMessage(parser.get().body(), answer, options);
  if (!status.ok()) {
    return absl::UnavailableError(absl::StrCat("cannot read guidewayd's answer on ", socket_path_,
                                               ": ", std::string(status.message())));
  }
  return absl::OkStatus();
}

}  // namespace guideway
