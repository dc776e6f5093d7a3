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

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/types/span.h"
#include "maglev/envelope.h"
#include "maglev/flow_hash.h"
#include "maglev/lookup_table.h"
#include "maglev/net.h"
#include "maglev/pages.h"
#include "maglev/prefix_map.h"
#include "maglev/schedulers.h"
#include "maglev/vips.h"

namespace guideway {

class QuicLb;

using ServiceId = uint32_t;
using BackendId = uint32_t;

// Bounds of what one daemon serves; counters are reserved for so many at start.
inline constexpr uint32_t kMaxServices = 1u << 16;
inline constexpr uint32_t kMaxBackends = 1u << 20;
inline constexpr ServiceId kNoService = 0xffffffff;
inline constexpr BackendId kNoBackend = 0xffffff;  // flow entries keep 24 bits of it
static_assert(kMaxBackends < kNoBackend);

// How a packet reaches its backend.
enum class Forwarding : uint8_t { kIpip, kGre, kGue, kVxlan, kDirect, kNat };
// «ipip», «gre», …
absl::string_view ForwardingName(Forwarding forwarding);
// In a packet of the balancer's own, from a tunnel source to the backend.
inline bool IsTunnel(Forwarding forwarding) {
  return forwarding != Forwarding::kDirect && forwarding != Forwarding::kNat;
}

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
  // As they stand in a frame.
  MacAddress destination;
  MacAddress source;

  bool is_known() const { return interface != kNoInterface; }
  friend bool operator==(const NextHop&, const NextHop&) = default;
};

// From a destination to its next hop: the longest prefix wins.
class Routes {
 public:
  // Leads nowhere.
  Routes() = default;
  // Of a prefix that comes twice, the first counts.
  explicit Routes(absl::Span<const std::pair<Prefix, NextHop>> routes);

  // Not known if no route leads there.
  const NextHop& Find(const IpAddress& destination) const {
    const uint32_t found = prefixes_.Find(destination);
    return hops_[found == PrefixMap::kNone ? 0 : found];
  }

  // Not of the same routes in another order.
  friend bool operator==(const Routes&, const Routes&) = default;

 private:
  PrefixMap prefixes_;
  std::vector<NextHop> hops_ = {NextHop()};  // the first: nowhere
};

// One backend in one service.
struct Backend {
  BackendId id = kNoBackend;
  ServiceId service = 0;
  BackendState state = BackendState::kUp;
  Share share = kFullShare;  // while kUp: less than full when it comes back gradually
  uint16_t port = 0;         // with kNat, of the backend; 0: the one the client sent to
  IpAddress address;
  Prefix tunnel_source;  // outer source: one address, or the prefix over which the hash spreads it
  NextHop next_hop;      // toward `address`; unknown if there is no route
  uint32_t weight = 100;
  std::string name;

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
  uint64_t table_digest = 0;                                  // PoolDigest of the table's homes
  uint64_t assignment_digest = 0;                             // and of the assignment
};

// What a tunnel says besides addresses.
struct TunnelSettings {
  uint16_t port = 0;     // kGue, kVxlan: UDP destination port
  uint32_t vni = 0;      // kVxlan: network identifier, 24 bits
  MacAddress inner_mac;  // kVxlan: destination of the inner Ethernet header

  friend bool operator==(const TunnelSettings&, const TunnelSettings&) = default;
};

struct Service {
  ServiceId id = 0;
  Forwarding forwarding = Forwarding::kIpip;
  Protocol protocol = Protocol::kTcp;
  Scheduler scheduler = Scheduler::kMaglev;
  Affinity affinity;
  TunnelSettings tunnel;
  uint32_t new_flows_per_second = 0;  // bound, all workers together; 0: none
  // From a QUIC connection id to the index of its backend; null: ids say nothing.
  std::shared_ptr<const QuicLb> quic;
  std::string name;
  std::vector<Prefix> vips;
  std::vector<PortRange> ports;   // with kAny: all
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
  // For people: TableDigest of what is configured, and of who serves now.
  uint64_t configured_digest = 0;
  uint64_t effective_digest = 0;
};

// Seconds without a packet after which a flow table entry is free for another.
struct FlowTimeouts {
  uint32_t tcp_handshake_s = 10;
  uint32_t tcp_established_s = 900;
  uint32_t tcp_closing_s = 30;
  uint32_t udp_s = 60;

  friend bool operator==(const FlowTimeouts&, const FlowTimeouts&) = default;
};

// Of an access list: what the longest prefix around a source says.
enum class Access : uint32_t { kAllow, kDeny };

// What a Snapshot is made of.
struct SnapshotParts {
  uint64_t version = 1;
  uint64_t hash_seed = 0;
  FlowTimeouts timeouts = {};
  uint32_t replies_per_second = 1000;  // answers by the balancer itself, each worker
  std::vector<std::shared_ptr<const Service>> services = {};
  std::shared_ptr<const Routes> routes = {};     // of what does not go to a backend; null: none
  std::shared_ptr<const PrefixMap> access = {};  // values of Access; null: everybody may send
  std::vector<IpAddress> own_addresses = {};  // of this host: what comes for them is the kernel's
};

