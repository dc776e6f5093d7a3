// What a change of configuration would do, before it is done.
//
// Pure: both sides are a configuration and the Snapshot that Compile made of it. Whoever asks
// decides what they assume of health, and should assume the same on both sides.
//
// What moves. A service's new connections are a measure over the client's hash: each goes to the
// backend of its slot. `moved` is the part of it whose backend differs, exact for tables of
// whatever sizes; where the hash itself becomes another (seed, affinity), what it comes to on
// average. The least that could move is what backends lose of their shares, since nobody else's
// need to. With a scheduler that is no hash nothing has a place to move from: there both are that.
// A backend with another address is another backend.
#ifndef GUIDEWAY_CONTROL_PLAN_H_
#define GUIDEWAY_CONTROL_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "control/config/config.pb.h"
#include "maglev/snapshot.h"

namespace guideway {

namespace api {
class Plan;
}

struct PlanSide {
  const config::Config* config;  // of a LoadedConfig
  const Snapshot* snapshot;      // compiled from it
};

// How many connections a backend of the side before has open.
using OpenConnections = absl::FunctionRef<uint64_t(BackendId)>;

// The keys that differ and are fixed while guidewayd runs, by the names that people know them by.
// `new_seed`: the hash seed is another, wherever it comes from.
std::vector<std::string> FixedKeysThatDiffer(const config::Config& before,
                                             const config::Config& after, bool new_seed);

// Everything but `warnings`.
api::Plan MakePlan(const PlanSide& before, const PlanSide& after, OpenConnections open);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_PLAN_H_
