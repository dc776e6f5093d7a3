// A look into the running packet path: what the flow tables hold, and where a packet would go.
//
// Nothing here disturbs it: flow tables are read while their workers write, a line at a time, and
// nobody waits for anybody. But ten million entries take a good part of a second to read, so that
// is for a helper thread.
//
// Thread contract: Controller::Inspect makes an Inspection on the control thread; from there on it
// may be used on any one thread, for as long as the Dataplane is there.
#ifndef GUIDEWAY_CONTROL_INSPECT_H_
#define GUIDEWAY_CONTROL_INSPECT_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dataplane/dataplane.h"
#include "dataplane/explanation.h"
#include "dataplane/flow_entry.h"
#include "maglev/snapshot.h"

namespace guideway {

namespace api {
class Explanation;
class FlowList;
class FlowLookup;
}  // namespace api

// Names and ids are those of `snapshot`.
struct Inspection {
  struct Worker {
    uint32_t core;
    uint64_t flow_capacity;
  };
  std::shared_ptr<const Snapshot> snapshot;  // in force
  const Dataplane* dataplane;
  std::vector<Worker> workers;
};

// Which entries are asked for, in words; nothing where it does not matter.
struct FlowQuery {
  std::string service;       // of its backends that are in force
  std::string backend;       // «service/backend»
  std::string state;         // as FlowStateName has it
  std::string older_than;    // an age like «10m»: the last packet came that long ago, or longer
  std::string younger_than;  // less long ago
};

class FlowFilter {
 public:
  // NotFound names what is not there, InvalidArgument what makes no sense.
  static absl::StatusOr<FlowFilter> Make(const Snapshot& snapshot, const FlowQuery& query);

  bool Wants(const FlowEntry& entry) const {
    return (backends_.empty() || (entry.backend < backends_.size() && backends_[entry.backend])) &&
           (!state_ || entry.state == *state_) && entry.age_ms >= least_age_ms_ &&
           entry.age_ms < age_bound_ms_;
  }

 private:
  std::vector<bool> backends_;  // by id; none: all
  std::optional<FlowState> state_;
  uint64_t least_age_ms_ = 0, age_bound_ms_ = std::numeric_limits<uint64_t>::max();
};

api::FlowList CountFlows(const Inspection& inspection, const FlowFilter& filter);

// The entries themselves, each as an api::FlowEntry on a line, bit by bit.
class FlowStream {
 public:
  FlowStream(Inspection inspection, FlowFilter filter)
      : inspection_(std::move(inspection)), filter_(std::move(filter)) {}

  // Appends the next lines: some tens of kilobytes, or none if there was nothing to be found in
  // many places. False at the end.
  bool Next(std::string* text);

 private:
  const Inspection inspection_;
  const FlowFilter filter_;
  size_t worker_ = 0;
  uint64_t place_ = 0;  // in its table
  std::vector<FlowEntry> entries_;
};

// `packet` is text from anybody; InvalidArgument says what is wrong with it.
absl::StatusOr<api::FlowLookup> LookUpFlow(const Inspection& inspection, const std::string& packet);
absl::StatusOr<Explanation> Explain(const Inspection& inspection, const std::string& packet);
// For the API. `why`: a sentence about why `home` is not the backend, where it is not; or empty.
api::Explanation ToApi(const Explanation& explanation, const std::string& why);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_INSPECT_H_
