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
#include <variant>

#include "absl/time/time.h"
#include "maglev/net.h"

namespace boost::asio {
class io_context;
}

namespace guideway {

struct ProbeQuestion {
  // Does a connection open.
  struct Tcp {
    friend bool operator==(const Tcp&, const Tcp&) = default;
  };
  // Does GET `path` answer with a status in the range.
  struct Http {
    enum class Security : uint8_t {
      kNone,
      kTls,         // any certificate will do
      kTlsVerified  // it must be valid for `host`, by the certificate authorities of the system
    };

    Security security = Security::kNone;
    std::string
        host;  // the Host header and TLS server name; empty: the address, and no server name
    std::string path = "/";
    uint16_t status_low = 200;
    uint16_t status_high = 299;

    friend bool operator==(const Http&, const Http&) = default;
  };
  // Is the A record of `name` asked for answered without an error (RFC 1035). `name` is what
  // DnsQuery (control/dns_message.h) takes.
  struct Dns {
    std::string name;
    friend bool operator==(const Dns&, const Dns&) = default;
  };
  // Is an echo request answered (RFC 792, RFC 4443). It has no port.
  struct Icmp {
    friend bool operator==(const Icmp&, const Icmp&) = default;
  };
  // Is the datagram `send` answered by one that begins with `expect`.
  struct Udp {
    std::string send;
    std::string expect;
    friend bool operator==(const Udp&, const Udp&) = default;
  };

  IpAddress address;
  uint16_t port = 0;
  std::variant<Tcp, Http, Dns, Icmp, Udp> what;

  friend bool operator==(const ProbeQuestion&, const ProbeQuestion&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const ProbeQuestion& q) {
    return std::visit(
        [&](const auto& what) {
          return H::combine(std::move(h), q.address, q.port, q.what.index(), what);
        },
        q.what);
  }
  template <typename H>
  friend H AbslHashValue(H h, const Tcp&) {
    return h;
  }
  template <typename H>
  friend H AbslHashValue(H h, const Http& q) {
    return H::combine(std::move(h), q.security, q.host, q.path, q.status_low, q.status_high);
  }
  template <typename H>
  friend H AbslHashValue(H h, const Dns& q) {
    return H::combine(std::move(h), q.name);
  }
  template <typename H>
  friend H AbslHashValue(H h, const Icmp&) {
    return h;
  }
  template <typename H>
  friend H AbslHashValue(H h, const Udp& q) {
    return H::combine(std::move(h), q.send, q.expect);
  }
};

struct ProbeAnswer {
  enum class Kind : uint8_t { kOk, kFailed, kNotAsked };

  Kind kind = Kind::kOk;
  // «connection refused», «status 503», «timeout after 500ms», «certificate has expired»,
  // «rcode NXDOMAIN», «unexpected answer»
  std::string reason = "ok";
};

class Prober {
 public:
  using Done = std::function<void(ProbeAnswer)>;

  virtual ~Prober() = default;
  virtual void Ask(const ProbeQuestion& question, absl::Duration timeout, Done done) = 0;
};

// The real one, control/probe.h's kinds of Probe.
//
// An HTTP probe sends one GET with `Connection: close` and reads the answer's head, of
// kMaxProbeHead bytes at most, with the interim (1xx) answers before it; what body there is it does
// not wait for. DNS and UDP probes send one datagram, from a port of their own that the kernel
// picks at random. ICMP probes share a raw socket for each family, which takes the capability
// CAP_NET_RAW.
inline constexpr size_t kMaxProbeHead = 8192;
std::unique_ptr<Prober> NewProber(boost::asio::io_context& io);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_PROBER_H_
