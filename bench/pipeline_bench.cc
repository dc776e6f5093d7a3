// The packet path, from a received frame to the frame that leaves, without a driver around it.
//
//   echo 400 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
//   build/bench/pipeline_bench --benchmark_repetitions=9 --benchmark_enable_random_interleaving
//
// Each case works on 4096 buffers laid out like mbufs. The headers of a burst are written afresh
// outside the timed part; the clock is read around the path alone, and `ns_per_packet` is what it
// says (the Time column has the writing of the headers in it). `Floor/macswap` is the same bursts
// with two addresses swapped: what any forwarder pays. Compare ratios within one run.
#include <benchmark/benchmark.h>
#include <cpuid.h>
#include <x86intrin.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "dataplane/io/publisher.h"
#include "dataplane/packet/pipeline.h"
#include "maglev/headers.h"
#include "tests/support/test_snapshot.h"

namespace guideway {
namespace {

constexpr uint32_t kBuffers = 4096;
constexpr size_t kBufferSize = 128 + 128 + 2048;  // struct rte_mbuf, headroom, data room
constexpr size_t kHeadroom = 128;
// Without the frame check sequence: 64 bytes on the wire, and for IPv6 the headers alone.
constexpr uint32_t kFrameLengthIpv4 = 60;
constexpr uint32_t kFrameLengthIpv6 = 74;
constexpr size_t kSmallestFlowTable = size_t{4} << 20;

double NanosecondsPerCycle() {
  static const double value = [] {
    const auto start = std::chrono::steady_clock::now();
    const uint64_t cycles = __rdtsc();
    std::chrono::nanoseconds elapsed;
    do {
      elapsed = std::chrono::steady_clock::now() - start;
    } while (elapsed < std::chrono::milliseconds(50));
    return static_cast<double>(elapsed.count()) / static_cast<double>(__rdtsc() - cycles);
  }();
  return value;
}

// Visits 0 … n-1 in an order that has nothing to do with memory, again and again.
class Permutation {
 public:
  explicit Permutation(uint64_t n) : n_(n) {
    while (n_ % step_ == 0) step_ += 2;
  }
  uint64_t Next() { return at_ = (at_ + step_) % n_; }

 private:
  uint64_t n_;
  uint64_t step_ = 2654435761;  // a prime
  uint64_t at_ = 0;
};

// What a case is made of.
struct Shape {
  Forwarding forwarding = Forwarding::kIpip;
  bool is_ipv6 = false;
  uint32_t services = 1;
  uint64_t flows = 1000000;
  bool are_answers = false;  // what is sent: by nat backends to their clients
};

uint32_t BackendsPerService(const Shape& shape) { return shape.services == 1 ? 1000 : 10; }

// Of backend `b` of service `s`.
std::string BackendAddress(const Shape& shape, uint32_t s, uint32_t b) {
  return shape.is_ipv6 ? absl::StrFormat("2001:db8:3:%x::%x", s, b + 1)
                       : absl::StrCat("10.", s % 200, ".", b / 250, ".", 1 + b % 250);
}

// The moment at which all that comes before is done, stores included, and nothing after it has
// begun.
uint64_t Cycles() {
  _mm_mfence();
  _mm_lfence();
  return __rdtsc();
}

// Whether the processor has CLDEMOTE (CPUID leaf 7, ECX bit 25); others take it for nothing.
const bool kHasDemote = [] {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (c >> 25 & 1) != 0;
}();

// Moves a line out of this core's caches to where a NIC would have written it: into the cache that
// all cores share, where it can (DDIO; such processors have CLDEMOTE), else into memory.
void LeaveAsNic(const uint8_t* line) {
  if (kHasDemote) {
    asm volatile("cldemote %0" : : "m"(*line));
  } else {
    _mm_clflush(line);
  }
}

// The buffers, and bursts of TCP frames in them, as a NIC leaves them.
class Traffic {
 public:
  explicit Traffic(const Shape& shape) : shape_(shape) {
    if (!shape.are_answers) return;
    for (uint32_t b = 0; b < BackendsPerService(shape); ++b) {
      backends_.push_back(*IpAddress::Parse(BackendAddress(shape, 0, b)));
    }
  }

  bool uses_huge_pages() const { return memory_.is_huge(); }

