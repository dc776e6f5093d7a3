// A simulator: the real Controller over fakes, driven through thousands of random steps, against a
// plain oracle of what is wanted, who is well, and who has which id.
//
// A step is something that happens to a daemon: a file is written, a reload, an apply, a drain,
// traffic, a backend that fails, time, a worker's sweep, a helper thread's or the disk's progress,
// a rollback, a crash, after which the history says what is in force. After each, what must hold is
// checked (Check), and more when nothing is under way (CheckIdle). To add a kind of step: a method,
// a row in kSteps, and what it means to the oracle.
//
// GUIDEWAY_SEED is the one seed to run (a failure names its own), GUIDEWAY_SIMULATOR_STEPS how many
// steps a seed has.
#include <glog/logging.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "control/api/api.pb.h"
#include "control/compile.h"
#include "control/controller.h"
#include "control/history.h"
#include "tests/support/fake_dataplane.h"
#include "tests/support/fake_event_loop.h"
#include "tests/support/test_config.h"

namespace guideway {
namespace {

// --- what is wished: a configuration, as plain as the oracle needs it ----------------------------

struct BackendWish {
  std::string name;
  int address;
  int weight;
  bool drain;
};
struct ServiceWish {
  std::string name;
  int vip;
  int port;  // that probes ask; 0: nobody is asked
  bool slow_start;
  std::vector<BackendWish> backends;
};
// The numbers of probes differ with the pace; so a target is known by its timeout.
struct Pace {
  int interval_ms, timeout_ms;
  uint32_t rise, fall;
};
constexpr Pace kPaces[] = {{1000, 300, 2, 3}, {500, 200, 1, 1}};

struct Wish {
  uint32_t serial = 0;  // its `replies_per_second`: a Snapshot tells which wish it fulfils
  int pace = 0;
  std::vector<ServiceWish> services;
};

std::string NameOf(const ServiceWish& s, const BackendWish& b) {
  return absl::StrCat(s.name, "/", b.name);
}

std::string TextOf(const Wish& wish) {
  std::string services;
  for (const ServiceWish& s : wish.services) {
    std::vector<std::string> backends;
    for (const BackendWish& b : s.backends) {
      backends.push_back(absl::StrCat("{ name: ", b.name, ", address: 10.0.0.", b.address,
                                      ", weight: ", b.weight, b.drain ? ", state: drain" : "",
                                      " }"));
    }
    std::vector<std::string> more;
    const Pace& pace = kPaces[wish.pace];
    if (s.port != 0) {
      more.push_back(absl::StrCat(
          "health_check: { tcp: { port: ", s.port, " }, interval: ", pace.interval_ms,
          "ms, timeout: ", pace.timeout_ms, "ms, rise: ", pace.rise, ", fall: ", pace.fall, " }"));
    }
    if (s.slow_start) more.push_back("slow_start: 2s");
    services +=
        ServiceText(s.name, s.vip, absl::StrJoin(backends, ", "), absl::StrJoin(more, ", "));
  }
  return absl::StrReplaceAll(
      ConfigText(services),
      {{"services:\n", absl::StrCat("dataplane: { replies_per_second: ", wish.serial,
                                    " }\nservices:", services.empty() ? " []\n" : "\n")}});
}

// --- who is well: the rule for one target, restated ----------------------------------------------

enum class Judgement { kChecking, kUp, kDown };

struct Judge {
  uint64_t incarnation = 0;
  Judgement health = Judgement::kChecking;
  uint32_t contradicted = 0;  // times in a row

  void Hear(bool well, const Pace& pace) {
    const Judgement said = well ? Judgement::kUp : Judgement::kDown;
    if (health == Judgement::kChecking) {
      health = said;
    } else if (said == health) {
      contradicted = 0;
    } else if (++contradicted >= (well ? pace.rise : pace.fall)) {
      health = said;
      contradicted = 0;
    }
  }
};

struct TargetKey {
  int address, port, pace;
  friend auto operator<=>(const TargetKey&, const TargetKey&) = default;
};

// --- the simulator -------------------------------------------------------------------------------

class Simulator {
 public:
  Simulator(uint64_t seed, const std::string& directory)
      : random_(seed),
        state_(absl::StrCat(directory, "/", seed)),
        file_(directory + "/guideway.yaml") {
    WriteGood();
    Boot();
  }
  ~Simulator() {
    controller_.reset();
    history_.reset();
  }

  // What did not hold, with the steps that led there; empty if all did.
  std::string Run(int steps) {
    for (int i = 0; i < steps && trouble_.empty(); ++i) {
      size_t at = Below(kWeights);
      const Step* step = kSteps;
      while (at >= step->weight) at -= (step++)->weight;
      Note(step->name);
      (this->*step->run)();
      ++seen_[step->name];
      Check();
    }
    if (trouble_.empty()) Rest();
    if (trouble_.empty()) return "";
    return absl::StrCat(trouble_, "\nafter\n  ", absl::StrJoin(notes_, "\n  "));
  }

  const std::map<std::string, int>& seen() const { return seen_; }

 private:
  struct Step {
    const char* name;
    void (Simulator::*run)();
    size_t weight;
  };
  static const Step kSteps[];
  static const size_t kWeights;

