#include "maglev/table_digest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>

namespace guideway {

uint64_t PoolDigest(absl::Span<const absl::string_view> names,
                    absl::Span<const LookupTable::Member> slots) {
  std::vector<uint64_t> by_member;
  for (absl::string_view name : names) by_member.push_back(XXH3_64bits(name.data(), name.size()));
  // Slots of nobody have a number that a name's hash is never, but for bad luck.
  constexpr uint64_t kNobody = 0;
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  std::array<uint64_t, 512> chunk;
  for (size_t begin = 0; begin < slots.size(); begin += chunk.size()) {
    const auto part = slots.subspan(begin, chunk.size());
    std::transform(part.begin(), part.end(), chunk.begin(), [&](LookupTable::Member m) {
      return m == LookupTable::kNoMember ? kNobody : by_member[m];
    });
    XXH3_64bits_update(&state, chunk.data(), part.size() * sizeof(uint64_t));
  }
  return XXH3_64bits_digest(&state);
}

uint64_t TableDigest(absl::Span<const std::pair<absl::string_view, uint64_t>> pools) {
  uint64_t sum = 0;
  for (const auto& [region, digest] : pools) {
    sum += XXH3_64bits_withSeed(region.data(), region.size(), digest);
  }
  return sum & ((uint64_t{1} << 52) - 1);
}

}  // namespace guideway
