#include "control/api_server.h"

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <list>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "control/api/api.pb.h"
#include "control/controller.h"
#include "glog/logging.h"

namespace guideway {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::local::stream_protocol;
using boost::system::error_code;

constexpr size_t kMaxHeadBytes = 8192;
constexpr char kFileHeader[] = "Guideway-File";

// What came is not HTTP, rather than cut off.
bool IsBadRequest(const error_code& e) {
  return e.category() == http::make_error_code(http::error::bad_version).category() &&
         e != http::error::end_of_stream && e != http::error::partial_message;
}

// Makes the directory a socket or its lock file is to be in.
absl::Status MakeParent(const std::string& socket_path) {
  if (socket_path.size() >= sizeof(sockaddr_un::sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the control socket's path ", socket_path, " has ", socket_path.size(),
                     " bytes; a Unix socket's can have ", sizeof(sockaddr_un::sun_path) - 1));
  }
  const std::filesystem::path parent = std::filesystem::path(socket_path).parent_path();
  std::error_code e;
  if (!parent.empty()) std::filesystem::create_directories(parent, e);
  if (e) {
    return absl::PermissionDeniedError(absl::StrCat(
        "cannot make the directory ", parent.string(), " of the control socket: ", e.message(),
        "; make it, or set control.socket to another path"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SocketLock> SocketLock::Take(const std::string& socket_path) {
  if (absl::Status s = MakeParent(socket_path); !s.ok()) return s;
  const std::string lock_path = absl::StrCat(socket_path, ".lock");
  SocketLock lock(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (lock.fd_ < 0) {
    return absl::PermissionDeniedError(
        absl::StrCat("cannot open ", lock_path, ": ", std::strerror(errno),
                     "; run as a user who may write there, or set control.socket to another path"));
  }
  if (flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) {
    char text[16] = {};
    int pid = 0;
    const bool known = pread(lock.fd_, text, sizeof(text) - 1, 0) > 0 &&
                       absl::SimpleAtoi(absl::StripAsciiWhitespace(text), &pid);
    return absl::AlreadyExistsError(
        absl::StrCat("another guidewayd", known ? absl::StrCat(" (pid ", pid, ")") : "",
                     " is serving the control socket ", socket_path,
                     "; stop it first, or give this one a control.socket of its own"));
  }
  // For the message above; the lock itself is what counts.
  const std::string pid = absl::StrCat(getpid(), "\n");
  if (ftruncate(lock.fd_, 0) != 0 ||
      pwrite(lock.fd_, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    LOG(WARNING) << "cannot write the pid to " << lock_path << ": " << std::strerror(errno);
  }
  return lock;
}

SocketLock& SocketLock::operator=(SocketLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

SocketLock::~SocketLock() {
  if (fd_ >= 0) close(fd_);
}

class ApiServer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(asio::io_context& io, Controller* controller, std::string socket_path, ApiLimits limits)
      : io_(io),
        controller_(controller),
        path_(std::move(socket_path)),
        limits_(limits),
        acceptor_(io),
        retry_(io) {}

  absl::Status Open();
  void Accept();
  void Stop();

 private:
  class Session;

  asio::io_context& io_;
  Controller* controller_;  // null once stopped
  const std::string path_;
  const ApiLimits limits_;
  stream_protocol::acceptor acceptor_;
  asio::steady_timer retry_;
  // Those that wait for their client, the longest first; those that wait for the controller are in
  // `busy_`, where nobody closes them.
  std::list<Session*> idle_;
  std::list<Session*> busy_;
  int large_bodies_ = 0;
};

// One connection: head, body, answer, and again.
class ApiServer::Impl::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<Impl> server, stream_protocol::socket socket)
      : server_(std::move(server)), stream_(std::move(socket)) {
    place_ = server_->idle_.insert(server_->idle_.end(), this);
  }

  ~Session() {
    EndBody();
    (busy_ ? server_->busy_ : server_->idle_).erase(place_);
  }

  void ReadHead() {
    WaitForClient(server_->limits_.head_timeout);
    parser_.emplace();
    parser_->header_limit(kMaxHeadBytes);
    parser_->body_limit(server_->limits_.apply_body_bytes);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = shared_from_this()](error_code e, size_t) { self->OnHead(e); });
  }

  void Close() { stream_.close(); }

 private:
  using Handler = void (Session::*)();
  struct Route {
    absl::string_view path;
    http::verb method;
    Handler handler;
    bool large_body;
  };
  static absl::Span<const Route> Routes();

  void OnHead(error_code e) {
    if (server_->controller_ == nullptr) return;
    if (e == http::error::body_limit) return TooLarge(server_->limits_.apply_body_bytes);
    if (IsBadRequest(e)) {
      return Refuse(http::status::bad_request, absl::StrCat("not an HTTP request: ", e.message()));
    }
    if (e) return;  // gone, or too slow

    const absl::string_view path(parser_->get().target().data(), parser_->get().target().size());
    const Route* route = nullptr;
    absl::string_view allowed;
    for (const Route& r : Routes()) {
      if (r.path != path) continue;
      if (r.method == parser_->get().method()) route = &r;
      allowed = r.method == http::verb::get ? "GET" : "POST";
    }
    if (route == nullptr && allowed.empty()) {
      std::string known;
      for (const Route& r : Routes()) absl::StrAppend(&known, known.empty() ? "" : ", ", r.path);
      return Refuse(http::status::not_found,
                    absl::StrCat("there is no such path; there are ", known));
    }
    if (route == nullptr) {
      allow_ = std::string(allowed);
      return Refuse(http::status::method_not_allowed,
                    absl::StrCat(path, " is for the method ", allowed));
    }
    handler_ = route->handler;
    const ApiLimits& limits = server_->limits_;
    const size_t limit = route->large_body ? limits.apply_body_bytes : limits.other_body_bytes;
    const auto length = parser_->content_length();
    if (length && *length > limit) return TooLarge(limit);
    if (route->large_body && !(length && *length <= limits.other_body_bytes)) {
      if (server_->large_bodies_ >= limits.large_bodies) {
        return Refuse(http::status::service_unavailable,
                      "other large configurations are being taken in: try again in a moment");
      }
      ++server_->large_bodies_;
      large_body_ = true;
    }
    parser_->body_limit(limit);
    WaitForClient(limits.body_timeout);
    if (beast::iequals(parser_->get()[http::field::expect], "100-continue") &&
        !parser_->is_done()) {
      static constexpr absl::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      asio::async_write(stream_, asio::buffer(kContinue.data(), kContinue.size()),
                        [self = shared_from_this()](error_code e, size_t) {
                          if (!e) self->ReadBody();
                        });
    } else {
      ReadBody();
    }
  }

  void ReadBody() {
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](error_code e, size_t) { self->OnBody(e); });
  }