  // A request for a configuration, or for a change by hand.
  struct Request {
    std::string what;
    bool is_config = false;
    bool is_reload = false;
    bool is_rollback = false;
    bool brings_overrides = false;
    std::set<std::string> own;  // these, drained
    size_t came = 0;            // after so many of published_
    bool may_succeed = false, may_fail = false;
    std::set<uint32_t> serials;  // one of these is in force if it succeeds
    size_t file_state = 0;       // of a reload: what the file was when it came, or later
    std::string drained;         // by this request
    std::string undrained;
    bool answered = false;
    bool ok = false;
    bool dropped = false;  // its daemon has died
  };
  using RequestPtr = std::shared_ptr<Request>;

  // --- chance and complaints ---

  size_t Below(size_t n) { return static_cast<size_t>((random_() >> 32) * n >> 32); }
  bool Chance(int percent) { return Below(100) < static_cast<size_t>(percent); }
  void Note(const std::string& text) {
    notes_.push_back(
        absl::StrCat(absl::FormatDuration(loop_ ? loop_->Now() : absl::Duration()), " ", text));
    if (notes_.size() > 60) notes_.pop_front();
  }
  void Expect(bool holds, const std::string& what) {
    if (!holds && trouble_.empty()) trouble_ = what;
  }

  // --- the daemon ---

  // Probes are answered after a while, by what is so at that time.
  class SimulatedProber final : public Prober {
   public:
    explicit SimulatedProber(Simulator* simulator) : simulator_(simulator) {}
    void Ask(const ProbeQuestion& question, absl::Duration timeout, Done done) override {
      simulator_->Asked(question, timeout, std::move(done));
    }

   private:
    Simulator* const simulator_;
  };

  // A new process: nothing of the one before is there but the file.
  void Boot() {
    controller_.reset();
    history_.reset();
    if (loop_ != nullptr) LoopFinishes();  // what was under way comes to nothing
    disk_ = std::make_unique<FakeEventLoop>();
    if (!files_.back()) WriteGood();
    const std::map<std::string, std::set<bool>> may_be = WhatMayBeDrained();
    const std::set<uint32_t> may_be_in_force = WhatMayBeInForce();
    for (const RequestPtr& request : requests_) request->dropped = !request->answered;
    requests_.clear();
    log_.clear();
    published_.clear();
    gone_.clear();
    is_uncertain_ = false;
    answers_.clear();
    prober_.reset();
    dataplane_.reset();
    judges_.clear();
    drained_.clear();
    services_.clear();
    backends_.clear();
    service_ids_.clear();
    backend_ids_.clear();
    in_force_ = Wish();
    version_ = 0;
    revision_ = config_revision_ = 1;
    refused_ = false;
    booted_ = false;

    loop_ = std::make_unique<FakeEventLoop>();
    prober_ = std::make_unique<SimulatedProber>(this);
    dataplane_ = std::make_unique<FakeDataplane>();
    dataplane_->on_publish = [this](const Snapshot& snapshot) { Published(snapshot); };
    history_ = std::make_unique<History>(state_, file_);
    absl::StatusOr<Beginning> beginning = ChooseBeginning(history_.get(), file_);
    Expect(beginning.ok() && history_->warnings().empty(), "the history is broken");
    if (!trouble_.empty()) return;
    Controller::Options options{
        .config_file = file_, .version = "simulated", .history = history_.get()};
    options.own_addresses = [] { return std::vector<IpAddress>(); };
    controller_ = std::make_unique<Controller>(loop_.get(), prober_.get(), dataplane_.get(),
                                               options, *std::move(beginning));
    history_->Attach(disk_.get());
    Expect(controller_->Start().ok(), "a good file cannot be served");
    disk_->RunAll();
    Expect(may_be_in_force.empty() || may_be_in_force.contains(in_force_.serial),
           "after a crash something else is in force than what was acknowledged");
    drained_ = NowDrained();
    for (const ServiceWish& service : in_force_.services) {
      for (const BackendWish& backend : service.backends) {
        const std::string name = NameOf(service, backend);
        const auto found = may_be.find(name);
        Expect(found == may_be.end() || found->second.contains(drained_.contains(name)),
               absl::StrCat("a drain or undrain of ", name, " that was acknowledged is lost"));
      }
    }
    base_ = drained_;
    published_ = {in_force_.serial};
    booted_ = true;
  }

  void Asked(const ProbeQuestion& question, absl::Duration timeout, Prober::Done done) {
    TargetKey key = {question.address.bytes()[3], question.port, 0};
    while (key.pace < 1 && absl::Milliseconds(kPaces[key.pace].timeout_ms) != timeout) ++key.pace;
    const auto judge = judges_.find(key);
    Expect(judge != judges_.end(), "a target is asked that nobody wants to know of");
    if (judge == judges_.end()) return;
    const uint64_t incarnation = judge->second.incarnation;
    for (const auto& [number, answer] : answers_) {
      Expect(answer.incarnation != incarnation, "a target is asked twice at once");
    }
    const uint64_t number = next_number_++;
    Answer& answer = answers_[number];
    answer.incarnation = incarnation;
    answer.timer = loop_->NewTimer();
    last_asked_[key] = loop_->Now();
    const auto after = absl::Milliseconds(Below(static_cast<size_t>(kPaces[key.pace].timeout_ms)));
    answer.timer->Set(loop_->Now() + after,
                      [this, number, key, incarnation, done = std::move(done)] {
                        ProbeAnswer said;
                        if (Chance(2)) {
                          said = {ProbeAnswer::Kind::kNotAsked, "too many open files"};
                        } else if (sick_.contains(key.address)) {
                          said = {ProbeAnswer::Kind::kFailed, "connection refused"};
                        }
                        const auto judge = judges_.find(key);
                        if (judge != judges_.end() && judge->second.incarnation == incarnation &&
                            said.kind != ProbeAnswer::Kind::kNotAsked) {
                          judge->second.Hear(said.kind == ProbeAnswer::Kind::kOk, kPaces[key.pace]);
                        }
                        // The timer that runs now outlives its task.
                        Answer over = std::move(answers_[number]);
                        answers_.erase(number);
                        done(said);
                      });
  }

