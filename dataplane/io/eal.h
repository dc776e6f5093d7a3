// DPDK's environment (EAL): cores, huge pages, the log. One per process, from Start to destruction;
// DPDK allows no second one after it.
//
// Everything that a machine commonly lacks is looked for before DPDK is asked, by CheckMachine, so
// that what is missing is one sentence with what to do about it. What DPDK itself has to say goes
// through glog. Until Settle its complaints are held back (--v=1 shows them): drivers complain
// about much that does not matter, and where it does, the error of the step that failed quotes it.
//
// Devices are not given to EAL but attached one by one (Interface::Attach), so that a failure has
// a name; only PCI devices have to be allowed here.
//
// Huge pages: as files, if a hugetlbfs is mounted, so that secondary processes (dpdk-proc-info,
// dpdk-dumpcap) can attach; without files (--in-memory) if there is no mount. Without huge pages
// all memory is taken at start, `memory_bytes` of it.
//
// Thread contract: all by the thread that called Start, which becomes EAL's main lcore and is
// pinned to the control cores; threads that it makes later inherit that.
#ifndef GUIDEWAY_DATAPLANE_IO_EAL_H_
#define GUIDEWAY_DATAPLANE_IO_EAL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace guideway {

struct EalOptions {
  // Keeps the files of processes that run side by side apart. The same for every start of one
  // daemon, so that EAL clears away the huge pages that a crash has left.
  std::string file_prefix = "guideway";
  std::vector<uint32_t> control_cores;
  std::vector<uint32_t> worker_cores;  // worker i runs on lcore i + 1
  std::vector<std::string> devices;    // as the configuration writes them
  bool hugepages = true;
  uint64_t memory_bytes = 0;            // for packet buffers; see PlanPools
  uint64_t table_bytes = 0;             // of flow tables: in huge pages too, if there are enough
  std::vector<std::string> extra_args;  // after all others, as they are
};

// Whether this machine has what `options` need: devices, huge pages, permissions. The first thing
// that is missing is a FailedPrecondition, NotFound or PermissionDenied with what to do about it.
// Files are looked up under `root` (tests).
absl::Status CheckMachine(const EalOptions& options, const std::string& root = "");

class Eal {
 public:
  // CheckMachine and EAL's initialisation.
  static absl::StatusOr<std::unique_ptr<Eal>> Start(const EalOptions& options);
  ~Eal();
  Eal(const Eal&) = delete;
  Eal& operator=(const Eal&) = delete;

  // What DPDK has complained about since the last call, « (DPDK says: …)», or nothing.
  std::string TakeComplaints();

  // From here on complaints go to the log as they come.
  void Settle();

 private:
  class Log;
  explicit Eal(std::unique_ptr<Log> log);

  std::unique_ptr<Log> log_;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_IO_EAL_H_
