#include "control/http_server.h"

#include <arpa/inet.h>
#include <google/protobuf/util/json_util.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/chunk_encode.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/span_body.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <chrono>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "control/api/api.pb.h"
#include "glog/logging.h"

namespace guideway {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::generic::stream_protocol;
using boost::system::error_code;

constexpr size_t kMaxHeadBytes = 8192;

// What is read, and thrown away, of a client that goes on sending after it was refused.
constexpr size_t kMaxDiscarded = 1 << 20;

constexpr char kFileHeader[] = "Guideway-File";

// Who cannot change anything and lets the server wait so long may lose the connection to others.
constexpr std::chrono::seconds kPatience(5);

// What came is not HTTP, rather than cut off.
bool IsBadRequest(const error_code& e) {
  return e.category() == http::make_error_code(http::error::bad_version).category() &&
         e != http::error::end_of_stream && e != http::error::partial_message;
}

// Undoes percent-encoding and plus signs. False if it is none, or hides what is not printable.
bool Decode(absl::string_view text, std::string* out) {
  out->clear();
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i] == '+' ? ' ' : text[i];
    if (c == '%') {
      if (i + 2 >= text.size() || !absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 1])) ||
          !absl::ascii_isxdigit(static_cast<unsigned char>(text[i + 2]))) {
        return false;
      }
      c = absl::HexStringToBytes(text.substr(i + 1, 2))[0];
      i += 2;
    }
    if (!absl::ascii_isprint(static_cast<unsigned char>(c))) return false;
    *out += c;
  }
  return true;
}

// NAME=VALUE&NAME=VALUE. The error is a sentence for the client.
absl::StatusOr<std::map<std::string, std::string>> ReadQuery(
    absl::string_view query, const std::vector<absl::string_view>& allowed) {
  std::map<std::string, std::string> parameters;
  for (absl::string_view part : absl::StrSplit(query, '&', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair =
        absl::StrSplit(part, absl::MaxSplits('=', 1));
    std::string name, value;
    if (!Decode(pair.first, &name) || !Decode(pair.second, &value)) {
      return absl::InvalidArgumentError("the query is not percent-encoded, or not of ASCII");
    }
    if (std::find(allowed.begin(), allowed.end(), absl::string_view(name)) == allowed.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "there is no such parameter in the query here; there ",
          allowed.empty() ? "are none" : absl::StrCat("are ", absl::StrJoin(allowed, ", "))));
    }
    if (!parameters.emplace(name, value).second) {
      return absl::InvalidArgumentError(absl::StrCat("the parameter ", name, " is there twice"));
    }
  }
  return parameters;
}

// Without the scheme and the authority of the absolute form (RFC 9112, section 3.2.2): all of them
// are this server.
absl::string_view OriginForm(absl::string_view target) {
  for (absl::string_view scheme : {"http://", "https://"}) {
    if (!absl::StartsWithIgnoreCase(target, scheme)) continue;
    const size_t end = target.find_first_of("/?", scheme.size());
    return end == absl::string_view::npos ? "/" : target.substr(end);
  }
  return target;
}

// Who is at the other end, as far as one is to be told from another: «user 1000», «192.0.2.7».
std::string ClientName(const stream_protocol::socket& socket, const std::optional<Peer>& peer) {
  if (peer) return absl::StrCat("user ", peer->uid);
  error_code e;
  const stream_protocol::endpoint end = socket.remote_endpoint(e);
  char text[INET6_ADDRSTRLEN] = "";
  const sockaddr* address = reinterpret_cast<const sockaddr*>(end.data());
  if (!e && address->sa_family == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, text,
              sizeof(text));
  } else if (!e && address->sa_family == AF_INET6) {
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr, text,
              sizeof(text));
  }
  return text;
}

}  // namespace

HttpAnswer TextAnswer(int status, std::string text) {
  return {status, std::make_shared<const std::string>(std::move(text)), "text/plain"};
}

HttpAnswer JsonAnswer(const google::protobuf::Message& message, int status) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto made = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!made.ok()) {
    LOG(ERROR) << "an answer has no JSON: " << made.ToString();
    json = "{\"error\": \"the answer cannot be written as JSON\"}";
  }
  json += '\n';
  return {status, std::make_shared<const std::string>(std::move(json)), "application/json"};
}

HttpAnswer ErrorAnswer(int status, absl::string_view text) {
  api::Error error;
  error.set_error(std::string(text));
  return JsonAnswer(error, status);
}

