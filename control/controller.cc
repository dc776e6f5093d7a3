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
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "control/api/api.pb.h"
#include "control/compile.h"
#include "control/event_log.h"
#include "control/flap_damper.h"
#include "control/health.h"
#include "control/id_allocator.h"
#include "control/in_force.h"
#include "control/inspect.h"
#include "control/loader.h"
#include "control/metered_prober.h"
#include "control/metrics.h"
#include "control/named_counts.h"
#include "control/overrides.h"
#include "control/plan.h"
#include "control/revision.h"
#include "control/service_health.h"
#include "control/slow_start.h"
#include "control/views.h"
#include "glog/logging.h"

namespace guideway {
namespace {

// How often old Snapshots and ids of what is gone are asked back from the dataplane.
constexpr absl::Duration kTidyInterval = absl::Milliseconds(250);

// The health of its services by their ids; good for as long as it is.
absl::flat_hash_map<ServiceId, const ServiceHealth*> HealthByService(const InForce& in_force) {
  absl::flat_hash_map<ServiceId, const ServiceHealth*> by_service;
  for (size_t s = 0; s < in_force.health.size(); ++s) {
    by_service.emplace(in_force.revision->services[s].id, &in_force.health[s]);
  }
  return by_service;
}

// A configuration to be read and put in force.
struct Change {
  std::string name;                          // for error messages
  std::optional<std::string> text;           // nothing, and no rollback: read the file `name`
  std::shared_ptr<const ConfigSource> kept;  // of a rollback, once it is read
  std::string who, how;                      // as in api::Revision
  std::optional<Overrides> overrides;        // instead of those in force
  bool is_rollback = false;
  uint64_t rolled_back_to = 0;  // of a rollback; 0 until it is its turn if none was named
  Controller::ApplyDone done;   // may be null
  double max_moved = 1;
  Controller::PlanDone planned = nullptr;     // not null: it is not to be put in force
  uint64_t arrival = 0;                       // requests are numbered as they come
  std::shared_ptr<void> text_room = nullptr;  // as of ApplyRequest

  bool is_plan() const { return planned != nullptr; }
  bool IsReload() const { return !text && !is_rollback; }
  bool BringsOverrides() const { return !is_plan() && (is_rollback || overrides); }

  // What is put in force, and the call that tells what that would change.
  std::string Subject() const {
    return is_rollback ? absl::StrCat("revision ", rolled_back_to) : name;
  }
  std::string PlanCall() const {
    if (is_rollback) return absl::StrCat("guideway rollback --dry-run ", rolled_back_to);
    return absl::StrCat("guideway plan ", overrides ? "--discard-overrides " : "",
                        name == "<stdin>" ? "-" : name);  // as `guideway` calls it
  }
};

// Somebody who waits for the next Snapshot.
struct Waiting {
  std::shared_ptr<const Overrides> overrides;  // all that are wanted with theirs
  std::string who, how;
  bool changed = false;
  Controller::Done done;
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

bool IsDrained(const Revision& revision, const Revision::Place& place, const Override& override) {
  return override.drained || revision.BackendAt(place).state() == config::AdminState::drain;
}

PlanSide SideOf(const Revision& revision, const Snapshot& snapshot) {
  PlanSide side = {.config = &revision.config(), .snapshot = &snapshot};
  side.files = revision.files.get();
  side.home = revision.home;
  return side;
}

// What one visit to the helper thread takes along and brings back.
struct Round {
  std::optional<Change> change;
  std::vector<Waiting> waiting;  // for what is wanted to be in force
  bool was_dirty = false;        // there is such
  std::shared_ptr<const Revision> revision;
  std::shared_ptr<const ConfigSource> source;  // of a revision that is new
  CompileInput input;
  // That `input` goes by, as in InForce.
  std::vector<ServiceHealth> health;
  std::vector<BackendCondition> conditions;
  std::vector<Standing> standings;
  // For a plan: `input` with the health of the moment, backends that are new being up, and without
  // what is wanted by hand and not in force yet; what is in force, and how many connections its
  // backends have open.
  std::optional<CompileInput> plan_input;
  InForce before;
  absl::flat_hash_map<BackendId, uint64_t> open_connections;  // without those that are closing

  api::Plan plan;  // what there is to say of overrides, before it is made

  absl::StatusOr<LoadedSource> loaded = absl::UnknownError("");
  std::shared_ptr<const Overrides> overrides;         // that it is compiled with
  std::shared_ptr<const Overrides> overrides_before;  // of a change that has its own
  absl::StatusOr<std::shared_ptr<const Snapshot>> snapshot = nullptr;
  bool moves_too_much = false;  // why there is no Snapshot
  CompileStats stats;
  std::chrono::duration<double> compile_time = {};

  void RunCompile() {
    const auto begun = std::chrono::steady_clock::now();
    snapshot = Compile(input, &stats);
    compile_time += std::chrono::steady_clock::now() - begun;
  }

  // The plan, and what becomes of it.
  void RunPlan() {
    const CompileInput actual = std::exchange(input, *std::move(plan_input));
    RunCompile();
    if (!snapshot.ok()) return;
    const auto open = [&](BackendId id) -> uint64_t {
      const auto found = open_connections.find(id);
      return found == open_connections.end() ? 0 : found->second;
    };
    const api::Plan of_overrides = std::exchange(
        plan,
        MakePlan(SideOf(*before.revision, *before.snapshot), SideOf(*revision, **snapshot), open));
    if (change->is_plan()) {
      for (const std::string& warning : revision->loaded->warnings) plan.add_warnings(warning);
    }
    plan.MergeFrom(of_overrides);
    if (change->is_plan()) return;
    if (absl::Status s = CheckMoved(plan, change->Subject(), change->PlanCall(), change->max_moved);
        !s.ok()) {
      snapshot = s;
      moves_too_much = true;
      return;
    }
    if (input.services == actual.services) return;  // the same Snapshot
    const CompileStats first = stats;
    input = actual;
    input.previous = *snapshot;  // has its tables
    RunCompile();
    stats.tables_built += first.tables_built;
  }
};

}  // namespace

class Controller::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(EventLoop* loop, Prober* prober, Dataplane* dataplane, Options options, Beginning beginning)
      : loop_(loop),
        dataplane_(dataplane),
        options_(std::move(options)),
        history_(options_.history == nullptr ? &own_history_ : options_.history),
        started_(loop->Now()),
        first_(std::move(beginning)),
        loader_(loop),
        prober_(prober, loop),
        checker_(loop, &prober_, options_.jitter_seed,
                 [this](const HealthTarget& target, const HealthReport& report) {
                   HealthChanged(target, report);
                 }),
        counts_(dataplane),
        step_timer_(loop->NewTimer()),
        hold_timer_(loop->NewTimer()),
        tidy_timer_(loop->NewTimer()) {}

