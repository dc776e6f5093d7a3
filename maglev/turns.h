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

// Everybody's turns in one sequence, as long as the sum of the quotas: entry t is the index of
// whose turn it is. There are as many rounds as the largest quota R; one with quota q has its j-th
// turn in round j·R/q, rounded down. So, as in Maglev, everybody's first turn is in the first round
// and nobody has two turns in a round; within one the lower index comes first. At most 65536
// quotas, of less than 2^32 together.
std::vector<uint16_t> TakeTurns(absl::Span<const uint32_t> quotas);

// The same turns in the fairest sequence: of the first n of T turns, one with quota q has the floor
// or the ceiling of n·q/T, for every n. So in any stretch, too, he is off by less than 2. (Rounds
// cannot do that: with quotas 10 and ten times 1, the ten would come in a row.)
std::vector<uint16_t> SpreadTurns(absl::Span<const uint32_t> quotas);

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_TURNS_H_
