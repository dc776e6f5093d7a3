#include "maglev/snapshot.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
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

Snapshot::Snapshot(SnapshotParts parts) : parts_(std::move(parts)) {
  if (parts_.routes == nullptr) parts_.routes = std::make_shared<const Routes>();
  own_.insert(parts_.own_addresses.begin(), parts_.own_addresses.end());
  for (const auto& service : parts_.services) {
    Require(service->id < kMaxServices, "service ids are below their bound");
    if (service->id >= services_.size()) services_.resize(service->id + 1, nullptr);
    Require(services_[service->id] == nullptr, "service ids are unique");
    services_[service->id] = service.get();
    for (const Pool& pool : service->pools) {
      Require(pool.table != nullptr && pool.assignment->size() == pool.table->size(),
              "an assignment is as long as its table");
      Require(pool.stand_in < service->pools.size(), "a pool has a stand-in");
    }
    Require(service->default_region < service->pools.size(), "a service has its default pool");
    AddBackends(*service);
  }
  backend_count_ = backends_.size();
  AddVips();
}

void Snapshot::AddVips() {
  absl::flat_hash_map<Prefix, Vip> by_prefix;
  for (const auto& service : parts_.services) {
    for (const Prefix& prefix : service->vips) {
      auto& served = by_prefix[prefix].served_;
      if (service->protocol == Protocol::kAny) {
        served.push_back({0, Vip::Place(0xff, 0xffff), service.get()});
        continue;
      }
      const auto protocol = static_cast<uint8_t>(service->protocol);
      for (const PortRange& ports : service->ports) {
        served.push_back(
            {Vip::Place(protocol, ports.first), Vip::Place(protocol, ports.last), service.get()});
      }
    }
  }
  std::vector<std::pair<Prefix, uint32_t>> prefixes;
  for (auto& [prefix, vip] : by_prefix) {
    auto& served = vip.served_;
    Require(!served.empty(), "a service has ports");
    std::sort(served.begin(), served.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t i = 1; i < served.size(); ++i) {
      Require(served[i - 1].last < served[i].first, "one service has a VIP, protocol and port");
    }
    if (prefix.is_host()) {
      vips_.emplace(prefix.address, std::move(vip));
    } else {
      prefixes.emplace_back(prefix, static_cast<uint32_t>(wide_vips_.size()));
      wide_vips_.push_back(std::move(vip));
    }
  }
  has_vip_prefixes_ = !prefixes.empty();
  vip_prefixes_ = PrefixMap::Build(prefixes).value();
}

void Snapshot::AddBackends(const Service& service) {
  for (const Backend& backend : service.backends) {
    Require(backend.id < kMaxBackends, "backend ids are below their bound");
    Require(backend.service == service.id, "a backend names its service");
    Require(backend.envelope.size != 0, "a backend has its envelope");
    if (backend.id >= backends_.size()) backends_.resize(backend.id + 1, nullptr);
    Require(backends_[backend.id] == nullptr, "backend ids are unique");
    backends_[backend.id] = &backend;
    if (IsTunnel(service.forwarding)) {
      tunnel_ends_.insert(backend.address);
      if (std::find(tunnel_sources_.begin(), tunnel_sources_.end(), backend.tunnel_source) ==
          tunnel_sources_.end()) {
        tunnel_sources_.push_back(backend.tunnel_source);
      }
    }
    if (service.forwarding != Forwarding::kNat) continue;
    for (PortRange ports : service.ports) {
      if (backend.port != 0) ports = {backend.port, backend.port};
      nat_[backend.address].push_back({service.protocol, ports, &backend});
    }
  }
}

const Vip* Snapshot::FindVipPrefix(const IpAddress& address) const {
  const uint32_t index = vip_prefixes_.Find(address);
  return index == PrefixMap::kNone ? nullptr : &wide_vips_[index];
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