  void OnBody(error_code e) {
    if (server_->controller_ == nullptr) return;
    if (e == http::error::body_limit) {
      return TooLarge(large_body_ ? server_->limits_.apply_body_bytes
                                  : server_->limits_.other_body_bytes);
    }
    if (IsBadRequest(e)) {
      return Refuse(http::status::bad_request, absl::StrCat("not an HTTP request: ", e.message()));
    }
    if (e) return;
    keep_alive_ = parser_->get().keep_alive();
    stream_.expires_never();
    Move(server_->busy_, true);
    (this->*handler_)();
  }

  void Status() { Answer(server_->controller_->GetStatus()); }
  void Services() { Answer(server_->controller_->GetServices()); }
  void Backends() { Answer(server_->controller_->GetBackends()); }

  void Apply() {
    std::string name(parser_->get()[kFileHeader]);
    for (char& c : name) {
      if (!absl::ascii_isprint(static_cast<unsigned char>(c))) c = '?';
    }
    if (name.empty()) name = "configuration";
    server_->controller_->Apply(
        std::move(name), std::move(parser_->get().body()),
        [self = shared_from_this()](absl::StatusOr<api::ApplyResult> result) {
          if (result.ok()) return self->Answer(*result);
          self->Fail(result.status(), http::status::unprocessable_entity);
        });
  }

