// Interfaces, workers and the Dataplane on DPDK's virtual devices that need no root: net_ring,
// net_pcap, net_null. EAL runs without huge pages; two workers share a core if there are few.
#include <gtest/gtest.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/io/dpdk_dataplane.h"
#include "tests/support/packet_builder.h"
#include "tests/support/test_snapshot.h"

namespace guideway {
namespace {

using testing::Bytes;
using testing::Ethernet;
using testing::Ipv4;
using testing::MakeSnapshot;
using testing::Tcp;

constexpr uint16_t kWorkers = 2;

std::unique_ptr<Eal>& TheEal() {
  static std::unique_ptr<Eal> eal;
  return eal;
}

class EalEnvironment : public ::testing::Environment {
 public:
  void SetUp() override {
    cpu_set_t set;
    ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
    std::vector<uint32_t> cores;
    for (uint32_t core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) cores.push_back(core);
    }
    EalOptions options;
    options.file_prefix = "guideway-test-" + std::to_string(getpid());
    options.control_cores = {cores.front()};
    for (size_t i = 0; i < kWorkers; ++i) {
      options.worker_cores.push_back(cores[cores.size() - 1 - i % cores.size()]);
    }
    options.hugepages = false;
    options.memory_bytes = uint64_t{128} << 20;
    options.extra_args = {"--no-telemetry"};
    auto eal = Eal::Start(options);
    ASSERT_TRUE(eal.ok()) << eal.status();
    TheEal() = *std::move(eal);
  }
  void TearDown() override { TheEal().reset(); }
};
const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new EalEnvironment);

// A Plan for devices that are made already or can be, with RX queue i of each given to worker i.
Plan PlanFor(const std::vector<std::string>& devices, uint16_t workers, uint16_t rx_queues) {
  Plan plan;
  plan.control_cores = {0};
  plan.workers.resize(workers);
  plan.idle = Idle::kBackoff;
  plan.flows_per_worker = 1 << 14;
  plan.hugepages = false;
  for (const std::string& device : devices) {
    const auto index = static_cast<uint16_t>(plan.interfaces.size());
    plan.interfaces.push_back({.name = "nic" + std::to_string(index),
                               .device = device,
                               .mac = MacAddress::Parse("02:00:00:00:00:01").value(),
                               .rx_queues = rx_queues,
                               .tx_queues = workers});
    for (uint16_t queue = 0; queue < rx_queues; ++queue) {
      plan.workers[queue].rx.push_back({index, queue});
    }
  }
  return plan;
}

absl::StatusOr<std::unique_ptr<DpdkDataplane>> StartOn(const Plan& plan) {
  std::vector<std::unique_ptr<Interface>> interfaces;
  for (const InterfacePlan& interface : plan.interfaces) {
    auto attached = Interface::Attach(*TheEal(), interface.name, interface.device);
    if (!attached.ok()) return attached.status();
    interfaces.push_back(*std::move(attached));
  }
  return DpdkDataplane::Start(*TheEal(), plan, std::move(interfaces));
}

