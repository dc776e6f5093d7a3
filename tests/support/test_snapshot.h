// Snapshots for tests, written as what matters to the test: services with their backends, the rest
// filled in. One interface, index 0; every backend is reached through it.
#ifndef GUIDEWAY_TESTS_SUPPORT_TEST_SNAPSHOT_H_
#define GUIDEWAY_TESTS_SUPPORT_TEST_SNAPSHOT_H_

#include <memory>
#include <string>
#include <vector>

#include "maglev/snapshot.h"

namespace guideway::testing {

inline constexpr uint64_t kTestSeed = 42;

struct TestBackend {
  std::string name;
  std::string address;
  BackendState state = BackendState::kUp;
  uint32_t weight = 100;
  bool has_next_hop = true;
  BackendId id = kNoBackend;  // kNoBackend: counted up over the snapshot
};

struct TestService {
  std::string name = "web";
  std::vector<std::string> vips = {"198.51.100.10"};
  Protocol protocol = Protocol::kTcp;
  std::vector<PortRange> ports = {{80, 80}};
  std::vector<TestBackend> backends = {{"web-1", "10.0.0.11"}};
  uint32_t table_size = 1021;
  Scheduler scheduler = Scheduler::kMaglev;
  Affinity affinity = {};
};

struct TestOptions {
  uint64_t version = 1;
  uint16_t mtu = 1500;
  FlowTimeouts timeouts = {};
};

inline std::shared_ptr<const Snapshot> MakeSnapshot(const std::vector<TestService>& services,
                                                    const TestOptions& options = {}) {
  std::vector<std::shared_ptr<const Service>> parts;
  BackendId next_id = 0;
  for (const TestService& from : services) {
    auto service = std::make_shared<Service>();
    service->name = from.name;
    service->id = static_cast<ServiceId>(parts.size());
    for (const std::string& vip : from.vips) {
      service->vips.push_back(IpAddress::Parse(vip).value());
    }
    service->protocol = from.protocol;
    service->ports = from.ports;
    service->scheduler = from.scheduler;
    service->affinity = from.affinity;
    std::vector<PoolMember> pool;
    std::vector<Share> shares;
    std::vector<uint32_t> weights_up;
    for (const TestBackend& b : from.backends) {
      Backend backend;
      backend.name = b.name;
      backend.id = b.id != kNoBackend ? b.id : next_id++;
      backend.service = service->id;
      backend.weight = b.weight;
      backend.state = b.state;
      backend.address = IpAddress::Parse(b.address).value();
      backend.tunnel_source = IpAddress::Parse("192.0.2.1").value();
      if (b.has_next_hop) {
        backend.next_hop = {.interface = 0,
                            .mtu = options.mtu,
                            .source = MacAddress::Parse("02:00:00:00:00:01").value(),
                            .destination = MacAddress::Parse("02:00:00:00:00:fe").value()};
      }
      service->backends.push_back(backend);
      pool.push_back({b.name, b.weight});
      shares.push_back(b.state == BackendState::kUp ? kFullShare : kDown);
      weights_up.push_back(b.weight * shares.back());
    }
    const auto table = std::make_shared<const LookupTable>(
        LookupTable::Build(pool, from.table_size, kTestSeed).value());
    service->pools.push_back({.table = table, .assignment = table->Assign(shares)});
    service->turns = TurnsByWeight(weights_up);
    service->picks = WeightedPicks(weights_up);
    parts.push_back(std::move(service));
  }
  return std::make_shared<const Snapshot>(options.version, kTestSeed, options.timeouts,
                                          std::move(parts));
}

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_TEST_SNAPSHOT_H_
