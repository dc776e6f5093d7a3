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

Snapshot::Snapshot(uint64_t version, uint64_t hash_seed, FlowTimeouts timeouts,
                   std::vector<std::shared_ptr<const Service>> services)
    : version_(version),
      hash_seed_(hash_seed),
      timeouts_(timeouts),
      services_(std::move(services)) {
  absl::flat_hash_set<ServiceId> service_ids;
  for (const auto& service : services_) {
    Require(service->id < kMaxServices, "service ids are below their bound");
    Require(service_ids.insert(service->id).second, "service ids are unique");
    for (const Pool& pool : service->pools) {
      Require(pool.table != nullptr && pool.assignment->size() == pool.table->size(),
              "an assignment is as long as its table");
      Require(pool.stand_in < service->pools.size(), "a pool has a stand-in");
    }
    Require(service->default_region < service->pools.size(), "a service has its default pool");
    for (const IpAddress& vip : service->vips) {
      vips_.insert(vip);
      std::vector<Served>& served =
          endpoints_[Endpoint{vip, static_cast<uint8_t>(service->protocol)}];
      for (const PortRange& ports : service->ports) served.push_back({ports, service.get()});
    }
    for (const Backend& backend : service->backends) {
      Require(backend.id < kMaxBackends, "backend ids are below their bound");
      Require(backend.service == service->id, "a backend names its service");
      if (backend.id >= backends_.size()) backends_.resize(backend.id + 1, nullptr);
      Require(backends_[backend.id] == nullptr, "backend ids are unique");
      backends_[backend.id] = &backend;
    }
  }
  for (auto& [endpoint, served] : endpoints_) {
    std::sort(served.begin(), served.end(),
              [](const Served& a, const Served& b) { return a.ports < b.ports; });
    for (size_t i = 1; i < served.size(); ++i) {
      Require(served[i - 1].ports.last < served[i].ports.first,
              "one service has a VIP, protocol and port");
    }
  }
}

const Service* Snapshot::FindService(const IpAddress& vip, uint8_t protocol, uint16_t port) const {
  const auto found = endpoints_.find(Endpoint{vip, protocol});
  if (found == endpoints_.end()) return nullptr;
  const std::vector<Served>& served = found->second;
  const auto after =
      std::upper_bound(served.begin(), served.end(), port,
                       [](uint16_t p, const Served& s) { return p < s.ports.first; });
  if (after == served.begin() || !std::prev(after)->ports.Contains(port)) return nullptr;
  return std::prev(after)->service;
}

}  // namespace guideway
