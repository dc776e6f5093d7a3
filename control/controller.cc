#include "control/controller.h"

#include <prometheus/histogram.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "control/api/api.pb.h"
#include "control/compile.h"
#include "control/health.h"
#include "control/id_allocator.h"
#include "control/metered_prober.h"
#include "control/metrics.h"
#include "control/revision.h"
#include "control/slow_start.h"
#include "glog/logging.h"

namespace guideway {
namespace {

// How often old Snapshots and ids of what is gone are asked back from the dataplane.
constexpr absl::Duration kTidyInterval = absl::Milliseconds(250);

// State changes that are remembered for Status.
constexpr size_t kMaxEvents = 100;

// What is in force.
struct InForce {
  std::shared_ptr<const Revision> revision;
  std::shared_ptr<const Snapshot> snapshot;
};

// A configuration to be read and put in force.
struct Change {
  std::string name;                 // for error messages
  std::optional<std::string> text;  // nothing: read the file `name`
  Controller::ApplyDone done;       // may be null
};

// Calls both; either may be null.
Controller::ApplyDone Both(Controller::ApplyDone first, Controller::ApplyDone second) {
  if (first == nullptr) return second;
  if (second == nullptr) return first;
  return [first = std::move(first), second = std::move(second)](const auto& result) {
    first(result);
    second(result);
  };
}

// What one visit to the helper thread takes along and brings back.
struct Round {
  std::optional<Change> change;
  std::vector<Controller::Done> waiting;  // for what is wanted to be in force
  std::shared_ptr<const Revision> revision;
  CompileInput input;

  absl::StatusOr<LoadedConfig> loaded = absl::UnknownError("");
  absl::StatusOr<uint64_t> hash_seed = absl::UnknownError("");
  absl::StatusOr<std::shared_ptr<const Snapshot>> snapshot = nullptr;
  CompileStats stats;
  std::chrono::duration<double> compile_time = {};

  void RunCompile() {
    const auto begun = std::chrono::steady_clock::now();
    snapshot = Compile(input, &stats);
    compile_time = std::chrono::steady_clock::now() - begun;
  }
};

// A packet count of the dataplane as the API tells it.
void Fill(const PacketCounts& counts, api::PacketCounters* out) {
  out->set_received(counts.received);
  out->set_forwarded(counts.of(Verdict::kForward));
  out->set_replied(counts.of(Verdict::kReply));
  out->set_punted(counts.of(Verdict::kPunt));
  out->set_dropped(counts.of(Verdict::kDrop));
  for (size_t i = 0; i < kReasons; ++i) {
    (*out->mutable_drops())[std::string(kReasonInfo[i].name)] = counts.reasons[i];
  }
}

}  // namespace

class Controller::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(EventLoop* loop, Prober* prober, Dataplane* dataplane, Options options, LoadedConfig config)
      : loop_(loop),
        dataplane_(dataplane),
        options_(std::move(options)),
        started_(loop->Now()),
        first_(std::move(config)),
        prober_(prober, loop),
        checker_(loop, &prober_, options_.jitter_seed,
                 [this](const HealthTarget& target, const HealthReport& report) {
                   HealthChanged(target, report);
                 }),
        step_timer_(loop->NewTimer()),
        tidy_timer_(loop->NewTimer()) {}

  absl::Status Start();
  void Take(Change change);
  void SetByHand(bool drain, const std::string& service, const std::string& backend, Done done);

  const Options& options() const { return options_; }
  api::Status GetStatus() const;
  api::ServiceList GetServices() const;
  api::BackendList GetBackends() const;
  MetricsFacts GetMetrics() const;

  bool stopping_ = false;

 private:
  // A step of a change. Each ends on the loop, with the next step or the next round.
  void NextRound();
  void Load(std::shared_ptr<Round> round);
  void TakeLoaded(std::shared_ptr<Round> round);
  void CompileRound(std::shared_ptr<Round> round);
  void Compiled(std::shared_ptr<Round> round);

  absl::StatusOr<std::shared_ptr<const Revision>> MakeRevision(
      std::shared_ptr<const LoadedConfig> loaded, uint64_t hash_seed);
  void FillInput(Round& round) const;
  void Commit(Round& round);
  void CountCompile(const Round& round);
  uint64_t SumNewFlows(const Revision::Service& service) const;
  void CarryNewFlows(const Revision* before, const Revision& after);
  void ArmStepTimer();
  void Refuse(Change& change, const absl::Status& why);

