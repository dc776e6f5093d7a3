// Step one of the lookup table: everybody walks a permutation of his own and takes, turn by turn,
// his next slot that is free (Maglev: Eisenbud et al., NSDI 2016, section 3.4).
//
// The table is the plain loop's, slot for slot; the way to it is another:
//
//   free slots   many                        few                     √M or fewer
//   way          Walk, eight probes at once, for a batch of turns    Rank
//
// Walk. Free slots are bits, so those of the default table fit into a core's first cache. A probe
// that fails costs little; not knowing how many will fail costs much (a mispredicted branch). So
// the turns of a batch look for their slots side by side, against the bits as they were when it
// began, and then take what they found in order. A slot that was free can only have become taken,
// so whoever finds his taken just walks on: the outcome is that of one turn after the other.
//
// Rank. With F slots free, a walk tries M/F on average: for the last √M slots as many probes as for
// all others. But the place of a slot in a permutation can be computed: (slot - offset)·skip⁻¹ mod
// M. So whoever has his turn takes, of the free slots, the one with the lowest place, at the cost
// of F multiplications.
#ifndef GUIDEWAY_MAGLEV_HOMES_H_
#define GUIDEWAY_MAGLEV_HOMES_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace guideway {

// offset, offset + skip, offset + 2·skip, … modulo the table's size, which is a prime.
struct Permutation {
  uint32_t offset;  // below the size
  uint32_t skip;    // 1 to size - 1
};

// a + b modulo size, both below it. Where size is too much to subtract, the difference wraps around
// and is huge: the minimum is right either way, without a branch that nobody could predict.
inline uint32_t AddModulo(uint32_t a, uint32_t b, uint32_t size) {
  return std::min(a + b, a + b - size);
}

struct Homes {
  std::vector<uint16_t> owners;  // of each slot: an index into `permutations`
  std::vector<uint32_t> ranked;  // the slots that were found by Rank, in the order of their turns
};

// `turns` has an entry for each slot of the table, an index into `permutations`; its size is a
// prime below 2^29.
Homes TakeHomes(std::vector<Permutation> permutations, absl::Span<const uint16_t> turns);

namespace internal {
// The same without Walk's vector instructions, as on a machine that has no AVX2.
Homes TakeHomesPortably(std::vector<Permutation> permutations, absl::Span<const uint16_t> turns);
}  // namespace internal

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_HOMES_H_
