// Compile: the pure function that decides. Configuration, state of backends, ids and interfaces go
// in; the Snapshot by which workers forward comes out.
//
// Pure: the same input makes an equal Snapshot; no clock, no I/O, no state. It may run on any
// thread as long as nobody changes the input meanwhile, and it may take long (seconds for a cold
// start with a thousand services), so the controller gives it to the helper thread.
//
// What did not change since the previous Snapshot is shared with the new one:
//   - a Service that is equal in everything is the same object;
//   - a LookupTable is built only where names or weights of the pool, the size or the seed are new
//     to this fleet: services with equal ones share one;
//   - a Service whose backends only changed state keeps its table and gets a new assignment;
//     services with the same table and the same backends up share that, too.
//
// Backends are sorted by region and name, so that the order of the file matters to nothing.
#ifndef GUIDEWAY_CONTROL_COMPILE_H_
#define GUIDEWAY_CONTROL_COMPILE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "dataplane/dataplane.h"
#include "maglev/snapshot.h"

namespace guideway {

struct LoadedConfig;

// What is known of a backend and a service beyond the configuration.
struct BackendFacts {
  BackendId id = kNoBackend;
  BackendState state = BackendState::kUp;
  Share share = kFullShare;
};
struct ServiceFacts {
  ServiceId id = 0;
  std::vector<BackendFacts> backends;  // in the order of the configuration
};

struct CompileInput {
  uint64_t version = 1;                        // of the Snapshot to be
  std::shared_ptr<const LoadedConfig> loaded;  // nothing in `unsupported`
  uint64_t hash_seed = 0;
  std::vector<ServiceFacts> services;        // in the order of the configuration
  std::vector<InterfaceStatus> interfaces;   // in the order of the configuration
  std::shared_ptr<const Snapshot> previous;  // or null
};

// The services of the Snapshot are in the order of the configuration. An InvalidArgument names what
// in the configuration cannot be compiled.
absl::StatusOr<std::shared_ptr<const Snapshot>> Compile(const CompileInput& input);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_COMPILE_H_
