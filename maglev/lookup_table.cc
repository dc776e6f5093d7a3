#include "maglev/lookup_table.h"

#include <algorithm>
#include <queue>
#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

// Attempts of a slot's walk before it looks upward. With half of all slots down, the chance that a
// walk gets so far is 2^-64.
constexpr uint32_t kMaxAttempts = 64;

// Maps 64 random bits to 0 … n-1.
uint32_t Scale(uint64_t hash, uint32_t n) {
  return static_cast<uint32_t>((static_cast<unsigned __int128>(hash) * n) >> 64);
}

absl::Status Validate(absl::Span<const PoolMember> pool, uint32_t size) {
  if (!IsPrime(size) || size > LookupTable::kMaxSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("table size ", size, " is not a prime up to ", LookupTable::kMaxSize));
  }
  if (pool.size() > LookupTable::kMaxMembers) {
    return absl::InvalidArgumentError(absl::StrCat(pool.size(), " backends are more than the ",
                                                   LookupTable::kMaxMembers, " of a pool"));
  }
  if (pool.size() > size) {
    return absl::InvalidArgumentError(
        absl::StrCat("table size ", size, " is less than the ", pool.size(), " backends"));
  }
  absl::flat_hash_set<absl::string_view> names;
  for (const PoolMember& member : pool) {
    if (!names.insert(member.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("two backends are named ", member.name));
    }
    if (member.weight > LookupTable::kMaxWeight) {
      return absl::InvalidArgumentError(absl::StrCat("weight ", member.weight, " of ", member.name,
                                                     " is over ", LookupTable::kMaxWeight));
    }
  }
  return absl::OkStatus();
}

// How many slots each member gets: the largest-remainder apportionment of `size` by weight; equal
// remainders are served in the order given.
std::vector<uint32_t> Quotas(absl::Span<const PoolMember* const> members, uint32_t size) {
  uint64_t total_weight = 0;
  for (const PoolMember* m : members) total_weight += m->weight;

  std::vector<uint32_t> quotas;
  std::vector<std::pair<uint64_t, uint32_t>> remainders;
  uint32_t left = size;
  for (uint32_t i = 0; i < members.size(); ++i) {
    const uint64_t share = uint64_t{size} * members[i]->weight;
    quotas.push_back(static_cast<uint32_t>(share / total_weight));
    remainders.emplace_back(share % total_weight, i);
    left -= quotas.back();
  }
  std::stable_sort(remainders.begin(), remainders.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (uint32_t i = 0; i < left; ++i) ++quotas[remainders[i].second];
  return quotas;
}

}  // namespace

bool IsPrime(uint32_t n) {
  if (n < 2) return false;
  for (uint32_t d = 2; uint64_t{d} * d <= n; ++d) {
    if (n % d == 0) return false;
  }
  return true;
}

uint32_t NextPrime(uint32_t n) {
  while (!IsPrime(n)) ++n;
  return n;
}

absl::StatusOr<LookupTable> LookupTable::Build(absl::Span<const PoolMember> pool, uint32_t size,
                                               uint64_t seed) {
  if (absl::Status status = Validate(pool, size); !status.ok()) return status;

  // By name, so that the order of the pool does not matter; those without weight take no part.
  std::vector<const PoolMember*> members;
  for (const PoolMember& m : pool) {
    if (m.weight > 0) members.push_back(&m);
  }
  std::sort(members.begin(), members.end(),
            [](const PoolMember* a, const PoolMember* b) { return a->name < b->name; });

  std::vector<Member> homes(size, kNoMember);
  if (members.empty()) return LookupTable(std::move(homes), seed);

  const std::vector<uint32_t> quotas = Quotas(members, size);
  const uint32_t rounds = *std::max_element(quotas.begin(), quotas.end());

  // Each member's place in its own permutation of the slots: offset, then steps of skip.
  struct Walk {
    uint32_t slot, skip, taken;
  };
  std::vector<Walk> walks;
  // Whose turn it is: by round, then by name. A member with a quota q out of the largest one R
  // takes its j-th slot in round j·R/q, so all are done in the last round, each at its own pace.
  // With equal weights this is the paper's turn-taking.
  using Turn = std::pair<uint32_t, uint32_t>;
  std::priority_queue<Turn, std::vector<Turn>, std::greater<Turn>> turns;
  for (uint32_t i = 0; i < members.size(); ++i) {
    const XXH128_hash_t h =
        XXH3_128bits_withSeed(members[i]->name.data(), members[i]->name.size(), seed);
    walks.push_back({Scale(h.low64, size), 1 + Scale(h.high64, size - 1), 0});
    if (quotas[i] > 0) turns.emplace(0, i);
  }
  while (!turns.empty()) {
    const uint32_t i = turns.top().second;
    turns.pop();
    Walk& walk = walks[i];
    while (homes[walk.slot] != kNoMember) {
      walk.slot += walk.skip;
      if (walk.slot >= size) walk.slot -= size;
    }
    homes[walk.slot] = static_cast<Member>(members[i] - pool.data());
    if (++walk.taken < quotas[i]) {
      turns.emplace(static_cast<uint32_t>(uint64_t{walk.taken} * rounds / quotas[i]), i);
    }
  }
  return LookupTable(std::move(homes), seed);
}

std::vector<LookupTable::Member> LookupTable::Assign(const std::vector<bool>& up) const {
  const auto is_up = [&](uint32_t slot) { return homes_[slot] != kNoMember && up[homes_[slot]]; };

  // From the last slot down, so that the next one upward is always at hand; above the last comes
  // the lowest again.
  uint32_t upward = 0;
  while (upward < size() && !is_up(upward)) ++upward;
  if (upward == size()) return std::vector<Member>(size(), kNoMember);

  const auto successor = [&](uint32_t slot) {
    for (uint32_t attempt = 0; attempt < kMaxAttempts; ++attempt) {
      const uint32_t step[2] = {slot, attempt};
      const uint32_t next = Scale(XXH3_64bits_withSeed(step, sizeof(step), seed_), size());
      if (is_up(next)) return next;
    }
    return upward;
  };
  std::vector<Member> assignment = homes_;
  for (uint32_t slot = size(); slot-- > 0;) {
    if (is_up(slot)) {
      upward = slot;
    } else {
      assignment[slot] = homes_[successor(slot)];
    }
  }
  return assignment;
}

}  // namespace guideway
