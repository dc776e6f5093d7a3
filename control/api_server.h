// The control socket: HTTP over a Unix socket, as control/api/api.proto describes it.
//
// SocketLock makes one daemon the owner of a socket path before anything else happens: it holds an
// flock on `PATH.lock`, which the kernel gives back when the process ends, however it ends. So a
// socket that was left behind by a crash is told from one that is served.
//
// ApiServer serves. Nobody can hold up the control thread: bodies are bounded (64 MiB for a
// configuration, 64 KiB else; of the large ones two at a time, each until it is answered), requests
// must arrive and answers be taken within a time, and of more than 64 connections the one that has
// waited longest for a request to arrive is closed. The socket has mode 0660.
//
// Thread contract: the control thread's; the server must be destroyed before its Controller and
// its io_context. Connections end with it.
#ifndef GUIDEWAY_CONTROL_API_SERVER_H_
#define GUIDEWAY_CONTROL_API_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace boost::asio {
class io_context;
}

namespace guideway {

class Controller;

// Held for the life of the process. Movable.
class SocketLock {
 public:
  // Makes the directory of `socket_path` if there is none. AlreadyExists names the process that
  // holds the socket.
  static absl::StatusOr<SocketLock> Take(const std::string& socket_path);

  SocketLock(SocketLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  SocketLock& operator=(SocketLock&& other) noexcept;
  ~SocketLock();

 private:
  explicit SocketLock(int fd) : fd_(fd) {}
  int fd_;
};

struct ApiLimits {
  size_t connections = 64;
  absl::Duration head_timeout = absl::Seconds(10);  // for a request to begin and its head to end
  absl::Duration body_timeout = absl::Seconds(60);  // for its body; for the answer to be taken
  size_t apply_body_bytes = 64 << 20;
  size_t other_body_bytes = 64 << 10;
  int large_bodies = 2;  // over other_body_bytes, received or not yet answered, at a time
};

class ApiServer {
 public:
  // The caller holds the SocketLock of `socket_path`: a socket that is there already is replaced.
  static absl::StatusOr<std::unique_ptr<ApiServer>> Listen(boost::asio::io_context& io,
                                                           Controller* controller,
                                                           const std::string& socket_path,
                                                           ApiLimits limits = {});
  // Removes the socket.
  ~ApiServer();

 private:
  class Impl;
  explicit ApiServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_API_SERVER_H_
