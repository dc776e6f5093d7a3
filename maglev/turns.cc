#include "maglev/turns.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace guideway {

std::vector<uint32_t> Apportion(absl::Span<const uint32_t> weights, uint32_t total) {
  std::vector<uint32_t> quotas(weights.size());
  const uint64_t sum = std::accumulate(weights.begin(), weights.end(), uint64_t{0});
  if (sum == 0) return quotas;

  // Remainders are below 2^36; with the index, reversed, beneath them, all keys differ.
  std::vector<uint64_t> remainders(weights.size());
  uint32_t left = total;
  uint64_t whole = 0, remainder = 0;  // of the weight before: they are often equal
  for (size_t i = 0; i < weights.size(); ++i) {
    if (i == 0 || weights[i] != weights[i - 1]) {
      const uint64_t share = uint64_t{total} * weights[i];
      whole = share / sum;
      remainder = share % sum;
    }
    quotas[i] = static_cast<uint32_t>(whole);
    remainders[i] = remainder << 16 | (0xffff - i);
    left -= quotas[i];
  }
  std::nth_element(remainders.begin(), remainders.begin() + left, remainders.end(),
                   std::greater<>());
  for (uint32_t k = 0; k < left; ++k) ++quotas[0xffff - (remainders[k] & 0xffff)];
  return quotas;
}

std::vector<uint16_t> TakeTurns(absl::Span<const uint32_t> quotas, Pace pace) {
  if (quotas.empty()) return {};
  const auto [least, most] = std::minmax_element(quotas.begin(), quotas.end());
  const auto total = std::accumulate(quotas.begin(), quotas.end(), uint32_t{0});
  const uint32_t rounds = pace == Pace::kInRounds ? *most : total;
  std::vector<uint16_t> turns(total);

  if (pace == Pace::kInRounds && *most - *least <= 1) {
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
      // In 2q-ths, so that the half turn at which kSmooth begins is a whole number of them.
      const uint64_t whole = rounds / q, fraction = 2 * (rounds % q);
      uint64_t round = 0, above = 0;
      if (pace == Pace::kSmooth) {
        round = rounds / (2 * q);
        above = rounds % (2 * q);
      }
      for (uint32_t j = 0; j < q; ++j) {
        visit(round, static_cast<uint16_t>(i));
        round += whole;
        above += fraction;
        if (above >= 2 * q) {
          above -= 2 * q;
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

}  // namespace guideway
