// Pools that nobody has configured, to find out what tables are like: for `guideway table` and for
// what it is compared with (bench/maglev_rivals.cc).
//
// Pure; the same on every machine.
#ifndef GUIDEWAY_TOOLS_MADE_UP_POOL_H_
#define GUIDEWAY_TOOLS_MADE_UP_POOL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "maglev/lookup_table.h"

namespace guideway {

// Members backend-00000, backend-00001, …, sorted by name, of weight 100 each; or, if `weights` is
// not 0, of the weights 1, 2, … `weights` in turn.
std::vector<PoolMember> MadeUpPool(uint32_t backends, uint32_t weights = 0);

// The members of such a pool in the order in which they go down: a pseudo-random one for each seed.
std::vector<size_t> OrderOfFailures(uint32_t backends, uint64_t seed);

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_MADE_UP_POOL_H_
