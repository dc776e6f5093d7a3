// The controller: the one owner of everything that changes.
//
// It holds what is wanted (the configuration, overrides by hand) and what is so (health of
// backends, ids in use), and keeps one Snapshot in force. Whatever happens, the steps are the same:
//
//   event                       desired state           helper threads       in force
//   file, apply, drain,   ──►   changed, marked   ──►   LoadConfig,    ──►   Publish, keep,
//   probe, timer                to be compiled          Compile              reply, log
//
// Invariants:
//   1. At most one Compile is under way; what happens meanwhile goes into the next one, all of it
//      together. Configurations are taken one by one, in order; while one is being read, all else
//      goes on.
//   2. A configuration is put in force whole or not at all. Any failure leaves the last good one
//      in force, and `config_error` says why until the next one succeeds.
//   3. Every configuration put in force and every override is a revision of the history
//      (control/history.h). A request is answered when the Snapshot that carries it is published
//      and the history has it, or could not keep it; or when it is refused.
//   4. An override by hand holds until it is undone or its backend leaves the configuration.
//   5. A plan is made like a change, by a Compile of its own, and leaves no trace. The change that
//      it is of and the one that is put in force cannot differ: one round does both.
//   6. A backend keeps its health when its question changes, until the answers to the new one bring
//      it down or up.
//
// What is fixed while the process runs: interfaces, workers, flows_per_worker, hugepages, idle, the
// control socket, the read-only server and the hash seed (another would give every connection
// another hash, and so lose its entry in the flow tables). A configuration that differs in one of
// them is refused.
//
// Thread contract: construct, call and destroy on the loop's thread. Callbacks are called there,
// never from within the call they were given to. The dataplane, loop, prober and history must
// outlive it.
#ifndef GUIDEWAY_CONTROL_CONTROLLER_H_
#define GUIDEWAY_CONTROL_CONTROLLER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "control/config/config.h"
#include "control/event_loop.h"
#include "control/history.h"
#include "control/host_addresses.h"
#include "control/prober.h"
#include "dataplane/dataplane.h"

namespace guideway {

namespace api {
class ApplyResult;
class BackendList;
class Plan;
class RevisionList;
class RevisionText;
class ServiceList;
class Status;
}  // namespace api
struct Inspection;
struct MetricsFacts;

class Controller {
 public:
  struct Options {
    std::string config_file;     // what Reload reads; as Status shows it
    std::string version;         // of the program, for Status
    uint64_t jitter_seed = 1;    // of the probes' schedule
    History* history = nullptr;  // null: one of this process alone
    // Asked before each Compile.
    std::function<std::vector<IpAddress>()> own_addresses = HostAddresses;
  };

  // The configuration has nothing `unsupported`.
  Controller(EventLoop* loop, Prober* prober, Dataplane* dataplane, Options options,
             Beginning beginning);
  ~Controller();

  Controller(const Controller&) = delete;
  Controller& operator=(const Controller&) = delete;

  // Compiles and publishes the first Snapshot, here and now, and starts the probes. An error says
  // why the configuration cannot be served; the controller must then not be used.
  absl::Status Start();

  // Reads the file again and puts it in force. The log tells what came of it.
  using ApplyDone = std::function<void(absl::StatusOr<api::ApplyResult>)>;
  void Reload(ApplyDone done = nullptr);

  // Puts a text in force, a configuration. It is refused, too, if more than the share `max_moved`
  // of any service's new connections would move by it.
  struct ApplyRequest {
    std::string name;  // of the file it is from, for errors
    std::string text;
    std::string who;
    bool discard_overrides = false;
    double max_moved = 1;
  };
  void Apply(ApplyRequest request, ApplyDone done);

  // What Apply would change. Changes nothing, and takes its turn among the changes.
  using PlanDone = std::function<void(absl::StatusOr<api::Plan>)>;
  void Plan(std::string name, std::string text, PlanDone done);

  // Puts a revision in force again: its configuration and its overrides. Without a number, the
  // newest with another configuration than the one in force. NotFound names the numbers there are.
  void Rollback(std::optional<uint64_t> number, std::string who, ApplyDone done);

  // Overrides: one backend by hand. NotFound names what there is.
  struct BackendRequest {
    std::string service;
    std::string backend;
    std::string who;
  };
  using Done = std::function<void(absl::Status)>;
  // Takes a backend out of new connections, or puts it back, also one that is held for flapping.
  // FailedPrecondition: it is the file that drains this backend.
  void Drain(BackendRequest request, Done done);
  void Undrain(BackendRequest request, Done done);
  // Gives it a weight of at most kMaxWeight; without one, or with the file's, that of the file.
  void SetWeight(BackendRequest request, std::optional<uint32_t> weight, Done done);

  // From here on Status says «stopping».
  void SetStopping();
  bool stopping() const;

  // What is so now.
  api::Status GetStatus() const;
  api::ServiceList GetServices() const;
  api::BackendList GetBackends() const;
  MetricsFacts GetMetrics() const;
  api::RevisionList GetHistory() const;
  // NotFound names the numbers there are.
  using RevisionDone = std::function<void(absl::StatusOr<api::RevisionText>)>;
  void GetRevision(uint64_t number, RevisionDone done) const;
  // For a look into the packet path, on another thread.
  Inspection Inspect() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONTROLLER_H_
