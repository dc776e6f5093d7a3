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
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dataplane/dataplane.h"
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

// Which entries are meant.
class FlowFilter {
 public:
  // Of the service, or of the backend, a «service/backend»; of all with both empty. NotFound names
  // what is not there, InvalidArgument what makes no sense.
  static absl::StatusOr<FlowFilter> Make(const Snapshot& snapshot, const std::string& service,
                                         const std::string& backend);

  bool is_all() const { return wanted_.empty(); }
  bool Wants(BackendId id) const { return is_all() || (id < wanted_.size() && wanted_[id]); }

 private:
  std::vector<bool> wanted_;  // by id; none: all
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
absl::StatusOr<api::Explanation> Explain(const Inspection& inspection, const std::string& packet);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_INSPECT_H_
