// The plain loop of the paper (Eisenbud et al., NSDI 2016, section 3.4): what the lookup table's
// homes are held against by the tests, and its speed by bench/maglev_bench. Equal weights.
#ifndef GUIDEWAY_TESTS_SUPPORT_PLAIN_MAGLEV_H_
#define GUIDEWAY_TESTS_SUPPORT_PLAIN_MAGLEV_H_

#include <cstdint>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "absl/types/span.h"
#include "maglev/lookup_table.h"

namespace guideway::testing {

// The owner of each slot, an index into `pool`, which is sorted by name and not empty.
inline std::vector<int32_t> PlainMaglev(absl::Span<const PoolMember> pool, uint32_t size,
                                        uint64_t seed) {
  struct Permutation {
    uint32_t next, skip;
  };
  const auto scale = [](uint64_t hash, uint32_t n) {
    return static_cast<uint32_t>((static_cast<unsigned __int128>(hash) * n) >> 64);
  };
  std::vector<Permutation> permutations;
  for (const PoolMember& m : pool) {
    const XXH128_hash_t h = XXH3_128bits_withSeed(m.name.data(), m.name.size(), seed);
    permutations.push_back({scale(h.low64, size), 1 + scale(h.high64, size - 1)});
  }
  std::vector<int32_t> entry(size, -1);
  for (uint32_t n = 0; n < size;) {
    for (size_t i = 0; i < permutations.size() && n < size; ++i, ++n) {
      Permutation& p = permutations[i];
      while (entry[p.next] >= 0) {
        p.next += p.skip;
        if (p.next >= size) p.next -= size;
      }
      entry[p.next] = static_cast<int32_t>(i);
    }
  }
  return entry;
}

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_PLAIN_MAGLEV_H_