  std::set<std::string> NowDrained() const {
    std::set<std::string> drained;
    const api::BackendList list = controller_->GetBackends();
    for (const api::Backend& backend : list.backends()) {
      if (backend.drained_by_hand()) {
        drained.insert(absl::StrCat(backend.service(), "/", backend.name()));
      }
    }
    return drained;
  }

  // --- the oracle ---

  // What may be found after a crash now: what the last answer said, or anything asked after it. Of
  // those alone of which it is plain.
  std::map<std::string, std::set<bool>> WhatMayBeDrained() const {
    std::map<std::string, std::set<bool>> may_be;
    if (is_uncertain_) return may_be;
    for (const ServiceWish& s : in_force_.services) {
      for (const BackendWish& b : s.backends) {
        const std::string name = NameOf(s, b);
        if (gone_.contains(name)) continue;
        std::set<bool>& values = may_be[name] = {base_.contains(name)};
        for (const RequestPtr& request : log_) {
          if (request->drained != name && request->undrained != name) continue;
          if (request->answered && request->ok) values.clear();
          if (!request->answered || request->ok) values.insert(request->drained == name);
        }
      }
    }
    return may_be;
  }
  std::set<uint32_t> WhatMayBeInForce() const {
    std::set<uint32_t> serials;
    size_t first = 0;
    for (const RequestPtr& request : log_) {
      if (!request->is_config || !request->ok) continue;
      size_t at = request->came;
      while (at < published_.size() && !request->serials.contains(published_[at])) ++at;
      if (at < published_.size()) first = std::max(first, at);
    }
    for (size_t i = first; i < published_.size(); ++i) serials.insert(published_[i]);
    // A file that was changed meanwhile wins.
    if (!serials.empty() && !files_.empty() && files_.back()) serials.insert(*files_.back());
    return serials;
  }

  // What requests come to in the order in which they came, once all are answered. Of backends that
  // left the configuration meanwhile it is what it is.
  void FoldLog() {
    const std::set<std::string> now = NowDrained();
    std::set<std::string> drained = base_;
    for (const RequestPtr& request : log_) {
      // One that finds nothing to go back to is not refused for its configuration.
      if (request->is_config && (request->ok || !request->is_rollback)) refused_ = !request->ok;
      if (!request->ok) continue;
      if (request->brings_overrides) drained = request->own;
      if (!request->drained.empty()) drained.insert(request->drained);
      if (!request->undrained.empty()) drained.erase(request->undrained);
    }
    for (const ServiceWish& s : in_force_.services) {
      for (const BackendWish& b : s.backends) {
        const std::string name = NameOf(s, b);
        Expect(gone_.contains(name) || now.contains(name) == drained.contains(name),
               absl::StrCat(name,
                            " is drained by hand, or is not, as if requests had come in "
                            "another order"));
      }
    }
    if (is_uncertain_) ++seen_["put into order"];
    drained_ = base_ = now;
    log_.clear();
    gone_.clear();
    is_uncertain_ = false;
  }

  static const BackendWish* Find(const Wish& wish, const std::string& name,
                                 const ServiceWish** service) {
    for (const ServiceWish& s : wish.services) {
      for (const BackendWish& b : s.backends) {
        if (NameOf(s, b) != name) continue;
        *service = &s;
        return &b;
      }
    }
    return nullptr;
  }

  Judgement HealthOf(const Wish& wish, const ServiceWish& s, const BackendWish& b) const {
    if (s.port == 0) return Judgement::kUp;
    return judges_.at({b.address, s.port, wish.pace}).health;
  }

  // Whether it took new connections under the Snapshot before the one in force.
  bool WasUp(const ServiceWish& s, const BackendWish& b) const {
    if (dataplane_->published.size() < 2) return false;
    for (const auto& service : dataplane_->published.end()[-2]->services()) {
      for (const Backend& was : service->backends) {
        if (service->name != s.name || was.name != b.name) continue;
        return was.address.bytes()[3] == b.address && was.state == BackendState::kUp;
      }
    }
    return false;
  }

  // `for_want`: the service has nobody else.
  BackendState StateOf(const ServiceWish& s, const BackendWish& b, bool for_want) const {
    const Judgement health = HealthOf(in_force_, s, b);
    if (health == Judgement::kDown) return BackendState::kDown;
    if (b.drain || drained_.contains(NameOf(s, b))) return BackendState::kDrain;
    if (health == Judgement::kUp || for_want || WasUp(s, b)) return BackendState::kUp;
    return BackendState::kDrain;
  }
  BackendState StateOf(const ServiceWish& s, const BackendWish& b) const {
    const bool for_want = std::none_of(s.backends.begin(), s.backends.end(), [&](const auto& w) {
      return StateOf(s, w, false) == BackendState::kUp;
    });
    return StateOf(s, b, for_want);
  }

