// The lookup table: a build from nothing, a repair after failures, and the plain loop of the paper
// (Eisenbud et al., NSDI 2016, section 3.4) as the baseline, compiled the same way.
//
//   build/bench/maglev_bench --benchmark_repetitions=9 --benchmark_enable_random_interleaving
//
// At the end it says on standard error how each build and repair compares with the plain loop of
// the same run: the medians' ratio.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <ctime>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "maglev/lookup_table.h"
#include "tests/support/plain_maglev.h"

namespace guideway {
namespace {

constexpr uint64_t kSeed = 8190443025772104713u;

// Sorted by name, as Compile hands it over.
std::vector<PoolMember> Pool(int64_t backends) {
  std::vector<PoolMember> pool;
  for (int64_t i = 0; i < backends; ++i) pool.push_back({absl::StrFormat("backend-%05d", i), 100});
  return pool;
}

double ProcessorMs() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

// Runs `build` as the benchmark's iterations and reports the time of one: the processor's, so that
// what else runs on the machine does not count as long as it only waits.
template <typename BuildOnce>
void TimeBuilds(benchmark::State& state, BuildOnce build) {
  const double start = ProcessorMs();
  for (auto _ : state) build();
  state.counters["ms_per_build"] =
      (ProcessorMs() - start) / static_cast<double>(state.iterations());
}

void Plain(benchmark::State& state) {
  const auto pool = Pool(state.range(0));
  TimeBuilds(state, [&] {
    const auto entry = testing::PlainMaglev(pool, static_cast<uint32_t>(state.range(1)), kSeed);
    benchmark::DoNotOptimize(entry.data());
  });
}

void Build(benchmark::State& state) {
  const auto pool = Pool(state.range(0));
  TimeBuilds(state, [&] {
    const auto table = LookupTable::Build(pool, static_cast<uint32_t>(state.range(1)), kSeed);
    if (!table.ok()) state.SkipWithError(std::string(table.status().message()).c_str());
    benchmark::DoNotOptimize(table->homes().data());
  });
}

void Repair(benchmark::State& state) {
  const auto pool = Pool(state.range(0));
  const auto table = LookupTable::Build(pool, static_cast<uint32_t>(state.range(1)), kSeed);
  std::vector<Share> shares(pool.size(), kFullShare);
  for (int64_t i = 0; i < state.range(2); ++i) shares[i * 7 % shares.size()] = kDown;
  TimeBuilds(state, [&] {
    const auto assignment = table->Assign(shares);
    benchmark::DoNotOptimize(assignment->data());
  });
}

const std::vector<int64_t> kBackends = {10, 100, 1000, 10000};
const std::vector<int64_t> kSizes = {65537, 655373};

BENCHMARK(Plain)
    ->ArgNames({"backends", "size"})
    ->ArgsProduct({kBackends, kSizes})
    ->Unit(benchmark::kMillisecond);
BENCHMARK(Build)
    ->ArgNames({"backends", "size"})
    ->ArgsProduct({kBackends, kSizes})
    ->Unit(benchmark::kMillisecond);
BENCHMARK(Repair)
    ->ArgNames({"backends", "size", "down"})
    ->ArgsProduct({{1000}, kSizes, {1, 10, 50}})
    ->Unit(benchmark::kMillisecond);

// Shows the results as ever, and the ratios to Plain after them.
class WithRatios final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& context) override { return display_->ReportContext(context); }

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration || run.error_occurred) continue;
      ms_[{run.run_name.args, run.run_name.function_name}].push_back(
          run.counters.at("ms_per_build"));
    }
    display_->ReportRuns(runs);
  }

  void Finalize() override {
    display_->Finalize();
    for (const auto& [name, ms] : ms_) {
      const auto& [args, function] = name;
      const auto plain = ms_.find({args.substr(0, args.find("/down:")), "Plain"});
      if (function == "Plain" || plain == ms_.end()) continue;
      const double ratio = Median(ms) / Median(plain->second);
      std::cerr << absl::StreamFormat("%-45s %.4f of Plain\n", absl::StrCat(function, "/", args),
                                      ratio);
    }
  }

 private:
  static double Median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
    return values[values.size() / 2];
  }

  const std::unique_ptr<benchmark::BenchmarkReporter> display_{
      benchmark::CreateDefaultDisplayReporter()};
  std::map<std::pair<std::string, std::string>, std::vector<double>> ms_;  // by args and function
};

}  // namespace
}  // namespace guideway

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  guideway::WithRatios reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  return 0;
}
