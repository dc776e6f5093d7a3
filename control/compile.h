// Compile: the pure function that decides. Configuration, state of backends, ids and routes go in;
// the Snapshot by which workers forward comes out.
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
//     services with the same table and the same backends up share that, too;
//   - Routes that are equal are the same object.
// (What LoadConfig has made of the file, maps of regions and QUIC ids, counts as equal if it is the
// same object: a file that is read again makes new ones.)
//
// Backends are sorted by region and name, so that the order of the file matters to nothing.
//
// The daemon and `guideway replay` both call this; it needs no more of control than control/config.
#ifndef GUIDEWAY_CONTROL_COMPILE_H_
#define GUIDEWAY_CONTROL_COMPILE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "dataplane/dataplane.h"
#include "maglev/snapshot.h"

namespace guideway {

namespace config {
class Config;
}
struct LoadedConfig;

// Where packets go next, by destination; of a prefix that comes twice, the first counts.
using RouteList = std::vector<std::pair<Prefix, NextHop>>;

// What is known of a backend and a service beyond the configuration.
struct BackendFacts {
  BackendId id = kNoBackend;
  BackendState state = BackendState::kUp;
  Share share = kFullShare;
  std::optional<uint32_t> weight = std::nullopt;  // instead of the configuration's

  friend bool operator==(const BackendFacts&, const BackendFacts&) = default;
};
struct ServiceFacts {
  ServiceId id = 0;
  std::vector<BackendFacts> backends;  // in the order of the configuration

  friend bool operator==(const ServiceFacts&, const ServiceFacts&) = default;
};

struct CompileInput {
  uint64_t version = 1;  // of the Snapshot to be
  std::shared_ptr<const LoadedConfig> loaded;
  uint64_t hash_seed = 0;
  std::vector<ServiceFacts> services;        // in the order of the configuration
  RouteList routes;                          // of backends, and of all else that is sent
  std::vector<IpAddress> own_addresses;      // of this host, besides the tunnels' sources
  std::shared_ptr<const Snapshot> previous;  // or null
};

// The `routes` of the configuration, as for `routing: static`. `interfaces` are in its order; a
// route by one that is not there yet is left out.
RouteList StaticRoutes(const config::Config& config, absl::Span<const InterfaceStatus> interfaces);

// What a Compile did.
struct CompileStats {
  uint64_t tables_built = 0;
};

// The services of the Snapshot are in the order of the configuration. An InvalidArgument names what
// in the configuration cannot be compiled. `stats` may be null.
absl::StatusOr<std::shared_ptr<const Snapshot>> Compile(const CompileInput& input,
                                                        CompileStats* stats = nullptr);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_COMPILE_H_