  // Of a target that nobody has asked: what was known of the machines that ask the same now.
  Judgement Presumed(const Wish& before, const Wish& after, const TargetKey& key) const {
    std::set<Judgement> known;
    for (const ServiceWish& s : after.services) {
      for (const BackendWish& b : s.backends) {
        const ServiceWish* old_service = nullptr;
        const BackendWish* old = Find(before, NameOf(s, b), &old_service);
        if (s.port != key.port || b.address != key.address || old == nullptr) continue;
        if (old->address == b.address) known.insert(HealthOf(before, *old_service, *old));
      }
    }
    for (Judgement best : {Judgement::kUp, Judgement::kDown}) {
      if (known.contains(best)) return best;
    }
    return Judgement::kChecking;
  }

  // Who is asked from now on, and what is known of them.
  void Rejudge(const Wish& before, const Wish& after) {
    std::map<TargetKey, Judge> judges;
    for (const ServiceWish& s : after.services) {
      for (const BackendWish& b : s.backends) {
        const TargetKey key = {b.address, s.port, after.pace};
        if (s.port == 0 || judges.contains(key)) continue;
        Judge& judge = judges[key];
        if (const auto same = judges_.find(key); same != judges_.end()) {
          judge = same->second;
          continue;
        }
        const auto asked = judges_.find({b.address, s.port, before.pace});
        if (asked != judges_.end()) {
          judge = asked->second;  // another pace
        } else if (!booted_) {
          judge.health = Judgement::kUp;
        } else {
          judge.health = Presumed(before, after, key);
        }
        judge.incarnation = next_number_++;
        last_asked_[key] = loop_->Now();
      }
    }
    judges_ = std::move(judges);
  }

  // Whom an id belongs to, and since which version it has been gone; 0: it is there.
  struct Holder {
    std::string name;
    uint64_t gone_since = 0;
  };
  using Holders = std::map<uint32_t, Holder>;

  // What an id stands for: a backend of this name at another address is another server.
  static std::string ServerOf(const std::string& name, const std::string& address) {
    return absl::StrCat(name, " at ", address);
  }

  // `ids`: what the Snapshot `version` says. Returns the names that got an id that was not theirs.
  std::set<std::string> TakeIds(Holders& holders, const std::map<uint32_t, std::string>& ids,
                                uint64_t version) {
    std::set<std::string> anew;
    for (const auto& [id, name] : ids) {
      const auto [it, is_first] = holders.try_emplace(id, Holder{name});
      Holder& holder = it->second;
      if (is_first) anew.insert(name);
      if (holder.name != name) {
        Expect(holder.gone_since > 0 && holder.gone_since <= dataplane_->swept_version,
               absl::StrCat("id ", id, " of ", holder.name, " goes to ", name,
                            " while a worker may hold it"));
        anew.insert(name);
        holder.name = name;
      }
      holder.gone_since = 0;
    }
    for (auto& [id, holder] : holders) {
      if (!ids.contains(id) && holder.gone_since == 0) holder.gone_since = version;
    }
    return anew;
  }

  void Published(const Snapshot& snapshot) {
    Expect(snapshot.version() > version_, "versions do not grow");
    version_ = snapshot.version();
    const auto found = wishes_.find(snapshot.replies_per_second());
    Expect(found != wishes_.end(), "a Snapshot of no configuration");
    const Wish& wish = found->second;
    Rejudge(in_force_, wish);

    std::map<uint32_t, std::string> service_ids, backend_ids;
    std::set<std::string> services, backends, servers;
    for (const auto& service : snapshot.services()) {
      services.insert(service->name);
      Expect(service_ids.emplace(service->id, service->name).second, "an id of two services");
      for (const Backend& backend : service->backends) {
        const std::string name = absl::StrCat(service->name, "/", backend.name);
        backends.insert(name);
        const std::string server = ServerOf(name, backend.address.ToString());
        servers.insert(server);
        Expect(backend_ids.emplace(backend.id, server).second, "an id of two backends");
      }
    }
    TakeIds(service_ids_, service_ids, version_);
    for (const std::string& server : TakeIds(backend_ids_, backend_ids, version_)) {
      backends_[server] = 0;
    }
    // No more ids than servers: none is lost.
    Expect(backend_ids_.size() <= kServiceNames * kBackendNames * kAddresses,
           "ids of backends leak");
    Expect(service_ids_.size() <= kServiceNames, "ids of services leak");
    // A server that comes back may have its old id and count, or begin again.
    for (const std::string& server : servers) {
      if (!was_there_.contains(server)) came_back_.insert(server);
    }
    was_there_ = servers;
    std::erase_if(services_, [&](const auto& s) { return !services.contains(s.first); });
    for (const std::string& name : services) services_.try_emplace(name, 0);
    std::erase_if(drained_, [&](const std::string& name) { return !backends.contains(name); });
    for (size_t s = 0; s < kServiceNames; ++s) {
      for (size_t b = 0; b < kBackendNames; ++b) {
        const std::string name = absl::StrCat("s", s, "/b", b);
        if (!backends.contains(name)) gone_.insert(name);
      }
    }
    published_.push_back(wish.serial);
    in_force_ = wish;
  }

  // --- what must hold ---

  void Check() {
    loop_->Run();
    // They end in any order.
    Expect(loop_->pieces(false) <= 1, "two Compiles at once");
    Expect(loop_->pieces(true) <= 1, "two files are read at once");
    const api::Status status = controller_->GetStatus();
    Expect(status.revision() >= revision_,
           absl::StrCat("revision ", status.revision(), " after ", revision_));
    revision_ = status.revision();
    Expect(status.events_size() <= 100, "events without end");
    CheckCounts();
    if (Pieces() == 0) CheckIdle();
  }