  void Drain() { OnBackend(&Controller::Drain); }
  void Undrain() { OnBackend(&Controller::Undrain); }

  void OnBackend(void (Controller::*change)(const std::string&, const std::string&,
                                            Controller::Done)) {
    api::BackendRef ref;
    const std::string& body = parser_->get().body();
    // Names are ASCII; so nothing else comes back in an answer or reaches the log.
    const bool ascii = std::all_of(body.begin(), body.end(), absl::ascii_isascii);
    if (!ascii || !google::protobuf::util::JsonStringToMessage(body, &ref).ok() ||
        ref.service().empty() || ref.backend().empty()) {
      return Write(http::status::bad_request,
                   ErrorText("the body is not {\"service\": \"…\", \"backend\": \"…\"}"));
    }
    (server_->controller_->*change)(ref.service(), ref.backend(),
                                    [self = shared_from_this()](absl::Status status) {
                                      if (status.ok()) return self->Answer(api::Done());
                                      self->Fail(status, http::status::internal_server_error);
                                    });
  }

  static std::string Json(const google::protobuf::Message& message) {
    google::protobuf::util::JsonPrintOptions options;
    options.preserve_proto_field_names = true;
    options.always_print_primitive_fields = true;
    std::string json;
    const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
    if (!status.ok()) {
      LOG(ERROR) << "an answer has no JSON: " << status.ToString();
      return "{\"error\": \"the answer cannot be written as JSON\"}\n";
    }
    json += '\n';
    return json;
  }

  static std::string ErrorText(absl::string_view text) {
    api::Error error;
    error.set_error(std::string(text));
    return Json(error);
  }

  void Answer(const google::protobuf::Message& message) { Write(http::status::ok, Json(message)); }

  void Fail(const absl::Status& status, http::status otherwise) {
    http::status code = otherwise;
    if (otherwise != http::status::unprocessable_entity) {
      if (absl::IsNotFound(status)) code = http::status::not_found;
      if (absl::IsFailedPrecondition(status)) code = http::status::conflict;
    }
    Write(code, ErrorText(status.message()));
  }

  // Refuses a request of which not all was read: the connection ends with the answer.
  void Refuse(http::status code, absl::string_view text) {
    keep_alive_ = false;
    Write(code, ErrorText(text));
  }
  void TooLarge(size_t limit) {
    Refuse(http::status::payload_too_large,
           absl::StrCat("the body has more than ", limit, " bytes"));
  }

  void Write(http::status code, std::string body) {
    if (server_->controller_ == nullptr) return Close();
    EndBody();
    WaitForClient(server_->limits_.body_timeout);
    response_ = {};
    response_.result(code);
    response_.set(http::field::content_type, "application/json");
    if (!allow_.empty()) response_.set(http::field::allow, allow_);
    response_.keep_alive(keep_alive_);
    response_.body() = std::move(body);
    response_.prepare_payload();
    http::async_write(stream_, response_, [self = shared_from_this()](error_code e, size_t) {
      self->response_ = {};
      if (e || self->server_->controller_ == nullptr) return;
      if (self->keep_alive_) return self->ReadHead();
      self->Linger();
    });
  }

  // Lets a client that is still sending read the answer before the connection goes away.
  void Linger() {
    error_code ignored;
    stream_.socket().shutdown(stream_protocol::socket::shutdown_send, ignored);
    Discard();
  }
  void Discard() {
    stream_.async_read_some(asio::buffer(discarded_),
                            [self = shared_from_this()](error_code e, size_t) {
                              if (!e && self->server_->controller_ != nullptr) self->Discard();
                            });
  }

  // From now on it is the client who keeps us waiting.
  void WaitForClient(absl::Duration timeout) {
    Move(server_->idle_, false);
    stream_.expires_after(absl::ToChronoNanoseconds(timeout));
  }

  void Move(std::list<Session*>& to, bool busy) {
    to.splice(to.end(), busy_ ? server_->busy_ : server_->idle_, place_);
    busy_ = busy;
  }

  // Lets go of the request, and of its part in the memory for large ones.
  void EndBody() {
    parser_.reset();
    if (std::exchange(large_body_, false)) --server_->large_bodies_;
  }

