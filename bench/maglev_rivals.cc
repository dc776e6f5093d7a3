// What other ways to hash do with the pools that `guideway table` makes up: how even they are with
// some of the backends down, and how much they move when those go down. In plain code, for the
// plots of docs/maglev.md.
//
//   build/bench/maglev_rivals BACKENDS SIZE SEEDS DOWN...
//   build/bench/maglev_rivals 1000 65537 10 0 1 10 50 500
//
// Prints a line of CSV for each method, seed from 1 to SEEDS and number of backends that are down:
//   over_provision  the busiest live backend's part of the slots over its fair part, minus 1
//   moved           the part of all slots whose backend stays up and that are another's all the
//                   same, compared with none down
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "maglev/lookup_table.h"
#include "tests/support/plain_maglev.h"
#include "tools/made_up_pool.h"

namespace guideway {
namespace {

// The backend that each slot belongs to.
using Owners = std::vector<size_t>;

struct Setting {
  uint32_t backends, size;
  uint64_t seed;
  std::vector<size_t> fails_as;  // of each backend: the how manieth to go down, from 0
};

uint64_t Hash(uint64_t what, uint64_t seed) {
  return XXH3_64bits_withSeed(&what, sizeof(what), seed);
}

// The paper's table, built anew from the backends that are up.
Owners Rebuild(const Setting& in, size_t down) {
  const std::vector<PoolMember> pool = MadeUpPool(in.backends);
  std::vector<PoolMember> live;
  std::vector<size_t> indices;
  for (size_t i = 0; i < pool.size(); ++i) {
    if (in.fails_as[i] < down) continue;
    live.push_back(pool[i]);
    indices.push_back(i);
  }
  Owners owners;
  for (int32_t owner : testing::PlainMaglev(live, in.size, in.seed)) {
    owners.push_back(indices[static_cast<size_t>(owner)]);
  }
  return owners;
}

// Rendezvous hashing (Thaler and Ravishankar, IEEE/ACM Transactions on Networking 6(1), 1998): a
// slot belongs to the live backend whose hash with it is highest.
Owners Rendezvous(const Setting& in, size_t down) {
  std::vector<size_t> live;
  for (size_t i = 0; i < in.backends; ++i) {
    if (in.fails_as[i] >= down) live.push_back(i);
  }
  Owners owners(in.size);
  for (uint64_t slot = 0; slot < in.size; ++slot) {
    uint64_t highest = 0;
    for (size_t i : live) {
      const uint64_t hash = Hash(slot << 32 | i, in.seed);
      if (hash < highest) continue;
      highest = hash;
      owners[slot] = i;
    }
  }
  return owners;
}

// Ring hashing (Karger et al., STOC 1997): every backend has points on a ring; a place on it
// belongs to the live backend whose point comes next. 100 points each beside a table of 65537
// slots, and in proportion: more of them are more even, as more slots are. There are no slots: the
// ring is looked at in many more places than it has points.
Owners Ring(const Setting& in, size_t down) {
  const auto points_each = static_cast<uint64_t>(std::lround(100.0 * in.size / 65537));
  std::vector<std::pair<uint64_t, size_t>> points;
  for (uint64_t i = 0; i < in.backends; ++i) {
    if (in.fails_as[i] < down) continue;
    for (uint64_t p = 0; p < std::max<uint64_t>(1, points_each); ++p) {
      points.emplace_back(Hash(p << 32 | i, in.seed), i);
    }
  }
  std::sort(points.begin(), points.end());
  const uint64_t places = uint64_t{in.size} * 16;
  Owners owners;
  size_t next = 0;
  for (uint64_t place = 0; place < places; ++place) {
    const auto at = static_cast<uint64_t>((static_cast<unsigned __int128>(place) << 64) / places);
    while (next < points.size() && points[next].first < at) ++next;
    owners.push_back(points[next % points.size()].second);
  }
  return owners;
}

double OverProvision(const Setting& in, size_t down, const Owners& owners) {
  std::vector<uint32_t> slots(in.backends);
  for (size_t owner : owners) ++slots[owner];
  const double fair = static_cast<double>(owners.size()) / static_cast<double>(in.backends - down);
  return *std::max_element(slots.begin(), slots.end()) / fair - 1;
}

double MovedWithoutNeed(const Setting& in, size_t down, const Owners& before, const Owners& after) {
  size_t moved = 0;
  for (size_t slot = 0; slot < before.size(); ++slot) {
    moved += in.fails_as[before[slot]] >= down && before[slot] != after[slot];
  }
  return static_cast<double>(moved) / static_cast<double>(before.size());
}

int Main(int argc, char** argv) {
  std::vector<uint32_t> numbers;
  for (int i = 1; i < argc; ++i) {
    numbers.push_back(static_cast<uint32_t>(std::strtoul(argv[i], nullptr, 10)));
  }
  const auto is_down_possible = [&](uint32_t down) { return down < numbers[0]; };
  if (numbers.size() < 4 || numbers[0] < 1 || !IsPrime(numbers[1]) || numbers[1] < numbers[0] ||
      !std::all_of(numbers.begin() + 3, numbers.end(), is_down_possible)) {
    std::fprintf(stderr,
                 "usage: maglev_rivals BACKENDS SIZE SEEDS DOWN...\n"
                 "SIZE is a prime, not less than BACKENDS, and DOWN is less than that.\n");
    return 2;
  }
  constexpr struct {
    const char* name;
    Owners (*owners)(const Setting& in, size_t down);
  } kMethods[] = {{"rebuild", Rebuild}, {"rendezvous", Rendezvous}, {"ring", Ring}};

  std::printf("method,backends,size,down,seed,over_provision,moved\n");
  for (uint64_t seed = 1; seed <= numbers[2]; ++seed) {
    Setting in = {numbers[0], numbers[1], seed, std::vector<size_t>(numbers[0])};
    const std::vector<size_t> order = OrderOfFailures(in.backends, seed);
    for (size_t i = 0; i < order.size(); ++i) in.fails_as[order[i]] = i;
    for (const auto& method : kMethods) {
      const Owners before = method.owners(in, 0);
      for (auto down = numbers.begin() + 3; down != numbers.end(); ++down) {
        const Owners after = method.owners(in, *down);
        std::printf("%s,%u,%u,%u,%lu,%.6f,%.6f\n", method.name, in.backends, in.size, *down, seed,
                    OverProvision(in, *down, after), MovedWithoutNeed(in, *down, before, after));
        std::fflush(stdout);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace guideway

int main(int argc, char** argv) { return guideway::Main(argc, argv); }