bool Await(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

PacketCounts Total(const Dataplane& dataplane) {
  PacketCounts total;
  for (const WorkerStatus& worker : dataplane.workers()) total += worker.packets;
  return total;
}

// Waits until `packets` have been received and all of them are accounted for.
bool AwaitPackets(const Dataplane& dataplane, uint64_t packets) {
  return Await([&] {
    const PacketCounts total = Total(dataplane);
    return total.received >= packets && total.AddUp();
  });
}

Bytes SynTo(const char* vip, uint16_t port, uint16_t source_port) {
  return Ethernet{}.Around(Ipv4{.destination = vip}.Around(
      Tcp{.source_port = source_port, .destination_port = port, .flags = 2}.Around({})));
}

std::shared_ptr<const Snapshot> WebSnapshot(uint64_t version = 1) {
  return MakeSnapshot(
      {{.backends = {{"web-1", "10.0.0.11"}, {"web-2", "10.0.0.12"}, {"web-3", "10.0.0.13"}}}},
      {.version = version});
}

// A port whose wires are rings that the test holds the other end of.
class RingNic {
 public:
  RingNic(const std::string& name, uint16_t queues, unsigned tx_size) {
    for (uint16_t i = 0; i < queues; ++i) {
      rx_.push_back(NewRing(name + "-rx" + std::to_string(i), 8192));
      tx_.push_back(NewRing(name + "-tx" + std::to_string(i), tx_size));
    }
    EXPECT_GE(rte_eth_from_rings(name.c_str(), rx_.data(), queues, tx_.data(), queues, 0), 0);
    pool_ = rte_pktmbuf_pool_create((name + "-pool").c_str(), 16383, 0, 0,
                                    RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    EXPECT_NE(pool_, nullptr);
    device_ = "net_ring_" + name;
  }
  // After the port is closed.
  ~RingNic() {
    for (rte_ring* ring : rx_) rte_ring_free(ring);
    for (rte_ring* ring : tx_) rte_ring_free(ring);
    EXPECT_EQ(rte_mempool_in_use_count(pool_), 0u) << "a buffer was lost";
    rte_mempool_free(pool_);
  }

  const std::string& device() const { return device_; }

  void Receive(uint16_t queue, const Bytes& frame) {
    rte_mbuf* buffer = rte_pktmbuf_alloc(pool_);
    ASSERT_NE(buffer, nullptr);
    std::copy(frame.begin(), frame.end(),
              reinterpret_cast<uint8_t*>(rte_pktmbuf_append(buffer, frame.size())));
    ASSERT_EQ(rte_ring_enqueue(rx_[queue], buffer), 0);
  }

  std::vector<Bytes> TakeSent() {
    std::vector<Bytes> frames;
    for (rte_ring* ring : tx_) {
      for (void* item; rte_ring_dequeue(ring, &item) == 0;) {
        auto* buffer = static_cast<rte_mbuf*>(item);
        const auto* data = rte_pktmbuf_mtod(buffer, const uint8_t*);
        EXPECT_EQ(buffer->data_len, buffer->pkt_len);
        frames.emplace_back(data, data + buffer->data_len);
        rte_pktmbuf_free(buffer);
      }
    }
    return frames;
  }

 private:
  static rte_ring* NewRing(const std::string& name, unsigned size) {
    rte_ring* ring = rte_ring_create(name.c_str(), size, SOCKET_ID_ANY, 0);
    EXPECT_NE(ring, nullptr);
    return ring;
  }

  std::vector<rte_ring*> rx_, tx_;
  rte_mempool* pool_;
  std::string device_;
};

TEST(DpdkDataplane, TwoWorkersOnRingsCountEveryPacketOnce) {
  RingNic nic("two", kWorkers, 8192);
  auto dataplane = StartOn(PlanFor({nic.device()}, kWorkers, kWorkers));
  ASSERT_TRUE(dataplane.ok()) << dataplane.status();

  constexpr uint64_t kFlows = 1000;
  uint64_t forward = 0, punt = 0, not_served = 0, malformed = 0;
  for (uint16_t i = 0; i < kFlows; ++i) {
    const uint16_t queue = i % kWorkers;
    nic.Receive(queue, SynTo("198.51.100.10", 80, 10000 + i)), ++forward;
    nic.Receive(queue, SynTo("198.51.100.10", 80, 10000 + i)), ++forward;
    if (i % 2 == 0) nic.Receive(queue, SynTo("198.51.100.10", 81, 10000 + i)), ++not_served;
    if (i % 3 == 0) nic.Receive(queue, SynTo("192.0.2.99", 80, 10000 + i)), ++punt;
    if (i % 4 == 0) nic.Receive(queue, Bytes(20, 0x45)), ++punt;
    if (i % 5 == 0) nic.Receive(queue, Ethernet{}.Around(Bytes(10, 0x45))), ++malformed;
  }
  // Nothing is received before there is something to decide by.
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(Total(**dataplane).received, 0u);

  (*dataplane)->Publish(WebSnapshot());
  const uint64_t all = forward + punt + not_served + malformed;
  EXPECT_TRUE(AwaitPackets(**dataplane, all));

  const PacketCounts total = Total(**dataplane);
  EXPECT_EQ(total.received, all);
  EXPECT_EQ(total.of(Verdict::kForward), forward);
  EXPECT_EQ(total.of(Verdict::kPunt), punt);
  EXPECT_EQ(total.of(Reason::kPortNotServed), not_served);
  EXPECT_EQ(total.of(Reason::kMalformed), malformed);
  for (const WorkerStatus& worker : (*dataplane)->workers()) {
    EXPECT_EQ(worker.packets.of(Verdict::kForward), forward / kWorkers);
    EXPECT_EQ(worker.flows, kFlows / kWorkers);
  }
  const ServiceCounts service = (*dataplane)->service_counts(0);
  EXPECT_EQ(service.forwarded, forward);
  BackendCounts backends;
  for (BackendId id = 0; id < 3; ++id) {
    const BackendCounts counts = (*dataplane)->backend_counts(id);
    EXPECT_GT(counts.new_flows, kFlows / 5) << "a third is due";
    backends.packets += counts.packets;
    backends.bytes += counts.bytes;
    backends.new_flows += counts.new_flows;
  }
  EXPECT_EQ(backends.packets, forward);
  EXPECT_EQ(backends.new_flows, kFlows);

  const std::vector<InterfaceStatus> interfaces = (*dataplane)->interfaces();
  ASSERT_EQ(interfaces.size(), 1u);
  EXPECT_EQ(interfaces[0].name, "nic0");
  EXPECT_TRUE(interfaces[0].link_up);
  EXPECT_EQ(interfaces[0].received_packets, all);
  EXPECT_EQ(interfaces[0].sent_packets, forward);

  // What the workers know of their connections, seen from here.
  const std::vector<WorkerStatus> workers = (*dataplane)->workers();
  for (uint16_t i = 0; i < kWorkers; ++i) {
    std::vector<FlowEntry> entries;
    (*dataplane)->ReadFlows(i, 0, workers[i].flow_capacity, &entries);
    EXPECT_EQ(entries.size(), kFlows / kWorkers);
    const std::string packet =
        "tcp 203.0.113.7:" + std::to_string(10000 + i) + " > 198.51.100.10:80";
    const absl::StatusOr<Explanation> said = (*dataplane)->Explain(*WebSnapshot(), packet);
    ASSERT_TRUE(said.ok()) << said.status();
    EXPECT_EQ(said->flow, "hit");
    ASSERT_EQ(said->known.size(), 1u) << packet;
    EXPECT_EQ(said->known[0].core, workers[i].core);
    EXPECT_EQ(said->known[0].entry.state, FlowState::kTcpHandshake);
    EXPECT_LT(said->known[0].entry.age_ms, 60000u) << "the workers' clock is ours";
    EXPECT_NE(said->steps.back().find("through nic0"), std::string::npos) << said->steps.back();
    EXPECT_FALSE((*dataplane)->Explain(*WebSnapshot(), "nonsense").ok());
  }
  EXPECT_EQ(Total(**dataplane).received, all) << "nothing has changed";

  // What left: the packet as it came, behind an outer header, to the next hop.
  const std::vector<Bytes> sent = nic.TakeSent();
  ASSERT_EQ(sent.size(), forward);
  uint64_t sent_bytes = 0;
  for (const Bytes& frame : sent) {
    sent_bytes += frame.size();
    ASSERT_EQ(frame.size(), 14u + 20u + 40u);
    EXPECT_EQ(Bytes(frame.begin(), frame.begin() + 12),
              (Bytes{2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 1}));
    EXPECT_EQ(frame[14 + 9], 4) << "IP in IP";
  }
  EXPECT_EQ(sent_bytes, backends.bytes);
  dataplane->reset();
}

// Whichever worker gets them, in whichever order: all fragments of a datagram go to one backend.
TEST(DpdkDataplane, FragmentsMeetAtTheWorkerThatOwnsThem) {
  RingNic nic("fragments", kWorkers, 8192);
  auto dataplane = StartOn(PlanFor({nic.device()}, kWorkers, kWorkers));
  ASSERT_TRUE(dataplane.ok()) << dataplane.status();
  constexpr uint16_t kDatagrams = 200;
  for (uint16_t id = 0; id < kDatagrams; ++id) {
    const Ipv4 ip = {.protocol = 17, .identification = id, .dont_fragment = false};
    Ipv4 first = ip, later = ip;
    first.more_fragments = true;
    later.fragment_offset = 3;
    const Bytes fragments[2] = {
        Ethernet{}.Around(first.Around(
            testing::Udp{.source_port = id, .length = uint16_t{24 + 9}}.Around(Bytes(16, 'x')))),
        Ethernet{}.Around(later.Around(Bytes(9, 'y')))};
    // All four ways: which comes first, and on which queue.
    nic.Receive(id / 2 % 2, fragments[id % 2]);
    nic.Receive(id / 4 % 2, fragments[1 - id % 2]);
  }
  (*dataplane)
      ->Publish(MakeSnapshot(
          {{.protocol = Protocol::kUdp,
            .ports = {{53, 53}},
            .backends = {{"a", "10.0.0.11"}, {"b", "10.0.0.12"}, {"c", "10.0.0.13"}}}}));
  EXPECT_TRUE(AwaitPackets(**dataplane, 2 * kDatagrams));
  EXPECT_EQ(Total(**dataplane).of(Verdict::kForward), 2 * kDatagrams);
  for (const WorkerStatus& worker : (*dataplane)->workers()) {
    EXPECT_GT(worker.packets.received, kDatagrams / 2u) << "each owns about half of them";
  }
  // By the inner packet's identification: outer destinations, first and later fragments.
  std::map<uint16_t, std::set<uint8_t>> backends;
  std::set<uint8_t> used;
  const std::vector<Bytes> sent = nic.TakeSent();
  EXPECT_EQ(sent.size(), 2u * kDatagrams);
  for (const Bytes& frame : sent) {
    const uint8_t* inner = frame.data() + 34;
    backends[static_cast<uint16_t>(inner[4] << 8 | inner[5])].insert(frame[14 + 19]);
    used.insert(frame[14 + 19]);
  }
  EXPECT_EQ(backends.size(), kDatagrams);
  for (const auto& [id, of_id] : backends) EXPECT_EQ(of_id.size(), 1u) << id;
  EXPECT_EQ(used.size(), 3u);
  dataplane->reset();
}

TEST(DpdkDataplane, WhatTheInterfaceDoesNotTakeIsADrop) {
  RingNic nic("full", 1, 64);  // a ring of 64 holds 63
  auto dataplane = StartOn(PlanFor({nic.device()}, 1, 1));
  ASSERT_TRUE(dataplane.ok()) << dataplane.status();
  for (uint16_t i = 0; i < 200; ++i) nic.Receive(0, SynTo("198.51.100.10", 80, 10000 + i));
  (*dataplane)->Publish(WebSnapshot());
  EXPECT_TRUE(AwaitPackets(**dataplane, 200));
  const PacketCounts total = Total(**dataplane);
  EXPECT_EQ(total.received, 200u);
  EXPECT_EQ(total.of(Verdict::kForward), 63u);
  EXPECT_EQ(total.of(Reason::kTransmitFull), 137u);
  EXPECT_EQ((*dataplane)->service_counts(0).dropped, 137u);
  EXPECT_EQ(nic.TakeSent().size(), 63u);
  dataplane->reset();
}

// Little-endian pcap files, just enough of the format.
void WritePcap(const std::string& path, const std::vector<Bytes>& frames) {
  std::ofstream file(path, std::ios::binary);
  const auto put = [&](uint32_t word) { file.write(reinterpret_cast<char*>(&word), 4); };
  for (uint32_t word : {0xa1b2c3d4u, 0x00040002u, 0u, 0u, 65535u, 1u}) put(word);
  for (const Bytes& frame : frames) {
    const auto size = static_cast<uint32_t>(frame.size());
    for (uint32_t word : {0u, 0u, size, size}) put(word);
    file.write(reinterpret_cast<const char*>(frame.data()), size);
  }
}

std::vector<Bytes> ReadPcap(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  file.ignore(24);
  std::vector<Bytes> frames;
  for (uint32_t head[4]; file.read(reinterpret_cast<char*>(head), sizeof(head));) {
    frames.emplace_back(head[2]);
    file.read(reinterpret_cast<char*>(frames.back().data()), head[2]);
  }
  return frames;
}

TEST(DpdkDataplane, FromCaptureToCapture) {
  char directory[] = "/tmp/guideway-pcap-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string in = std::string(directory) + "/in.pcap";
  const std::string out = std::string(directory) + "/out.pcap";
  std::vector<Bytes> frames;
  for (uint16_t i = 0; i < 100; ++i) frames.push_back(SynTo("198.51.100.10", 80, 20000 + i));
  // Longer than a buffer: it arrives in pieces.
  frames.push_back(Ethernet{}.Around(Ipv4{}.Around(Tcp{}.Around(Bytes(4000, 'x')))));
  WritePcap(in, frames);

  auto dataplane = StartOn(PlanFor({"net_pcap0,rx_pcap=" + in + ",tx_pcap=" + out}, 1, 1));
  ASSERT_TRUE(dataplane.ok()) << dataplane.status();
  (*dataplane)->Publish(WebSnapshot());
  EXPECT_TRUE(AwaitPackets(**dataplane, frames.size()));
  const PacketCounts total = Total(**dataplane);
  EXPECT_EQ(total.of(Verdict::kForward), 100u);
  EXPECT_EQ(total.of(Reason::kMalformed), 1u);
  dataplane->reset();  // closes the file

  const std::vector<Bytes> sent = ReadPcap(out);
  ASSERT_EQ(sent.size(), 100u);
  for (size_t i = 0; i < sent.size(); ++i) {
    EXPECT_TRUE(
        std::equal(frames[i].begin() + 14, frames[i].end(), sent[i].begin() + 34, sent[i].end()))
        << "the inner packet is untouched";
  }
  std::filesystem::remove_all(directory);
}

TEST(DpdkDataplane, SnapshotsChangeUnderTraffic) {
  Plan plan = PlanFor({"net_null0", "net_null1,no-rx=1"}, 1, 1);
  plan.idle = Idle::kPoll;
  auto dataplane = StartOn(plan);
  ASSERT_TRUE(dataplane.ok()) << dataplane.status();
  EXPECT_EQ((*dataplane)->SweptVersion(), 0u);
  uint64_t version = 0;
  std::weak_ptr<const Snapshot> first;
  for (; version < 300;) {
    auto snapshot = WebSnapshot(++version);
    if (version == 1) first = snapshot;
    (*dataplane)->Publish(std::move(snapshot));
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  EXPECT_TRUE(Await([&] { return Total(**dataplane).received > 10000; }));
  (*dataplane)->Reclaim();
  EXPECT_TRUE(Await([&] {
    (*dataplane)->Reclaim();
    return first.expired();
  }));
  // The whole table has been swept within a few seconds.
  EXPECT_TRUE(Await([&] { return (*dataplane)->SweptVersion() == version; }));
  EXPECT_EQ((*dataplane)->interfaces()[1].received_packets, 0u);

  (*dataplane)->Stop();
  const uint64_t received = Total(**dataplane).received;
  EXPECT_TRUE(Total(**dataplane).AddUp());
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(Total(**dataplane).received, received) << "stopped is stopped";
  EXPECT_FALSE((*dataplane)->interfaces()[0].link_up);
}

TEST(DpdkDataplane, StopsBeforeAnythingWasPublished) {
  auto dataplane = StartOn(PlanFor({"net_null0,no-rx=1"}, kWorkers, 1));
  ASSERT_TRUE(dataplane.ok()) << dataplane.status();
  EXPECT_EQ((*dataplane)->workers().size(), kWorkers);
}

TEST(Interface, ErrorsNameTheInterfaceAndTheDevice) {
  auto nonsense = Interface::Attach(*TheEal(), "uplink", "net_nonsense0,a=b");
  ASSERT_FALSE(nonsense.ok());
  EXPECT_PRED_FORMAT2(::testing::IsSubstring,
                      "interface «uplink»: device «net_nonsense0,a=b» cannot be opened",
                      std::string(nonsense.status().message()));

  Plan plan = PlanFor({"net_ring9"}, 1, 1);
  plan.interfaces[0].rx_queues = 17;
  auto queues = StartOn(plan);
  ASSERT_FALSE(queues.ok());
  EXPECT_PRED_FORMAT2(::testing::IsSubstring, "takes no 17 receive and 1 transmit queues",
                      std::string(queues.status().message()));
}

}  // namespace
}  // namespace guideway
