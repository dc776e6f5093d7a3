#include "maglev/turns.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>
#include <utility>

namespace guideway {

std::vector<uint32_t> Apportion(absl::Span<const uint32_t> weights, uint32_t total) {
  std::vector<uint32_t> quotas(weights.size());
  const uint64_t sum = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
  if (sum == 0) return quotas;

  if (std::adjacent_find(weights.begin(), weights.end(), std::not_equal_to<>()) == weights.end()) {
    const auto n = static_cast<uint32_t>(weights.size());
    for (uint32_t i = 0; i < n; ++i) quotas[i] = total / n + (i < total % n);
    return quotas;
  }
  // Remainders are below 2^36; with the index, reversed, beneath them, all keys differ.
  std::vector<uint64_t> remainders(weights.size());
  uint32_t left = total;
  for (size_t i = 0; i < weights.size(); ++i) {
    const uint64_t share = uint64_t{total} * weights[i];
    quotas[i] = static_cast<uint32_t>(share / sum);
    remainders[i] = share % sum << 16 | (0xffff - i);
    left -= quotas[i];
  }
  std::nth_element(remainders.begin(), remainders.begin() + left, remainders.end(),
                   std::greater<>());
  for (uint32_t k = 0; k < left; ++k) ++quotas[0xffff - (remainders[k] & 0xffff)];
  return quotas;
}

std::vector<uint16_t> TakeTurns(absl::Span<const uint32_t> quotas) {
  if (quotas.empty()) return {};
  const auto [least, most] = std::minmax_element(quotas.begin(), quotas.end());
  const uint32_t rounds = *most;
  std::vector<uint16_t> turns(std::accumulate(quotas.begin(), quotas.end(), size_t{0}));

  if (*most - *least <= 1) {
    // Equal weights: j·R/q is j. Everybody in each round but the last.
    auto out = turns.begin();
    for (uint32_t round = 0; round < *least; ++round, out += quotas.size()) {
      std::iota(out, out + quotas.size(), uint16_t{0});
    }
    for (size_t i = 0; out != turns.end(); ++i) {
      if (quotas[i] > *least) *out++ = static_cast<uint16_t>(i);
    }
    return turns;
  }

  // A counting sort by round, in the order of the index. The rounds of one with quota q go up by
  // R/q: a whole number and a fraction, added up without a division a turn.
  const auto each_turn = [&](auto visit) {
    for (size_t i = 0; i < quotas.size(); ++i) {
      const uint64_t q = quotas[i];
      if (q == 0) continue;
      const uint64_t whole = rounds / q, fraction = rounds % q;
      uint64_t round = 0, above = 0;  // in q-ths
      for (uint32_t j = 0; j < q; ++j) {
        visit(round, static_cast<uint16_t>(i));
        round += whole;
        above += fraction;
        if (above >= q) {
          above -= q;
          ++round;
        }
      }
    }
  };
  std::vector<uint32_t> next(rounds + size_t{1});  // where the next turn of each round goes
  each_turn([&](uint64_t round, uint16_t) { ++next[round + 1]; });
  std::partial_sum(next.begin(), next.end(), next.begin());
  each_turn([&](uint64_t round, uint16_t i) { turns[next[round]++] = i; });
  return turns;
}

// The floor and the ceiling mean that the j-th turn of one with quota q is not before j·T/q,
// rounded down, and is over by (j + 1)·T/q, rounded up. Jobs of length one with such limits always
// fit (Baruah et al., Algorithmica 15, 1996: proportionate progress), and if they do, then whoever
// has to be done first may always go first.
std::vector<uint16_t> SpreadTurns(absl::Span<const uint32_t> quotas) {
  const uint64_t total = std::accumulate(quotas.begin(), quotas.end(), uint64_t{0});
  constexpr uint32_t kNobody = UINT32_MAX;
  std::vector<uint32_t> first(total + 1, kNobody);          // who waits until then: a list for each
  std::vector<uint32_t> following(quotas.size(), kNobody);  // after the first in such a list
  std::vector<uint32_t> taken(quotas.size());
  // Those who may go now, by when they have to be done and then by index.
  using Ready = std::pair<uint64_t, uint32_t>;
  std::priority_queue<Ready, std::vector<Ready>, std::greater<>> ready;
  const auto wait_until = [&](uint64_t turn, uint32_t i) {
    following[i] = std::exchange(first[turn], i);
  };
  for (uint32_t i = 0; i < quotas.size(); ++i) {
    if (quotas[i] > 0) wait_until(0, i);
  }
  std::vector<uint16_t> turns;
  turns.reserve(total);
  for (uint64_t turn = 0; turn < total; ++turn) {
    for (uint32_t i = first[turn]; i != kNobody; i = following[i]) {
      const uint64_t q = quotas[i];
      ready.emplace(((taken[i] + 1) * total + q - 1) / q, i);
    }
    const uint32_t i = ready.top().second;
    ready.pop();
    turns.push_back(static_cast<uint16_t>(i));
    if (++taken[i] == quotas[i]) continue;
    wait_until(std::max(turn + 1, taken[i] * total / quotas[i]), i);
  }
  return turns;
}

}  // namespace guideway
