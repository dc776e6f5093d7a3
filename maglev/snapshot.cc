#include "maglev/snapshot.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

namespace guideway {
namespace {

// Compile promises it; a Snapshot that breaks it would send packets to the wrong backend.
void Require(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "guideway: a snapshot breaks its promise: %s\n", promise);
  std::abort();
}

}  // namespace

absl::string_view ForwardingName(Forwarding forwarding) {
  switch (forwarding) {
    case Forwarding::kIpip: return "ipip";
    case Forwarding::kGre: return "gre";
    case Forwarding::kGue: return "gue";
    case Forwarding::kVxlan: return "vxlan";
    case Forwarding::kDirect: return "direct";
    case Forwarding::kNat: return "nat";
  }
  return "unknown";
}

Routes::Routes(absl::Span<const std::pair<Prefix, NextHop>> routes) {
  absl::flat_hash_set<Prefix> seen;
  std::vector<std::pair<Prefix, uint32_t>> indices;
  for (const auto& [prefix, hop] : routes) {
    if (!seen.insert(prefix).second) continue;
    indices.emplace_back(prefix, static_cast<uint32_t>(hops_.size()));
    hops_.push_back(hop);
  }
  prefixes_ = PrefixMap::Build(indices).value();
}

namespace {

// One more than the largest backend id.
BackendId CountIds(const std::vector<std::shared_ptr<const Service>>& services) {
  BackendId count = 0;
  for (const auto& service : services) {
    for (const Backend& backend : service->backends) {
      Require(backend.id < kMaxBackends, "backend ids are below their bound");
      count = std::max(count, backend.id + 1);
    }
  }
  return count;
}

// Workers know a Snapshot by it long after it is gone.
uint32_t NextSerial() {
  static std::atomic<uint32_t> last = 0;
  const uint32_t next = last.fetch_add(1, std::memory_order_relaxed) + 1;
  return next == 0 ? NextSerial() : next;
}

uint64_t MatchDigest(const SnapshotParts& parts) {
  uint64_t digest = parts.access == nullptr ? 0 : parts.access->digest();
  const auto take_in = [&](uint64_t value) {
    digest = XXH3_64bits_withSeed(&value, sizeof(value), digest);
  };
  for (const auto& service : parts.services) {
    take_in(uint64_t{service->id} << 8 | static_cast<uint64_t>(service->protocol));
    for (const Prefix& vip : service->vips) {
      digest = XXH3_64bits_withSeed(vip.address.bytes(), 16, digest);
      take_in(static_cast<uint64_t>(vip.address.bits()) << 8 | static_cast<uint64_t>(vip.length));
    }
    for (const PortRange& ports : service->ports) take_in(uint64_t{ports.first} << 16 | ports.last);
  }
  return digest;
}

}  // namespace

Snapshot::Snapshot(SnapshotParts parts)
    : parts_(std::move(parts)),
      serial_(NextSerial()),
      flow_hasher_(parts_.hash_seed),
      match_digest_(MatchDigest(parts_)),
      target_count_(CountIds(parts_.services)),
      targets_(target_count_ + 1, PageSize::kTransparentHuge) {
  if (parts_.routes == nullptr) parts_.routes = std::make_shared<const Routes>();
  own_.insert(parts_.own_addresses.begin(), parts_.own_addresses.end());
  for (BackendId id = 0; id <= target_count_; ++id) targets_[id] = Target();
  EnvelopeIndices indices;
  for (const auto& service : parts_.services) AddService(*service, indices);
  absl::StatusOr<Vips> vips = Vips::Build(parts_.services);
  Require(vips.ok(), vips.status().ToString().c_str());
  vips_ = *std::move(vips);
}

void Snapshot::AddService(const Service& service, EnvelopeIndices& indices) {
  Require(service.id < kMaxServices, "service ids are below their bound");
  if (service.id >= services_.size()) services_.resize(service.id + 1, nullptr);
  Require(services_[service.id] == nullptr, "service ids are unique");
  services_[service.id] = &service;
  for (const Pool& pool : service.pools) {
    Require(pool.table != nullptr && pool.assignment->size() == pool.table->size(),
            "an assignment is as long as its table");
    Require(pool.stand_in < service.pools.size(), "a pool has a stand-in");
  }
  Require(service.default_region < service.pools.size(), "a service has its default pool");
  for (const Backend& backend : service.backends) AddBackend(service, backend, indices);
}

uint32_t Snapshot::IndexOf(const Envelope& envelope, EnvelopeIndices& indices) {
  // Most likely that of the backend before.
  if (envelopes_.empty() || envelopes_.back().envelope != envelope) {
    const auto next = static_cast<uint32_t>(envelopes_.size());
    const auto [at, is_new] = indices.try_emplace(envelope, next);
    if (!is_new) return at->second;
    envelopes_.push_back({envelope});
  }
  return static_cast<uint32_t>(envelopes_.size() - 1);
}

void Snapshot::AddBackend(const Service& service, const Backend& backend,
                          EnvelopeIndices& indices) {
  Require(backend.service == service.id, "a backend names its service");
  Target& target = targets_[backend.id];
  Require(target.backend == nullptr, "backend ids are unique");
  Envelope envelope = MakeEnvelope(service, backend);
  target = {.adjacency = Adjacency::TakeFrom(envelope),
            .id = backend.id,
            .service = service.id,
            .state = backend.state,
            .backend = &backend};
  if (service.forwarding == Forwarding::kNat) {
    std::memcpy(target.adjacency.address, backend.address.bytes(), 16);
    target.adjacency.port = backend.port;
  }
  target.adjacency.snapshot = serial_;
  target.adjacency.envelope = IndexOf(envelope, indices) & 0xffffff;
  target.adjacency.is_large =
      IsTunnel(service.forwarding) && envelope.facts.outer_size() > Adjacency::kLine;
  target.adjacency.keeps_all = backend.state == BackendState::kUp && service.quic == nullptr;
  if (IsTunnel(service.forwarding)) {
    tunnel_ends_.insert(backend.address);
    if (std::find(tunnel_sources_.begin(), tunnel_sources_.end(), backend.tunnel_source) ==
        tunnel_sources_.end()) {
      tunnel_sources_.push_back(backend.tunnel_source);
    }
  }
  if (service.forwarding != Forwarding::kNat) return;
  for (PortRange ports : service.ports) {
    if (backend.port != 0) ports = {backend.port, backend.port};
    nat_[backend.address].push_back({service.protocol, ports, &backend});
  }
}

const Backend* Snapshot::FindNatBackend(const IpAddress& address, uint8_t protocol,
                                        uint16_t port) const {
  const auto found = nat_.find(address);
  if (found == nat_.end()) return nullptr;
  for (const NatPorts& nat : found->second) {
    if (nat.protocol == Protocol::kAny ||
        (static_cast<uint8_t>(nat.protocol) == protocol && nat.ports.Contains(port))) {
      return nat.backend;
    }
  }
  return nullptr;
}

bool Snapshot::IsTunnelSource(const IpAddress& address) const {
  return std::any_of(tunnel_sources_.begin(), tunnel_sources_.end(),
                     [&](const Prefix& p) { return p.Contains(address); });
}

}  // namespace guideway
