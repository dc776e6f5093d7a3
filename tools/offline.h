// A configuration as a daemon would have it in force, without a daemon: what `replay` and `explain`
// run packets against.
//
// Everything is a function of the file, the files it names, and `down`: backends are up but for
// those that are named or that the file drains; addresses of this host are those that the file
// gives. Where the daemon would ask the machine, there is one fixed answer:
//   * an interface without `mac` has 02:00:00:00:00:01;
//   * with `routing: kernel` every next hop is 02:00:00:00:00:fe, by the interface that the packet
//     came in by. Everything comes in by the first: a capture does not say.
#ifndef GUIDEWAY_TOOLS_OFFLINE_H_
#define GUIDEWAY_TOOLS_OFFLINE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "maglev/snapshot.h"

namespace guideway {

struct LoadedConfig;

struct Offline {
  std::shared_ptr<const LoadedConfig> loaded;
  std::shared_ptr<const Snapshot> snapshot;
  size_t flow_entries = 0;              // of a worker's flow table
  std::vector<std::string> interfaces;  // names, by index
};

// `config_file` as in tools/configuration.h. `down`: backends, as SERVICE/BACKEND. A kOutOfRange
// names one that is not there, and what is; any other error is about the configuration.
absl::StatusOr<Offline> LoadOffline(const std::string& config_file,
                                    const std::vector<std::string>& down);

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_OFFLINE_H_