  // Of work that nobody has done, or knows of.
  size_t Pieces() const {
    return loop_->helper_work() + loop_->helper_computed() + disk_->helper_work() +
           disk_->helper_computed();
  }

  void CheckCounts() {
    const api::ServiceList services = controller_->GetServices();
    Expect(services.services_size() == static_cast<int>(in_force_.services.size()),
           "other services than those in force");
    for (const api::Service& service : services.services()) {
      Expect(service.new_flows() == services_[service.name()],
             absl::StrCat(service.name(), " has opened ", service.new_flows(),
                          " connections and not ", services_[service.name()]));
    }
    const api::BackendList backends = controller_->GetBackends();
    for (const api::Backend& backend : backends.backends()) {
      const std::string name = absl::StrCat(backend.service(), "/", backend.name());
      const std::string server = ServerOf(name, backend.address());
      if (came_back_.erase(server) > 0 && backend.new_flows() == 0) backends_[server] = 0;
      Expect(backend.new_flows() == backends_[server],
             absl::StrCat(server, " has opened ", backend.new_flows(), " connections and not ",
                          backends_[server]));
      Expect(!backend.drained_by_hand() || backend.state() == "drain",
             absl::StrCat(name, " is shown as drained by hand, which is not in force"));
    }
  }

  void CheckIdle() {
    for (const RequestPtr& request : requests_) {
      Expect(request->answered, absl::StrCat(request->what, " is never answered"));
    }
    requests_.clear();
    const std::set<std::string> now = NowDrained();
    for (const ServiceWish& service : in_force_.services) {
      for (const BackendWish& backend : service.backends) {
        const std::string name = NameOf(service, backend);
        Expect(is_uncertain_ || now.contains(name) == drained_.contains(name),
               absl::StrCat(name, " is drained by hand, or is not"));
      }
    }
    FoldLog();
    Expect(controller_->GetStatus().config_error().empty() != refused_,
           "config_error is not of the last change");
    published_ = {in_force_.serial};
    const Snapshot& snapshot = dataplane_->snapshot();
    Expect(snapshot.services().size() == in_force_.services.size(), "services are missing");
    if (!trouble_.empty()) return;
    for (size_t s = 0; s < in_force_.services.size(); ++s) {
      const ServiceWish& wish = in_force_.services[s];
      const Service& service = *snapshot.services()[s];
      for (const Backend& backend : service.backends) {
        const auto b = std::find_if(wish.backends.begin(), wish.backends.end(),
                                    [&](const auto& w) { return w.name == backend.name; });
        Expect(b != wish.backends.end(), "a backend too many");
        if (b == wish.backends.end()) return;
        Expect(backend.state == StateOf(wish, *b),
               absl::StrCat(NameOf(wish, *b), " is in state ", static_cast<int>(backend.state),
                            " and not ", static_cast<int>(StateOf(wish, *b))));
        Expect(wish.slow_start || backend.share == kFullShare, "a slow start that nobody wants");
        Expect(backend.share >= 1 && backend.share <= kFullShare, "a share out of bounds");
      }
    }
    if (Chance(25)) CompareWithFresh(snapshot);
  }

  // What a Compile from nothing makes of the same facts.
  void CompareWithFresh(const Snapshot& snapshot) {
    CompileInput input;
    input.version = snapshot.version();
    auto& loaded = loaded_[in_force_.serial];
    if (loaded == nullptr) {
      loaded = std::make_shared<const LoadedConfig>(LoadText(TextOf(in_force_)));
    }
    input.loaded = loaded;
    input.hash_seed = snapshot.hash_seed();
    input.routes = StaticRoutes(loaded->config, dataplane_->interfaces());
    for (size_t s = 0; s < in_force_.services.size(); ++s) {
      const Service& service = *snapshot.services()[s];
      ServiceFacts& facts = input.services.emplace_back();
      facts.id = service.id;
      for (const BackendWish& wish : in_force_.services[s].backends) {
        for (const Backend& backend : service.backends) {
          if (backend.name != wish.name) continue;
          facts.backends.push_back(
              {backend.id, StateOf(in_force_.services[s], wish), backend.share});
        }
      }
    }
    const auto fresh = Compile(input);
    Expect(fresh.ok(), "what is in force does not compile");
    if (!fresh.ok()) return;
    Expect((*fresh)->timeouts() == snapshot.timeouts() && (*fresh)->routes() == snapshot.routes(),
           "routes or timeouts are not those of a fresh Compile");
    for (size_t s = 0; s < snapshot.services().size(); ++s) {
      const Service& a = *(*fresh)->services()[s];
      const Service& b = *snapshot.services()[s];
      bool same = a.name == b.name && a.vips == b.vips && a.ports == b.ports &&
                  a.backends == b.backends && a.connection_shares == b.connection_shares &&
                  a.configured_digest == b.configured_digest &&
                  a.effective_digest == b.effective_digest && a.pools.size() == b.pools.size();
      for (size_t p = 0; same && p < a.pools.size(); ++p) {
        same = *a.pools[p].assignment == *b.pools[p].assignment;
      }
      Expect(same, absl::StrCat("service ", a.name, " is not what a fresh Compile makes"));
    }
    ++seen_["compared with a fresh Compile"];
  }

  // Nothing happens any more: everything comes to its end.
  void Rest() {
    AllFinish();
    if (!trouble_.empty()) return;
    sick_.clear();
    loop_->Advance(absl::Seconds(20));
    Check();
    for (const auto& service : dataplane_->snapshot().services()) {
      for (const Backend& backend : service->backends) {
        Expect(backend.state != BackendState::kDown, "down, and answers for 20 s");
        Expect(backend.share == kFullShare, "a slow start without end");
      }
    }
    for (const auto& [key, judge] : judges_) {
      Expect(loop_->Now() - last_asked_[key] < absl::Seconds(2), "a target is asked no more");
    }
  }

