// The prefix map: one lookup, among so many prefixes of a family. Half of the prefixes are blocks
// of providers, the others parts of them, as in the Internet's tables; the addresses are random
// ones, each inside a random prefix. Beside it the same ranges searched by the standard library.
//
//   build/bench/prefix_bench --benchmark_repetitions=9 --benchmark_enable_random_interleaving
#include <benchmark/benchmark.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "maglev/prefix_map.h"

namespace guideway {
namespace {

using Random = std::mt19937_64;
using Entries = std::vector<std::pair<Prefix, uint32_t>>;

// A random address of the prefix.
IpAddress RandomIn(const Prefix& prefix, Random& random) {
  uint8_t bytes[16];
  for (int i = 0; i < 16; ++i) {
    const int fixed = std::clamp(prefix.length - 8 * i, 0, 8);
    const auto mask = static_cast<uint8_t>(0xff00 >> fixed);
    bytes[i] = static_cast<uint8_t>((prefix.address.bytes()[i] & mask) | (random() & ~mask & 0xff));
  }
  return prefix.address.is_v4() ? IpAddress::V4(bytes) : IpAddress::V6(bytes);
}

Entries RandomEntries(bool v4, size_t count) {
  Random random(count);
  const Prefix all = Prefix::Parse(v4 ? "0.0.0.0/0" : "2000::/3").value();
  std::map<Prefix, uint32_t> entries;
  while (entries.size() < count) {
    const int block_length = v4 ? 14 + static_cast<int>(random() % 7) : 32;
    const Prefix block = Prefix::Of(RandomIn(all, random), block_length);
    entries.emplace(block, random() % 200);
    entries.emplace(Prefix::Of(RandomIn(block, random), v4 ? 24 : 48), random() % 200);
  }
  return {entries.begin(), entries.end()};
}

std::vector<IpAddress> RandomAddresses(const Entries& entries) {
  Random random(7);
  std::vector<IpAddress> addresses(1 << 20);
  for (IpAddress& a : addresses) a = RandomIn(entries[random() % entries.size()].first, random);
  return addresses;
}

template <typename Find>
void Time(benchmark::State& state, const Entries& entries, Find find) {
  const std::vector<IpAddress> addresses = RandomAddresses(entries);
  size_t i = 0;
  for (auto _ : state) benchmark::DoNotOptimize(find(addresses[i++ % addresses.size()]));
}

void Map(benchmark::State& state) {
  const Entries entries = RandomEntries(state.range(0) == 4, state.range(1));
  const PrefixMap map = PrefixMap::Build(entries).value();
  Time(state, entries, [&](const IpAddress& a) { return map.Find(a); });
  state.counters["bytes_per_prefix"] =
      static_cast<double>(map.bytes()) / static_cast<double>(entries.size());
}

// Only the search, over as many addresses as there are prefixes.
void UpperBound(benchmark::State& state) {
  const Entries entries = RandomEntries(state.range(0) == 4, state.range(1));
  Time(state, entries, [&](const IpAddress& a) {
    return std::upper_bound(entries.begin(), entries.end(), a,
                            [](const IpAddress& x, const auto& e) { return x < e.first.address; }) -
           entries.begin();
  });
}

void Build(benchmark::State& state) {
  const Entries entries = RandomEntries(state.range(0) == 4, state.range(1));
  for (auto _ : state) benchmark::DoNotOptimize(PrefixMap::Build(entries).value());
}

const std::vector<std::vector<int64_t>> kArgs = {{4, 6}, {10, 1000, 100000, 1000000}};
BENCHMARK(Map)->ArgNames({"ipv", "prefixes"})->ArgsProduct(kArgs);
BENCHMARK(UpperBound)->ArgNames({"ipv", "prefixes"})->ArgsProduct(kArgs);
BENCHMARK(Build)
    ->ArgNames({"ipv", "prefixes"})
    ->ArgsProduct({{4, 6}, {1000000}})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace guideway

BENCHMARK_MAIN();
