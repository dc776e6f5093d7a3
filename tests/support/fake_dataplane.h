// A Dataplane without packets: keeps what is published, and says what the test wants it to say.
#ifndef GUIDEWAY_TESTS_SUPPORT_FAKE_DATAPLANE_H_
#define GUIDEWAY_TESTS_SUPPORT_FAKE_DATAPLANE_H_

#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "dataplane/dataplane.h"

namespace guideway {

class FakeDataplane final : public Dataplane {
 public:
  void Publish(std::shared_ptr<const Snapshot> snapshot) override {
    published.push_back(std::move(snapshot));
    if (on_publish) on_publish(*published.back());
  }
  void Reclaim() override { ++reclaims; }
  uint64_t SweptVersion() const override { return swept_version; }
  std::vector<InterfaceStatus> interfaces() const override { return interface_status; }
  std::vector<WorkerStatus> workers() const override { return worker_status; }
  ServiceCounts service_counts(ServiceId id) const override {
    auto it = by_service.find(id);
    return it == by_service.end() ? ServiceCounts() : it->second;
  }
  BackendCounts backend_counts(BackendId id) const override {
    auto it = by_backend.find(id);
    return it == by_backend.end() ? BackendCounts() : it->second;
  }

  // The one in force.
  const Snapshot& snapshot() const { return *published.back(); }

  std::vector<std::shared_ptr<const Snapshot>> published;
  std::function<void(const Snapshot&)> on_publish;
  int reclaims = 0;
  uint64_t swept_version = 0;
  std::vector<InterfaceStatus> interface_status = {{
      .name = "uplink",
      .device = "net_null0",
      .mac = {{2, 0, 0, 0, 0, 1}},
      .mtu = 1500,
      .link_up = true,
  }};
  std::vector<WorkerStatus> worker_status = {{.core = 1, .flow_capacity = 1024}};
  std::map<ServiceId, ServiceCounts> by_service;
  std::map<BackendId, BackendCounts> by_backend;
};

}  // namespace guideway

#endif  // GUIDEWAY_TESTS_SUPPORT_FAKE_DATAPLANE_H_