  // --- steps ---

  Wish RandomWish() {
    Wish wish;
    wish.serial = next_serial_++;
    wish.pace = static_cast<int>(Below(2));
    for (size_t s = 0; s < kServiceNames; ++s) {
      if (Chance(40)) continue;
      ServiceWish service = {absl::StrCat("s", s),
                             static_cast<int>(s) + 1,
                             Chance(20) ? 0 : 81 + static_cast<int>(Below(2)),
                             Chance(25),
                             {}};
      std::vector<int> addresses = {1, 2, 3, 4, 5, 6};
      std::shuffle(addresses.begin(), addresses.end(), random_);
      for (size_t b = 0; b < kBackendNames; ++b) {
        // Most keep their address, so that much is the same from one to the next.
        const int usual = static_cast<int>(b) + 1;
        if (Chance(40)) continue;
        service.backends.push_back(
            {absl::StrCat("b", b), usual, 50 * (1 + static_cast<int>(Below(3))), Chance(10)});
      }
      if (Chance(20)) {
        for (size_t b = 0; b < service.backends.size(); ++b) {
          service.backends[b].address = addresses[b];
        }
      }
      std::shuffle(service.backends.begin(), service.backends.end(), random_);
      wish.services.push_back(std::move(service));
    }
    std::shuffle(wish.services.begin(), wish.services.end(), random_);
    wishes_[wish.serial] = wish;
    return wish;
  }

  std::string BadText() {
    switch (Below(3)) {
      case 0: return "services: 3";
      case 1: return absl::StrReplaceAll(TextOf(RandomWish()), {{"hash_seed: 7", "hash_seed: 8"}});
      default:
        return ConfigText(ServiceText("s0", 1, "{ name: b0, address: 10.0.0.1 }")) + "bogus: 1\n";
    }
  }

  void Write(const std::string& text) { std::ofstream(file_, std::ios::trunc) << text; }
  void WriteGood() {
    const Wish wish = RandomWish();
    Write(TextOf(wish));
    files_.push_back(wish.serial);
  }
  void WriteBad() {
    if (Chance(20)) {
      std::filesystem::remove(file_);
    } else {
      Write(BadText());
    }
    files_.push_back(std::nullopt);
  }

  void Answered(const RequestPtr& request, bool ok) {
    Expect(!request->dropped, absl::StrCat(request->what, " is answered by the dead"));
    Expect(!request->answered, absl::StrCat(request->what, " is answered twice"));
    request->answered = true;
    request->ok = ok;
    if (request->is_reload) {
      for (size_t i = request->file_state; i < files_.size(); ++i) {
        (files_[i] ? request->may_succeed : request->may_fail) = true;
        if (files_[i]) request->serials.insert(*files_[i]);
      }
    }
    Expect(ok ? request->may_succeed : request->may_fail,
           absl::StrCat(request->what, ok ? " succeeds" : " fails"));
    if (!request->is_config) return;
    // Who is refused does not wait for the disk.
    for (const RequestPtr& other : requests_) {
      if (other == request || !ok) break;
      Expect(other->answered || !other->is_config,
             absl::StrCat(request->what, " is answered before ", other->what));
    }
    ++seen_[ok ? "accepted" : "refused"];
  }

  void TakeConfig(const RequestPtr& request, const absl::StatusOr<api::ApplyResult>& result) {
    Answered(request, result.ok());
    if (!result.ok()) return;
    // Reloads that waited together are one.
    const bool together = request->is_reload && result->revision() == config_revision_ &&
                          last_config_ != nullptr && last_config_->is_reload;
    Expect(together || result->revision() > config_revision_, "revisions do not count");
    config_revision_ = result->revision();
    last_config_ = request;
    if (request->is_rollback) FindRolledBack(request, result->rolled_back_to());
    Expect(std::any_of(published_.begin() + static_cast<std::ptrdiff_t>(request->came),
                       published_.end(),
                       [&](uint32_t serial) { return request->serials.contains(serial); }),
           absl::StrCat(request->what, " is answered, and something else is in force"));
    AskForMore();
  }

  void FindRolledBack(const RequestPtr& request, uint64_t number) {
    const api::RevisionList list = controller_->GetHistory();
    for (const api::Revision& revision : list.revisions()) {
      if (revision.number() != number) continue;
      for (const api::Override& override : revision.overrides()) {
        request->own.insert(absl::StrCat(override.service(), "/", override.backend()));
      }
      uint32_t serial = 0;
      absl::string_view file = revision.file();
      if (absl::ConsumePrefix(&file, "new") && absl::ConsumeSuffix(&file, ".yaml") &&
          absl::SimpleAtoi(file, &serial)) {
        request->serials.insert(serial);
      } else {
        for (const auto& was : files_) {
          if (was) request->serials.insert(*was);
        }
      }
    }
  }

  // From within an answer.
  void AskForMore() {
    if (!Chance(10)) return;
    switch (Below(3)) {
      case 0: return ByHand(Chance(50));
      case 1: return Apply(true);
      default: return Reload();
    }
  }

  RequestPtr NewRequest(const std::string& what) {
    Note(absl::StrCat("  ", what));
    requests_.push_back(std::make_shared<Request>(Request{.what = what}));
    requests_.back()->came = published_.size();
    log_.push_back(requests_.back());
    return requests_.back();
  }

