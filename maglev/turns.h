// Sharing out by weight: who gets how many of a number of things, and in which order they come.
//
// The lookup table shares out slots this way, round robin its turns. Pure functions of their
// arguments, in integers: the same on every machine.
#ifndef GUIDEWAY_MAGLEV_TURNS_H_
#define GUIDEWAY_MAGLEV_TURNS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace guideway {

// How many of `total` each one gets: the floor or the ceiling of total·weight/sum (Hamilton's
// method of largest remainders; equal remainders are served in the order given). Weights are below
// 2^20, at most 65536 of them; weight 0 gets none. All 0 if every weight is.
std::vector<uint32_t> Apportion(absl::Span<const uint32_t> weights, uint32_t total);

// When the turns of one with a small quota fall between those of one with a large one.
enum class Pace : uint8_t {
  kInRounds,  // as many rounds as the largest quota has turns; everybody's first is in the first
  kSmooth,    // as evenly as can be: every stretch of turns is fair
};

// Everybody's turns in one sequence of T, the sum of the quotas: entry t is the index of whose turn
// it is. With quota q, of which R is the largest, the j-th turn is in round j·R/q (kInRounds) or at
// (j + 1/2)·T/q (kSmooth), both rounded down, where j counts from 0. So nobody has two turns in a
// round, or in one place; where several meet the lower index comes first. At most 65536 quotas, of
// less than 2^32 together.
std::vector<uint16_t> TakeTurns(absl::Span<const uint32_t> quotas, Pace pace);

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_TURNS_H_
