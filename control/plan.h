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
// A backend that is another server now (IsSameServer) is another backend. What comes to VIPs and
// ports that are not a service's any more (it does not have them, or another service has a longer
// prefix) moves, too, and has to; nothing tells how much that is, so each VIP and each port (or
// range of them) of the service counts the same. Nor does anything tell how many clients are in
// which region: `moved` is of regions that have as many each, `moved_at_most` of the one, or of
// those who come from one into another, of which most moves.
//
// Files that the configuration names count by what they mean: comments and order are no change, of
// keys nothing is told but that they are others.
#ifndef GUIDEWAY_CONTROL_PLAN_H_
#define GUIDEWAY_CONTROL_PLAN_H_

#include <google/protobuf/repeated_field.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "control/config/config.pb.h"
#include "maglev/snapshot.h"

namespace guideway {

namespace api {
class Plan;
class Region;
}  // namespace api

struct PlanSide {
  const config::Config* config;  // of a LoadedConfig
  const Snapshot* snapshot;      // compiled from it
  // What is in the files that it names, by path, and the file at whose directory relative paths
  // start. Null: not known.
  const std::map<std::string, std::string>* files = nullptr;
  std::string home;
};

// How many connections a backend of the side before has open, those that are closing not counted.
using OpenConnections = absl::FunctionRef<uint64_t(BackendId)>;

// Who serves the clients of which of a service's regions.
void FillRegions(const Service& service, google::protobuf::RepeatedPtrField<api::Region>* regions);

// The keys that differ and are fixed while guidewayd runs, by the names that people know them by.
// `new_seed`: the hash seed is another, wherever it comes from.
std::vector<std::string> FixedKeysThatDiffer(const config::Config& before,
                                             const config::Config& after, bool new_seed);

// Everything but `warnings`.
api::Plan MakePlan(const PlanSide& before, const PlanSide& after, OpenConnections open);

// OutOfRange with the services of which more would move than the share `max_moved`, where
// `what` («new.yaml») is to be put in force; with how much more `access` would deny, if that is
// more. `plan_call` is the call that tells it all.
absl::Status CheckMoved(const api::Plan& plan, const std::string& what,
                        const std::string& plan_call, double max_moved);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_PLAN_H_