  // The next burst, of 64 packets of the flows that `flow()` names.
  template <typename FlowNumber>
  void Fill(Burst& burst, uint8_t tcp_flags, FlowNumber flow) {
    burst.size = Burst::kSize;
    const uint32_t length = shape_.is_ipv6 ? kFrameLengthIpv6 : kFrameLengthIpv4;
    for (uint32_t i = 0; i < Burst::kSize; ++i) {
      uint8_t* data = &memory_[next_buffer_ * kBufferSize + 128 + kHeadroom];
      next_buffer_ = (next_buffer_ + 1) % kBuffers;
      WriteHeaders(data, flow(), tcp_flags);
      for (uint32_t at = 0; at < length; at += 64) LeaveAsNic(data + at);
      burst.packets[i].frame = {.data = data, .length = length, .interface = 0};
    }
  }

 private:
  void WriteHeaders(uint8_t* data, uint64_t flow, uint8_t tcp_flags) const {
    const uint32_t service = static_cast<uint32_t>(flow % shape_.services);
    const uint8_t client[3] = {static_cast<uint8_t>(flow >> 16), static_cast<uint8_t>(flow >> 8),
                               static_cast<uint8_t>(flow)};
    const uint8_t vip[2] = {static_cast<uint8_t>(service >> 8), static_cast<uint8_t>(service)};
    EthernetHeader ethernet = {.type = shape_.is_ipv6 ? kEtherTypeIpv6 : kEtherTypeIpv4};
    ethernet.destination.bytes = {2, 0, 0, 0, 0, 1};
    ethernet.source.bytes = {2, 0, 0, 0, 0, 2};
    Write(data, ethernet);
    uint8_t* ip_at = data + sizeof(ethernet);
    uint8_t* tcp_at;
    if (shape_.is_ipv6) {
      Ipv6Header ip = {.version_class_label = NetworkOrder32(uint32_t{6} << 28),
                       .payload_length = NetworkOrder(sizeof(TcpHeader)),
                       .next_header = kProtocolTcp,
                       .hop_limit = 64,
                       .source = {0x20, 0x01, 0x0d, 0xb8, 0, 1},
                       .destination = {0x20, 0x01, 0x0d, 0xb8, 0, 2}};
      std::memcpy(ip.source + 13, client, 3);
      std::memcpy(ip.destination + 14, vip, 2);
      Write(ip_at, ip);
      tcp_at = ip_at + sizeof(ip);
    } else {
      Ipv4Header ip = {.version_and_length = 0x45,
                       .total_length = NetworkOrder(sizeof(Ipv4Header) + sizeof(TcpHeader)),
                       .fragment = kDontFragment,
                       .time_to_live = 64,
                       .protocol = kProtocolTcp,
                       .source = {10, client[0], client[1], client[2]},
                       .destination = {198, 18, vip[0], vip[1]}};
      ip.checksum = InternetChecksum(&ip, sizeof(ip));
      Write(ip_at, ip);
      tcp_at = ip_at + sizeof(ip);
    }
    if (shape_.are_answers) TurnAround(ip_at, backends_[flow % backends_.size()]);
    const uint16_t ports[2] = {static_cast<uint16_t>(flow >> 24), NetworkOrder(80)};
    Write(tcp_at, TcpHeader{.source_port = ports[shape_.are_answers ? 1 : 0],
                            .destination_port = ports[shape_.are_answers ? 0 : 1],
                            .data_offset = 0x50,
                            .flags = tcp_flags});
  }
  // Makes of a client's packet one to it.
  void TurnAround(uint8_t* ip, const IpAddress& backend) const {
    if (shape_.is_ipv6) {
      auto header = Read<Ipv6Header>(ip);
      std::memcpy(header.destination, header.source, sizeof(header.source));
      std::memcpy(header.source, backend.bytes(), sizeof(header.source));
      Write(ip, header);
      return;
    }
    auto header = Read<Ipv4Header>(ip);
    std::memcpy(header.destination, header.source, sizeof(header.source));
    std::memcpy(header.source, backend.bytes(), sizeof(header.source));
    header.checksum = 0;
    header.checksum = InternetChecksum(&header, sizeof(header));
    Write(ip, header);
  }