  void Apply(bool good, bool discard = false) {
    std::string text = good ? "" : BadText();
    const uint32_t serial = next_serial_;
    if (good) text = TextOf(RandomWish());
    const RequestPtr request = NewRequest(
        absl::StrCat(good ? "apply" : "bad apply", discard ? " and discard" : "", " of ", serial));
    request->is_config = true;
    request->brings_overrides = discard;
    is_uncertain_ |= discard;
    request->may_succeed = good;
    request->may_fail = !good;
    if (good) request->serials = {serial};
    controller_->Apply(
        {.name = absl::StrCat("new", serial, ".yaml"),
         .text = text,
         .who = "somebody",
         .discard_overrides = discard},
        [this, request](absl::StatusOr<api::ApplyResult> result) { TakeConfig(request, result); });
  }
  void Discard() { Apply(Chance(80), true); }
  void Rollback() {
    std::optional<uint64_t> number;
    if (Chance(70)) number = 1 + Below(static_cast<size_t>(revision_) + 2);
    const RequestPtr request =
        NewRequest(absl::StrCat("rollback to ", number ? absl::StrCat(*number) : "the one before"));
    request->is_config = request->is_rollback = request->brings_overrides = true;
    request->may_succeed = request->may_fail = true;
    is_uncertain_ = true;
    controller_->Rollback(number, "somebody", [this, request](const auto& result) {
      TakeConfig(request, result);
      if (result.ok()) ++seen_["rolled back"];
    });
  }
  void ApplyGood() { Apply(true); }
  void ApplyBad() { Apply(false); }

  void Reload() {
    const RequestPtr request = NewRequest("reload");
    request->is_config = request->is_reload = true;
    request->file_state = files_.size() - 1;
    controller_->Reload(
        [this, request](absl::StatusOr<api::ApplyResult> result) { TakeConfig(request, result); });
  }

  void ByHand(bool drain) {
    const std::string service = absl::StrCat("s", Below(kServiceNames));
    const std::string backend = absl::StrCat("b", Below(kBackendNames));
    const std::string name = absl::StrCat(service, "/", backend);
    const RequestPtr request = NewRequest(absl::StrCat(drain ? "drain " : "undrain ", name));
    const ServiceWish* unused = nullptr;
    const BackendWish* wish = Find(in_force_, name, &unused);
    const bool refused = wish == nullptr || (!drain && wish->drain && !drained_.contains(name));
    request->may_succeed = is_uncertain_ || !refused;
    request->may_fail = is_uncertain_ || refused;
    if (!refused && drain) drained_.insert(name);
    if (!refused && !drain) drained_.erase(name);
    (drain ? request->drained : request->undrained) = name;
    const auto done = [this, request](const absl::StatusOr<api::Done>& result) {
      Answered(request, result.ok());
      if (result.ok() && !is_uncertain_ && drained_.contains(request->drained)) {
        for (const auto& service : dataplane_->snapshot().services()) {
          for (const Backend& b : service->backends) {
            Expect(absl::StrCat(service->name, "/", b.name) != request->drained ||
                       b.state != BackendState::kUp,
                   absl::StrCat(request->what, " is answered before it is so"));
          }
        }
      }
      AskForMore();
    };
    drain ? controller_->Drain({service, backend, "somebody"}, done)
          : controller_->Undrain({service, backend, "somebody"}, done);
  }
  void Drain() { ByHand(true); }
  void Undrain() { ByHand(false); }

  void Flap() {
    const int address = 1 + static_cast<int>(Below(6));
    if (sick_.erase(address) == 0) sick_.insert(address);
  }

  void Traffic() {
    for (const auto& service : dataplane_->snapshot().services()) {
      for (const Backend& backend : service->backends) {
        if (Chance(50)) continue;
        const uint64_t n = Below(10);
        dataplane_->by_backend[backend.id].new_flows += n;
        services_[service->name] += n;
        backends_[ServerOf(absl::StrCat(service->name, "/", backend.name),
                           backend.address.ToString())] += n;
      }
    }
  }

  void Sweep() {
    const uint64_t ahead = version_ - dataplane_->swept_version;
    dataplane_->swept_version += Below(ahead + 1);
  }

  void HelperWorks() {
    if (const size_t n = loop_->helper_work(); n > 0) loop_->BeginHelper(Below(n));
  }
  void HelperEnds() {
    if (const size_t n = loop_->helper_computed(); n > 0) loop_->EndHelper(Below(n));
  }
  // One thing after the other.
  void DiskWorks() {
    if (disk_->helper_work() > 0) disk_->BeginHelper();
  }
  void DiskEnds() {
    if (disk_->helper_computed() > 0) disk_->EndHelper();
    loop_->Run();
  }
  // Until nothing is left to do: what can be wanted at one moment is done in a few rounds.
  void LoopFinishes() {
    for (int rounds = 0; loop_->helper_work() + loop_->helper_computed() > 0; ++rounds) {
      Expect(rounds < 100, "rounds without end");
      if (!trouble_.empty()) return;
      HelperWorks();
      HelperEnds();
    }
  }
  void AllFinish() {
    for (int rounds = 0; Pieces() > 0; ++rounds) {
      Expect(rounds < 200, "rounds without end");
      if (!trouble_.empty()) return;
      HelperWorks();
      HelperEnds();
      DiskWorks();
      DiskEnds();
    }
  }

