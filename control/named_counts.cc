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
    carried_new_flows_[service.id] = counted[service.id] - SumNewFlows(service);
  }
}

ServiceCounts NamedCounts::OfService(ServiceId id) const {
  ServiceCounts counts = dataplane_->service_counts(id);
  counts -= services_.at(id);
  return counts;
}

BackendCounts NamedCounts::OfBackend(BackendId id) const {
  BackendCounts counts = dataplane_->backend_counts(id);
  const BackendCounts& base = backends_.at(id);
  counts.packets -= base.packets;
  counts.bytes -= base.bytes;
  counts.new_flows -= base.new_flows;
  return counts;
}

uint64_t NamedCounts::SumNewFlows(const Revision::Service& service) const {
  uint64_t sum = 0;
  for (const Revision::Backend& b : service.backends) sum += OfBackend(b.id).new_flows;
  return sum;
}

}  // namespace guideway
