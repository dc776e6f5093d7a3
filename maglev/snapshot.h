// All that a worker needs to know to decide about a packet: services, backends, tables, next hops.
//
// A Snapshot is made by Compile (control/compile.h), handed to the workers by Publish
// (dataplane/dataplane.h), and never changes in between or after: any number of threads may read
// one without locks for as long as it lives. What did not change since the Snapshot before is
// shared with it, not copied.
//
// Identity. Names belong to people. Workers know a service by its ServiceId and a backend in a
// service by its BackendId: small numbers that index arrays of counters and sit in flow table
// entries. Control hands them out, keeps them over changes of weight, state and address lists, and
// gives one to somebody else only when no flow table holds it any more.
#ifndef GUIDEWAY_MAGLEV_SNAPSHOT_H_
#define GUIDEWAY_MAGLEV_SNAPSHOT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "maglev/lookup_table.h"
#include "maglev/net.h"
#include "maglev/prefix_map.h"
#include "maglev/schedulers.h"

namespace guideway {

using ServiceId = uint32_t;
using BackendId = uint32_t;

// Bounds of what one daemon serves; counters are reserved for so many at start.
inline constexpr uint32_t kMaxServices = 1u << 16;
inline constexpr uint32_t kMaxBackends = 1u << 20;
inline constexpr BackendId kNoBackend = 0xffffff;  // flow entries keep 24 bits of it
static_assert(kMaxBackends < kNoBackend);

// How a packet reaches its backend.
enum class Forwarding : uint8_t { kIpip, kGre, kGue, kVxlan, kDirect, kNat };
// «ipip», «gre», …
absl::string_view ForwardingName(Forwarding forwarding);

enum class BackendState : uint8_t {
  kUp,     // takes new connections
  kDrain,  // keeps the connections it has
  kDown,   // has none: its connections are chosen anew
};

// Where a frame goes on the wire.
struct NextHop {
  static constexpr uint16_t kNoInterface = 0xffff;

  uint16_t interface = kNoInterface;  // index of the interface in the configuration
  uint16_t mtu = 0;                   // of that interface: largest IP packet, in bytes
  MacAddress source;
  MacAddress destination;

  bool is_known() const { return interface != kNoInterface; }
  friend bool operator==(const NextHop&, const NextHop&) = default;
};

// One backend in one service.
struct Backend {
  std::string name;
  BackendId id = kNoBackend;
  ServiceId service = 0;
  uint32_t weight = 100;
  BackendState state = BackendState::kUp;
  Share share = kFullShare;  // while kUp: less than full when it comes back gradually
  IpAddress address;
  IpAddress tunnel_source;  // outer source address
  NextHop next_hop;         // toward `address`; unknown if there is no route

  friend bool operator==(const Backend&, const Backend&) = default;
};

// What of its addresses makes connections belong together: the lookup table gives them one backend.
struct Affinity {
  bool to_client = false;  // the client's address; else the connection, addresses and ports
  uint8_t ipv4_bits = 32;  // of a client's address, those that count
  uint8_t ipv6_bits = 128;

  friend bool operator==(const Affinity&, const Affinity&) = default;
};

// Backends that share the connections of certain clients, by a lookup table of their own.
struct Pool {
  std::string region;              // empty but for Scheduler::kGeographic
  uint32_t first = 0;              // the table's member m is Service::backends[first + m]
  std::vector<uint16_t> fallback;  // the pools that stand in when none of it is up, in order
  uint16_t stand_in = 0;           // the one that serves its clients now: itself, if it can
  std::shared_ptr<const LookupTable> table;
  std::shared_ptr<const LookupTable::Assignment> assignment;  // by the backends' shares
};

struct Service {
  std::string name;
  ServiceId id = 0;
  std::vector<IpAddress> vips;
  Protocol protocol = Protocol::kTcp;  // kTcp or kUdp
  std::vector<PortRange> ports;
  Forwarding forwarding = Forwarding::kIpip;
  Scheduler scheduler = Scheduler::kMaglev;
  Affinity affinity;
  std::vector<Backend> backends;  // by region, then by name

  // The hash's choice. One pool with all backends, or, with kGeographic, one a region.
  std::vector<Pool> pools;
  std::shared_ptr<const PrefixMap> regions;  // index of a client's pool; null: all in one
  uint16_t default_region = 0;               // of the clients that `regions` does not know
  // For connections that open, if the scheduler is no hash: indices of backends.
  std::vector<uint16_t> turns;  // kRoundRobin
  WeightedPicks picks;          // kRandom, kLeastConnections
  // For people: the part of its pool's new connections that each backend gets, 0 to 1. Of
  // kLeastConnections what it gets while all are loaded alike.
  std::vector<double> connection_shares;
};

// Seconds without a packet after which a flow table entry is free for another.
struct FlowTimeouts {
  uint32_t tcp_handshake_s = 10;
  uint32_t tcp_established_s = 900;
  uint32_t tcp_closing_s = 30;
  uint32_t udp_s = 60;

  friend bool operator==(const FlowTimeouts&, const FlowTimeouts&) = default;
};

class Snapshot {
 public:
  // `version` counts Snapshots from 1. Service and backend ids are unique and below their bounds,
  // and no two services share a VIP, protocol and port: CHECKed, since Compile refuses it before.
  Snapshot(uint64_t version, uint64_t hash_seed, FlowTimeouts timeouts,
           std::vector<std::shared_ptr<const Service>> services);

  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  uint64_t version() const { return version_; }
  uint64_t hash_seed() const { return hash_seed_; }
  const FlowTimeouts& timeouts() const { return timeouts_; }
  const std::vector<std::shared_ptr<const Service>>& services() const { return services_; }

  // The service at this address, protocol (of the IP header) and port (host order), or null.
  const Service* FindService(const IpAddress& vip, uint8_t protocol, uint16_t port) const;
  bool IsVip(const IpAddress& address) const { return vips_.contains(address); }

  // Null once the backend has left the configuration. `id` may be any number.
  const Backend* FindBackend(BackendId id) const {
    return id < backends_.size() ? backends_[id] : nullptr;
  }

 private:
  struct Endpoint {
    IpAddress vip;
    uint8_t protocol;

    friend bool operator==(const Endpoint&, const Endpoint&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const Endpoint& e) {
      return H::combine(std::move(h), e.vip, e.protocol);
    }
  };
  struct Served {
    PortRange ports;
    const Service* service;
  };

  const uint64_t version_;
  const uint64_t hash_seed_;
  const FlowTimeouts timeouts_;
  const std::vector<std::shared_ptr<const Service>> services_;
  absl::flat_hash_map<Endpoint, std::vector<Served>> endpoints_;  // ports ascending, no overlap
  absl::flat_hash_set<IpAddress> vips_;
  std::vector<const Backend*> backends_;  // by id
};

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_SNAPSHOT_H_