  // Of a backend of the revision in force, or of the one that is to be next.
  HealthReport HealthOf(const Revision& revision, const Revision::Place& place) const;
  bool IsDrained(const Revision& revision, const Revision::Place& place) const;
  void HealthChanged(const HealthTarget& target, const HealthReport& report);
  absl::string_view StateOf(const Revision::Place& place) const;
  void Tidy();
  void Event(std::string text);

  double UptimeSeconds() const { return absl::ToDoubleSeconds(loop_->Now() - started_); }
  ServiceCounts CountsOf(ServiceId id) const;
  BackendCounts CountsOfBackend(BackendId id) const;

  // Constant after construction.
  EventLoop* const loop_;
  Dataplane* const dataplane_;
  const Options options_;
  const absl::Duration started_;
  const absl::Time start_time_ = absl::Now();

  // What is wanted.
  LoadedConfig first_;  // until Start takes it
  std::deque<Change> changes_;
  absl::flat_hash_set<std::string> drained_by_hand_;  // «service/backend»
  std::vector<Done> waiting_;                         // for the next Compile
  bool dirty_ = false;                                // something changed since the last one began

  // What is so.
  MeteredProber prober_;
  HealthChecker checker_;
  IdAllocator service_ids_{kMaxServices};
  IdAllocator backend_ids_{kMaxBackends};
  // What an id had counted when it was given to its name.
  absl::flat_hash_map<ServiceId, ServiceCounts> service_base_;
  absl::flat_hash_map<BackendId, BackendCounts> backend_base_;
  // Of each service in force: connections opened, less those to the backends that it has now. May
  // wrap below 0.
  absl::flat_hash_map<ServiceId, uint64_t> carried_new_flows_;

  // What is in force.
  InForce now_;
  uint64_t revision_ = 0;
  std::string applied_file_;  // where it came from, if not from the daemon's own file
  bool busy_ = false;         // a Compile is on the helper thread
  // The next configuration: it is being read meanwhile, or has been. Only a Compile waits for one.
  bool loading_ = false;
  std::shared_ptr<Round> loaded_;
  std::string config_error_;
  std::deque<api::Event> events_;
  SlowStart slow_start_;
  std::unique_ptr<Timer> step_timer_;  // of slow_start_
  std::unique_ptr<Timer> tidy_timer_;

  // For GetMetrics.
  uint64_t tables_built_ = 0;
  prometheus::Histogram compile_duration_{
      {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}};
};

absl::Status Controller::Impl::Start() {
  Round round;
  absl::StatusOr<uint64_t> seed = ReadHashSeed(first_.config, options_.config_file);
  if (!seed.ok()) return seed.status();
  auto revision = MakeRevision(std::make_shared<const LoadedConfig>(std::move(first_)), *seed);
  if (!revision.ok()) return revision.status();
  round.revision = *std::move(revision);
  FillInput(round);
  round.RunCompile();
  CountCompile(round);
  if (!round.snapshot.ok()) return round.snapshot.status();
  Commit(round);
  Tidy();
  return absl::OkStatus();
}

void Controller::Impl::Take(Change change) {
  changes_.push_back(std::move(change));
  NextRound();
}

void Controller::Impl::NextRound() {
  if (!loading_ && loaded_ == nullptr && !changes_.empty()) {
    auto round = std::make_shared<Round>();
    round->change = std::move(changes_.front());
    changes_.pop_front();
    // Several reloads that wait are one.
    while (!round->change->text && !changes_.empty() && !changes_.front().text) {
      round->change->done = Both(std::move(round->change->done), std::move(changes_.front().done));
      changes_.pop_front();
    }
    loading_ = true;
    Load(std::move(round));
  }
  if (busy_) return;
  if (loaded_ != nullptr) {
    TakeLoaded(std::exchange(loaded_, nullptr));
  } else if (dirty_) {
    auto round = std::make_shared<Round>();
    round->revision = now_.revision;
    CompileRound(std::move(round));
  }
}