  void Moment() { loop_->AdvanceLoop(absl::Milliseconds(Below(100))); }
  void Second() { loop_->AdvanceLoop(absl::Milliseconds(500 + Below(1500))); }
  void Stall() { loop_->Stall(absl::Milliseconds(Below(3000))); }
  void Crash() { Boot(); }

  static constexpr size_t kServiceNames = 4;
  static constexpr size_t kBackendNames = 5;
  static constexpr size_t kAddresses = 6;

  std::mt19937_64 random_;
  const std::string state_, file_;
  std::string trouble_;
  std::deque<std::string> notes_;
  std::map<std::string, int> seen_;
  uint64_t next_number_ = 1;
  uint32_t next_serial_ = 1;

  std::map<uint32_t, Wish> wishes_;
  std::map<uint32_t, std::shared_ptr<const LoadedConfig>> loaded_;
  std::vector<std::optional<uint32_t>> files_;  // what the file has been; none: no good
  std::set<int> sick_;                          // addresses

  // The oracle.
  Wish in_force_;
  bool booted_ = false;
  std::set<std::string> drained_;
  // Since all was answered: what was drained then, what was asked, in whose order, the
  // configurations published, the one before first, and whose backends were not among them.
  std::set<std::string> base_;
  std::vector<RequestPtr> log_;
  std::vector<uint32_t> published_;
  std::set<std::string> gone_;
  // A change was asked for that brings overrides of its own, when it will. `drained_` is known
  // again when all is answered.
  bool is_uncertain_ = false;
  std::map<TargetKey, Judge> judges_;
  std::map<TargetKey, absl::Duration> last_asked_;
  uint64_t version_ = 0, revision_ = 1;
  uint64_t config_revision_ = 1;  // that of the last configuration; drains by hand have their own
  bool refused_ = false;          // the last change
  RequestPtr last_config_;
  std::map<std::string, uint64_t> services_, backends_;  // connections opened
  std::set<std::string> was_there_, came_back_;
  Holders service_ids_, backend_ids_;

  struct Answer {
    uint64_t incarnation = 0;
    std::unique_ptr<Timer> timer;
  };
  std::unique_ptr<FakeEventLoop> loop_, disk_;
  std::map<uint64_t, Answer> answers_;  // still to come
  std::vector<RequestPtr> requests_;    // in the order they came
  std::unique_ptr<SimulatedProber> prober_;
  std::unique_ptr<FakeDataplane> dataplane_;
  std::unique_ptr<History> history_;
  std::unique_ptr<Controller> controller_;
};

const Simulator::Step Simulator::kSteps[] = {
    {"write a good file", &Simulator::WriteGood, 4},
    {"write a bad file", &Simulator::WriteBad, 2},
    {"reload", &Simulator::Reload, 6},
    {"apply", &Simulator::ApplyGood, 6},
    {"apply what is refused", &Simulator::ApplyBad, 3},
    {"apply and discard", &Simulator::Discard, 3},
    {"rollback", &Simulator::Rollback, 3},
    {"drain", &Simulator::Drain, 8},
    {"undrain", &Simulator::Undrain, 8},
    {"flap", &Simulator::Flap, 10},
    {"traffic", &Simulator::Traffic, 10},
    {"sweep", &Simulator::Sweep, 10},
    {"the helper works", &Simulator::HelperWorks, 15},
    {"the helper ends", &Simulator::HelperEnds, 15},
    {"the helper finishes", &Simulator::LoopFinishes, 8},
    {"the disk works", &Simulator::DiskWorks, 12},
    {"the disk ends", &Simulator::DiskEnds, 12},
    {"all finish", &Simulator::AllFinish, 8},
    {"a moment", &Simulator::Moment, 15},
    {"a second", &Simulator::Second, 10},
    {"a stall", &Simulator::Stall, 2},
    {"crash", &Simulator::Crash, 1},
};
const size_t Simulator::kWeights = [] {
  size_t sum = 0;
  for (const Step& step : kSteps) sum += step.weight;
  return sum;
}();

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

class ControllerSimulator : public testing::Test {
 protected:
  ControllerSimulator() {
    std::string name = testing::TempDir() + "controller_simulator.XXXXXX";
    directory_ = mkdtemp(name.data());
    FLAGS_minloglevel = google::GLOG_FATAL;
  }
  ~ControllerSimulator() override {
    FLAGS_minloglevel = google::GLOG_INFO;
    std::filesystem::remove_all(directory_);
  }

  std::string directory_;
};

TEST_F(ControllerSimulator, HoldsWhateverHappens) {
  std::vector<uint64_t> seeds = {1, 2, 3, 4, 5, 6, std::random_device()()};
  if (const uint64_t seed = FromEnvironment("GUIDEWAY_SEED", 0); seed != 0) seeds = {seed};
  const int steps = static_cast<int>(FromEnvironment("GUIDEWAY_SIMULATOR_STEPS", 1500));
  std::map<std::string, int> seen;
  for (const uint64_t seed : seeds) {
    Simulator simulator(seed, directory_);
    const std::string trouble = simulator.Run(steps);
    ASSERT_TRUE(trouble.empty()) << trouble << "\nGUIDEWAY_SEED=" << seed << " replays it";
    for (const auto& [what, times] : simulator.seen()) seen[what] += times;
  }
  if (seeds.size() == 1) return;
  for (const char* what : {"accepted", "refused", "crash", "rolled back", "put into order",
                           "compared with a fresh Compile"}) {
    EXPECT_GT(seen[what], 10) << what;
  }
}

}  // namespace
}  // namespace guideway
