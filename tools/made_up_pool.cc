#include "tools/made_up_pool.h"

#include <algorithm>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "absl/strings/str_format.h"

namespace guideway {

std::vector<PoolMember> MadeUpPool(uint32_t backends, uint32_t weights) {
  std::vector<PoolMember> pool;
  pool.reserve(backends);
  for (uint32_t i = 0; i < backends; ++i) {
    pool.push_back({absl::StrFormat("backend-%05d", i), weights == 0 ? 100 : 1 + i % weights});
  }
  return pool;
}

std::vector<size_t> OrderOfFailures(uint32_t backends, uint64_t seed) {
  std::vector<std::pair<uint64_t, size_t>> hashed;
  hashed.reserve(backends);
  for (uint64_t i = 0; i < backends; ++i) {
    hashed.emplace_back(XXH3_64bits_withSeed(&i, sizeof(i), seed), i);
  }
  std::sort(hashed.begin(), hashed.end());
  std::vector<size_t> order;
  order.reserve(backends);
  for (const auto& [hash, i] : hashed) order.push_back(i);
  return order;
}

}  // namespace guideway
