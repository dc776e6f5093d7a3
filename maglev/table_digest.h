// A short number that is the same wherever the same slots belong to the same backends: balancers
// that agree show equal digests, others most likely do not (one in 2^52 by chance).
//
// It is made of names, so it knows nothing of ids, of the order of the configuration or of weights
// that make no difference, and it has 52 bits, which a double holds exactly: metrics are doubles.
// 30 µs for a table of 65537 slots.
#ifndef GUIDEWAY_MAGLEV_TABLE_DIGEST_H_
#define GUIDEWAY_MAGLEV_TABLE_DIGEST_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "maglev/lookup_table.h"

namespace guideway {

// Of one table, 64 bits: `names[m]` is the name of member m.
uint64_t PoolDigest(absl::Span<const absl::string_view> names,
                    absl::Span<const LookupTable::Member> slots);

// Of a service, 52 bits: the name of each region with the digest of the pool that serves it. Their
// order does not matter.
uint64_t TableDigest(absl::Span<const std::pair<absl::string_view, uint64_t>> pools);

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_TABLE_DIGEST_H_