  absl::Status Start();
  void Take(Change change);
  void SetByHand(ByHand what, BackendRequest request, std::optional<uint32_t> weight, Done done) {
    SetByHand(++arrivals_, what, std::move(request), weight, std::move(done));
  }

  const Options& options() const { return options_; }
  api::Status GetStatus() const;
  api::ServiceList GetServices() const;
  api::BackendList GetBackends() const;
  MetricsFacts GetMetrics() const;
  api::RevisionList GetHistory() const;
  void GetRevision(uint64_t number, RevisionDone done) const;
  Inspection Inspect() const;
  std::string WhyUnused(const std::string& service, const std::string& backend) const;

  bool stopping_ = false;

 private:
  // A step of a change. Each ends on the loop, with the next step or the next round.
  void NextRound();
  void NextChange();
  absl::Status FindRevision(Change* change) const;
  void ReadRevision(std::shared_ptr<Round> round);
  void RevisionRead(std::shared_ptr<Round> round, absl::StatusOr<ConfigSource> source);
  void Load(std::shared_ptr<Round> round);
  void TakeLoaded(std::shared_ptr<Round> round);
  void CompileRound(std::shared_ptr<Round> round);
  void Compiled(std::shared_ptr<Round> round);

  absl::StatusOr<std::shared_ptr<const Revision>> MakeRevision(LoadedSource loaded);
  absl::StatusOr<IdAllocator::Id> AcquireId(const config::Service& service,
                                            const config::Backend& backend);
  Overrides TakeOverrides(Round& round);
  void FillInput(Round& round) const;
  void FillPlanInput(Round& round, const Overrides& overrides) const;
  const BackendCondition* InForceCondition(const Revision& revision,
                                           const Revision::Place& place) const;
  void Commit(Round& round);
  void CommitConfiguration(Round& round, const Revision* before);
  void Keep(const std::string& who, const std::string& how,
            std::shared_ptr<const ConfigSource> source, bool is_own, Overrides overrides,
            std::function<void(const absl::Status& kept)> done);
  void ServeWaiting(std::vector<Waiting> waiting, const Revision& revision);
  void SetByHand(uint64_t arrival, ByHand what, BackendRequest request,
                 std::optional<uint32_t> weight, Done done);
  void CountCompile(const Round& round);
  void ArmStepTimer();
  void ArmHoldTimer();
  void TellOfHealth(const InForce& before);
  void ForgetDampers();
  void AnswerNo(Change& change, const absl::Status& why);
  void Refuse(Change& change, const absl::Status& why, bool is_failure = true);
  void SetRefused(const std::string& who, const std::string& how, const std::string& file,
                  absl::string_view why);
  void Answer(Task task);
  void Decided(const Change& change);

  // Of a backend of the revision in force, or of the one that is to be next.
  HealthReport HealthOf(const Revision& revision, const Revision::Place& place) const;
  void HealthChanged(const HealthTarget& target, const HealthReport& report);
  absl::Duration HeldFor(const Revision& revision, const Revision::Place& place) const;
  BackendNow LookAt(const Revision::Place& place) const;
  void Tidy();

  double UptimeSeconds() const { return absl::ToDoubleSeconds(loop_->Now() - started_); }

  // Constant after construction.
  EventLoop* const loop_;
  Dataplane* const dataplane_;
  const Options options_;
  History own_history_;
  History* const history_;
  const absl::Duration started_;
  const absl::Time start_time_ = absl::Now();

  // What is wanted.
  Beginning first_;  // until Start takes it
  std::deque<Change> changes_;
  uint64_t arrivals_ = 0;
  std::shared_ptr<const Overrides> overrides_ = std::make_shared<const Overrides>();
  // A change that brings overrides of its own takes effect later than what is asked by hand after
  // it: that is done again then, on top of its own. `by_hand_` is kept while there is such a
  // change.
  size_t changes_with_overrides_ = 0;
  std::vector<ChangeByHand> by_hand_;
  std::vector<Waiting> waiting_;  // for the next Compile
  bool dirty_ = false;            // something changed since the last one began

  Loader loader_;

  // What is so.
  MeteredProber prober_;
  HealthChecker checker_;
  IdAllocator service_ids_{kMaxServices};
  IdAllocator backend_ids_{kMaxBackends};
  NamedCounts counts_;

  // What is in force.
  InForce now_;
  uint64_t revision_ = 0;
  Overrides recorded_;         // with `revision_`
  std::string from_ = "file";  // as in api::Status.configuration
  std::string applied_file_;   // where it came from, if not from the daemon's own file
  std::string own_digest_;  // of that file, and those it names, when it was put in force; or empty
  bool busy_ = false;       // a Compile is on the helper thread
  // The next configuration: it is being read meanwhile, or has been. Only a Compile waits for one.
  bool loading_ = false;
  std::shared_ptr<Round> loaded_;
  bool was_plan_ = false;  // the last Compile
  // A change that brings overrides of its own is compiled, and may be refused yet: what is asked by
  // hand waits.
  bool overrides_are_open_ = false;
  std::vector<Task> asked_by_hand_;
  std::string config_error_;
  // The last configuration that was refused since another came into force: when, under what.
  struct Refused {
    absl::Duration at;
    uint64_t revision;
    api::Refusal what;
  };
  std::optional<Refused> refused_;
  EventLog events_;
  SlowStart slow_start_;
  std::unique_ptr<Timer> step_timer_;                   // of slow_start_
  absl::flat_hash_map<BackendId, FlapDamper> dampers_;  // of those whose health changed
  std::unique_ptr<Timer> hold_timer_;                   // of dampers_
  std::unique_ptr<Timer> tidy_timer_;