class HttpServer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(asio::io_context& io, std::string name, std::vector<HttpRoute> routes, HttpLimits limits,
       std::optional<ControlAccess> access)
      : name_(std::move(name)),
        routes_(std::move(routes)),
        limits_(limits),
        access_(std::move(access)),
        acceptor_(io),
        retry_(io) {}

  error_code Open(int listening);
  void Accept();
  void Admit(stream_protocol::socket socket, std::optional<Peer> peer);
  void Stop();

 private:
  class Session;

  const std::string name_;
  const std::vector<HttpRoute> routes_;
  const HttpLimits limits_;
  const std::optional<ControlAccess> access_;
  asio::basic_socket_acceptor<stream_protocol> acceptor_;
  asio::steady_timer retry_;
  // By when they began to wait for what they wait for, the longest first.
  std::list<Session*> sessions_;
  bool is_unix_ = false;
  int large_bodies_ = 0;
  bool stopped_ = false;
};

// One connection: head, body, answer, and again.
class HttpServer::Impl::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<Impl> server, stream_protocol::socket socket, std::optional<Peer> peer,
          std::string client, bool may_change)
      : server_(std::move(server)),
        stream_(std::move(socket)),
        peer_(std::move(peer)),
        client_(std::move(client)),
        may_change_(may_change) {
    place_ = server_->sessions_.insert(server_->sessions_.end(), this);
  }

  ~Session() { server_->sessions_.erase(place_); }

  void ReadHead() {
    WaitForClient(server_->limits_.head_timeout);
    waits_for_ = WaitsFor::kRequest;
    is_head_ = false;
    parser_.emplace();
    parser_->header_limit(kMaxHeadBytes);
    parser_->body_limit(server_->limits_.large_body_bytes);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = shared_from_this()](error_code e, size_t) { self->OnHead(e); });
  }

  void Close() { stream_.close(); }

  // For another connection. What it has sent may have been read, and its handler have yet to run:
  // so it is looked at again behind all that is waiting to run.
  void CloseIfIdle() {
    is_to_close_ = true;
    asio::post(stream_.get_executor(), [weak = weak_from_this()] {
      const auto self = weak.lock();
      if (self == nullptr) return;
      self->is_to_close_ = self->IsIdle();
      if (!self->is_to_close_) return;
      if (self->waits_for_ == WaitsFor::kRequest) self->SayGoodbye();
      self->Close();
    });
  }
  bool is_to_close() const { return is_to_close_; }
  const std::string& client() const { return client_; }
  bool may_change() const { return may_change_; }

  // Whether nothing is lost with it but time.
  bool IsIdle() {
    switch (waits_for_) {
      case WaitsFor::kEnd: return true;
      case WaitsFor::kHandler: return false;
      case WaitsFor::kRequest: {
        error_code e;
        if (buffer_.size() == 0 && (stream_.socket().available(e) == 0 || e)) return true;
        break;
      }
      case WaitsFor::kClient: break;
    }
    return !may_change_ && std::chrono::steady_clock::now() - since_ > kPatience;
  }

  // Instead of ReadHead, for a client that has no room.
  void TurnAway(absl::string_view why) {
    Refuse(503, absl::StrCat(why, ": try again in a moment"));
  }

 private:
  enum class WaitsFor {
    kRequest,  // the next one
    kClient,   // the rest of a request, or to take an answer
    kHandler,
    kEnd,  // its client to go away; all is said
  };

  // To a client that may be about to send a request: it then knows what came of it. Nothing waits
  // to be sent before it, and if it does not fit, so be it.
  void SayGoodbye() {
    const HttpAnswer answer = ErrorAnswer(
        503, "others need this connection, and nothing was begun: try again in a moment");
    const std::string text = absl::StrCat(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: ", answer.type,
        "\r\nConnection: close\r\nContent-Length: ", answer.body->size(), "\r\n\r\n", *answer.body);
    send(stream_.socket().native_handle(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  void OnHead(error_code e) {
    if (server_->stopped_) return;
    const HttpLimits& limits = server_->limits_;
    if (e == http::error::body_limit) return TooLarge(limits.large_body_bytes);
    if (IsBadRequest(e)) return NotHttp(e);
    if (e) return;  // gone, or too slow

    const http::verb method = parser_->get().method();
    is_head_ = method == http::verb::head;
    if (server_->access_) {
      const absl::Status may = server_->access_->MayRead(*peer_);
      if (!may.ok()) return Refuse(403, may.message());
    }
    const absl::string_view target = OriginForm(
        absl::string_view(parser_->get().target().data(), parser_->get().target().size()));
    const absl::string_view path = target.substr(0, target.find('?'));
    absl::string_view allowed;
    for (const HttpRoute& r : server_->routes_) {
      if (r.path != path) continue;
      const bool is_get = r.method == HttpRoute::Method::kGet;
      allowed = is_get ? "GET, HEAD" : "POST";
      if (is_get ? method == http::verb::get || is_head_ : method == http::verb::post) route_ = &r;
    }
    if (allowed.empty()) {
      std::string known;
      for (const HttpRoute& r : server_->routes_) {
        absl::StrAppend(&known, known.empty() ? "" : ", ", r.path);
      }
      return Refuse(404, absl::StrCat("there is no such path; there are ", known));
    }
    if (route_ == nullptr) {
      allow_ = std::string(allowed);
      return Refuse(405, absl::StrCat(path, " is for the method ", allowed));
    }
    if (server_->access_ && !may_change_ && route_->method != HttpRoute::Method::kGet) {
      return Refuse(403, server_->access_->MayChange(*peer_).message());
    }
    auto parameters = ReadQuery(absl::ClippedSubstr(target, path.size() + 1), route_->parameters);
    if (!parameters.ok()) return Refuse(400, parameters.status().message());
    parameters_ = *std::move(parameters);
    body_limit_ = route_->large_body ? limits.large_body_bytes : limits.body_bytes;
    const auto length = parser_->content_length();
    if (length && *length > body_limit_) return TooLarge(body_limit_);
    if (route_->large_body && !(length && *length <= limits.body_bytes)) {
      if (server_->large_bodies_ >= limits.large_bodies) {
        return Refuse(503, "other large requests are being taken in: try again in a moment");
      }
      ++server_->large_bodies_;
      body_room_ = std::shared_ptr<void>(
          nullptr, [server = server_](std::nullptr_t) { --server->large_bodies_; });
    }
    parser_->body_limit(body_limit_);
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
    if (server_->stopped_) return;
    if (e == http::error::body_limit) return TooLarge(body_limit_);
    if (IsBadRequest(e)) return NotHttp(e);
    if (e) return;
    keep_alive_ = parser_->get().keep_alive();
    HttpRequest request;
    request.peer = peer_;
    request.file = std::string(parser_->get()[kFileHeader]);
    for (char& c : request.file) {
      if (!absl::ascii_isprint(static_cast<unsigned char>(c))) c = '?';
    }
    request.parameters = std::exchange(parameters_, {});
    request.body = std::move(parser_->get().body());
    request.body_room = std::exchange(body_room_, nullptr);
    // Who only reads keeps the place until the answer, so that nobody has more of them made than
    // there are places.
    const bool changes = parser_->get().method() == http::verb::post;
    const std::shared_ptr<Session> place = changes ? nullptr : shared_from_this();
    parser_.reset();
    WaitForHandler();
    AwaitHangUp();
    std::exchange(route_, nullptr)
        ->handler(std::move(request), [weak = weak_from_this(), place](HttpAnswer answer) {
          const auto self = weak.lock();
          if (self == nullptr) return;  // its client has gone
          error_code ignored;
          self->stream_.socket().cancel(ignored);
          self->Write(std::move(answer));
        });
  }

  // While the handler is at work this alone holds the connection: it ends when its client has gone.
  // One that has only nothing more to send (shutdown) still reads.
  void AwaitHangUp() {
    stream_.socket().async_wait(stream_protocol::socket::wait_error,
                                [self = shared_from_this()](error_code) {});
  }

  // Refuses a request of which not all was read: the connection ends with the answer.
  void Refuse(int status, absl::string_view text) {
    keep_alive_ = false;
    Write(ErrorAnswer(status, text));
  }
  void NotHttp(const error_code& e) {
    Refuse(400, absl::StrCat("not an HTTP request: ", e.message()));
  }
  void TooLarge(size_t limit) {
    Refuse(413, absl::StrCat("the body has more than ", limit, " bytes"));
  }

  void Write(HttpAnswer answer) {
    if (server_->stopped_) return Close();
    EndBody();
    WaitForClient(server_->limits_.body_timeout);
    response_ = {};
    response_.result(static_cast<unsigned>(answer.status));
    response_.set(http::field::content_type,
                  beast::string_view(answer.type.data(), answer.type.size()));
    if (!allow_.empty()) response_.set(http::field::allow, allow_);
    if (answer.retry_after_seconds > 0) {
      response_.set(http::field::retry_after, std::to_string(answer.retry_after_seconds));
    }
    response_.keep_alive(keep_alive_);
    if (answer.pieces != nullptr) return WriteInPieces(std::move(answer.pieces));
    body_ = std::move(answer.body);
    response_.body() = {body_->data(), body_->size()};
    response_.prepare_payload();
    if (is_head_) return WriteHead([](Session& self, error_code e) { self.AnswerIsWritten(e); });
    http::async_write(stream_, response_, [self = shared_from_this()](error_code e, size_t) {
      self->AnswerIsWritten(e);
    });
  }
  void WriteHead(void (*then)(Session&, error_code)) {
    auto head = std::make_shared<http::response_serializer<http::span_body<const char>>>(response_);
    http::async_write_header(
        stream_, *head,
        [self = shared_from_this(), head, then](error_code e, size_t) { then(*self, e); });
  }
  void AnswerIsWritten(error_code e) {
    response_ = {};
    body_.reset();
    if (e || server_->stopped_) return;
    if (keep_alive_) return ReadHead();
    Linger();
  }

  void WriteInPieces(HttpPieces pieces) {
    response_.chunked(true);
    if (is_head_) return WriteHead([](Session& self, error_code e) { self.AnswerIsWritten(e); });
    pieces_ = std::move(pieces);
    WriteHead([](Session& self, error_code e) { self.NextPiece(e); });
  }
  // The client has taken all so far.
  void NextPiece(error_code e) {
    if (e || server_->stopped_) return;
    WaitForHandler();
    pieces_([self = shared_from_this()](std::shared_ptr<const std::string> piece) {
      self->WritePiece(std::move(piece));
    });
  }
  void WritePiece(std::shared_ptr<const std::string> piece) {
    if (server_->stopped_) return Close();
    // An empty chunk would be the last.
    if (piece != nullptr && piece->empty()) return NextPiece({});
    WaitForClient(server_->limits_.body_timeout);
    body_ = std::move(piece);
    if (body_ == nullptr) {
      pieces_ = nullptr;
      asio::async_write(
          stream_, http::make_chunk_last(),
          [self = shared_from_this()](error_code e, size_t) { self->AnswerIsWritten(e); });
      return;
    }
    asio::async_write(stream_, http::make_chunk(asio::buffer(*body_)),
                      [self = shared_from_this()](error_code e, size_t) { self->NextPiece(e); });
  }

  // Lets a client that is still sending read the answer before the connection goes away.
  void Linger() {
    waits_for_ = WaitsFor::kEnd;
    error_code ignored;
    stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
    Discard();
  }
  void Discard() {
    stream_.async_read_some(asio::buffer(discarded_),
                            [self = shared_from_this()](error_code e, size_t size) {
                              self->discarded_bytes_ += size;
                              if (e || self->server_->stopped_) return;
                              if (self->discarded_bytes_ < kMaxDiscarded) self->Discard();
                            });
  }

  // From now on it is the client who keeps us waiting.
  void WaitForClient(absl::Duration timeout) {
    Wait(WaitsFor::kClient);
    stream_.expires_after(absl::ToChronoNanoseconds(timeout));
  }
  void WaitForHandler() {
    Wait(WaitsFor::kHandler);
    stream_.expires_never();
  }
  void Wait(WaitsFor what) {
    waits_for_ = what;
    since_ = std::chrono::steady_clock::now();
    server_->sessions_.splice(server_->sessions_.end(), server_->sessions_, place_);
  }

  // Lets go of a request that no handler has got.
  void EndBody() {
    parser_.reset();
    body_room_.reset();
  }

  const std::shared_ptr<Impl> server_;
  beast::basic_stream<stream_protocol> stream_;
  const std::optional<Peer> peer_;  // of a Unix socket
  const std::string client_;
  const bool may_change_;
  beast::flat_buffer buffer_{64 << 10};
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::span_body<const char>> response_;
  std::shared_ptr<const std::string> body_;  // of response_, or the piece of it that is written
  HttpPieces pieces_;                        // of response_, while it is written in pieces
  const HttpRoute* route_ = nullptr;         // of the request that is being read
  size_t body_limit_ = 0;                    // the same
  std::map<std::string, std::string> parameters_;  // the same
  std::string allow_;
  bool keep_alive_ = false;
  bool is_head_ = false;
  std::shared_ptr<void> body_room_;  // as in HttpRequest
  bool is_to_close_ = false;
  WaitsFor waits_for_ = WaitsFor::kRequest;
  std::chrono::steady_clock::time_point since_;
  std::list<Session*>::iterator place_;
  char discarded_[4096];
  size_t discarded_bytes_ = 0;
};

error_code HttpServer::Impl::Open(int listening) {
  int family = 0;
  socklen_t size = sizeof(family);
  error_code e;
  if (getsockopt(listening, SOL_SOCKET, SO_DOMAIN, &family, &size) != 0) {
    e.assign(errno, boost::system::system_category());
    return e;
  }
  is_unix_ = family == AF_UNIX;
  acceptor_.assign(stream_protocol(family, 0), listening, e);
  return e;
}

void HttpServer::Impl::Accept() {
  acceptor_.async_accept([self = shared_from_this()](error_code e, stream_protocol::socket socket) {
    if (self->stopped_) return;
    if (e) {
      // No file descriptor is free: better later than in a tight loop.
      LOG_EVERY_N(WARNING, 100) << "cannot accept on " << self->name_ << ": " << e.message();
      self->retry_.expires_after(std::chrono::milliseconds(100));
      self->retry_.async_wait([self](error_code) {
        if (!self->stopped_) self->Accept();
      });
      return;
    }
    std::optional<Peer> peer;
    if (self->is_unix_) {
      absl::StatusOr<Peer> found = PeerOf(socket.native_handle());
      if (!found.ok()) {
        LOG_EVERY_N(WARNING, 100) << "cannot tell who connects to " << self->name_ << ": "
                                  << found.status().message();
        return self->Accept();
      }
      peer = *std::move(found);
    }
    self->Admit(std::move(socket), std::move(peer));
    self->Accept();
  });
}

// Takes a connection in, if need be in the place of another one of the same client's, or of
// anybody's.
void HttpServer::Impl::Admit(stream_protocol::socket socket, std::optional<Peer> peer) {
  std::string client = ClientName(socket, peer);
  const bool may_change = access_ && access_->MayChange(*peer).ok();
  const size_t of_others =
      access_ ? limits_.connections - limits_.connections / 4 : limits_.connections;
  const size_t shared = may_change ? limits_.connections : of_others;
  const size_t of_one = shared - shared / 4;

  const auto is_its = [&](const Session& session) { return session.client() == client; };
  const auto is_other = [](const Session& session) { return !session.may_change(); };
  const auto is_any = [](const Session&) { return true; };
  // Who is closed for it, if it is let in at all.
  std::vector<Session*> leave;
  // Whether there are fewer than `most` of `which`, or will be by those that leave.
  const auto has_room = [&](const auto& which, size_t most) {
    const auto counts = [&](Session* session) {
      return !session->is_to_close() && which(*session) &&
             std::find(leave.begin(), leave.end(), session) == leave.end();
    };
    size_t count = static_cast<size_t>(std::count_if(sessions_.begin(), sessions_.end(), counts));
    for (auto it = sessions_.begin(); count >= most && it != sessions_.end(); ++it) {
      if (!counts(*it) || !(*it)->IsIdle()) continue;
      leave.push_back(*it);
      --count;
    }
    return count < most;
  };
  std::string why;
  if (!has_room(is_its, of_one)) {
    why = absl::StrCat("as many requests of ", client, " as one may have at a time, ", of_one,
                       ", wait for their answers");
  } else if (!may_change && !has_room(is_other, of_others)) {
    why = absl::StrCat("as many requests ", access_ ? "of those who may only read " : "",
                       "as there may be at a time, ", of_others, ", wait for their answers");
  } else if (!has_room(is_any, limits_.connections)) {
    why = absl::StrCat("as many requests as there may be at a time, ", limits_.connections,
                       ", wait for their answers");
  }
  if (why.empty()) {
    for (Session* session : leave) session->CloseIfIdle();
  }
  const auto session = std::make_shared<Session>(shared_from_this(), std::move(socket),
                                                 std::move(peer), std::move(client), may_change);
  if (why.empty()) return session->ReadHead();
  session->TurnAway(why);
}

void HttpServer::Impl::Stop() {
  stopped_ = true;
  error_code ignored;
  acceptor_.close(ignored);
  retry_.cancel();
  for (Session* session : sessions_) session->Close();
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Serve(asio::io_context& io, int listening,
                                                              std::string name,
                                                              std::vector<HttpRoute> routes,
                                                              HttpLimits limits,
                                                              std::optional<ControlAccess> access) {
  auto impl =
      std::make_shared<Impl>(io, std::move(name), std::move(routes), limits, std::move(access));
  if (const error_code e = impl->Open(listening)) return absl::InternalError(e.message());
  impl->Accept();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() { impl_->Stop(); }

}  // namespace guideway
