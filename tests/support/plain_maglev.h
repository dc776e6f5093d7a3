// Plain restatements of what maglev/ does, as slow and as short as they can be: what the lookup
// table is held against by the tests and the fuzzer, and its speed by bench/maglev_bench.
//
//   PlainMaglev     the loop of the paper (Eisenbud et al., NSDI 2016, section 3.4), equal weights
//   PlainQuotas     Apportion (maglev/turns.h)
//   PlainTurns      TakeTurns
//   PlainHomes      TakeHomes (maglev/homes.h): one turn after the other, one probe after the other
//   PlainTable      the rule at the head of maglev/lookup_table.h, in the words it is written in
#ifndef GUIDEWAY_TESTS_SUPPORT_PLAIN_MAGLEV_H_
#define GUIDEWAY_TESTS_SUPPORT_PLAIN_MAGLEV_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "absl/types/span.h"
#include "maglev/homes.h"
#include "maglev/lookup_table.h"

namespace guideway::testing {

inline uint32_t PlainScale(uint64_t hash, uint32_t n) {
  return static_cast<uint32_t>((static_cast<unsigned __int128>(hash) * n) >> 64);
}

inline Permutation PermutationOf(const std::string& name, uint32_t size, uint64_t seed) {
  const XXH128_hash_t h = XXH3_128bits_withSeed(name.data(), name.size(), seed);
  return {PlainScale(h.low64, size), 1 + PlainScale(h.high64, size - 1)};
}

// The owner of each slot, an index into `pool`, which is sorted by name and not empty.
inline std::vector<int32_t> PlainMaglev(absl::Span<const PoolMember> pool, uint32_t size,
                                        uint64_t seed) {
  std::vector<Permutation> next;
  for (const PoolMember& m : pool) next.push_back(PermutationOf(m.name, size, seed));
  std::vector<int32_t> entry(size, -1);
  for (uint32_t n = 0; n < size;) {
    for (size_t i = 0; i < next.size() && n < size; ++i, ++n) {
      auto& [slot, skip] = next[i];
      while (entry[slot] >= 0) {
        slot += skip;
        if (slot >= size) slot -= size;
      }
      entry[slot] = static_cast<int32_t>(i);
    }
  }
  return entry;
}

inline std::vector<uint32_t> PlainQuotas(absl::Span<const uint32_t> weights, uint32_t total) {
  const uint64_t sum = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
  std::vector<uint32_t> quotas(weights.size());
  if (sum == 0) return quotas;
  std::vector<size_t> by_remainder(weights.size());
  std::iota(by_remainder.begin(), by_remainder.end(), size_t{0});
  const auto remainder = [&](size_t i) { return uint64_t{total} * weights[i] % sum; };
  std::stable_sort(by_remainder.begin(), by_remainder.end(),
                   [&](size_t a, size_t b) { return remainder(a) > remainder(b); });
  uint64_t given = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    quotas[i] = static_cast<uint32_t>(uint64_t{total} * weights[i] / sum);
    given += quotas[i];
  }
  for (size_t k = 0; given < total; ++k, ++given) ++quotas[by_remainder[k]];
  return quotas;
}

// The j-th turn of one with quota q is in round j·R/q.
inline std::vector<uint16_t> PlainTurns(absl::Span<const uint32_t> quotas) {
  const uint64_t rounds = quotas.empty() ? 0 : *std::max_element(quotas.begin(), quotas.end());
  std::vector<std::pair<uint64_t, uint16_t>> turns;  // by round and index
  for (size_t i = 0; i < quotas.size(); ++i) {
    for (uint64_t j = 0; j < quotas[i]; ++j) {
      turns.emplace_back(j * rounds / quotas[i], static_cast<uint16_t>(i));
    }
  }
  std::sort(turns.begin(), turns.end());
  std::vector<uint16_t> result;
  for (const auto& [round, index] : turns) result.push_back(index);
  return result;
}

struct PlainHomesResult {
  std::vector<uint16_t> owners;  // of each slot
  std::vector<uint32_t> taken;   // the slots in the order of the turns
};

inline PlainHomesResult PlainHomes(std::vector<Permutation> next,
                                   absl::Span<const uint16_t> turns) {
  const auto size = static_cast<uint32_t>(turns.size());
  PlainHomesResult result = {std::vector<uint16_t>(size), {}};
  std::vector<bool> is_taken(size);
  for (uint16_t owner : turns) {
    auto& [slot, skip] = next[owner];
    while (is_taken[slot]) slot = static_cast<uint32_t>((uint64_t{slot} + skip) % size);
    is_taken[slot] = true;
    result.owners[slot] = owner;
    result.taken.push_back(slot);
  }
  return result;
}

