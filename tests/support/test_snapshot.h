// Snapshots for tests, written as what matters to the test: services with their backends, the rest
// filled in. One interface, index 0; every backend is reached through it.
#ifndef GUIDEWAY_TESTS_SUPPORT_TEST_SNAPSHOT_H_
#define GUIDEWAY_TESTS_SUPPORT_TEST_SNAPSHOT_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "maglev/quic_lb.h"
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
  uint16_t port = 0;
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
  Forwarding forwarding = Forwarding::kIpip;
  uint32_t new_flows_per_second = 0;
  std::shared_ptr<const QuicLb> quic = nullptr;
};

struct TestOptions {
  uint64_t version = 1;
  uint16_t mtu = 1500;
  FlowTimeouts timeouts = {};
  uint32_t replies_per_second = 1000;
  std::vector<std::pair<std::string, Access>> access = {};
  // Outer sources of tunnels, addresses or prefixes.
  std::string tunnel_source_ipv4 = "192.0.2.1";
  std::string tunnel_source_ipv6 = "2001:db8:1::1";
  std::vector<std::string> own_addresses = {};
  bool has_routes = true;  // to everywhere, for answers
};

inline std::shared_ptr<const Snapshot> MakeSnapshot(const std::vector<TestService>& services,
                                                    const TestOptions& options = {}) {
  std::vector<std::shared_ptr<const Service>> parts;
  BackendId next_id = 0;
  const NextHop hop = {.interface = 0,
                       .mtu = options.mtu,
                       .destination = MacAddress::Parse("02:00:00:00:00:fe").value(),
                       .source = MacAddress::Parse("02:00:00:00:00:01").value()};
  for (const TestService& from : services) {
    auto service = std::make_shared<Service>();
    service->name = from.name;
    service->id = static_cast<ServiceId>(parts.size());
    for (const std::string& vip : from.vips) {
      service->vips.push_back(Prefix::Parse(vip).value());
    }
    service->protocol = from.protocol;
    service->ports = from.ports;
    if (from.protocol == Protocol::kAny) service->ports = {{0, 65535}};
    service->forwarding = from.forwarding;
    if (from.forwarding == Forwarding::kGue) service->tunnel.port = 6080;
    if (from.forwarding == Forwarding::kVxlan) {
      service->tunnel = {.port = 4789,
                         .vni = 0x123456,
                         .inner_mac = MacAddress::Parse("02:00:00:00:00:77").value()};
    }
    service->new_flows_per_second = from.new_flows_per_second;
    service->quic = from.quic;
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
      backend.port = b.port;
      backend.tunnel_source = Prefix::Parse(backend.address.is_v4() ? options.tunnel_source_ipv4
                                                                    : options.tunnel_source_ipv6)
                                  .value();
      if (b.has_next_hop) backend.next_hop = hop;
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
  SnapshotParts all = {.version = options.version,
                       .hash_seed = kTestSeed,
                       .timeouts = options.timeouts,
                       .replies_per_second = options.replies_per_second,
                       .services = std::move(parts)};
  if (options.has_routes) {
    all.routes = std::make_shared<const Routes>(std::vector<std::pair<Prefix, NextHop>>{
        {Prefix::Parse("0.0.0.0/0").value(), hop}, {Prefix::Parse("::/0").value(), hop}});
  }
  if (!options.access.empty()) {
    std::vector<std::pair<Prefix, uint32_t>> access;
    for (const auto& [prefix, value] : options.access) {
      access.emplace_back(Prefix::Parse(prefix).value(), static_cast<uint32_t>(value));
    }
    all.access = std::make_shared<const PrefixMap>(PrefixMap::Build(access).value());
  }
  for (const std::string& address : options.own_addresses) {
    all.own_addresses.push_back(IpAddress::Parse(address).value());
  }
  return std::make_shared<const Snapshot>(std::move(all));
}

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_TEST_SNAPSHOT_H_