void Controller::Impl::Load(std::shared_ptr<Round> round) {
  loop_->RunOnReader(
      [round, config_file = options_.config_file] {
        const Change& change = *round->change;
        round->loaded = change.text
                            ? LoadConfig(change.name, *change.text, ReadNamedFile, config_file)
                            : LoadConfigFile(change.name);
        if (round->loaded.ok()) {
          round->hash_seed = ReadHashSeed(round->loaded->config, config_file);
        }
      },
      [weak = weak_from_this(), round] {
        auto self = weak.lock();
        if (self == nullptr) return;
        self->loading_ = false;
        self->loaded_ = round;
        self->NextRound();
      });
}

void Controller::Impl::TakeLoaded(std::shared_ptr<Round> round) {
  absl::Status status = round->loaded.status();
  if (status.ok() && !round->loaded->unsupported.empty()) {
    status = absl::FailedPreconditionError(absl::StrJoin(round->loaded->unsupported, "\n"));
  }
  if (status.ok()) status = round->hash_seed.status();
  if (status.ok()) {
    status = CheckUnchanged(*now_.revision, round->loaded->config, *round->hash_seed);
  }
  if (status.ok()) {
    auto revision = MakeRevision(std::make_shared<const LoadedConfig>(*std::move(round->loaded)),
                                 *round->hash_seed);
    status = revision.status();
    if (revision.ok()) round->revision = *std::move(revision);
  }
  if (!status.ok()) {
    Refuse(*round->change, status);
    return NextRound();
  }
  CompileRound(std::move(round));
}

void Controller::Impl::CompileRound(std::shared_ptr<Round> round) {
  busy_ = true;
  round->waiting = std::exchange(waiting_, {});
  dirty_ = false;
  FillInput(*round);
  loop_->RunOnHelper([round] { round->RunCompile(); },
                     [weak = weak_from_this(), round] {
                       if (auto self = weak.lock()) self->Compiled(round);
                     });
}

void Controller::Impl::Compiled(std::shared_ptr<Round> round) {
  busy_ = false;
  CountCompile(*round);
  if (round->snapshot.ok()) {
    Commit(*round);
  } else if (round->change) {
    service_ids_.Abort();
    backend_ids_.Abort();
    Refuse(*round->change, round->snapshot.status());
    // What else this round took along is still wanted, under the old configuration.
    waiting_.insert(waiting_.begin(), std::make_move_iterator(round->waiting.begin()),
                    std::make_move_iterator(round->waiting.end()));
    dirty_ = true;
  } else {
    // The configuration compiled before, so this is not about it. The next event tries again.
    LOG(ERROR) << "the state could not be put in force: " << round->snapshot.status().message();
    for (Done& done : round->waiting) done(round->snapshot.status());
  }
  NextRound();
}

absl::StatusOr<std::shared_ptr<const Revision>> Controller::Impl::MakeRevision(
    std::shared_ptr<const LoadedConfig> loaded, uint64_t hash_seed) {
  auto revision = std::make_shared<Revision>();
  revision->loaded = std::move(loaded);
  revision->hash_seed = hash_seed;
  absl::Status status;
  for (int s = 0; status.ok() && s < revision->config().services_size(); ++s) {
    const config::Service& service = revision->config().services(s);
    const auto service_id = service_ids_.Acquire(service.name());
    if (status.Update(service_id.status()); !status.ok()) break;
    if (service_id->is_new) {
      service_base_[service_id->value] = dataplane_->service_counts(service_id->value);
    }
    Revision::Service& planned = revision->services.emplace_back();
    planned.id = service_id->value;
    for (int b = 0; b < service.backends_size(); ++b) {
      const config::Backend& backend = service.backends(b);
      const Revision::Place place = {s, b};
      const std::string name = revision->NameOf(place);
      const auto id = backend_ids_.Acquire(name);
      status.Update(id.status());
      if (!status.ok()) break;
      if (id->is_new) backend_base_[id->value] = dataplane_->backend_counts(id->value);
      Revision::Backend& to_be = planned.backends.emplace_back();
      to_be.id = id->value;
      to_be.address = AddressOf(backend);
      to_be.target = TargetOf(service, backend);
      revision->places.emplace(name, place);
      if (to_be.target) revision->askers[*to_be.target].push_back(place);
    }
  }
  if (!status.ok()) {
    service_ids_.Abort();
    backend_ids_.Abort();
    return status;
  }
  return revision;
}

