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
#include <x86intrin.h>

#include <chrono>
#include <memory>

#include "dataplane/packet/headers.h"
#include "dataplane/packet/pipeline.h"
#include "tests/support/test_snapshot.h"

namespace guideway {
namespace {

constexpr uint32_t kBuffers = 4096;
constexpr size_t kBufferSize = 128 + 128 + 2048;  // struct rte_mbuf, headroom, data room
constexpr size_t kHeadroom = 128;
constexpr uint32_t kFrameLength = 60;  // 64 on the wire, with the frame check sequence
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

// The buffers, and bursts of TCP frames in them.
class Traffic {
 public:
  explicit Traffic(uint32_t services) : services_(services) {}

  bool uses_huge_pages() const { return memory_.is_huge(); }

  // The next burst, of 32 packets of the flows that `flow()` names.
  template <typename FlowNumber>
  void Fill(Burst& burst, uint8_t tcp_flags, FlowNumber flow) {
    burst.size = Burst::kSize;
    for (uint32_t i = 0; i < Burst::kSize; ++i) {
      uint8_t* data = &memory_[next_buffer_ * kBufferSize + 128 + kHeadroom];
      next_buffer_ = (next_buffer_ + 1) % kBuffers;
      WriteHeaders(data, flow(), tcp_flags);
      burst.frames[i] = {
          .data = data, .length = kFrameLength, .headroom = kHeadroom, .interface = 0};
    }
  }

 private:
  void WriteHeaders(uint8_t* data, uint64_t flow, uint8_t tcp_flags) {
    const uint32_t service = static_cast<uint32_t>(flow % services_);
    EthernetHeader ethernet = {.type = kEtherTypeIpv4};
    ethernet.destination.bytes = {2, 0, 0, 0, 0, 1};
    ethernet.source.bytes = {2, 0, 0, 0, 0, 2};
    Ipv4Header ip = {.version_and_length = 0x45,
                     .total_length = NetworkOrder(40),
                     .fragment = kDontFragment,
                     .time_to_live = 64,
                     .protocol = kProtocolTcp,
                     .source = {10, static_cast<uint8_t>(flow >> 16),
                                static_cast<uint8_t>(flow >> 8), static_cast<uint8_t>(flow)},
                     .destination = {198, 18, static_cast<uint8_t>(service >> 8),
                                     static_cast<uint8_t>(service)}};
    ip.checksum = InternetChecksum(&ip, sizeof(ip));
    const TcpHeader tcp = {.source_port = static_cast<uint16_t>(flow >> 24),
                           .destination_port = NetworkOrder(80),
                           .data_offset = 0x50,
                           .flags = tcp_flags};
    Write(data, ethernet);
    Write(data + 14, ip);
    Write(data + 34, tcp);
  }

