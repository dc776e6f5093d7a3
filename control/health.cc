#include "control/health.h"

#include <algorithm>

namespace guideway {
namespace {

// New targets are first asked within this time for each of them, so that ten thousand do not start
// at one moment and three do not wait.
constexpr absl::Duration kSpreadPerTarget = absl::Microseconds(100);

// Probes started in one go, before the loop gets to read answers again.
constexpr int kMaxStartsAtOnce = 256;

// Time from one go to the next: many targets share a go, and with it the timer.
constexpr absl::Duration kBetweenStarts = absl::Microseconds(500);

}  // namespace

bool HealthState::Record(bool ok, uint32_t rise, uint32_t fall) {
  const Health said = ok ? Health::kUp : Health::kDown;
  if (said == health_) {
    against_ = 0;
    return false;
  }
  if (health_ != Health::kChecking && ++against_ < (ok ? rise : fall)) return false;
  health_ = said;
  against_ = 0;
  return true;
}

struct HealthChecker::Target {
  HealthTarget what;
  HealthState state;
  std::string reason;
  absl::Duration due;    // when it is, or was last, to be asked
  bool waiting = false;  // in due_
};

HealthChecker::HealthChecker(EventLoop* loop, Prober* prober, uint64_t jitter_seed,
                             OnChange on_change)
    : loop_(loop),
      prober_(prober),
      on_change_(std::move(on_change)),
      random_(static_cast<uint32_t>(jitter_seed % (std::minstd_rand::modulus - 1) + 1)),
      timer_(loop->NewTimer()) {}

HealthChecker::~HealthChecker() = default;

void HealthChecker::SetTargets(const std::vector<Wanted>& wanted) {
  absl::flat_hash_map<HealthTarget, std::shared_ptr<Target>> targets;
  std::vector<Target*> added;
  for (const Wanted& w : wanted) {
    std::shared_ptr<Target>& target = targets[w.target];
    if (target != nullptr) continue;
    if (auto it = targets_.find(w.target); it != targets_.end()) {
      target = it->second;
      continue;
    }
    target = std::make_shared<Target>();
    target->what = w.target;
    if (auto it = by_question_.find(w.target.question); it != by_question_.end()) {
      target->state = it->second->state;
      target->reason = it->second->reason;
    } else {
      target->state = HealthState(w.presumed);
    }
    added.push_back(target.get());
  }
  for (const auto& [what, target] : targets_) {
    if (target->waiting && !targets.contains(what)) due_.erase({target->due, target.get()});
  }
  targets_ = std::move(targets);
  by_question_.clear();
  for (const auto& [what, target] : targets_) by_question_.emplace(what.question, target.get());

  const absl::Duration now = loop_->Now();
  const absl::Duration spread = kSpreadPerTarget * static_cast<double>(added.size());
  for (Target* target : added) {
    std::uniform_real_distribution<double> share(0, 1);
    Schedule(target, now + std::min(spread, target->what.interval) * share(random_));
  }
  ArmTimer();
}

std::optional<HealthReport> HealthChecker::Report(const HealthTarget& target) const {
  const Target* found = nullptr;
  if (auto it = targets_.find(target); it != targets_.end()) {
    found = it->second.get();
  } else if (auto q = by_question_.find(target.question); q != by_question_.end()) {
    found = q->second;
  }
  if (found == nullptr) return std::nullopt;
  return HealthReport{found->state.health(), found->reason};
}

void HealthChecker::Schedule(Target* target, absl::Duration due) {
  target->due = due;
  target->waiting = true;
  due_.emplace(due, target);
}

void HealthChecker::ArmTimer() {
  const absl::Duration next = due_.empty()
                                  ? absl::InfiniteDuration()
                                  : std::max(due_.begin()->first, last_start_ + kBetweenStarts);
  if (next == armed_) return;
  armed_ = next;
  if (due_.empty()) {
    timer_->Cancel();
  } else {
    timer_->Set(next, [this] { AskWhatIsDue(); });
  }
}

void HealthChecker::AskWhatIsDue() {
  armed_ = absl::InfiniteDuration();
  const absl::Duration now = loop_->Now();
  last_start_ = now;
  for (int started = 0; started < kMaxStartsAtOnce; ++started) {
    if (due_.empty() || due_.begin()->first > now) break;
    Target* target = due_.begin()->second;
    due_.erase(due_.begin());
    target->waiting = false;
    lateness_.Observe(absl::ToDoubleSeconds(now - target->due));
    // The next time counts from when this one was due: being late does not slow the pace, but
    // Answered does not make up for times that were missed.
    target->due += Jittered(target->what.interval);
    prober_->Ask(
        target->what.question, target->what.timeout,
        [this, weak = std::weak_ptr<Target>(targets_.at(target->what))](ProbeAnswer answer) {
          if (auto alive = weak.lock()) Answered(alive.get(), answer);
        });
  }
  ArmTimer();
}

void HealthChecker::Answered(Target* target, const ProbeAnswer& answer) {
  Schedule(target, std::max(target->due, loop_->Now()));
  ArmTimer();
  target->reason = answer.reason;
  if (answer.kind == ProbeAnswer::Kind::kNotAsked) return;
  const bool changed = target->state.Record(answer.kind == ProbeAnswer::Kind::kOk,
                                            target->what.rise, target->what.fall);
  if (changed) on_change_(target->what, {target->state.health(), target->reason});
}

absl::Duration HealthChecker::Jittered(absl::Duration interval) {
  std::uniform_real_distribution<double> factor(0.9, 1.1);
  return interval * factor(random_);
}

}  // namespace guideway
