#include "maglev/snapshot.h"

#include <cstdio>
#include <cstdlib>
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
    Require(service->table != nullptr && service->assignment.size() == service->table->size(),
            "an assignment is as long as its table");
    for (const IpAddress& vip : service->vips) {
      vips_.insert(vip);
      for (uint16_t port : service->ports) {
        const Endpoint endpoint{vip, static_cast<uint8_t>(service->protocol), port};
        Require(endpoints_.emplace(endpoint, service.get()).second,
                "one service has a VIP, protocol and port");
      }
    }
    for (const Backend& backend : service->backends) {
      Require(backend.id < kMaxBackends, "backend ids are below their bound");
      Require(backend.service == service->id, "a backend names its service");
      if (backend.id >= backends_.size()) backends_.resize(backend.id + 1, nullptr);
      Require(backends_[backend.id] == nullptr, "backend ids are unique");
      backends_[backend.id] = &backend;
    }
  }
}

const Service* Snapshot::FindService(const IpAddress& vip, uint8_t protocol, uint16_t port) const {
  const auto found = endpoints_.find(Endpoint{vip, protocol, port});
  return found == endpoints_.end() ? nullptr : found->second;
}

}  // namespace guideway