HealthReport Controller::Impl::HealthOf(const Revision& revision,
                                        const Revision::Place& place) const {
  const Revision::Backend& backend = revision.at(place);
  if (!backend.target) return {Health::kUp, "not checked"};
  if (auto report = checker_.Report(*backend.target)) return *std::move(report);
  // Nobody has been asked this yet, so `revision` is still to come into force. At the start nothing
  // is known: all are taken for up, as the balancer's peers do and as it did itself before a
  // restart, so that connections find the backends they have.
  if (now_.revision == nullptr) return {Health::kUp, ""};
  // A machine that served goes on while a new question about it is open. Whoever asks the same
  // question presumes the same: it will have one answer.
  Health presumed = Health::kChecking;
  for (const Revision::Place& asker : revision.askers.at(*backend.target)) {
    auto before = now_.revision->places.find(revision.NameOf(asker));
    if (before == now_.revision->places.end() ||
        now_.revision->at(before->second).address != backend.address) {
      continue;
    }
    const Health was = HealthOf(*now_.revision, before->second).health;
    if (presumed != Health::kUp && was != Health::kChecking) presumed = was;
  }
  return {presumed, ""};
}

bool Controller::Impl::IsDrained(const Revision& revision, const Revision::Place& place) const {
  return revision.config().services(place.service).backends(place.backend).state() ==
             config::AdminState::drain ||
         drained_by_hand_.contains(revision.NameOf(place));
}

void Controller::Impl::FillInput(Round& round) const {
  const Revision& revision = *round.revision;
  CompileInput& input = round.input;
  input.version = now_.snapshot == nullptr ? 1 : now_.snapshot->version() + 1;
  input.loaded = revision.loaded;
  input.hash_seed = revision.hash_seed;
  input.own_addresses = options_.own_addresses();
  input.routes = StaticRoutes(revision.config(), dataplane_->interfaces());
  input.previous = now_.snapshot;
  for (size_t s = 0; s < revision.services.size(); ++s) {
    ServiceFacts& facts = input.services.emplace_back();
    facts.id = revision.services[s].id;
    for (size_t b = 0; b < revision.services[s].backends.size(); ++b) {
      const Revision::Place place = {static_cast<int>(s), static_cast<int>(b)};
      const Health health = HealthOf(revision, place).health;
      BackendState state = BackendState::kUp;
      if (health == Health::kDown) {
        state = BackendState::kDown;
      } else if (health == Health::kChecking || IsDrained(revision, place)) {
        state = BackendState::kDrain;
      }
      facts.backends.push_back({revision.at(place).id, state});
    }
    slow_start_.SetShares(revision.config().services(static_cast<int>(s)), loop_->Now(), &facts);
  }
}

void Controller::Impl::Commit(Round& round) {
  const bool is_new = round.revision != now_.revision;
  // In file order. With the health of this moment: it may have changed since the Compile began.
  std::vector<HealthChecker::Wanted> wanted;
  if (is_new) {
    const std::vector<Revision::Service>& services = round.revision->services;
    for (size_t s = 0; s < services.size(); ++s) {
      for (size_t b = 0; b < services[s].backends.size(); ++b) {
        if (!services[s].backends[b].target) continue;
        const Revision::Place place = {static_cast<int>(s), static_cast<int>(b)};
        wanted.push_back(
            {*services[s].backends[b].target, HealthOf(*round.revision, place).health});
      }
    }
  }
  if (is_new) CarryNewFlows(now_.revision.get(), *round.revision);
  now_ = {round.revision, *round.snapshot};
  dataplane_->Publish(now_.snapshot);
  slow_start_.Commit(round.input, loop_->Now());
  ArmStepTimer();
  if (is_new) {
    ++revision_;
    config_error_.clear();
    service_ids_.Commit(now_.snapshot->version());
    backend_ids_.Commit(now_.snapshot->version());
    for (auto it = drained_by_hand_.begin(); it != drained_by_hand_.end();) {
      if (now_.revision->places.contains(*it)) {
        ++it;
      } else {
        drained_by_hand_.erase(it++);
      }
    }
    checker_.SetTargets(wanted);
    for (const std::string& warning : now_.revision->loaded->warnings) LOG(WARNING) << warning;
    applied_file_ = round.change && round.change->text ? round.change->name : "";
    Event(
        absl::StrCat("revision ", revision_, " in force: services ", now_.revision->services.size(),
                     ", backends ", now_.revision->places.size(),
                     applied_file_.empty() ? "" : absl::StrCat("; applied from ", applied_file_)));
  }
  if (round.change && round.change->done) {
    api::ApplyResult result;
    result.set_revision(revision_);
    for (const std::string& warning : now_.revision->loaded->warnings) result.add_warnings(warning);
    round.change->done(std::move(result));
  }
  for (Done& done : round.waiting) done(absl::OkStatus());
}

