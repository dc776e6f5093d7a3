// Slow start: a backend that is new, or comes back, gets its share of new connections in ten steps.
//
// The first tenth at once, all ten when `slow_start` of its service has passed since; in between a
// tenth more every ninth of it. Which slots a tenth stands for is the lookup table's affair
// (maglev/lookup_table.h), so balancers that are at the same step agree. Where all of a pool are in
// their first tenth, each has what its weight says.
//
// A backend comes (back) when it begins to take new connections: it was down, drained or checked,
// or not in the configuration. At the start of the daemon all get all at once. Who has all has
// arrived: nothing takes it back but a failure or a drain.
//
// Steps are taken on a grid, a quarter of a second apart, so that those of many backends are one
// change of the Snapshot.
//
// Thread contract: the control thread's. Time is passed in.
#ifndef GUIDEWAY_CONTROL_SLOW_START_H_
#define GUIDEWAY_CONTROL_SLOW_START_H_

#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "control/compile.h"
#include "control/config/config.h"

namespace guideway {

class SlowStart {
 public:
  // Sets the shares of a service's backends, whose states are set: what a Compile now should know.
  void SetShares(const config::Service& service, absl::Duration now, ServiceFacts* facts) const;

  // What was compiled with these shares is in force since `now`.
  void Commit(const CompileInput& in_force, absl::Duration now);

  // When a backend is to have more than it has in force, maybe in the past; InfiniteDuration if all
  // have their full share.
  absl::Duration NextStep() const;

 private:
  // A backend that takes new connections, and not all of its share yet.
  struct Started {
    absl::Duration since;
    absl::Duration over;  // the service's slow_start
    Share share;          // in force
  };

  std::vector<bool> takes_;  // by BackendId: new connections; of those behind its end nobody
  absl::flat_hash_map<BackendId, Started> started_;
  bool is_first_ = true;  // nothing has been in force yet
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_SLOW_START_H_
