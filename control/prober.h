// Asking a backend once whether it is well, over the network.
//
// A question is a value: two services that ask the same of the same backend ask one question. An
// answer is yes, no with a reason, or «could not ask» (no file descriptor left, say), which says
// nothing about the backend.
//
// Thread contract: the control thread's. `done` is called on it exactly once, never from within
// Ask. Any number of questions may be under way at once; a Prober may be destroyed while some are,
// and their `done`s are then dropped with the io_context.
#ifndef GUIDEWAY_CONTROL_PROBER_H_
#define GUIDEWAY_CONTROL_PROBER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "maglev/net.h"

namespace boost::asio {
class io_context;
}

namespace guideway {

struct ProbeQuestion {
  enum class Kind : uint8_t {
    kTcp,   // does a connection open
    kHttp,  // does GET `path` answer with a status in the range
  };

  Kind kind = Kind::kTcp;
  IpAddress address;
  uint16_t port = 0;
  // Of kHttp.
  std::string host;  // the Host header; empty: the address
  std::string path;
  uint16_t status_low = 200;
  uint16_t status_high = 299;

  friend bool operator==(const ProbeQuestion&, const ProbeQuestion&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const ProbeQuestion& q) {
    return H::combine(std::move(h), q.kind, q.address, q.port, q.host, q.path, q.status_low,
                      q.status_high);
  }
};

struct ProbeAnswer {
  enum class Kind : uint8_t { kOk, kFailed, kNotAsked };

  Kind kind = Kind::kOk;
  std::string reason = "ok";  // «connection refused», «status 503», «timeout after 500ms»
};

class Prober {
 public:
  using Done = std::function<void(ProbeAnswer)>;

  virtual ~Prober() = default;
  virtual void Ask(const ProbeQuestion& question, absl::Duration timeout, Done done) = 0;
};

// The real one. An HTTP probe sends one GET with `Connection: close` and reads the answer's head,
// of kMaxProbeHead bytes at most, with the interim (1xx) answers before it; what body there is it
// does not wait for.
//
// A deadline is judged by the backend's time, not ours: when this thread comes back late from
// something else, or bytes are waiting to be read, the probe is let run once more for as long as
// it was kept waiting.
inline constexpr size_t kMaxProbeHead = 8192;
std::unique_ptr<Prober> NewProber(boost::asio::io_context& io);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_PROBER_H_
