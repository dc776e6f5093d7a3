// What a lookup table does to new connections, in figures: how evenly it spreads them, and who of
// them is moved when backends fail and return.
//
// Pure functions of a pool, its members' shares and the assignments made by them (see
// maglev/lookup_table.h). Everything is counted slot by slot; nothing is taken from how the table
// is made.
#ifndef GUIDEWAY_TOOLS_TABLE_REPORT_H_
#define GUIDEWAY_TOOLS_TABLE_REPORT_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "maglev/lookup_table.h"

namespace guideway {

struct Spread {
  size_t live = 0;  // backends that take new connections: with a share and a weight
  // Slots of the live backend that has fewest and of the one that has most; 0 if nobody is live.
  uint32_t slots_min = 0, slots_max = 0;
  // The busiest live backend's part of the slots over its fair part, by weight among the live ones,
  // minus 1. 0 if nobody is live.
  double over_provision = 0;
};
Spread SpreadOf(absl::Span<const PoolMember> pool, absl::Span<const Share> shares,
                absl::Span<const LookupTable::Member> assignment);

// Slots that have another backend in the second of two states than in the first.
struct Moves {
  uint32_t necessary = 0;   // their backend went down, or they go to one that came back
  uint32_t collateral = 0;  // the rest
};
struct TableState {
  absl::Span<const Share> shares;
  absl::Span<const LookupTable::Member> assignment;
};
Moves MovesBetween(const TableState& before, const TableState& after);

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_TABLE_REPORT_H_
