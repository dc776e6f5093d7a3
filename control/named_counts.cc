#include "control/named_counts.h"

namespace guideway {

void NamedCounts::Change(const Revision* before, const Revision& after) {
  absl::flat_hash_map<ServiceId, uint64_t> counted;
  if (before != nullptr) {
    for (const Revision::Service& service : before->services) {
      counted[service.id] = NewFlows(service);
    }
  }
  carried_new_flows_.clear();
  for (const Revision::Service& service : after.services) {
    const auto was = counted.find(service.id);
    const uint64_t carried = (was == counted.end() ? 0 : was->second) - SumNewFlows(service);
    if (carried != 0) carried_new_flows_[service.id] = carried;
  }
}

ServiceCounts NamedCounts::OfService(ServiceId id) const {
  ServiceCounts counts = dataplane_->service_counts(id);
  if (const auto begin = services_.find(id); begin != services_.end()) counts -= begin->second;
  return counts;
}

BackendCounts NamedCounts::OfBackend(BackendId id) const {
  BackendCounts counts = dataplane_->backend_counts(id);
  if (const auto begin = backends_.find(id); begin != backends_.end()) {
    counts.packets -= begin->second.packets;
    counts.bytes -= begin->second.bytes;
    counts.new_flows -= begin->second.new_flows;
  }
  return counts;
}

uint64_t NamedCounts::SumNewFlows(const Revision::Service& service) const {
  uint64_t sum = 0;
  for (const Revision::Backend& b : service.backends) sum += OfBackend(b.id).new_flows;
  return sum;
}

}  // namespace guideway