// What there is to know of the backend that a packet goes to: a cache line, side by side by
// BackendId, of which each worker keeps the first half (WorkerCounters::PerBackend). Where there
// are many backends, the rest of what is known of them would be as many pages again.
struct alignas(64) Target {
  Adjacency adjacency;
  BackendId id = kNoBackend;
  ServiceId service = kNoService;
  BackendState state = BackendState::kDown;
  const Backend* backend = nullptr;
};
static_assert(sizeof(Target) == 64);

class Snapshot {
 public:
  // `version` counts Snapshots from 1. Service and backend ids are unique and below their bounds,
  // and no two services share a VIP, protocol and port, or, with kNat, a backend's: CHECKed, since
  // the configuration's validation refuses it before.
  explicit Snapshot(SnapshotParts parts);

  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  uint64_t version() const { return parts_.version; }
  uint64_t hash_seed() const { return parts_.hash_seed; }
  const FlowHasher& flow_hasher() const { return flow_hasher_; }
  const FlowTimeouts& timeouts() const { return parts_.timeouts; }
  uint32_t replies_per_second() const { return parts_.replies_per_second; }
  const std::vector<std::shared_ptr<const Service>>& services() const { return parts_.services; }
  const Routes& routes() const { return *parts_.routes; }
  const std::shared_ptr<const Routes>& shared_routes() const { return parts_.routes; }

  const Vips& vips() const { return vips_; }
  // Two Snapshots with the same digest have the same service for whatever a client sends, and deny
  // the same clients.
  uint64_t match_digest() const { return match_digest_; }
  bool has_access() const { return parts_.access != nullptr; }
  bool IsDenied(const IpAddress& source) const {
    return parts_.access != nullptr &&
           parts_.access->Find(source) == static_cast<uint32_t>(Access::kDeny);
  }

  // Of all Snapshots that the process has made, this one's number, from 1.
  uint32_t serial() const { return serial_; }
  // What is in front of packets to a backend, but for what is the backend's own: see Adjacency.
  const Envelope& EnvelopeAt(uint32_t index) const { return envelopes_[index].envelope; }

  // One more than the largest id.
  size_t service_ids() const { return services_.size(); }
  size_t backend_ids() const { return target_count_; }

  // Of a backend that has left the configuration, one without a backend. `id` may be any number.
  const Target& TargetOf(BackendId id) const {
    if (id > target_count_) [[unlikely]]
      id = target_count_;
    return targets_[id];
  }
  bool HasBackend(BackendId id) const { return id < target_count_ && targets_[id].id == id; }
  // Null once it has left the configuration.
  const Backend* FindBackend(BackendId id) const { return TargetOf(id).backend; }
  const Service* FindService(ServiceId id) const {
    return id < services_.size() ? services_[id] : nullptr;
  }
  // Of one that is there: a target's, or what Vips found.
  const Service& ServiceOf(ServiceId id) const { return *services_[id]; }

  // The backend of a kNat service that answers from this address, protocol and port; or null.
  const Backend* FindNatBackend(const IpAddress& address, uint8_t protocol, uint16_t port) const;
  bool IsNatBackend(const IpAddress& address) const { return nat_.contains(address); }
  // An address of this host's, by which the kernel is meant.
  bool IsOwn(const IpAddress& address) const { return own_.contains(address); }

  // Whether outer packets come from this address, and whether they go to that one.
  bool IsTunnelSource(const IpAddress& address) const;
  bool IsTunnelEnd(const IpAddress& address) const { return tunnel_ends_.contains(address); }

 private:
  struct NatPorts {
    Protocol protocol;  // kAny: every one, with or without ports
    PortRange ports;
    const Backend* backend;
  };

  struct alignas(64) SharedEnvelope {
    Envelope envelope;
  };

  using EnvelopeIndices = absl::flat_hash_map<Envelope, uint32_t>;

  void AddService(const Service& service, EnvelopeIndices& indices);
  void AddBackend(const Service& service, const Backend& backend, EnvelopeIndices& indices);
  uint32_t IndexOf(const Envelope& envelope, EnvelopeIndices& indices);

  SnapshotParts parts_;
  const uint32_t serial_;
  FlowHasher flow_hasher_;  // of the hash seed
  Vips vips_;
  uint64_t match_digest_;
  BackendId target_count_;
  PageArray<Target> targets_;             // by id; behind them, one for ids that nobody has
  std::vector<const Service*> services_;  // by id
  std::vector<SharedEnvelope> envelopes_;
  // By the backend's address. Most are of one service.
  absl::flat_hash_map<IpAddress, absl::InlinedVector<NatPorts, 1>, IpAddress::QuickHasher> nat_;
  absl::flat_hash_set<IpAddress, IpAddress::QuickHasher> own_;
  absl::flat_hash_set<IpAddress, IpAddress::QuickHasher> tunnel_ends_;
  std::vector<Prefix> tunnel_sources_;
};

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_SNAPSHOT_H_