  const std::shared_ptr<Impl> server_;
  beast::basic_stream<stream_protocol> stream_;
  beast::flat_buffer buffer_{64 << 10};
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::string_body> response_;
  Handler handler_ = nullptr;
  std::string allow_;
  bool keep_alive_ = false;
  bool large_body_ = false;
  bool busy_ = false;
  std::list<Session*>::iterator place_;
  char discarded_[4096];
};

absl::Span<const ApiServer::Impl::Session::Route> ApiServer::Impl::Session::Routes() {
  static constexpr Route kRoutes[] = {
      {"/v1/status", http::verb::get, &Session::Status, false},
      {"/v1/services", http::verb::get, &Session::Services, false},
      {"/v1/backends", http::verb::get, &Session::Backends, false},
      {"/v1/apply", http::verb::post, &Session::Apply, true},
      {"/v1/drain", http::verb::post, &Session::Drain, false},
      {"/v1/undrain", http::verb::post, &Session::Undrain, false},
  };
  return kRoutes;
}

absl::Status ApiServer::Impl::Open() {
  if (absl::Status s = MakeParent(path_); !s.ok()) return s;
  struct stat found;
  if (lstat(path_.c_str(), &found) == 0) {
    if (!S_ISSOCK(found.st_mode)) {
      return absl::AlreadyExistsError(
          absl::StrCat(path_, " is there and is not a socket: remove it, or set control.socket"));
    }
    unlink(path_.c_str());  // left by a process that is gone
  }
  error_code e;
  acceptor_.open(stream_protocol(), e);
  if (!e) acceptor_.bind(stream_protocol::endpoint(path_), e);
  if (!e && chmod(path_.c_str(), 0660) != 0) e.assign(errno, boost::system::system_category());
  if (!e) acceptor_.listen(asio::socket_base::max_listen_connections, e);
  if (e) {
    return absl::PermissionDeniedError(absl::StrCat("cannot serve the control socket ", path_, ": ",
                                                    e.message(), "; check its directory's mode"));
  }
  return absl::OkStatus();
}

void ApiServer::Impl::Accept() {
  acceptor_.async_accept([self = shared_from_this()](error_code e, stream_protocol::socket socket) {
    if (self->controller_ == nullptr) return;
    if (e) {
      // No file descriptor is free: better later than in a tight loop.
      LOG_EVERY_N(WARNING, 100) << "cannot accept on " << self->path_ << ": " << e.message();
      self->retry_.expires_after(std::chrono::milliseconds(100));
      self->retry_.async_wait([self](error_code) {
        if (self->controller_ != nullptr) self->Accept();
      });
      return;
    }
    std::list<Session*>& idle = self->idle_;
    if (!idle.empty() && idle.size() + self->busy_.size() >= self->limits_.connections) {
      idle.front()->Close();
      // It leaves the list when its handlers have run; behind the others it is not closed twice.
      idle.splice(idle.end(), idle, idle.begin());
    }
    if (self->busy_.size() < self->limits_.connections) {
      std::make_shared<Session>(self, std::move(socket))->ReadHead();
    }
    self->Accept();
  });
}

void ApiServer::Impl::Stop() {
  controller_ = nullptr;
  error_code ignored;
  acceptor_.close(ignored);
  retry_.cancel();
  for (Session* session : idle_) session->Close();
  for (Session* session : busy_) session->Close();
  unlink(path_.c_str());
}

absl::StatusOr<std::unique_ptr<ApiServer>> ApiServer::Listen(asio::io_context& io,
                                                             Controller* controller,
                                                             const std::string& socket_path,
                                                             ApiLimits limits) {
  auto impl = std::make_shared<Impl>(io, controller, socket_path, limits);
  if (absl::Status s = impl->Open(); !s.ok()) return s;
  impl->Accept();
  return std::unique_ptr<ApiServer>(new ApiServer(std::move(impl)));
}

ApiServer::ApiServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

ApiServer::~ApiServer() { impl_->Stop(); }

}  // namespace guideway