void Controller::Impl::CountCompile(const Round& round) {
  tables_built_ += round.stats.tables_built;
  compile_duration_.Observe(round.compile_time.count());
}

uint64_t Controller::Impl::SumNewFlows(const Revision::Service& service) const {
  uint64_t sum = 0;
  for (const Revision::Backend& b : service.backends) sum += CountsOfBackend(b.id).new_flows;
  return sum;
}

// A service's count of connections goes on where it was, whichever backends leave or come back.
void Controller::Impl::CarryNewFlows(const Revision* before, const Revision& after) {
  absl::flat_hash_map<ServiceId, uint64_t> counted;
  if (before != nullptr) {
    for (const Revision::Service& service : before->services) {
      counted[service.id] = SumNewFlows(service) + carried_new_flows_.at(service.id);
    }
  }
  carried_new_flows_.clear();
  for (const Revision::Service& service : after.services) {
    carried_new_flows_[service.id] = counted[service.id] - SumNewFlows(service);
  }
}

void Controller::Impl::ArmStepTimer() {
  const absl::Duration next = slow_start_.NextStep();
  if (next == absl::InfiniteDuration()) return step_timer_->Cancel();
  step_timer_->Set(next, [this] {
    dirty_ = true;
    NextRound();
  });
}

void Controller::Impl::Refuse(Change& change, const absl::Status& why) {
  config_error_ = std::string(why.message());
  for (absl::string_view line : absl::StrSplit(why.message(), '\n')) LOG(ERROR) << line;
  Event(absl::StrCat("configuration ", change.name, " refused, revision ", revision_,
                     " stays in force"));
  if (change.done) change.done(why);
}

void Controller::Impl::HealthChanged(const HealthTarget& target, const HealthReport& report) {
  auto it = now_.revision->askers.find(target);
  if (it == now_.revision->askers.end()) return;
  for (const Revision::Place& place : it->second) {
    Event(report.health == Health::kUp
              ? absl::StrCat("backend ", now_.revision->NameOf(place), " up")
              : absl::StrCat("backend ", now_.revision->NameOf(place), " down: ", report.reason));
  }
  dirty_ = true;
  NextRound();
}

void Controller::Impl::SetByHand(bool drain, const std::string& service, const std::string& backend,
                                 Done done) {
  const std::string name = absl::StrCat(service, "/", backend);
  absl::Status refused;
  auto place = now_.revision->places.find(name);
  if (place == now_.revision->places.end()) {
    refused = now_.revision->NoSuchBackend(service, backend);
  } else if (!drain && !drained_by_hand_.contains(name) &&
             IsDrained(*now_.revision, place->second)) {
    refused = absl::FailedPreconditionError(
        absl::StrCat("backend ", name,
                     " is drained by the configuration (state: drain), not by hand: change "
                     "the file and apply it"));
  }
  if (!refused.ok()) {
    loop_->Post([done = std::move(done), refused] { done(refused); });
    return;
  }
  if (drain ? drained_by_hand_.insert(name).second : drained_by_hand_.erase(name) > 0) {
    Event(
        absl::StrCat("backend ", name, drain ? " drained by hand" : " no longer drained by hand"));
  }
  waiting_.push_back(std::move(done));
  dirty_ = true;
  NextRound();
}

void Controller::Impl::Tidy() {
  dataplane_->Reclaim();
  const uint64_t swept = dataplane_->SweptVersion();
  service_ids_.Reclaim(swept);
  backend_ids_.Reclaim(swept);
  tidy_timer_->Set(loop_->Now() + kTidyInterval, [this] { Tidy(); });
}

void Controller::Impl::Event(std::string text) {
  LOG(INFO) << text;
  if (events_.size() == kMaxEvents) events_.pop_front();
  api::Event& event = events_.emplace_back();
  event.set_time(absl::FormatTime(absl::Now(), absl::UTCTimeZone()));
  event.set_text(std::move(text));
}

