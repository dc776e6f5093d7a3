// The schedulers that are no hash: for a connection that opens they name a backend by turns, by
// chance or by load, whatever its addresses are.
//
// So two balancers choose differently for one connection, and so does one before and after a
// restart. Only the flow table of the worker that saw it open knows where it went; without that
// entry (a packet that reaches another balancer, a table that was full) it goes where the lookup
// table says. docs/operations.md tells operators what that means behind ECMP.
//
// Plain data, made by Compile and never changed; any number of threads may read it.
#ifndef GUIDEWAY_MAGLEV_SCHEDULERS_H_
#define GUIDEWAY_MAGLEV_SCHEDULERS_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace guideway {

// How a backend is chosen for a connection that opens.
enum class Scheduler : uint8_t {
  kMaglev,            // by the lookup table
  kRoundRobin,        // in turns, by weight
  kLeastConnections,  // of two picked at random, the one with fewer connections for its weight
  kRandom,            // at random, by weight
  kGeographic,        // by the lookup table of the client's region
};
// «maglev», «round_robin», …
absl::string_view SchedulerName(Scheduler scheduler);

inline bool ChoosesByTable(Scheduler scheduler) {
  return scheduler == Scheduler::kMaglev || scheduler == Scheduler::kGeographic;
}

// Turns in proportion to weights, spread as evenly as can be (weights 1 and 2 make b a b), to be
// gone through again and again. As long as the sum of the weights without their common divisor, but
// at most kMaxTurns, where the proportions are rounded. Empty if every weight is 0. Weights are up
// to 655350, at most 65535 of them.
inline constexpr uint32_t kMaxTurns = 65536;
std::vector<uint16_t> TurnsByWeight(absl::Span<const uint32_t> weights);

// Random picks in proportion to weights, in one step: Walker's alias method (Electronics Letters
// 10(8), 1974), made the way of Vose (IEEE Transactions on Software Engineering 17(9), 1991). Equal
// columns, each shared by two: a random number chooses a column and then one of the two.
class WeightedPicks {
 public:
  WeightedPicks() = default;  // nobody
  // The same bounds as for TurnsByWeight.
  explicit WeightedPicks(absl::Span<const uint32_t> weights);

  bool empty() const { return columns_.empty(); }
  // How many have a weight.
  uint32_t size() const { return static_cast<uint32_t>(columns_.size()); }

  // `random`: 64 random bits. Not to be called when empty.
  uint16_t Pick(uint64_t random) const {
    const unsigned __int128 scaled = static_cast<unsigned __int128>(random) * columns_.size();
    const Column& column = columns_[static_cast<size_t>(scaled >> 64)];
    return static_cast<uint64_t>(scaled) >> 32 < column.own ? column.owner : column.other;
  }

 private:
  struct Column {
    uint32_t own;  // the owner's part of the column, of 2^32; any where both are the same
    uint16_t owner, other;
  };
  std::vector<Column> columns_;  // one for each that has a weight
};

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_SCHEDULERS_H_