  const Shape shape_;
  std::vector<IpAddress> backends_;  // that answer
  uint32_t next_buffer_ = 0;
  PageArray<uint8_t> memory_{kBuffers * kBufferSize, PageSize::kHuge};
};

// One service has 1000 backends, of many each has 10. Inner and outer addresses are of one family.
std::shared_ptr<const Snapshot> SnapshotOf(const Shape& shape, uint64_t version = 1) {
  std::vector<testing::TestService> all;
  for (uint32_t s = 0; s < shape.services; ++s) {
    testing::TestService service{
        .name = absl::StrCat("service-", s),
        .vips = {shape.is_ipv6 ? absl::StrFormat("2001:db8:2::%x", s)
                               : absl::StrCat("198.18.", s / 256, ".", s % 256)},
        .backends = {},
        .table_size = shape.services == 1 ? 65537u : 1021u,
        .forwarding = shape.forwarding};
    for (uint32_t b = 0; b < BackendsPerService(shape); ++b) {
      service.backends.push_back({absl::StrCat("backend-", b), BackendAddress(shape, s, b)});
    }
    all.push_back(std::move(service));
  }
  return testing::MakeSnapshot(all, {.version = version});
}

constexpr char kReserveMore[] = "too few huge pages: reserve more";

// One worker with its traffic. All flows were seen twice: they are confirmed. Answers open none, so
// they meet an empty flow table.
class Bench {
 public:
  Bench(const Shape& shape, const Snapshot& snapshot, SharedState& shared, size_t worker,
        uint64_t first_flow, uint64_t flows)
      : shared_(shared),
        worker_(worker),
        first_flow_(first_flow),
        pipeline_(shared, worker),
        traffic_(shape),
        order_(flows) {
    if (!uses_huge_pages()) return;
    shared.Prepare(snapshot);
    auto burst = std::make_unique<Burst>();
    for (int pass = 0; pass < 2; ++pass, now += kSecond) {
      for (uint64_t flow = 0; flow < flows;) {
        traffic_.Fill(*burst, kTcpAck, [&] { return first_flow + flow++ % flows; });
        pipeline_.Process(snapshot, now, *burst);
      }
    }
  }

  bool uses_huge_pages() const {
    return traffic_.uses_huge_pages() && pipeline_.flows().uses_huge_pages();
  }
  void Fill(Burst& burst) {
    traffic_.Fill(burst, kTcpAck, [&] { return first_flow_ + order_.Next(); });
  }
  void Run(const Snapshot& snapshot, Burst& burst) {
    pipeline_.Process(snapshot, now, burst);
    pipeline_.Account(burst);
  }
  void Check(const Burst& burst) {
    for (uint32_t i = 0; i < burst.size; ++i)
      missed_ += burst.packets[i].lookup != FlowLookup::kHit;
  }
  // All that was received left again.
  bool LostNothing() const {
    const PacketCounts counts = shared_.counters(worker_).packet_counts();
    return counts.of(Verdict::kDrop) == 0 && counts.of(Verdict::kPunt) == 0;
  }
  double HitRate(uint64_t packets) const {
    return 1 - static_cast<double>(missed_) / static_cast<double>(packets);
  }

  Nanoseconds now = 0;

