// How long changes take at the size that is aimed for, and whom they hold up: 1000 services with
// 10,000 backends in all and tables of 65537 slots, under the daemon's own Controller, event loop
// and Dataplane, with one worker that has packets all the time (net_pcap, an endless capture).
//
//   build/bench/control_scale [REPETITIONS [SERVICES [BACKENDS]]]
//
// Needs two cores and no root. Only the probes are made up: they answer at once.
//
// The worker is watched from a callback of DPDK's on its RX queue: it reads the clock at every
// rte_eth_rx_burst and keeps the longest time between two. The product's loop is the one that
// ships.
#include <glog/logging.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "control/api/api.pb.h"
#include "control/compile.h"
#include "control/config/config.h"
#include "control/controller.h"
#include "control/event_loop.h"
#include "control/http_server.h"
#include "control/metrics.h"
#include "control/prober.h"
#include "dataplane/io/dpdk_dataplane.h"
#include "tests/support/packet_builder.h"

namespace guideway {
namespace {

using testing::Bytes;

double Milliseconds(absl::Duration d) { return absl::ToDoubleMilliseconds(d); }

// --- the configuration ---------------------------------------------------------------------------

struct Size {
  int services = 1000;
  int backends = 10000;
};

std::string VipOf(int service) {
  return absl::StrCat("198.18.", service / 250, ".", service % 250 + 1);
}
std::string AddressOf(int backend) {
  return absl::StrCat("10.", backend / 62500, ".", backend / 250 % 250, ".", backend % 250 + 1);
}

// The first service's backends are asked ten times a second, the others next to never. `weight` is
// that of the last backend.
std::string ConfigText(const Size& size, int weight) {
  std::string text = R"(
fleet: { hash_seed: 7 }
interfaces:
  - { name: uplink, device: net_pcap0, mac: "02:00:00:00:00:01" }
routes:
  - { prefix: 0.0.0.0/0, interface: uplink, mac: "02:00:00:00:00:fe" }
tunnel: { source_ipv4: 192.0.2.1 }
services:
)";
  const int each = size.backends / size.services;
  for (int s = 0; s < size.services; ++s) {
    absl::StrAppend(&text, "  - name: service-", s, "\n    vips: [", VipOf(s),
                    "]\n    protocol: tcp\n    ports: [80]\n    forwarding: ipip\n");
    absl::StrAppend(&text, "    health_check: { interval: ", s == 0 ? "100ms" : "1h",
                    ", timeout: 50ms, rise: 1, fall: 1, tcp: {} }\n    backends:\n");
    for (int b = s * each; b < (s + 1) * each; ++b) {
      absl::StrAppend(&text, "      - { name: backend-", b, ", address: ", AddressOf(b));
      if (b + 1 == size.services * each) absl::StrAppend(&text, ", weight: ", weight);
      absl::StrAppend(&text, " }\n");
    }
  }
  return text;
}

// A capture of a SYN to each service.
void WriteCapture(const std::string& path, const Size& size) {
  std::ofstream out(path, std::ios::binary);
  const auto put = [&](const auto& value) {
    out.write(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  put(uint32_t{0xa1b2c3d4});
  put(uint16_t{2});
  put(uint16_t{4});
  put(uint64_t{0});
  put(uint32_t{65535});
  put(uint32_t{1});
  for (int s = 0; s < size.services; ++s) {
    const std::string vip = VipOf(s);
    const Bytes frame = testing::Ethernet{}.Around(
        testing::Ipv4{.destination = vip.c_str()}.Around(testing::Tcp{
            .source_port = static_cast<uint16_t>(1024 + s), .destination_port = 80, .flags = 2}
                                                             .Around({})));
    put(uint64_t{0});
    put(static_cast<uint32_t>(frame.size()));
    put(static_cast<uint32_t>(frame.size()));
    out.write(reinterpret_cast<const char*>(frame.data()),
              static_cast<std::streamsize>(frame.size()));
  }
}

// --- what is watched -----------------------------------------------------------------------------

// The worker's, by a callback in its thread.
struct Gap {
  uint64_t last = 0;
  int64_t taken_away = 0;                  // how often the kernel gave its core to another thread
  std::atomic<uint64_t> longest = 0;       // of all
  std::atomic<uint64_t> longest_ours = 0;  // in which nobody else had the core
};

int64_t TimesTakenAway() {
  rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw + usage.ru_nvcsw;
}

uint16_t OnBurst(uint16_t, uint16_t, rte_mbuf**, uint16_t packets, uint16_t, void* user) {
  auto* gap = static_cast<Gap*>(user);
  static const uint64_t kRemarkable = rte_get_tsc_hz() / 50000;  // 20 us
  const uint64_t now = rte_rdtsc();
  const uint64_t length = gap->last == 0 ? 0 : now - gap->last;
  const auto raise = [length](std::atomic<uint64_t>& longest) {
    if (length > longest.load(std::memory_order_relaxed)) {
      longest.store(length, std::memory_order_relaxed);
    }
  };
  raise(gap->longest);
  if (length > kRemarkable) {
    const int64_t before = std::exchange(gap->taken_away, TimesTakenAway());
    if (gap->taken_away == before) raise(gap->longest_ours);
  }
  gap->last = rte_rdtsc();
  return packets;
}

// Answers at once; the first backend is well or not as it is told. Remembers when it said so.
class SwitchProber final : public Prober {
 public:
  explicit SwitchProber(EventLoop* loop)
      : loop_(loop), switched_(IpAddress::Parse(AddressOf(0)).value()) {}

  void Ask(const ProbeQuestion& question, absl::Duration, Done done) override {
    ProbeAnswer answer;
    if (question.address == switched_ && !well) answer = {ProbeAnswer::Kind::kFailed, "switched"};
    loop_->Post([this, done = std::move(done), answer, is_it = question.address == switched_] {
      if (is_it && told_ != well) {
        told_ = well;
        told_at = loop_->Now();
      }
      done(answer);
    });
  }

  bool well = true;
  absl::Duration told_at;

 private:
  EventLoop* const loop_;
  const IpAddress switched_;
  bool told_ = true;
};

// The real one, which remembers when it was last given a Snapshot.
class WatchedDataplane final : public Dataplane {
 public:
  WatchedDataplane(EventLoop* loop, Dataplane* real) : loop_(loop), real_(real) {}

  void Publish(std::shared_ptr<const Snapshot> snapshot) override {
    const bool well = snapshot->services()[0]->backends[0].state == BackendState::kUp;
    real_->Publish(std::move(snapshot));
    if (well != shows_well) changed_at = loop_->Now();
    shows_well = well;
    ++published;
  }
  void Reclaim() override { real_->Reclaim(); }
  uint64_t SweptVersion() const override { return real_->SweptVersion(); }
  std::vector<InterfaceStatus> interfaces() const override { return real_->interfaces(); }
  std::vector<WorkerStatus> workers() const override { return real_->workers(); }
  ServiceCounts service_counts(ServiceId id) const override { return real_->service_counts(id); }
  BackendCounts backend_counts(BackendId id) const override { return real_->backend_counts(id); }
  void ReadFlows(size_t worker, uint64_t first, uint64_t last,
                 std::vector<FlowEntry>* entries) const override {
    real_->ReadFlows(worker, first, last, entries);
  }
  absl::StatusOr<Explanation> Explain(const Snapshot& snapshot,
                                      absl::string_view packet) const override {
    return real_->Explain(snapshot, packet);
  }

  bool shows_well = true;  // the first backend
  absl::Duration changed_at;
  uint64_t published = 0;

 private:
  EventLoop* const loop_;
  Dataplane* const real_;
};

// How late the loop comes to a timer that is set a millisecond ahead, again and again: for so long
// at most it did something else.
class Lateness {
 public:
  explicit Lateness(EventLoop* loop) : loop_(loop), timer_(loop->NewTimer()) { Set(); }
  absl::Duration Take() { return std::exchange(longest_, absl::ZeroDuration()); }

 private:
  void Set() {
    const absl::Duration due = loop_->Now() + absl::Milliseconds(1);
    timer_->Set(due, [this, due] {
      longest_ = std::max(longest_, loop_->Now() - due);
      Set();
    });
  }
  EventLoop* const loop_;
  const std::unique_ptr<Timer> timer_;
  absl::Duration longest_;
};

// --- figures -------------------------------------------------------------------------------------

void Line(const std::string& what, std::vector<double> ms, const char* note = "") {
  std::sort(ms.begin(), ms.end());
  std::printf("%-58s median %8.2f ms  most %8.2f ms  of %zu%s\n", what.c_str(), ms[ms.size() / 2],
              ms.back(), ms.size(), note);
  std::fflush(stdout);
}

// Processor time of this thread: what it takes without what else is on its core.
absl::Duration ThreadTime() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return absl::DurationFromTimespec(now);
}

std::vector<double> Repeated(int times, const std::function<void()>& what) {
  std::vector<double> ms;
  for (int i = 0; i < times; ++i) {
    const absl::Duration begun = ThreadTime();
    what();
    ms.push_back(Milliseconds(ThreadTime() - begun));
  }
  return ms;
}

LoadedConfig Load(const std::string& text) {
  auto loaded = LoadConfig("scale.yaml", text, ReadNamedFile);
  CHECK(loaded.ok()) << loaded.status().message();
  return *std::move(loaded);
}

void CompileAlone(const Size& size, int repetitions) {
  const std::string text = ConfigText(size, 100);
  std::shared_ptr<const LoadedConfig> loaded;
  Line("a cold file: LoadConfig",
       Repeated(repetitions, [&] { loaded = std::make_shared<const LoadedConfig>(Load(text)); }));
  CompileInput input;
  input.loaded = loaded;
  input.hash_seed = 7;
  BackendId next = 0;
  for (int s = 0; s < loaded->config.services_size(); ++s) {
    ServiceFacts& facts = input.services.emplace_back();
    facts.id = static_cast<ServiceId>(s);
    for (int b = 0; b < loaded->config.services(s).backends_size(); ++b) {
      facts.backends.push_back({next++, BackendState::kUp});
    }
  }
  std::shared_ptr<const Snapshot> snapshot;
  Line("a cold file: Compile", Repeated(repetitions, [&] {
         auto compiled = Compile(input);
         CHECK(compiled.ok()) << compiled.status().message();
         snapshot = *compiled;
       }));
  input.previous = snapshot;
  input.version = 2;
  Line("Compile after one backend went down", Repeated(repetitions, [&] {
         input.services[0].backends[0].state = BackendState::kDown;
         CHECK(Compile(input).ok());
       }));
  input.loaded = std::make_shared<const LoadedConfig>(Load(text));
  Line("Compile of the same file once more",
       Repeated(repetitions, [&] { CHECK(Compile(input).ok()); }));
}

int Main(int argc, char** argv) {
  const int repetitions = argc > 1 ? std::atoi(argv[1]) : 5;
  Size size;
  if (argc > 2) size.services = std::atoi(argv[2]);
  if (argc > 3) size.backends = std::atoi(argv[3]);
  if (repetitions < 1 || size.services < 1 || size.backends < size.services) {
    std::fprintf(stderr, "usage: %s [REPETITIONS [SERVICES [BACKENDS]]]\n", argv[0]);
    return 2;
  }
  std::printf("%d services, %d backends\n", size.services, size.backends);
  CompileAlone(size, repetitions);

  cpu_set_t allowed;
  CHECK_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  std::vector<uint32_t> cores;
  for (uint32_t core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) cores.push_back(core);
  }
  if (cores.size() < 2) {
    std::fprintf(stderr, "the worker needs a core of its own\n");
    return 1;
  }
  const std::filesystem::path capture =
      std::filesystem::temp_directory_path() / absl::StrCat("control_scale.", getpid(), ".pcap");
  WriteCapture(capture, size);
  EalOptions eal_options;
  eal_options.file_prefix = absl::StrCat("control-scale-", getpid());
  eal_options.control_cores = {cores.front()};
  eal_options.worker_cores = {cores.back()};
  eal_options.hugepages = false;
  eal_options.memory_bytes = uint64_t{128} << 20;
  eal_options.extra_args = {"--no-telemetry"};
  auto eal = Eal::Start(eal_options);
  CHECK(eal.ok()) << eal.status();
  Plan plan;
  plan.control_cores = eal_options.control_cores;
  plan.workers = {{.core = cores.back(), .rx = {{0, 0}}}};
  plan.flows_per_worker = 1 << 16;
  plan.hugepages = false;
  plan.interfaces = {
      {.name = "uplink",
       .device = absl::StrCat("net_pcap0,rx_pcap=", capture.string(), ",infinite_rx=1"),
       .mac = MacAddress::Parse("02:00:00:00:00:01").value()}};
  std::vector<std::unique_ptr<Interface>> interfaces;
  auto attached = Interface::Attach(**eal, "uplink", plan.interfaces[0].device);
  CHECK(attached.ok()) << attached.status();
  const uint16_t port = (*attached)->port();
  interfaces.push_back(*std::move(attached));
  auto real = DpdkDataplane::Start(**eal, plan, std::move(interfaces));
  CHECK(real.ok()) << real.status();
  std::filesystem::remove(capture);
  Gap gap;
  CHECK(rte_eth_add_rx_callback(port, 0, OnBurst, &gap) != nullptr);

  boost::asio::io_context io(1);
  const std::unique_ptr<EventLoop> loop = NewEventLoop(io);
  SwitchProber prober(loop.get());
  WatchedDataplane dataplane(loop.get(), real->get());
  Controller controller(loop.get(), &prober, &dataplane,
                        {.config_file = "scale.yaml", .version = "bench"},
                        Load(ConfigText(size, 100)));
  Line("the first Snapshot: Controller::Start",
       Repeated(1, [&] { CHECK_EQ(controller.Start(), absl::OkStatus()); }));
  Lateness lateness(loop.get());
  const auto run_for = [&](absl::Duration d) { io.run_for(absl::ToChronoNanoseconds(d)); };
  const auto run_until = [&](const std::function<bool()>& holds) {
    while (!holds()) io.run_one();
  };
  run_for(absl::Seconds(2));  // every backend has answered

  // Health.
  const auto flap = [&] {
    prober.well = !prober.well;
    run_until([&] { return dataplane.shows_well == prober.well; });
    return Milliseconds(dataplane.changed_at - prober.told_at);
  };
  std::vector<double> ms, late;
  (void)lateness.Take();
  std::vector<double> own;
  for (int i = 0; i < 10 * repetitions; ++i) {
    const absl::Duration begun = ThreadTime();
    ms.push_back(flap());
    run_for(absl::Milliseconds(50));  // and what follows from it
    own.push_back(Milliseconds(ThreadTime() - begun));
  }
  Line("a health change until it is published", ms);
  Line("  processor time of the loop for it", own);
  Line("  the loop was late meanwhile, at most", {Milliseconds(lateness.Take())});

  // Configurations, and a health change at the worst moment of each.
  int weight = 100;
  const auto apply = [&](bool& done) {
    done = false;
    controller.Apply({.name = "scale.yaml", .text = ConfigText(size, ++weight), .who = "bench"},
                     [&](absl::StatusOr<api::ApplyResult> result) {
                       CHECK(result.ok()) << result.status().message();
                       done = true;
                     });
  };
  ms.clear();
  std::vector<double> during;
  bool done = false;
  for (int i = 0; i < repetitions; ++i) {
    (void)lateness.Take();
    const absl::Duration begun = loop->Now();
    apply(done);
    run_until([&] { return done; });
    ms.push_back(Milliseconds(loop->Now() - begun));
    late.push_back(Milliseconds(lateness.Take()));
  }
  Line("an apply that changes one weight", ms);
  Line("  the loop was late meanwhile", late);
  for (int i = 0; i < repetitions; ++i) {
    apply(done);
    during.push_back(flap());
    run_until([&] { return done; });
  }
  Line("a health change while a file is applied", during);

  // Questions over the socket, as far as the loop answers them itself.
  // Processor time; JSON of long answers is made by another thread.
  Line("GET /v1/status", Repeated(repetitions, [&] { JsonAnswer(controller.GetStatus()); }));
  Line("GET /v1/services: facts", Repeated(repetitions, [&] { controller.GetServices(); }));
  Line("GET /v1/backends: facts", Repeated(repetitions, [&] { controller.GetBackends(); }));
  Line("GET /metrics: facts", Repeated(repetitions, [&] { controller.GetMetrics(); }));

  // The worker.
  const double ms_per_cycle = 1e3 / static_cast<double>(rte_get_tsc_hz());
  struct Gaps {
    std::vector<double> all, ours;
  } quiet, flapping, applying;
  const auto longest_gap = [&](Gaps& gaps, const std::function<void()>& what) {
    gap.longest = 0;
    gap.longest_ours = 0;
    what();
    gaps.all.push_back(static_cast<double>(gap.longest.load()) * ms_per_cycle);
    gaps.ours.push_back(static_cast<double>(gap.longest_ours.load()) * ms_per_cycle);
  };
  constexpr absl::Duration kWindow = absl::Seconds(2);
  const auto again_and_again = [&](const std::function<void()>& what) {
    for (const absl::Duration end = loop->Now() + kWindow; loop->Now() < end;) what();
  };
  const uint64_t published = dataplane.published;
  for (int i = 0; i < repetitions; ++i) {
    longest_gap(quiet, [&] { run_for(kWindow); });
    longest_gap(flapping, [&] { again_and_again([&] { flap(); }); });
    longest_gap(applying, [&] {
      again_and_again([&] {
        apply(done);
        run_until([&] { return done; });
      });
    });
  }
  Line("the worker's longest gap in 2 s: nothing changes", quiet.ours);
  Line("  backends flap all the time", flapping.ours);
  Line("  files are applied all the time", applying.ours);
  Line("with the core given to others: nothing changes", quiet.all);
  Line("  backends flap all the time", flapping.all);
  Line("  files are applied all the time", applying.all);
  std::printf("%lu Snapshots were published meanwhile\n",
              static_cast<unsigned long>(dataplane.published - published));
  (*real)->Stop();
  return 0;
}

}  // namespace
}  // namespace guideway

int main(int argc, char** argv) {
  FLAGS_minloglevel = 2;
  google::InitGoogleLogging(argv[0]);
  return guideway::Main(argc, argv);
}
