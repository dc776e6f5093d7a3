#include "tools/table_report.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace guideway {

Spread SpreadOf(absl::Span<const PoolMember> pool, absl::Span<const Share> shares,
                absl::Span<const LookupTable::Member> assignment) {
  const auto is_live = [&](size_t i) { return shares[i] != kDown && pool[i].weight > 0; };
  std::vector<uint32_t> slots(pool.size());
  for (LookupTable::Member m : assignment) {
    if (m != LookupTable::kNoMember) ++slots[m];
  }
  Spread spread;
  uint64_t weights = 0;
  for (size_t i = 0; i < pool.size(); ++i) {
    if (!is_live(i)) continue;
    ++spread.live;
    weights += pool[i].weight;
  }
  if (spread.live == 0) return spread;

  spread.slots_min = std::numeric_limits<uint32_t>::max();
  double busiest = 0;  // of what is fair
  for (size_t i = 0; i < pool.size(); ++i) {
    if (!is_live(i)) continue;
    spread.slots_min = std::min(spread.slots_min, slots[i]);
    spread.slots_max = std::max(spread.slots_max, slots[i]);
    const double fair =
        static_cast<double>(assignment.size()) * pool[i].weight / static_cast<double>(weights);
    busiest = std::max(busiest, slots[i] / fair);
  }
  spread.over_provision = busiest - 1;
  return spread;
}

Moves MovesBetween(const TableState& before, const TableState& after) {
  Moves moves;
  for (size_t slot = 0; slot < before.assignment.size(); ++slot) {
    const LookupTable::Member from = before.assignment[slot], to = after.assignment[slot];
    if (from == to) continue;
    const bool left = from != LookupTable::kNoMember && after.shares[from] < before.shares[from];
    const bool came = to != LookupTable::kNoMember && after.shares[to] > before.shares[to];
    ++(left || came ? moves.necessary : moves.collateral);
  }
  return moves;
}

}  // namespace guideway