ServiceCounts Controller::Impl::CountsOf(ServiceId id) const {
  ServiceCounts counts = dataplane_->service_counts(id);
  const ServiceCounts& base = service_base_.at(id);
  counts.packets -= base.packets;
  counts.bytes -= base.bytes;
  counts.forwarded -= base.forwarded;
  counts.dropped -= base.dropped;
  return counts;
}

BackendCounts Controller::Impl::CountsOfBackend(BackendId id) const {
  BackendCounts counts = dataplane_->backend_counts(id);
  const BackendCounts& base = backend_base_.at(id);
  counts.packets -= base.packets;
  counts.bytes -= base.bytes;
  counts.new_flows -= base.new_flows;
  return counts;
}

api::Status Controller::Impl::GetStatus() const {
  api::Status status;
  status.set_state(stopping_ ? "stopping" : "serving");
  status.set_version(options_.version);
  status.set_pid(getpid());
  status.set_uptime_seconds(UptimeSeconds());
  status.set_config_file(options_.config_file);
  status.set_revision(revision_);
  status.set_applied_file(applied_file_);
  status.set_config_error(config_error_);
  for (const std::string& warning : now_.revision->loaded->warnings) status.add_warnings(warning);
  PacketCounts sum;
  for (const WorkerStatus& worker : dataplane_->workers()) {
    sum += worker.packets;
    api::Worker* out = status.add_workers();
    out->set_core(worker.core);
    Fill(worker.packets, out->mutable_packets());
    out->set_flows(worker.flows);
    out->set_flow_capacity(worker.flow_capacity);
    out->set_flows_not_stored(worker.flows_not_stored);
    out->set_flows_evicted(worker.flows_evicted);
    out->set_busy_seconds(static_cast<double>(worker.busy_ns) / 1e9);
    out->set_idle_seconds(static_cast<double>(worker.idle_ns) / 1e9);
    out->set_rounds(worker.rounds);
  }
  Fill(sum, status.mutable_packets());
  for (const InterfaceStatus& interface : dataplane_->interfaces()) {
    api::Interface* out = status.add_interfaces();
    out->set_name(interface.name);
    out->set_device(interface.device);
    out->set_mac(interface.mac.ToString());
    out->set_link_up(interface.link_up);
    out->set_received_packets(interface.received_packets);
    out->set_sent_packets(interface.sent_packets);
    out->set_missed(interface.missed_packets);
  }
  for (const api::Event& event : events_) *status.add_events() = event;
  return status;
}

api::ServiceList Controller::Impl::GetServices() const {
  api::ServiceList list;
  list.set_uptime_seconds(UptimeSeconds());
  for (size_t s = 0; s < now_.revision->services.size(); ++s) {
    const Revision::Service& planned = now_.revision->services[s];
    const config::Service& config = now_.revision->config().services(static_cast<int>(s));
    const Service& service = *now_.snapshot->services()[s];
    api::Service* out = list.add_services();
    out->set_name(service.name);
    for (const Prefix& vip : service.vips) out->add_vips(vip.ToString());
    out->set_protocol(std::string(ProtocolName(service.protocol)));
    *out->mutable_ports() = config.ports();
    out->set_forwarding(std::string(ForwardingName(service.forwarding)));
    out->set_scheduler(config::Scheduler::Value_Name(config.scheduler()));
    out->set_backends(static_cast<uint32_t>(service.backends.size()));
    out->set_backends_up(static_cast<uint32_t>(
        std::count_if(service.backends.begin(), service.backends.end(),
                      [](const Backend& b) { return b.state == BackendState::kUp; })));
    const ServiceCounts counts = CountsOf(planned.id);
    out->set_packets(counts.packets);
    out->set_bytes(counts.bytes);
    out->set_forwarded(counts.forwarded);
    out->set_dropped(counts.dropped);
    uint64_t new_flows = carried_new_flows_.at(planned.id), active_flows = 0;
    for (const Revision::Backend& backend : planned.backends) {
      const BackendCounts one = CountsOfBackend(backend.id);
      new_flows += one.new_flows;
      active_flows += one.active_flows;
    }
    out->set_new_flows(new_flows);
    out->set_active_flows(active_flows);
  }
  return list;
}