  // For GetMetrics.
  uint64_t tables_built_ = 0;
  prometheus::Histogram compile_duration_{
      {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}};
};

absl::Status Controller::Impl::Start() {
  for (const std::string& warning : history_->warnings()) LOG(WARNING) << warning;
  Round round;
  round.source = first_.what.source;
  auto revision = MakeRevision(std::move(first_.what));
  if (!revision.ok()) return revision.status();
  round.revision = *std::move(revision);
  overrides_ = std::make_shared<const Overrides>(std::move(first_.overrides));
  from_ = first_.from;
  applied_file_ = first_.applied_file;
  own_digest_ = first_.own_digest;
  round.overrides = overrides_;
  FillInput(round);
  round.RunCompile();
  CountCompile(round);
  if (!round.snapshot.ok()) return round.snapshot.status();
  Commit(round);
  if (!overrides_->empty()) {
    events_.Add(
        absl::StrCat("what was done by hand before the start holds: ", ToText(*overrides_)));
  }
  if (!first_.config_error.empty()) {
    config_error_ = first_.config_error;
    SetRefused("start", "start", options_.config_file, config_error_);
    for (absl::string_view line : absl::StrSplit(config_error_, '\n')) LOG(ERROR) << line;
    events_.Add(absl::StrCat("configuration ", options_.config_file,
                             " refused at the start: the last revision is in force again"));
  }
  Tidy();
  return absl::OkStatus();
}

void Controller::Impl::Take(Change change) {
  change.arrival = ++arrivals_;
  if (change.BringsOverrides()) ++changes_with_overrides_;
  changes_.push_back(std::move(change));
  NextRound();
}

void Controller::Impl::NextRound() {
  NextChange();
  if (busy_) return;
  // Plans, however many, do not keep what is so out of force.
  const bool is_turn_of_dirty =
      dirty_ && (loaded_ == nullptr || (was_plan_ && loaded_->change->is_plan()));
  if (loaded_ != nullptr && !is_turn_of_dirty) {
    TakeLoaded(std::exchange(loaded_, nullptr));
  } else if (dirty_) {
    auto round = std::make_shared<Round>();
    round->revision = now_.revision;
    CompileRound(std::move(round));
  }
}

void Controller::Impl::NextChange() {
  while (!loading_ && loaded_ == nullptr && !changes_.empty()) {
    // Where it goes back to depends on what the changes before it come to.
    if (busy_ && changes_.front().is_rollback) return;
    auto round = std::make_shared<Round>();
    Change& change = round->change.emplace(std::move(changes_.front()));
    changes_.pop_front();
    if (change.is_rollback) {
      if (const absl::Status s = FindRevision(&change); !s.ok()) {
        AnswerNo(change, s);
        continue;
      }
      loading_ = true;
      return ReadRevision(std::move(round));
    }
    // Several reloads that wait are one.
    while (change.IsReload() && !changes_.empty() && changes_.front().IsReload()) {
      change.done = Both(std::move(change.done), std::move(changes_.front().done));
      changes_.pop_front();
    }
    loading_ = true;
    Load(std::move(round));
  }
}

// Fills in what a rollback puts in force.
absl::Status Controller::Impl::FindRevision(Change* change) const {
  const std::deque<api::Revision>& revisions = history_->revisions();
  auto to = revisions.rbegin();
  if (change->rolled_back_to != 0) {
    to = std::find_if(to, revisions.rend(),
                      [&](const api::Revision& r) { return r.number() == change->rolled_back_to; });
    if (to == revisions.rend()) return history_->NoSuchRevision(change->rolled_back_to);
  } else {
    to = std::find_if(to, revisions.rend(), [&](const api::Revision& r) {
      return r.digest() != revisions.back().digest();
    });
    if (to == revisions.rend()) {
      return absl::FailedPreconditionError(
          "there is no revision before with another configuration than the one in force; "
          "`guideway history` lists all, and `guideway rollback REVISION` restores the overrides "
          "of one");
    }
  }
  change->name = to->file();
  change->how = absl::StrCat("rollback to ", to->number());
  change->overrides = FromApi(to->overrides());
  change->rolled_back_to = to->number();
  return absl::OkStatus();
}

void Controller::Impl::ReadRevision(std::shared_ptr<Round> round) {
  history_->Read(round->change->rolled_back_to, [weak = weak_from_this(), loop = loop_,
                                                 round](absl::StatusOr<ConfigSource> source) {
    loop->Post([weak, round, source = std::move(source)] {
      if (const auto self = weak.lock()) self->RevisionRead(round, source);
    });
  });
}

void Controller::Impl::RevisionRead(std::shared_ptr<Round> round,
                                    absl::StatusOr<ConfigSource> source) {
  Change& change = *round->change;
  if (source.ok()) {
    change.kept = std::make_shared<const ConfigSource>(*std::move(source));
    return Load(std::move(round));
  }
  loading_ = false;
  AnswerNo(change, source.status());
  NextRound();
}

void Controller::Impl::Load(std::shared_ptr<Round> round) {
  Change& change = *round->change;
  WhatToLoad what = {change.kept, std::move(change.text), change.name, options_.config_file};
  loader_.Load(std::move(what), [this, round](absl::StatusOr<LoadedSource> loaded) {
    loading_ = false;
    round->loaded = std::move(loaded);
    loaded_ = round;
    NextRound();
  });
}

void Controller::Impl::TakeLoaded(std::shared_ptr<Round> round) {
  absl::Status status = round->loaded.status();
  if (status.ok()) {
    const LoadedConfig& config = round->loaded->config;
    const absl::Status host = options_.can_start ? options_.can_start(config) : absl::OkStatus();
    status = CheckUnchanged(*now_.revision, config, round->change->name, options_.config_file, host,
                            round->change->rolled_back_to);
    if (round->change->is_plan()) {  // it says itself what needs a restart
      if (!status.ok() && !host.ok()) round->plan.add_host_cannot(std::string(host.message()));
      status = absl::OkStatus();
    }
  }
  if (status.ok()) {
    round->source = round->loaded->source;
    auto revision = MakeRevision(*std::move(round->loaded));
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
  was_plan_ = round->change && round->change->is_plan();
  if (!was_plan_) {
    round->waiting = std::exchange(waiting_, {});
    round->was_dirty = std::exchange(dirty_, false);
  }
  const Overrides of_plan = TakeOverrides(*round);
  FillInput(*round);
  if (round->change && !round->change->IsReload()) FillPlanInput(*round, of_plan);
  loop_->RunOnHelper([round] { round->plan_input ? round->RunPlan() : round->RunCompile(); },
                     [weak = weak_from_this(), round] {
                       if (auto self = weak.lock()) self->Compiled(round);
                     });
}

void Controller::Impl::Compiled(std::shared_ptr<Round> round) {
  if (round->change && round->change->is_plan()) {
    service_ids_.Abort();
    backend_ids_.Abort();
    Answer([round] {
      if (round->snapshot.ok()) {
        round->change->planned(std::move(round->plan));
      } else {
        round->change->planned(round->snapshot.status());
      }
    });
    busy_ = false;
    return NextRound();
  }
  CountCompile(*round);
  if (!round->snapshot.ok() && round->overrides_before != nullptr) {
    overrides_ = round->overrides_before;
  }
  if (round->snapshot.ok()) {
    Commit(*round);
  } else if (round->change) {
    service_ids_.Abort();
    backend_ids_.Abort();
    // Whoever asks for no more than so much to move gets an answer; nothing is wrong.
    Refuse(*round->change, round->snapshot.status(), !round->moves_too_much);
    // What else this round took along is still wanted, under the old configuration.
    waiting_.insert(waiting_.begin(), std::make_move_iterator(round->waiting.begin()),
                    std::make_move_iterator(round->waiting.end()));
    dirty_ |= round->was_dirty;
  } else {
    // The configuration compiled before, so this is not about it. The next event tries again.
    LOG(ERROR) << "the state could not be put in force: " << round->snapshot.status().message();
    for (Waiting& waiting : round->waiting) {
      Answer([done = std::move(waiting.done), status = round->snapshot.status()] { done(status); });
    }
  }
  overrides_are_open_ = false;
  // All of them before the next round, which may bring overrides of its own again.
  for (const Task& ask : std::exchange(asked_by_hand_, {})) ask();
  busy_ = false;
  NextRound();
}

// Fills in what the round is compiled with, and what a plan of it says of overrides. Returns those
// that the plan goes by: what was asked by hand and is not in force yet is not the change's doing.
Overrides Controller::Impl::TakeOverrides(Round& round) {
  Overrides of_plan = *now_.overrides;
  round.overrides = overrides_;
  if (!round.change) return of_plan;
  const Change& change = *round.change;
  if (change.overrides) {
    Overrides own = *change.overrides;
    of_plan = own;
    for (const ChangeByHand& later : by_hand_) {
      if (change.is_plan() || later.arrival < change.arrival) continue;
      later.Apply(&own);
      SetOverride(&of_plan, later.backend, OverrideOf(*now_.overrides, later.backend));
    }
    round.overrides = std::make_shared<const Overrides>(std::move(own));
  }
  round.plan.set_rolled_back_to(change.rolled_back_to);
  const OverridesFit fit = FitTo(*round.revision, *round.overrides);
  *round.plan.mutable_overrides_undone() = ToApi(Without(*overrides_, fit.standing));
  *round.plan.mutable_overrides_restored() = ToApi(Without(fit.standing, *overrides_));
  if (change.is_plan()) {  // else CommitConfiguration warns
    for (std::string& what : fit.WhatEnds()) round.plan.add_warnings(std::move(what));
    if (!change.overrides) {
      for (std::string& what : WhatHolds(*now_.revision, *round.revision, fit.standing)) {
        round.plan.add_warnings(std::move(what));
      }
    }
  }
  if (*overrides_ != fit.standing) round.plan.set_changes(true);
  if (change.overrides && !change.is_plan()) {
    round.overrides_before = std::exchange(overrides_, round.overrides);
    overrides_are_open_ = true;
  }
  return of_plan;
}

// Connections go by ids: a backend keeps its id for as long as they find their server by it, and
// one that is another server is another backend to them. Should it become the one it was again,
// soon, those that are left go on.
absl::StatusOr<IdAllocator::Id> Controller::Impl::AcquireId(const config::Service& service,
                                                            const config::Backend& backend) {
  const std::string name = absl::StrCat(service.name(), "/", backend.name());
  if (now_.revision != nullptr) {
    const auto place = now_.revision->PlaceOf(name);
    if (place && IsSameServer(now_.revision->config().services(place->service),
                              now_.revision->BackendAt(*place), service, backend)) {
      return backend_ids_.AcquireAgain(now_.revision->at(*place).id);
    }
  }
  return backend_ids_.Acquire(absl::StrCat(
      name, " ", AddressOf(backend).ToString(),
      ForwardingOf(service) == Forwarding::kNat ? absl::StrCat(" nat ", backend.port()) : ""));
}

absl::StatusOr<std::shared_ptr<const Revision>> Controller::Impl::MakeRevision(
    LoadedSource loaded) {
  const auto revision =
      std::make_shared<Revision>(std::make_shared<const LoadedConfig>(std::move(loaded.config)));
  if (loaded.source != nullptr) {
    revision->files = loaded.source->files;
    revision->home = loaded.source->home;
  }
  absl::Status status;
  for (const config::Service& service : revision->config().services()) {
    const auto service_id = service_ids_.Acquire(service.name());
    if (status.Update(service_id.status()); !status.ok()) break;
    if (service_id->is_new) counts_.BeginService(service_id->value);
    revision->AddService(service_id->value);
    for (const config::Backend& backend : service.backends()) {
      const auto id = AcquireId(service, backend);
      if (status.Update(id.status()); !status.ok()) break;
      if (id->is_new) counts_.BeginBackend(id->value);
      revision->AddBackend({.id = id->value, .address = AddressOf(backend)},
                           TargetOf(service, backend));
    }
    if (!status.ok()) break;
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
    const auto before = now_.revision->PlaceOf(revision.NameOf(asker));
    if (!before || now_.revision->at(*before).id != revision.at(asker).id) continue;
    const Health was = HealthOf(*now_.revision, *before).health;
    if (presumed != Health::kUp && was != Health::kChecking) presumed = was;
  }
  return {presumed, ""};
}

absl::Duration Controller::Impl::HeldFor(const Revision& revision,
                                         const Revision::Place& place) const {
  const auto it = dampers_.find(revision.at(place).id);
  if (it == dampers_.end() || !revision.at(place).target) return absl::ZeroDuration();
  return it->second.HeldFor(loop_->Now(), FlapDampingOf(revision.config().services(place.service)));
}

void Controller::Impl::FillInput(Round& round) const {
  const Revision& revision = *round.revision;
  CompileInput& input = round.input;
  input.version = now_.snapshot == nullptr ? 1 : now_.snapshot->version() + 1;
  input.loaded = revision.loaded;
  input.hash_seed = revision.loaded->hash_seed;
  input.own_addresses = options_.own_addresses();
  input.routes = StaticRoutes(revision.config(), dataplane_->interfaces());
  input.previous = now_.snapshot;
  const auto before = HealthByService(now_);
  round.health.reserve(revision.services.size());
  round.conditions.reserve(revision.backend_count());
  round.standings.reserve(revision.backend_count());
  for (size_t s = 0; s < revision.services.size(); ++s) {
    const config::Service& service = revision.config().services(static_cast<int>(s));
    ServiceFacts& facts = input.services.emplace_back();
    facts.id = revision.services[s].id;
    const size_t first = round.conditions.size();
    for (size_t b = 0; b < revision.services[s].backends.size(); ++b) {
      const Revision::Place place = {static_cast<int>(s), static_cast<int>(b)};
      const Override override = OverrideOf(*round.overrides, revision.NameOf(place));
      const config::Backend& backend = revision.BackendAt(place);
      const Backend* in_force =
          now_.snapshot == nullptr ? nullptr : now_.snapshot->FindBackend(revision.at(place).id);
      round.conditions.push_back({.weight = override.weight.value_or(backend.weight()),
                                  .health = HealthOf(revision, place).health,
                                  .drained = IsDrained(revision, place, override),
                                  .held = HeldFor(revision, place) > absl::ZeroDuration(),
                                  .in_use = in_force != nullptr &&
                                            in_force->state == BackendState::kUp &&
                                            in_force->address == revision.at(place).address,
                                  .region = RegionIndex(service, backend.region()).value_or(0)});
    }
    const auto conditions = absl::MakeConstSpan(round.conditions).subspan(first);
    const auto was = before.find(facts.id);
    const Judgement judgement =
        JudgeService(conditions, MinHealthyOf(service),
                     was != before.end() && was->second->health_ignored, WaysOf(service));
    const ServiceHealth& health = round.health.emplace_back(judgement.health);
    for (size_t b = 0; b < conditions.size(); ++b) {
      facts.backends.push_back({.id = revision.services[s].backends[b].id,
                                .state = judgement.states[b],
                                .weight = conditions[b].weight});
    }
    round.standings.insert(round.standings.end(), judgement.standings.begin(),
                           judgement.standings.end());
    slow_start_.SetShares(service, loop_->Now(), &facts);
    // The others are to take load off those that are left, and at once.
    for (BackendFacts& backend : facts.backends) {
      if (health.health_ignored) backend.share = kFullShare;
    }
  }
}

// Backends keep the health by which they are in force, so that what moves is the change's doing:
// what is made of that health is judged as it will be. Nobody knows how those will answer that are
// new: they count as up.
void Controller::Impl::FillPlanInput(Round& round, const Overrides& overrides) const {
  const Revision& revision = *round.revision;
  CompileInput& input = round.plan_input.emplace(round.input);
  const auto health_before = HealthByService(now_);
  for (size_t s = 0; s < revision.services.size(); ++s) {
    const config::Service& service = revision.config().services(static_cast<int>(s));
    std::vector<BackendFacts>& facts = input.services[s].backends;
    std::vector<BackendCondition> conditions(facts.size());
    for (size_t b = 0; b < conditions.size(); ++b) {
      const Revision::Place place = {static_cast<int>(s), static_cast<int>(b)};
      const Override override = OverrideOf(overrides, revision.NameOf(place));
      BackendCondition& condition = conditions[b];
      condition = round.conditions[revision.IndexOf(place)];
      condition.weight = override.weight.value_or(revision.BackendAt(place).weight());
      condition.drained = IsDrained(revision, place, override);
      const bool is_checked = revision.at(place).target != nullptr;
      const BackendCondition* before = InForceCondition(revision, place);
      condition.health = is_checked && before != nullptr ? before->health : Health::kUp;
      condition.held = is_checked && before != nullptr && before->held;
      const Backend* in_force = now_.snapshot->FindBackend(facts[b].id);
      facts[b].weight = condition.weight;
      // Of one that is put back, when its slow start is over.
      facts[b].share = in_force != nullptr && in_force->state == BackendState::kUp ? in_force->share
                                                                                   : kFullShare;
    }
    const auto was = health_before.find(revision.services[s].id);
    const Judgement judgement =
        JudgeService(conditions, MinHealthyOf(service),
                     was != health_before.end() && was->second->health_ignored, WaysOf(service));
    for (size_t b = 0; b < conditions.size(); ++b) {
      facts[b].state = judgement.states[b];
      if (judgement.health.health_ignored) facts[b].share = kFullShare;
    }
  }
  round.before = now_;
  for (const Revision::Service& service : now_.revision->services) {
    for (const Revision::Backend& backend : service.backends) {
      const uint64_t open = dataplane_->backend_counts(backend.id).open_flows();
      if (open > 0) round.open_connections.emplace(backend.id, open);
    }
  }
}

// Of a backend of another revision, if it is the same as one in force; else null.
const BackendCondition* Controller::Impl::InForceCondition(const Revision& revision,
                                                           const Revision::Place& place) const {
  const auto now = now_.revision->PlaceOf(revision.NameOf(place));
  if (!now || now_.revision->at(*now).id != revision.at(place).id) return nullptr;
  return &now_.conditions[now_.revision->IndexOf(*now)];
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
  if (is_new) counts_.Change(now_.revision.get(), *round.revision);
  if (is_new) {
    round.overrides =
        std::make_shared<const Overrides>(FitTo(*round.revision, *round.overrides).standing);
  }
  const InForce before = std::exchange(
      now_, {round.revision, *round.snapshot, std::move(round.health), std::move(round.conditions),
             std::move(round.standings), round.overrides});
  dataplane_->Publish(now_.snapshot);
  slow_start_.Commit(round.input, loop_->Now());
  ArmStepTimer();
  ArmHoldTimer();
  if (is_new) {
    service_ids_.Commit(now_.snapshot->version());
    backend_ids_.Commit(now_.snapshot->version());
    ForgetDampers();
    checker_.SetTargets(wanted);
  }
  // What was asked by hand came before the change that this round took along.
  if (before.revision != nullptr) ServeWaiting(std::move(round.waiting), *before.revision);
  if (is_new) CommitConfiguration(round, before.revision.get());
  TellOfHealth(before);
}

// Of those whose overrides are in force under `revision`.
void Controller::Impl::ServeWaiting(std::vector<Waiting> waiting, const Revision& revision) {
  for (Waiting& one : waiting) {
    api::Done result;
    result.set_changed(one.changed);
    const auto done = [done = std::move(one.done), result](const absl::Status& kept) {
      api::Done answer = result;
      if (!kept.ok()) answer.add_warnings(std::string(kept.message()));
      done(std::move(answer));
    };
    Overrides overrides = FitTo(revision, *one.overrides).standing;
    if (overrides != recorded_) {
      Keep(one.who, one.how, nullptr, false, std::move(overrides), done);
    } else {
      // Somebody else has asked for the same, and it may be on its way to the disk.
      history_->AfterWrites([weak = weak_from_this(), done](const absl::Status& kept) {
        if (const auto self = weak.lock()) {
          self->Answer([done, kept] { done(kept); });
        }
      });
    }
  }
}

// What there is to be kept and said of a configuration that is in force now.
void Controller::Impl::CommitConfiguration(Round& round, const Revision* before) {
  for (const std::string& warning : now_.revision->loaded->warnings) LOG(WARNING) << warning;
  config_error_.clear();
  refused_.reset();
  if (round.overrides_before != nullptr && *round.overrides_before != *overrides_) {
    const auto text = [](const Overrides& overrides) {
      return overrides.empty() ? "none" : ToText(overrides);
    };
    events_.Add(absl::StrCat("overrides by hand were ", text(*round.overrides_before), "; are now ",
                             text(*overrides_)));
  }
  OverridesFit fit = FitTo(*now_.revision, *overrides_);
  std::vector<std::string> of_overrides = fit.WhatEnds();
  if (before != nullptr && round.overrides_before == nullptr) {
    for (std::string& what : WhatHolds(*before, *now_.revision, fit.standing)) {
      of_overrides.push_back(std::move(what));
    }
  }
  for (const std::string& what : of_overrides) events_.Add(what);
  overrides_ = std::make_shared<const Overrides>(std::move(fit.standing));
  std::string who = "start", how = "start";
  const bool is_own = round.change ? round.change->IsReload() : from_ == "file";
  const std::string digest = round.source == nullptr ? "" : round.source->digest;
  if (round.change) {
    who = round.change->who;
    how = round.change->how;
    // One that goes back to what the daemon's own file said when it was read last is that file's.
    const bool is_from_file =
        is_own || (round.change->name == options_.config_file && digest == own_digest_);
    from_ = is_from_file ? "file" : "applied";
    applied_file_ = is_from_file ? "" : round.change->name;
  }
  if (is_own) own_digest_ = digest;
  api::ApplyResult result;
  for (const std::string& warning : NewWarnings(before, *now_.revision->loaded)) {
    result.add_warnings(warning);
  }
  for (const std::string& what : of_overrides) result.add_warnings(what);
  const uint64_t expected = history_->next_number();
  result.set_revision(expected);
  if (round.change) {
    result.set_rolled_back_to(round.change->rolled_back_to);
    Decided(*round.change);
  }
  if (round.change && !round.change->IsReload()) *result.mutable_plan() = std::move(round.plan);
  events_.Add(
      absl::StrCat("revision ", expected, " in force: services ", now_.revision->services.size(),
                   ", backends ", now_.revision->backend_count(),
                   round.change && round.change->is_rollback ? absl::StrCat("; ", how, " by ", who)
                   : applied_file_.empty()                   ? ""
                                           : absl::StrCat("; applied from ", applied_file_)));
  ApplyDone done = round.change ? std::move(round.change->done) : nullptr;
  Keep(who, how, round.source, is_own, *now_.overrides, [done, result](const absl::Status& kept) {
    api::ApplyResult answer = result;
    if (!kept.ok()) answer.add_warnings(std::string(kept.message()));
    if (done) done(std::move(answer));
  });
}

// Adds a revision to the history, with the configuration in force.
void Controller::Impl::Keep(const std::string& who, const std::string& how,
                            std::shared_ptr<const ConfigSource> source, bool is_own,
                            Overrides overrides,
                            std::function<void(const absl::Status& kept)> done) {
  api::Revision revision;
  revision.set_who(who);
  revision.set_how(how);
  revision.set_file(applied_file_.empty() ? options_.config_file : applied_file_);
  *revision.mutable_overrides() = ToApi(overrides);
  recorded_ = std::move(overrides);
  revision_ =
      history_->Add(std::move(revision), std::move(source), is_own,
                    [weak = weak_from_this(), done = std::move(done)](const absl::Status& kept) {
                      const auto self = weak.lock();
                      if (self == nullptr) return;
                      if (!kept.ok()) self->events_.AddWarning(std::string(kept.message()));
                      self->Answer([done, kept] { done(kept); });
                    });
}

void Controller::Impl::CountCompile(const Round& round) {
  tables_built_ += round.stats.tables_built;
  compile_duration_.Observe(round.compile_time.count());
}

void Controller::Impl::ArmStepTimer() {
  const absl::Duration next = slow_start_.NextStep();
  if (next == absl::InfiniteDuration()) return step_timer_->Cancel();
  step_timer_->Set(next, [this] {
    dirty_ = true;
    NextRound();
  });
}

void Controller::Impl::ArmHoldTimer() {
  absl::Duration next = absl::InfiniteDuration();
  for (size_t s = 0; s < now_.revision->services.size(); ++s) {
    for (size_t b = 0; b < now_.revision->services[s].backends.size(); ++b) {
      const Revision::Place place = {static_cast<int>(s), static_cast<int>(b)};
      if (now_.StandingOf(place) != Standing::kHeld) continue;
      next = std::min(next, HeldFor(*now_.revision, place));
    }
  }
  if (next == absl::InfiniteDuration()) return hold_timer_->Cancel();
  hold_timer_->Set(loop_->Now() + next, [this] {
    dirty_ = true;
    NextRound();
  });
}

// Of backends that are gone: their ids will be others'.
void Controller::Impl::ForgetDampers() {
  absl::flat_hash_map<BackendId, FlapDamper> before;
  before.swap(dampers_);
  for (const Revision::Service& service : now_.revision->services) {
    for (const Revision::Backend& backend : service.backends) {
      if (auto it = before.find(backend.id); it != before.end()) dampers_.insert(*it);
    }
  }
}

// What is new in the health of services, and who is not held any longer.
void Controller::Impl::TellOfHealth(const InForce& before) {
  const auto by_service = HealthByService(before);
  for (size_t s = 0; s < now_.health.size(); ++s) {
    const auto it = by_service.find(now_.revision->services[s].id);
    const ServiceHealth was = it == by_service.end() ? ServiceHealth() : *it->second;
    const ServiceHealth& is = now_.health[s];
    const config::Service& service = now_.revision->config().services(static_cast<int>(s));
    for (std::string& text : WhatChanged(service.name(), MinHealthyOf(service), was, is)) {
      events_.Add(std::move(text));
    }
    if (before.revision != now_.revision || is.holds_ignored) continue;
    for (int b = 0; b < service.backends_size(); ++b) {
      const Revision::Place place = {static_cast<int>(s), b};
      if (before.StandingOf(place) != Standing::kHeld) continue;
      if (now_.StandingOf(place) != Standing::kUp) continue;
      events_.Add(
          absl::StrCat("backend ", now_.revision->NameOf(place), " is not held any longer"));
    }
  }
}

void Controller::Impl::AnswerNo(Change& change, const absl::Status& why) {
  Decided(change);
  if (change.is_plan()) {
    Answer([planned = std::move(change.planned), why] { planned(why); });
  } else if (change.done) {
    Answer([done = std::move(change.done), why] { done(why); });
  }
}

void Controller::Impl::Refuse(Change& change, const absl::Status& why, bool is_failure) {
  if (change.is_plan()) return AnswerNo(change, why);
  if (is_failure) {
    config_error_ = std::string(why.message());
    for (absl::string_view line : absl::StrSplit(why.message(), '\n')) LOG(ERROR) << line;
  }
  // What is no failure does not hide one.
  if (is_failure || config_error_.empty()) {
    SetRefused(change.who, change.how, change.name, why.message());
  }
  events_.Add(absl::StrCat("configuration ", change.name, " refused",
                           is_failure ? "" : ", for more would move than may", ", revision ",
                           revision_, " stays in force"));
  AnswerNo(change, why);
}

void Controller::Impl::SetRefused(const std::string& who, const std::string& how,
                                  const std::string& file, absl::string_view why) {
  refused_.emplace(Refused{.at = loop_->Now(), .revision = revision_});
  refused_->what.set_time(absl::FormatTime(absl::Now(), absl::UTCTimeZone()));
  refused_->what.set_who(who);
  refused_->what.set_how(how);
  refused_->what.set_file(file);
  refused_->what.set_why(std::string(why));
}

// Whoever is answered may ask for the next change: so never in the middle of a step.
void Controller::Impl::Answer(Task task) {
  loop_->Post([weak = weak_from_this(), task = std::move(task)] {
    if (const auto self = weak.lock()) task();
  });
}

void Controller::Impl::Decided(const Change& change) {
  if (change.BringsOverrides() && --changes_with_overrides_ == 0) by_hand_.clear();
}

void Controller::Impl::HealthChanged(const HealthTarget& target, const HealthReport& report) {
  auto it = now_.revision->askers.find(target);
  if (it == now_.revision->askers.end()) return;
  const absl::Duration now = loop_->Now();
  for (const Revision::Place& place : it->second) {
    const FlapDamping damping = FlapDampingOf(now_.revision->config().services(place.service));
    FlapDamper& damper = dampers_[now_.revision->at(place).id];
    const std::string name = now_.revision->NameOf(place);
    const IpAddress& address = now_.revision->at(place).address;
    if (report.health == Health::kDown) {
      damper.WentDown(now, damping);
      events_.AddOfHost(address, loop_->Now(), name, absl::StrCat("down: ", report.reason));
      continue;
    }
    damper.CameUp(now, damping);
    const absl::Duration held = damper.HeldFor(now, damping);
    if (held == absl::ZeroDuration()) {
      events_.AddOfHost(address, loop_->Now(), name, "up");
    } else {
      events_.ForgetHost(address);
      events_.Add(absl::StrCat("backend ", name, " well again and held for ",
                               FormatConfigDuration(held), ": it went down ",
                               damper.failures(now, damping), " times"));
    }
  }
  dirty_ = true;
  NextRound();
}

void Controller::Impl::SetByHand(uint64_t arrival, ByHand what, BackendRequest request,
                                 std::optional<uint32_t> weight, Done done) {
  if (overrides_are_open_) {
    asked_by_hand_.push_back([this, arrival, what, request, weight, done] {
      SetByHand(arrival, what, request, weight, done);
    });
    return;
  }
  const std::string name = absl::StrCat(request.service, "/", request.backend);
  const Override before = OverrideOf(*overrides_, name);
  Override after = before;
  ChangeByHand asked = {arrival, name, what, std::nullopt};
  std::string how, event;
  absl::Status refused;
  const auto place = now_.revision->PlaceOf(name);
  if (!place) {
    refused = now_.revision->NoSuchBackend(request.service, request.backend);
  } else {
    const config::Backend& backend = now_.revision->BackendAt(*place);
    switch (what) {
      case ByHand::kDrain:
        after.drained = true;
        how = absl::StrCat("drain ", name);
        event = absl::StrCat("backend ", name, " drained by hand");
        break;
      case ByHand::kUndrain:
        if (!before.drained && backend.state() == config::AdminState::drain) {
          refused = absl::FailedPreconditionError(
              absl::StrCat("backend ", name,
                           " is drained by the configuration (state: drain), not by hand: change "
                           "the file and apply it"));
        }
        after.drained = false;
        how = absl::StrCat("undrain ", name);
        event = absl::StrCat("backend ", name, " no longer drained by hand");
        break;
      case ByHand::kWeight:
        asked.weight = weight;
        if (weight == backend.weight()) weight.reset();
        after.weight = weight;
        how = absl::StrCat("weight ", name, " ", weight ? absl::StrCat(*weight) : "file");
        event = weight ? absl::StrCat("backend ", name, " has weight ", *weight, " by hand")
                       : absl::StrCat("backend ", name, " has the file's weight again");
        break;
    }
  }
  if (!refused.ok()) return Answer([done = std::move(done), refused] { done(refused); });
  Waiting waiting = {.overrides = nullptr,
                     .who = std::move(request.who),
                     .how = std::move(how),
                     .changed = after != before,
                     .done = std::move(done)};
  if (after != before) {
    Overrides overrides = *overrides_;
    SetOverride(&overrides, name, after);
    overrides_ = std::make_shared<const Overrides>(std::move(overrides));
    events_.Add(std::move(event));
  }
  waiting.overrides = overrides_;
  if (changes_with_overrides_ > 0) by_hand_.push_back(std::move(asked));
  // Who puts a backend back by hand knows better than the damper.
  if (what == ByHand::kUndrain) {
    waiting.changed |= HeldFor(*now_.revision, *place) > absl::ZeroDuration();
    dampers_.erase(now_.revision->at(*place).id);
  }
  waiting_.push_back(std::move(waiting));
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
  *status.mutable_history() = history_->State();
  status.set_configuration(from_);
  const api::Revision& last = history_->revisions().back();
  status.set_how(last.how());
  status.set_who(last.who());
  status.set_time(last.time());
  if (refused_) {
    api::Refusal* refused = status.mutable_refused();
    *refused = refused_->what;
    refused->set_age_seconds(absl::ToDoubleSeconds(loop_->Now() - refused_->at));
    refused->set_changed_since(revision_ != refused_->revision);
  }
  FillOverrides(now_, history_->authors(), &status);
  FillDataplane(*dataplane_, &status);
  for (const api::Event& event : events_.events()) *status.add_events() = event;
  return status;
}

api::ServiceList Controller::Impl::GetServices() const {
  api::ServiceList list;
  list.set_uptime_seconds(UptimeSeconds());
  FillServices(now_, counts_, &list);
  return list;
}

api::BackendList Controller::Impl::GetBackends() const {
  api::BackendList list;
  list.set_uptime_seconds(UptimeSeconds());
  FillBackends(
      now_, counts_, [this](const Revision::Place& place) { return LookAt(place); }, &list);
  return list;
}

BackendNow Controller::Impl::LookAt(const Revision::Place& place) const {
  BackendNow now = {.health = HealthOf(*now_.revision, place),
                    .held_for = HeldFor(*now_.revision, place)};
  if (const auto it = dampers_.find(now_.revision->at(place).id); it != dampers_.end()) {
    const config::Service& service = now_.revision->config().services(place.service);
    now.times_down = it->second.failures(loop_->Now(), FlapDampingOf(service));
  }
  return now;
}

std::string Controller::Impl::WhyUnused(const std::string& service,
                                        const std::string& backend) const {
  return guideway::WhyUnused(
      now_, history_->authors(), [this](const Revision::Place& place) { return LookAt(place); },
      service, backend);
}

MetricsFacts Controller::Impl::GetMetrics() const {
  MetricsFacts facts;
  facts.version = options_.version;
  facts.start = start_time_;
  facts.config_revision = revision_;
  facts.last_change_successful = config_error_.empty();
  facts.history_kept = history_->kept().ok();
  facts.revision = now_.revision;
  facts.snapshot = now_.snapshot;
  facts.workers = dataplane_->workers();
  facts.interfaces = dataplane_->interfaces();
  facts.backends.reserve(now_.revision->backend_count());
  for (size_t s = 0; s < now_.revision->services.size(); ++s) {
    const Revision::Service& service = now_.revision->services[s];
    facts.services.push_back(
        {counts_.OfService(service.id), counts_.NewFlows(service), now_.health[s].health_ignored});
    for (size_t b = 0; b < service.backends.size(); ++b) {
      const Revision::Place place = {static_cast<int>(s), static_cast<int>(b)};
      facts.backends.push_back(
          {counts_.OfBackend(service.backends[b].id), StandingName(now_.StandingOf(place))});
    }
  }
  facts.tables_built = tables_built_;
  facts.compile_duration = compile_duration_.Collect();
  facts.probes = prober_.Counts();
  facts.probe_lateness = checker_.lateness().Collect();
  return facts;
}

api::RevisionList Controller::Impl::GetHistory() const {
  api::RevisionList list;
  for (const api::Revision& revision : history_->revisions()) *list.add_revisions() = revision;
  return list;
}

void Controller::Impl::GetRevision(uint64_t number, RevisionDone done) const {
  api::RevisionText text;
  for (const api::Revision& revision : history_->revisions()) {
    if (revision.number() == number) *text.mutable_revision() = revision;
  }
  history_->Read(number, [loop = loop_, text,
                          done = std::move(done)](absl::StatusOr<ConfigSource> source) mutable {
    absl::StatusOr<api::RevisionText> answer = std::move(text);
    if (source.ok()) {
      answer->set_text(std::move(source->text));
    } else {
      answer = source.status();
    }
    loop->Post([answer = std::move(answer), done = std::move(done)] { done(answer); });
  });
}

Inspection Controller::Impl::Inspect() const {
  Inspection inspection = {.snapshot = now_.snapshot, .dataplane = dataplane_, .workers = {}};
  for (const WorkerStatus& worker : dataplane_->workers()) {
    inspection.workers.push_back({worker.core, worker.flow_capacity});
  }
  return inspection;
}

Controller::Controller(EventLoop* loop, Prober* prober, Dataplane* dataplane, Options options,
                       Beginning beginning)
    : impl_(std::make_shared<Impl>(loop, prober, dataplane, std::move(options),
                                   std::move(beginning))) {}
Controller::~Controller() = default;

absl::Status Controller::Start() { return impl_->Start(); }

void Controller::Reload(ApplyDone done) {
  impl_->Take({.name = impl_->options().config_file,
               .text = std::nullopt,
               .kept = nullptr,
               .who = "SIGHUP",
               .how = "reload",
               .overrides = std::nullopt,
               .done = std::move(done)});
}

void Controller::Apply(ApplyRequest request, ApplyDone done) {
  impl_->Take({.name = std::move(request.name),
               .text = std::move(request.text),
               .kept = nullptr,
               .who = std::move(request.who),
               .how = "apply",
               .overrides = request.discard_overrides ? std::optional(Overrides()) : std::nullopt,
               .done = std::move(done),
               .max_moved = request.max_moved,
               .text_room = std::move(request.text_room)});
}

void Controller::Plan(PlanRequest request, PlanDone done) {
  impl_->Take({.name = std::move(request.name),
               .text = std::move(request.text),
               .overrides = request.discard_overrides ? std::optional(Overrides()) : std::nullopt,
               .planned = std::move(done),
               .text_room = std::move(request.text_room)});
}

void Controller::Rollback(std::optional<uint64_t> number, std::string who, ApplyDone done,
                          double max_moved) {
  impl_->Take({.name = "",
               .text = std::nullopt,
               .kept = nullptr,
               .who = std::move(who),
               .how = "",
               .overrides = std::nullopt,
               .is_rollback = true,
               .rolled_back_to = number.value_or(0),
               .done = std::move(done),
               .max_moved = max_moved});
}

void Controller::PlanRollback(std::optional<uint64_t> number, PlanDone done) {
  impl_->Take({.name = "",
               .is_rollback = true,
               .rolled_back_to = number.value_or(0),
               .planned = std::move(done)});
}

void Controller::Drain(BackendRequest request, Done done) {
  impl_->SetByHand(ByHand::kDrain, std::move(request), std::nullopt, std::move(done));
}

void Controller::Undrain(BackendRequest request, Done done) {
  impl_->SetByHand(ByHand::kUndrain, std::move(request), std::nullopt, std::move(done));
}

void Controller::SetWeight(BackendRequest request, std::optional<uint32_t> weight, Done done) {
  impl_->SetByHand(ByHand::kWeight, std::move(request), weight, std::move(done));
}

void Controller::SetStopping() { impl_->stopping_ = true; }
bool Controller::stopping() const { return impl_->stopping_; }

api::Status Controller::GetStatus() const { return impl_->GetStatus(); }
api::ServiceList Controller::GetServices() const { return impl_->GetServices(); }
api::BackendList Controller::GetBackends() const { return impl_->GetBackends(); }
MetricsFacts Controller::GetMetrics() const { return impl_->GetMetrics(); }
api::RevisionList Controller::GetHistory() const { return impl_->GetHistory(); }
void Controller::GetRevision(uint64_t number, RevisionDone done) const {
  impl_->GetRevision(number, std::move(done));
}
std::string Controller::WhyUnused(const std::string& service, const std::string& backend) const {
  return impl_->WhyUnused(service, backend);
}
Inspection Controller::Inspect() const { return impl_->Inspect(); }

}  // namespace guideway
