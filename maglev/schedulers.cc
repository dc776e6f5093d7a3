#include "maglev/schedulers.h"

#include <algorithm>
#include <numeric>

#include "maglev/turns.h"

namespace guideway {

absl::string_view SchedulerName(Scheduler scheduler) {
  switch (scheduler) {
    case Scheduler::kMaglev: return "maglev";
    case Scheduler::kRoundRobin: return "round_robin";
    case Scheduler::kLeastConnections: return "least_connections";
    case Scheduler::kRandom: return "random";
    case Scheduler::kGeographic: return "geographic";
  }
  return "unknown";
}

std::vector<uint16_t> TurnsByWeight(absl::Span<const uint32_t> weights) {
  uint32_t divisor = 0;
  uint64_t sum = 0;
  for (uint32_t w : weights) {
    divisor = std::gcd(divisor, w);
    sum += w;
  }
  if (sum == 0) return {};
  const auto length = static_cast<uint32_t>(std::min<uint64_t>(sum / divisor, kMaxTurns));
  return SpreadTurns(Apportion(weights, length));
}

WeightedPicks::WeightedPicks(absl::Span<const uint32_t> weights) {
  uint64_t sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    sum += weights[i];
    if (weights[i] > 0) columns_.push_back({0, static_cast<uint16_t>(i), static_cast<uint16_t>(i)});
  }
  // In units of sum/n, a column holds `sum` of them and i has n·weight to put into columns.
  const uint64_t n = columns_.size();
  std::vector<uint64_t> rest(n);
  std::vector<size_t> under, over;
  for (size_t c = 0; c < n; ++c) {
    rest[c] = n * weights[columns_[c].owner];
    (rest[c] < sum ? under : over).push_back(c);
  }
  // Who has less than a column leaves room in his own, which one who has more fills up.
  while (!under.empty()) {
    const size_t c = under.back();
    under.pop_back();
    const size_t filler = over.back();
    columns_[c].own = static_cast<uint32_t>((static_cast<unsigned __int128>(rest[c]) << 32) / sum);
    columns_[c].other = columns_[filler].owner;
    rest[filler] -= sum - rest[c];
    if (rest[filler] >= sum) continue;
    over.pop_back();
    under.push_back(filler);
  }
}

}  // namespace guideway
