// A small HTTP/1.1 server for the control thread: a table of routes on a listening socket.
//
// Nobody can hold up the control thread. Heads have at most 8 KiB; bodies are bounded
// (`body_bytes`, `large_body_bytes` where a route takes large ones; of those, `large_bodies` at a
// time, each until its handler lets go of it); requests must arrive and answers be taken within a
// time. A body in pieces keeps no more than one of them in memory, and its client has that time for
// each. On a Unix socket a client that goes away while its handler is at work leaves its place to
// others at once; what it asked for is done all the same. What
// is not allowed (403), is no request or has parameters that the route does not take (400), goes
// nowhere (404), has the wrong method (405) or too large a body (413) is answered here with an
// api::Error, and ends the connection; of what its client sends after that little is read. HEAD is
// answered like GET, without the body.
//
// Of `connections` connections one client (a user of this host, or an address) has three quarters
// at most. With `access` a quarter is kept for those who may change things: all others together
// have the rest, and one of them three quarters of that. Who wants more than that gets the room of
// a connection that is waiting, the longest first: for a request of which nothing has come yet, or,
// of those who cannot change anything, five seconds for its client to go on. If there is none the
// answer is 503, which says whose requests they are. One that is closed before its request is told
// so by a 503, too. So nobody who asked for a change is left without an answer.
//
// Thread contract: the control thread's. A route's handler answers once, at once or later, on the
// same thread; an answer that comes after the server was destroyed is dropped. The server must be
// destroyed before its io_context. Connections end with it.
#ifndef GUIDEWAY_CONTROL_HTTP_SERVER_H_
#define GUIDEWAY_CONTROL_HTTP_SERVER_H_

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "control/peer.h"

namespace boost::asio {
class io_context;
}
namespace google::protobuf {
class Message;
}

namespace guideway {

struct HttpLimits {
  size_t connections = 64;
  absl::Duration head_timeout = absl::Seconds(10);  // for a request to begin and its head to end
  absl::Duration body_timeout = absl::Seconds(60);  // for its body; for the answer to be taken
  size_t large_body_bytes = 64 << 20;               // of routes with `large_body`
  size_t body_bytes = 64 << 10;                     // of all others; 0: bodies are refused
  int large_bodies = 2;  // over body_bytes, on their way or with a handler, at a time
};

struct HttpRequest {
  std::string body;
  std::shared_ptr<void> body_room;  // of a large one: to be held until it is done with
  // Of the query, by name: those of the route that were given. Printable ASCII.
  std::map<std::string, std::string> parameters;
  std::string file;  // the header Guideway-File; what is not printable ASCII is a question mark
  std::optional<Peer> peer;  // who asks, on a Unix socket
};

// Gives the next piece of a body to its callback, once, at once or later, on the control thread; a
// null one ends the body. The next is asked for when the client has taken the last.
using HttpPieces = std::function<void(std::function<void(std::shared_ptr<const std::string>)>)>;

struct HttpAnswer {
  int status = 200;
  std::shared_ptr<const std::string> body;  // many answers may share one
  absl::string_view type;                   // Content-Type; a constant
  HttpPieces pieces = nullptr;              // instead of `body`, for one that is never whole
  int retry_after_seconds = 0;              // the header Retry-After; 0: without
};

HttpAnswer TextAnswer(int status, std::string text);

// The message in protobuf's JSON mapping: names as in the schema, zeros included.
HttpAnswer JsonAnswer(const google::protobuf::Message& message, int status = 200);
// An api::Error.
HttpAnswer ErrorAnswer(int status, absl::string_view text);

using HttpReply = std::function<void(HttpAnswer)>;

struct HttpRoute {
  enum class Method { kGet, kPost };  // HEAD is a GET

  absl::string_view path;  // a constant
  Method method = Method::kGet;
  std::function<void(HttpRequest, HttpReply)> handler;
  bool large_body = false;
  std::vector<absl::string_view> parameters = {};  // that may be in the query
};

class HttpServer {
 public:
  // Serves what connects to `listening`, a socket (Unix or TCP) on which listen() was called. It is
  // the server's from here on. `name` is for the log. With `access`, for a Unix socket only, who
  // may not read gets 403 for whatever they ask, and who may not change for every POST.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Serve(
      boost::asio::io_context& io, int listening, std::string name, std::vector<HttpRoute> routes,
      HttpLimits limits, std::optional<ControlAccess> access = std::nullopt);
  ~HttpServer();

 private:
  class Impl;
  explicit HttpServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_HTTP_SERVER_H_
