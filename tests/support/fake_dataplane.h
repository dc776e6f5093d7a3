// A Dataplane without packets: keeps what is published, and says what the test wants it to say.
#ifndef GUIDEWAY_TESTS_SUPPORT_FAKE_DATAPLANE_H_
#define GUIDEWAY_TESTS_SUPPORT_FAKE_DATAPLANE_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
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

  void ReadFlows(size_t worker, uint64_t first, uint64_t last,
                 std::vector<FlowEntry>* entries) const override {
    ++*reads;
    const auto& table = flows.at(worker);
    for (auto it = table.lower_bound(first); it != table.end() && it->first < last; ++it) {
      entries->push_back(it->second);
    }
  }
  absl::StatusOr<Explanation> Explain(const Snapshot& snapshot,
                                      absl::string_view packet) const override {
    return explain(snapshot, std::string(packet));
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
  // By worker, then by place. The test does not change it while the daemon looks.
  std::vector<std::map<uint64_t, FlowEntry>> flows = {{}};
  // Counts the calls of ReadFlows.
  std::shared_ptr<std::atomic<uint64_t>> reads = std::make_shared<std::atomic<uint64_t>>();
  std::function<absl::StatusOr<Explanation>(const Snapshot&, const std::string&)> explain =
      [](const Snapshot&, const std::string& packet) {
        Explanation explanation;
        explanation.packet = packet;
        return explanation;
      };
};

}  // namespace guideway

#endif  // GUIDEWAY_TESTS_SUPPORT_FAKE_DATAPLANE_H_
