// From the configuration to the Plan: which core does what, which queue goes to whom.
//
// A pure function of the configuration, of what the devices can do and of the cores that the
// process may use, so every machine is a row in a test. guidewayd calls it twice: with what device
// names say (DPDK must be told the cores before it can open a device; `--dry_run` ends here), and
// again with what the opened devices say. Cores are the same both times, only queues may differ.
//
// The rules, besides those that hold for every Plan (dataplane/io/plan.h):
//   * Workers run on the cores of `dataplane.workers`, without it on the highest core there is.
//   * The control thread gets all other cores. With a single core it shares it with the worker;
//     with more, not to leave it one is an error.
//   * `idle` is what the configuration says, else backoff if any device is virtual, else poll.
//   * A device with RSS gets an RX queue for each worker, as far as it has so many. Others get one,
//     or as many as they insist on, and interface i gives them to worker i modulo workers.
#ifndef GUIDEWAY_LB_TOPOLOGY_H_
#define GUIDEWAY_LB_TOPOLOGY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "control/config/config.h"
#include "dataplane/io/plan.h"

namespace guideway {

struct Core {
  uint32_t id = 0;
  int numa_node = -1;  // -1: unknown
};

// The cores that this thread may run on, ascending.
std::vector<Core> AllowedCores();

// `facts`: one for each interface, in the configuration's order. `allowed` is not empty. An error
// is a line about the file as those of LoadConfig: place, key, what was found, what is allowed.
absl::StatusOr<Plan> MakePlan(const LoadedConfig& loaded, const std::vector<DeviceFacts>& facts,
                              const std::vector<Core>& allowed);

// For people, several lines.
std::string Describe(const Plan& plan);

}  // namespace guideway

#endif  // GUIDEWAY_LB_TOPOLOGY_H_
