// The control socket: HTTP over a Unix socket, as control/api/api.proto describes it.
//
// SocketLock makes one daemon the owner of a socket path before anything else happens: it holds an
// flock on `PATH.lock`, which the kernel gives back when the process ends, however it ends. So a
// socket that was left behind by a crash is told from one that is served.
//
// ApiServer serves, by an HttpServer (control/http_server.h) whose limits keep anybody from holding
// up the control thread. The socket has mode 0660. With ListenReadOnly it also serves what changes
// nothing, by TCP: GET /metrics, /status and /healthz, to everybody who can connect.
//
// Answers that may be long, Prometheus' and JSON: the control thread copies what they tell of, a
// thread of the server's own makes the text. Of one that is asked for often (/metrics, /v1/status,
// /v1/backends, …) whoever asks meanwhile gets the same next one.
//
// What looks into flow tables is read and written on another thread of the server's own; the stream
// of entries a piece at a time, as its client takes it.
//
// Thread contract: the control thread's; the server must be destroyed before its Controller, that
// one's Dataplane and its io_context. Connections end with it.
#ifndef GUIDEWAY_CONTROL_API_SERVER_H_
#define GUIDEWAY_CONTROL_API_SERVER_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "control/config/config_values.h"
#include "control/http_server.h"

namespace boost::asio {
class io_context;
}

namespace guideway {

class Controller;

// Held for the life of the process. Movable.
class SocketLock {
 public:
  // Makes the directory of `socket_path` if there is none. AlreadyExists names the process that
  // holds the socket, or says that the path is something else's.
  static absl::StatusOr<SocketLock> Take(const std::string& socket_path);

  SocketLock(SocketLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  SocketLock& operator=(SocketLock&& other) noexcept;
  ~SocketLock();

 private:
  explicit SocketLock(int fd) : fd_(fd) {}
  int fd_;
};

// An address and a port that the process may have: the host has the address, and nobody listened
// there. Nobody can connect before an ApiServer does. Movable.
class BoundEndpoint {
 public:
  // Unavailable: the host does not have the address, somebody listens on the port, or it takes a
  // privilege. The message is the system's alone.
  static absl::StatusOr<BoundEndpoint> Bind(const Endpoint& endpoint);

  BoundEndpoint(BoundEndpoint&& other) noexcept;
  BoundEndpoint& operator=(BoundEndpoint&& other) noexcept;
  ~BoundEndpoint();

 private:
  friend class ApiServer;
  BoundEndpoint(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  int fd_;
  std::string name_;  // for the log
};

class ApiServer {
 public:
  // The caller holds the SocketLock of `socket_path`: a socket that is there already is replaced.
  // `access` says whose the socket is and who may do what; a reader's POST is answered by 403.
  static absl::StatusOr<std::unique_ptr<ApiServer>> Listen(boost::asio::io_context& io,
                                                           Controller* controller,
                                                           const std::string& socket_path,
                                                           HttpLimits limits = {},
                                                           ControlAccess access = {});

  // Serves /metrics, /status and /healthz on `endpoint` too. Unavailable: somebody else listens.
  absl::Status ListenReadOnly(BoundEndpoint endpoint);

  // Removes the socket.
  ~ApiServer();

 private:
  class Impl;
  explicit ApiServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_API_SERVER_H_