 private:
  SharedState& shared_;
  const size_t worker_;
  const uint64_t first_flow_;
  Pipeline pipeline_;
  Traffic traffic_;
  Permutation order_;
  uint64_t missed_ = 0;
};

// Runs `work` over bursts. Returns the time that it alone takes, in nanoseconds a packet.
template <typename Fill, typename Work, typename Done>
double TimeBursts(benchmark::State& state, Fill fill, Work work, Done done) {
  auto burst = std::make_unique<Burst>();
  uint64_t cycles = 0;
  for (auto _ : state) {
    fill(*burst);
    const uint64_t start = Cycles();
    work(*burst);
    cycles += Cycles() - start;
    done(*burst);
  }
  return static_cast<double>(cycles) * NanosecondsPerCycle() /
         static_cast<double>(state.iterations() * Burst::kSize);
}

uint64_t Packets(const benchmark::State& state) {
  return static_cast<uint64_t>(state.iterations()) * Burst::kSize;
}

void Floor(benchmark::State& state) {
  Traffic traffic(Shape{});
  if (!traffic.uses_huge_pages()) return state.SkipWithError(kReserveMore);
  Permutation flows(1000);
  state.counters["ns_per_packet"] = TimeBursts(
      state, [&](Burst& burst) { traffic.Fill(burst, kTcpAck, [&] { return flows.Next(); }); },
      [](Burst& burst) {
        for (uint32_t i = 0; i < burst.size; ++i) {
          // Both addresses are in the first 12 bytes: low and high are its two ends.
          uint8_t* data = burst.packets[i].frame.data;
          const auto low = Read<uint64_t>(data);
          const auto high = Read<uint32_t>(data + 8);
          Write(data, low >> 48 | uint64_t{high} << 16 | low << 48);
          Write(data + 8, static_cast<uint32_t>(low >> 16));
        }
      },
      [](const Burst&) {});
  state.counters["hit_rate"] = 1;
}

size_t TableSizeFor(uint64_t flows) { return std::max(kSmallestFlowTable, flows * 10 / 6); }

void Established(benchmark::State& state, Shape shape) {
  const auto snapshot = SnapshotOf(shape);
  SharedState shared(1, TableSizeFor(shape.flows), PageSize::kHuge);
  Bench bench(shape, *snapshot, shared, 0, 0, shape.flows);
  if (!bench.uses_huge_pages()) return state.SkipWithError(kReserveMore);
  state.counters["ns_per_packet"] = TimeBursts(
      state, [&](Burst& burst) { bench.Fill(burst); },
      [&](Burst& burst) { bench.Run(*snapshot, burst); },
      [&](const Burst& burst) { bench.Check(burst); });
  state.counters["hit_rate"] = bench.HitRate(Packets(state));
  if (!bench.LostNothing()) state.SkipWithError("packets were lost");
}

// Every packet is the SYN of a connection that was never seen, in a table full of such.
void NewFlows(benchmark::State& state) {
  const auto snapshot = SnapshotOf(Shape{});
  SharedState shared(1, kSmallestFlowTable, PageSize::kHuge);
  Pipeline pipeline(shared, 0);
  Traffic traffic(Shape{});
  if (!traffic.uses_huge_pages() || !pipeline.flows().uses_huge_pages()) {
    return state.SkipWithError(kReserveMore);
  }
  auto burst = std::make_unique<Burst>();
  uint64_t flow = 0;
  while (flow < 2 * kSmallestFlowTable) {
    traffic.Fill(*burst, kTcpSyn, [&] { return flow++; });
    pipeline.Process(*snapshot, 0, *burst);
  }
  state.counters["ns_per_packet"] = TimeBursts(
      state, [&](Burst& b) { traffic.Fill(b, kTcpSyn, [&] { return flow++; }); },
      [&](Burst& b) {
        pipeline.Process(*snapshot, 0, b);
        pipeline.Account(b);
      },
      [](const Burst&) {});
  state.counters["hit_rate"] = 0;
}

// While another thread publishes 1000 Snapshots a second, all of them of the same services.
void Swaps(benchmark::State& state) {
  const Shape shape;
  const auto first = SnapshotOf(shape);
  SharedState shared(1, TableSizeFor(shape.flows), PageSize::kHuge);
  Bench bench(shape, *first, shared, 0, 0, shape.flows);
  if (!bench.uses_huge_pages()) return state.SkipWithError(kReserveMore);
  Publisher publisher(1);
  publisher.Publish(first);
  std::atomic<bool> stop = false;
  uint64_t version = 1;
  std::thread control([&] {
    auto next = std::chrono::steady_clock::now();
    while (!stop) {
      publisher.Publish(std::make_shared<const Snapshot>(
          SnapshotParts{.version = ++version,
                        .hash_seed = first->hash_seed(),
                        .services = first->services(),
                        .routes = std::make_shared<const Routes>(first->routes())}));
      next += std::chrono::milliseconds(1);
      std::this_thread::sleep_until(next);
    }
  });
  Publisher::Reader reader = publisher.reader(0);
  reader.Online();
  const auto start = std::chrono::steady_clock::now();
  state.counters["ns_per_packet"] = TimeBursts(
      state, [&](Burst& burst) { bench.Fill(burst); },
      [&](Burst& burst) {
        bench.Run(*reader.Load(), burst);
        reader.Quiescent();
      },
      [&](const Burst& burst) { bench.Check(burst); });
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  reader.Offline();
  stop = true;
  control.join();
  publisher.Reclaim();
  state.counters["hit_rate"] = bench.HitRate(Packets(state));
  state.counters["swaps_per_second"] = static_cast<double>(version) / elapsed.count();
  if (!bench.LostNothing()) state.SkipWithError("packets were lost");
}

// Two workers, each with its half of the flows.
struct Pair {
  static constexpr uint64_t kFlows = 500000;  // each
  Shape shape;
  std::shared_ptr<const Snapshot> snapshot = SnapshotOf(shape);
  SharedState shared{2, TableSizeFor(kFlows), PageSize::kHuge};
  std::unique_ptr<Bench> benches[2];
};
std::unique_ptr<Pair> g_pair;

void SetUpPair(const benchmark::State&) {
  g_pair = std::make_unique<Pair>();
  for (size_t i : {0, 1}) {
    g_pair->benches[i] = std::make_unique<Bench>(g_pair->shape, *g_pair->snapshot, g_pair->shared,
                                                 i, i * Pair::kFlows, Pair::kFlows);
  }
}

void TwoThreads(benchmark::State& state) {
  Bench& bench = *g_pair->benches[state.thread_index()];
  if (!bench.uses_huge_pages()) return state.SkipWithError(kReserveMore);
  const double ns = TimeBursts(
      state, [&](Burst& burst) { bench.Fill(burst); },
      [&](Burst& burst) { bench.Run(*g_pair->snapshot, burst); },
      [&](const Burst& burst) { bench.Check(burst); });
  // While one packet takes so long in each of them, two are done.
  state.counters["ns_per_packet"] = benchmark::Counter(ns / 2, benchmark::Counter::kAvgThreads);
  state.counters["hit_rate"] =
      benchmark::Counter(bench.HitRate(Packets(state)), benchmark::Counter::kAvgThreads);
  if (!bench.LostNothing()) state.SkipWithError("packets were lost");
}

void Register() {
  benchmark::RegisterBenchmark("Floor/macswap", Floor);
  const std::string ipip = "Pipeline/ipip/ipv4/";
  for (Forwarding forwarding : {Forwarding::kIpip, Forwarding::kGre, Forwarding::kGue,
                                Forwarding::kVxlan, Forwarding::kDirect, Forwarding::kNat}) {
    for (bool is_ipv6 : {false, true}) {
      for (uint64_t flows : {1000, 100000, 1000000, 10000000}) {
        const std::string name = absl::StrCat("Pipeline/", ForwardingName(forwarding), "/",
                                              is_ipv6 ? "ipv6" : "ipv4", "/flows:", flows);
        benchmark::RegisterBenchmark(
            name.c_str(), Established,
            Shape{.forwarding = forwarding, .is_ipv6 = is_ipv6, .flows = flows});
      }
    }
  }
  benchmark::RegisterBenchmark((ipip + "new_flows").c_str(), NewFlows);
  for (uint32_t services : {1, 100, 10000}) {
    benchmark::RegisterBenchmark(absl::StrCat(ipip, "services:", services).c_str(), Established,
                                 Shape{.services = services});
  }
  for (bool is_ipv6 : {false, true}) {
    benchmark::RegisterBenchmark(
        absl::StrCat("Pipeline/nat/", is_ipv6 ? "ipv6" : "ipv4", "/answers").c_str(), Established,
        Shape{.forwarding = Forwarding::kNat,
              .is_ipv6 = is_ipv6,
              .flows = 1000,
              .are_answers = true});
  }
  benchmark::RegisterBenchmark((ipip + "swaps").c_str(), Swaps);
  benchmark::RegisterBenchmark((ipip + "flows:1000000").c_str(), TwoThreads)
      ->Threads(2)
      ->Setup(SetUpPair)
      ->Teardown([](const benchmark::State&) { g_pair = nullptr; });
}

}  // namespace
}  // namespace guideway

int main(int argc, char** argv) {
  guideway::Register();
  benchmark::Initialize(&argc, argv);
  benchmark::AddCustomContext("packets", guideway::kHasDemote ? "shared cache" : "memory");
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