// What the workers go by, not what is about to be published.
absl::string_view Controller::Impl::StateOf(const Revision::Place& place) const {
  switch (now_.snapshot->FindBackend(now_.revision->at(place).id)->state) {
    case BackendState::kUp: return "up";
    case BackendState::kDown: return "down";
    case BackendState::kDrain: return IsDrained(*now_.revision, place) ? "drain" : "checking";
  }
  return "";
}

MetricsFacts Controller::Impl::GetMetrics() const {
  MetricsFacts facts;
  facts.version = options_.version;
  facts.start = start_time_;
  facts.config_revision = revision_;
  facts.last_change_successful = config_error_.empty();
  facts.revision = now_.revision;
  facts.snapshot = now_.snapshot;
  facts.workers = dataplane_->workers();
  facts.interfaces = dataplane_->interfaces();
  facts.backends.reserve(now_.revision->places.size());
  for (size_t s = 0; s < now_.revision->services.size(); ++s) {
    const Revision::Service& service = now_.revision->services[s];
    facts.services.push_back(
        {CountsOf(service.id), SumNewFlows(service) + carried_new_flows_.at(service.id)});
    for (size_t b = 0; b < service.backends.size(); ++b) {
      const Revision::Place place = {static_cast<int>(s), static_cast<int>(b)};
      facts.backends.push_back({CountsOfBackend(service.backends[b].id), StateOf(place)});
    }
  }
  facts.tables_built = tables_built_;
  facts.compile_duration = compile_duration_.Collect();
  facts.probes = prober_.Counts();
  facts.probe_lateness = checker_.lateness().Collect();
  return facts;
}

api::BackendList Controller::Impl::GetBackends() const {
  api::BackendList list;
  list.set_uptime_seconds(UptimeSeconds());
  for (size_t s = 0; s < now_.revision->services.size(); ++s) {
    const config::Service& config = now_.revision->config().services(static_cast<int>(s));
    const Service& service = *now_.snapshot->services()[s];
    for (int b = 0; b < config.backends_size(); ++b) {
      const Revision::Place place = {static_cast<int>(s), b};
      const Revision::Backend& planned = now_.revision->at(place);
      const HealthReport report = HealthOf(*now_.revision, place);
      api::Backend* out = list.add_backends();
      out->set_service(config.name());
      out->set_name(config.backends(b).name());
      out->set_address(planned.address.ToString());
      out->set_weight(config.backends(b).weight());
      out->set_drained_by_hand(drained_by_hand_.contains(now_.revision->NameOf(place)));
      out->set_health(report.reason);
      const Backend* member = now_.snapshot->FindBackend(planned.id);
      out->set_state(std::string(StateOf(place)));
      out->set_tenths(member->share);
      out->set_region(config.backends(b).region());
      out->set_share(service.connection_shares[member - service.backends.data()]);
      const BackendCounts counts = CountsOfBackend(planned.id);
      out->set_packets(counts.packets);
      out->set_bytes(counts.bytes);
      out->set_new_flows(counts.new_flows);
      out->set_active_flows(counts.active_flows);
    }
  }
  return list;
}

Controller::Controller(EventLoop* loop, Prober* prober, Dataplane* dataplane, Options options,
                       LoadedConfig config)
    : impl_(
          std::make_shared<Impl>(loop, prober, dataplane, std::move(options), std::move(config))) {}
Controller::~Controller() = default;

absl::Status Controller::Start() { return impl_->Start(); }

void Controller::Reload(ApplyDone done) {
  impl_->Take({impl_->options().config_file, std::nullopt, std::move(done)});
}

void Controller::Apply(std::string name, std::string text, ApplyDone done) {
  impl_->Take({std::move(name), std::move(text), std::move(done)});
}

void Controller::Drain(const std::string& service, const std::string& backend, Done done) {
  impl_->SetByHand(true, service, backend, std::move(done));
}

void Controller::Undrain(const std::string& service, const std::string& backend, Done done) {
  impl_->SetByHand(false, service, backend, std::move(done));
}

void Controller::SetStopping() { impl_->stopping_ = true; }
bool Controller::stopping() const { return impl_->stopping_; }

api::Status Controller::GetStatus() const { return impl_->GetStatus(); }
api::ServiceList Controller::GetServices() const { return impl_->GetServices(); }
api::BackendList Controller::GetBackends() const { return impl_->GetBackends(); }
MetricsFacts Controller::GetMetrics() const { return impl_->GetMetrics(); }

}  // namespace guideway
