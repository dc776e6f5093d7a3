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
//      and the history has it, could not keep it, or waits no longer for a disk that does not
//      answer; or when it is refused. One that changes nothing is answered when what made it so is
//      kept.
//   4. An override by hand holds until it is undone, its backend leaves the configuration, or a
//      configuration is put in force that has the same weight.
//   5. A plan is made like a change, by a Compile of its own, and leaves no trace. The change that
//      it is of and the one that is put in force cannot differ: one round does both. What was asked
//      by hand and is not in force yet is on neither side of it.
//   6. A backend keeps its health when its question changes, until the answers to the new one bring
//      it down or up.
//   7. What is in force in the end is what requests come to in the order in which they came. What
//      is asked by hand waits for no file that is read and for no disk: if a change that comes
//      before it brings overrides of its own, it is done once more on top of them.
//
// What is fixed while the process runs: interfaces, workers, flows_per_worker, hugepages, idle, the
// control socket, the read-only server and the hash seed (another would give every connection
// another hash, and so lose its entry in the flow tables). A configuration that differs in one of
// them is refused.
//
// Thread contract: construct, call and destroy on the loop's thread. Callbacks are called there, as
// tasks of the loop, so that they may call anything here; none once it is destroyed. The dataplane,
// loop, prober and history must outlive it.
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
class Done;
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
    // Whether guidewayd could start with a configuration on this host, as far as its cores go: or a
    // line with the place of what it cannot do. Null: it could.
    std::function<absl::Status(const LoadedConfig&)> can_start = nullptr;
    // Asked before each Compile.
    std::function<std::vector<IpAddress>()> own_addresses = HostAddresses;
  };

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
    std::shared_ptr<void> text_room = nullptr;  // let go of when it is decided
  };
  void Apply(ApplyRequest request, ApplyDone done);

  // What Apply would change. Changes nothing, and takes its turn among the changes.
  struct PlanRequest {
    std::string name;
    std::string text;
    bool discard_overrides = false;
    std::shared_ptr<void> text_room = nullptr;  // as of ApplyRequest
  };
  using PlanDone = std::function<void(absl::StatusOr<api::Plan>)>;
  void Plan(PlanRequest request, PlanDone done);

  // Puts a revision in force again: its configuration and its overrides. Without a number, the
  // newest with another configuration than the one that is in force when its turn comes. NotFound
  // names the numbers there are. DeadlineExceeded: the disk does not answer. `max_moved` as of
  // Apply.
  void Rollback(std::optional<uint64_t> number, std::string who, ApplyDone done,
                double max_moved = 1);
  // What it would change, as Plan tells it.
  void PlanRollback(std::optional<uint64_t> number, PlanDone done);

  // Overrides: one backend by hand. NotFound names what there is.
  struct BackendRequest {
    std::string service;
    std::string backend;
    std::string who;
  };
  using Done = std::function<void(absl::StatusOr<api::Done>)>;
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
  // NotFound names the numbers there are. DeadlineExceeded: the disk does not answer.
  using RevisionDone = std::function<void(absl::StatusOr<api::RevisionText>)>;
  void GetRevision(uint64_t number, RevisionDone done) const;
  // Why this backend does not take all new connections that the lookup table has for it: «web-2 is
  // drained by hand (alice, 2026-01-02T03:04:05)». Empty: it does, or there is no such backend.
  std::string WhyUnused(const std::string& service, const std::string& backend) const;
  // For a look into the packet path, on another thread.
  Inspection Inspect() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONTROLLER_H_