// The table, its order of substitutes written out in full for every slot: made without knowing who
// is up, so that no Assign can depend on it.
class PlainTable {
 public:
  using Member = LookupTable::Member;

  PlainTable(absl::Span<const PoolMember> pool, uint32_t size, uint64_t seed)
      : size_(size), seed_(seed), homes_(size, LookupTable::kNoMember), orders_(size) {
    std::map<std::string, Member> by_name;
    for (size_t i = 0; i < pool.size(); ++i) by_name[pool[i].name] = static_cast<Member>(i);
    std::vector<uint32_t> weights;
    std::vector<Permutation> permutations;
    std::vector<Member> member;
    permutations_.resize(pool.size());
    for (const auto& [name, i] : by_name) {
      member.push_back(i);
      weights.push_back(pool[i].weight);
      permutations.push_back(permutations_[i] = PermutationOf(name, size, seed));
    }
    const std::vector<uint16_t> turns = PlainTurns(PlainQuotas(weights, size));
    if (turns.empty()) return;
    const PlainHomesResult homes = PlainHomes(permutations, turns);
    std::vector<std::vector<uint32_t>> slots_of(pool.size());  // in the order taken
    for (uint32_t slot : homes.taken) {
      homes_[slot] = member[homes.owners[slot]];
      slots_of[homes_[slot]].push_back(slot);
    }
    for (size_t home = 0; home < pool.size(); ++home) {
      OrderSubstitutes(static_cast<Member>(home), slots_of);
    }
  }

  const std::vector<Member>& homes() const { return homes_; }

  std::vector<Member> Assign(absl::Span<const Share> shares) const {
    std::vector<Member> result;
    for (uint32_t slot = 0; slot < size_; ++slot) result.push_back(AssignSlot(slot, shares));
    return result;
  }

  // How many slots nobody in their order is up for, so that the next slot upward lends them.
  size_t CountLent(absl::Span<const Share> shares) const {
    return std::count_if(orders_.begin(), orders_.end(), [&](const std::vector<Member>& order) {
      return std::none_of(order.begin(), order.end(), [&](Member m) { return shares[m] > 0; });
    });
  }

 private:
  void OrderSubstitutes(Member home, const std::vector<std::vector<uint32_t>>& slots_of) {
    const std::vector<uint32_t>& slots = slots_of[home];
    for (uint32_t slot : slots) orders_[slot] = {home};
    if (slots.size() == size_) return;  // there is nobody else
    const uint64_t others = size_ - slots.size();
    std::vector<uint32_t> attempts(slots.size());
    for (int round = 0; round < 64; ++round) {
      const bool evenly = round < 2;
      std::map<Member, uint64_t> had;
      for (size_t i = 0; i < slots.size(); ++i) {
        for (bool found = false; !found && attempts[i] < 64;) {
          const uint32_t key[2] = {slots[i], attempts[i]++};
          const uint64_t hash = XXH3_64bits_withSeed(key, sizeof(key), seed_);
          const Member member = homes_[PlainScale(hash, size_)];
          if (member == home) continue;
          const uint64_t share = (slots.size() * slots_of[member].size() + others - 1) / others;
          if (evenly && had[member] == share) continue;
          ++had[member];
          orders_[slots[i]].push_back(member);
          found = true;
        }
      }
    }
  }

  bool Takes(Member member, uint32_t slot, Share share) const {
    if (share == 0 || share == 10) return share == 10;
    const uint32_t key[3] = {slot, permutations_[member].offset, permutations_[member].skip};
    return PlainScale(XXH3_64bits_withSeed(key, sizeof(key), seed_), 10) < share;
  }

  Member AssignSlot(uint32_t slot, absl::Span<const Share> shares) const {
    for (Member m : orders_[slot]) {
      if (Takes(m, slot, shares[m])) return m;
    }
    for (Member m : orders_[slot]) {
      if (shares[m] > 0) return m;
    }
    for (uint32_t step = 1; step < size_; ++step) {
      const Member upward = homes_[(slot + step) % size_];
      if (upward != LookupTable::kNoMember && shares[upward] > 0) return upward;
    }
    return LookupTable::kNoMember;
  }

  const uint32_t size_;
  const uint64_t seed_;
  std::vector<Permutation> permutations_;  // by member
  std::vector<Member> homes_;
  std::vector<std::vector<Member>> orders_;  // of each slot: its home, then its substitutes
};

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_PLAIN_MAGLEV_H_