  uint32_t services_;
  uint32_t next_buffer_ = 0;
  PageArray<uint8_t> memory_{kBuffers * kBufferSize, PageSize::kHuge};
};

std::shared_ptr<const Snapshot> Services(uint32_t services, uint32_t backends) {
  std::vector<testing::TestService> all;
  for (uint32_t s = 0; s < services; ++s) {
    testing::TestService service{.name = absl::StrCat("service-", s),
                                 .vips = {absl::StrCat("198.18.", s / 256, ".", s % 256)},
                                 .backends = {},
                                 .table_size = services == 1 ? 65537u : 1021u};
    for (uint32_t b = 0; b < backends; ++b) {
      service.backends.push_back({absl::StrCat("backend-", b),
                                  absl::StrCat("10.", s % 200, ".", b / 250, ".", 1 + b % 250)});
    }
    all.push_back(std::move(service));
  }
  return testing::MakeSnapshot(all);
}

constexpr char kReserveMore[] = "too few huge pages: reserve more";

bool UsesHugePages(benchmark::State& state, const Traffic& traffic, const Pipeline& pipeline) {
  const bool ok = traffic.uses_huge_pages() && pipeline.flows().uses_huge_pages();
  if (!ok) state.SkipWithError(kReserveMore);
  return ok;
}

// Runs `work` over bursts and reports the time it alone takes.
template <typename Fill, typename Work>
void TimeBursts(benchmark::State& state, Fill fill, Work work) {
  auto burst = std::make_unique<Burst>();
  uint64_t cycles = 0;
  for (auto _ : state) {
    fill(*burst);
    const uint64_t start = __rdtsc();
    work(*burst);
    cycles += __rdtsc() - start;
  }
  state.counters["ns_per_packet"] = static_cast<double>(cycles) * NanosecondsPerCycle() /
                                    static_cast<double>(state.iterations() * Burst::kSize);
}

void Floor(benchmark::State& state) {
  Traffic traffic(1);
  if (!traffic.uses_huge_pages()) return state.SkipWithError(kReserveMore);
  Permutation flows(1000);
  TimeBursts(
      state, [&](Burst& burst) { traffic.Fill(burst, kTcpAck, [&] { return flows.Next(); }); },
      [](Burst& burst) {
        for (uint32_t i = 0; i < burst.size; ++i) {
          auto ethernet = Read<EthernetHeader>(burst.frames[i].data);
          std::swap(ethernet.source, ethernet.destination);
          Write(burst.frames[i].data, ethernet);
        }
      });
  state.counters["hit_rate"] = 1;
}

void Established(benchmark::State& state, uint64_t flows, uint32_t services) {
  const auto snapshot = Services(services, services == 1 ? 1000 : 10);
  SharedState shared(1, std::max(kSmallestFlowTable, flows * 10 / 6), PageSize::kHuge);
  Pipeline pipeline(shared, 0);
  Traffic traffic(services);
  if (!UsesHugePages(state, traffic, pipeline)) return;
  auto burst = std::make_unique<Burst>();
  Nanoseconds now = 0;
  for (int pass = 0; pass < 2; ++pass, now += kSecond) {  // seen twice: confirmed
    uint64_t flow = 0;
    while (flow < flows) {
      traffic.Fill(*burst, kTcpAck, [&] { return flow++ % flows; });
      pipeline.Process(*snapshot, now, *burst);
    }
  }
  Permutation order(flows);
  const auto opened = [&] {
    uint64_t sum = 0;
    for (const auto& service : snapshot->services()) {
      for (const Backend& b : service->backends) sum += shared.counters(0).backend_counts(b.id).new_flows;
    }
    return sum;
  };
  const uint64_t opened_before = opened();
  TimeBursts(
      state, [&](Burst& b) { traffic.Fill(b, kTcpAck, [&] { return order.Next(); }); },
      [&](Burst& b) {
        pipeline.Process(*snapshot, now, b);
        pipeline.Account(b);
      });
  state.counters["hit_rate"] = 1 - static_cast<double>(opened() - opened_before) /
                                       static_cast<double>(state.iterations() * Burst::kSize);
}

// Every packet is the SYN of a connection that was never seen, in a table full of such.
void NewFlows(benchmark::State& state) {
  const auto snapshot = Services(1, 1000);
  SharedState shared(1, kSmallestFlowTable, PageSize::kHuge);
  Pipeline pipeline(shared, 0);
  Traffic traffic(1);
  if (!UsesHugePages(state, traffic, pipeline)) return;
  auto burst = std::make_unique<Burst>();
  uint64_t flow = 0;
  while (flow < 2 * kSmallestFlowTable) {
    traffic.Fill(*burst, kTcpSyn, [&] { return flow++; });
    pipeline.Process(*snapshot, 0, *burst);
  }
  TimeBursts(
      state, [&](Burst& b) { traffic.Fill(b, kTcpSyn, [&] { return flow++; }); },
      [&](Burst& b) {
        pipeline.Process(*snapshot, 0, b);
        pipeline.Account(b);
      });
  state.counters["hit_rate"] = 0;
}

void Register() {
  benchmark::RegisterBenchmark("Floor/macswap", Floor);
  for (uint64_t flows : {1000, 100000, 1000000, 10000000}) {
    benchmark::RegisterBenchmark(absl::StrCat("Pipeline/ipip/ipv4/flows:", flows).c_str(),
                                 Established, flows, 1);
  }
  benchmark::RegisterBenchmark("Pipeline/ipip/ipv4/new_flows", NewFlows);
  for (uint32_t services : {1, 100, 10000}) {
    benchmark::RegisterBenchmark(absl::StrCat("Pipeline/ipip/ipv4/services:", services).c_str(),
                                 Established, 1000000, services);
  }
}

}  // namespace
}  // namespace guideway

int main(int argc, char** argv) {
  guideway::Register();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
