// The controller: the one owner of everything that changes.
//
// It holds what is wanted (the configuration, drains by hand) and what is so (health of backends,
// ids in use), and keeps one Snapshot in force. Whatever happens, the steps are the same:
//
//   event                       desired state           helper threads       in force
//   file, apply, drain,   ──►   changed, marked   ──►   LoadConfig,    ──►   Publish, reply,
//   probe, timer                to be compiled          Compile              log
//
// Invariants:
//   1. At most one Compile is under way; what happens meanwhile goes into the next one, all of it
//      together. Configurations are taken one by one, in order; while one is being read, all else
//      goes on.
//   2. A configuration is put in force whole or not at all. Any failure leaves the last good one
//      in force, and `config_error` says why until the next one succeeds.
//   3. A request is answered when the Snapshot that carries it is published, or when it is refused.
//   4. A drain by hand holds until it is undone or its backend leaves the configuration.
//   5. A backend keeps its health when its question changes, until the answers to the new one bring
//      it down or up.
//
// What is fixed while the process runs: interfaces, workers, flows_per_worker, hugepages, idle, the
// control socket, the read-only server and the hash seed (another would give every connection
// another hash, and so lose its entry in the flow tables). A configuration that differs in one of
// them is refused.
//
// Thread contract: construct, call and destroy on the loop's thread. Callbacks are called there,
// never from within the call they were given to. The dataplane, loop and prober must outlive it.
#ifndef GUIDEWAY_CONTROL_CONTROLLER_H_
#define GUIDEWAY_CONTROL_CONTROLLER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "control/config/config.h"
#include "control/event_loop.h"
#include "control/host_addresses.h"
#include "control/prober.h"
#include "dataplane/dataplane.h"

namespace guideway {

namespace api {
class ApplyResult;
class BackendList;
class ServiceList;
class Status;
}  // namespace api
struct MetricsFacts;

class Controller {
 public:
  struct Options {
    std::string config_file;   // what Reload reads; as Status shows it
    std::string version;       // of the program, for Status
    uint64_t jitter_seed = 1;  // of the probes' schedule
    // Asked before each Compile.
    std::function<std::vector<IpAddress>()> own_addresses = HostAddresses;
  };

  // `config` has nothing `unsupported`.
  Controller(EventLoop* loop, Prober* prober, Dataplane* dataplane, Options options,
             LoadedConfig config);
  ~Controller();

  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  // Compiles and publishes the first Snapshot, here and now, and starts the probes. An error says
  // why the configuration cannot be served; the controller must then not be used.
  absl::Status Start();

  // Reads the file again and puts it in force. The log tells what came of it.
  using ApplyDone = std::function<void(absl::StatusOr<api::ApplyResult>)>;
  void Reload(ApplyDone done = nullptr);

  // Puts `text` in force, a configuration whose errors are told as of a file `name`.
  void Apply(std::string name, std::string text, ApplyDone done);

  // Takes a backend out of new connections by hand, or puts it back. NotFound names what there is;
  // FailedPrecondition: it is the file that drains this backend.
  using Done = std::function<void(absl::Status)>;
  void Drain(const std::string& service, const std::string& backend, Done done);
  void Undrain(const std::string& service, const std::string& backend, Done done);

  // From here on Status says «stopping».
  void SetStopping();
  bool stopping() const;

  // What is so now.
  api::Status GetStatus() const;
  api::ServiceList GetServices() const;
  api::BackendList GetBackends() const;
  MetricsFacts GetMetrics() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONTROLLER_H_
