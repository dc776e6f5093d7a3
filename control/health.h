// Who is well: turns answers of single probes into «up» and «down».
//
// HealthState is the rule for one target. It takes `fall` failures in a row to bring a target down
// and `rise` successes in a row to bring it up. Of one that nothing is presumed of, the first
// answer decides at once; until then it is «checking», which takes no new connections where others
// do (service_health.h).
//
// HealthChecker keeps a set of targets asked, each at its own interval, jittered by a tenth so that
// many balancers and many targets do not march in step. One question of one target is under way at
// a time: a slow target is asked less often, never twice at once. After a stall of the loop a
// target is asked once, not once for every interval that was missed. Targets that are equal, from
// however many services, are one target.
//
// Thread contract: the control thread's. The callback may call Report, not SetTargets.
#ifndef GUIDEWAY_CONTROL_HEALTH_H_
#define GUIDEWAY_CONTROL_HEALTH_H_

#include <prometheus/histogram.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "control/event_loop.h"
#include "control/prober.h"

namespace guideway {

enum class Health : uint8_t { kChecking, kUp, kDown };

// What to ask and how to judge the answers.
struct HealthTarget {
  ProbeQuestion question;
  absl::Duration interval;
  absl::Duration timeout;
  uint32_t rise = 1;
  uint32_t fall = 1;

  friend bool operator==(const HealthTarget&, const HealthTarget&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const HealthTarget& t) {
    return H::combine(std::move(h), t.question, t.interval, t.timeout, t.rise, t.fall);
  }
};

struct HealthReport {
  Health health = Health::kChecking;
  std::string reason;  // of the last answer: «ok», «status 503»; empty before the first

  friend bool operator==(const HealthReport&, const HealthReport&) = default;
};

// Rise and fall. A value; no clock.
class HealthState {
 public:
  HealthState() = default;
  explicit HealthState(Health presumed) : health_(presumed) {}

  Health health() const { return health_; }
  // Takes in one answer. True if `health` is another now.
  bool Record(bool ok, uint32_t rise, uint32_t fall);

 private:
  Health health_ = Health::kChecking;
  uint32_t against_ = 0;  // answers in a row that contradict health_
};

class HealthChecker {
 public:
  // Called when the health of a target changes, never from within a call of this class.
  using OnChange = std::function<void(const HealthTarget&, const HealthReport&)>;

  // A target and what is presumed of it if nobody has asked its question yet.
  struct Wanted {
    HealthTarget target;
    Health presumed = Health::kChecking;
  };

  // `jitter_seed`: equal seeds and answers make equal schedules.
  HealthChecker(EventLoop* loop, Prober* prober, uint64_t jitter_seed, OnChange on_change);
  ~HealthChecker();

  // From here on exactly these are asked. A target that was there before goes on undisturbed. A
  // new one that asks the question of an old one (at another pace, say) takes over its health.
  void SetTargets(const std::vector<Wanted>& wanted);

  // Of a target that is wanted, or of another that asks the same question; else nothing.
  std::optional<HealthReport> Report(const HealthTarget& target) const;

  size_t size() const { return targets_.size(); }

  // How long after their time probes were started, in seconds.
  const prometheus::Histogram& lateness() const { return lateness_; }

 private:
  struct Target;

  void Schedule(Target* target, absl::Duration due);
  void ArmTimer();
  void AskWhatIsDue();
  void Answered(Target* target, const ProbeAnswer& answer);
  absl::Duration Jittered(absl::Duration interval);

  // Constant after construction.
  EventLoop* const loop_;
  Prober* const prober_;
  const OnChange on_change_;

  std::minstd_rand random_;
  std::unique_ptr<Timer> timer_;
  absl::flat_hash_map<HealthTarget, std::shared_ptr<Target>> targets_;
  // One of the targets with this question: where a new one takes over from.
  absl::flat_hash_map<ProbeQuestion, Target*> by_question_;
  // Targets that wait for their time; those with a question under way are not in here.
  std::set<std::pair<absl::Duration, Target*>> due_;
  absl::Duration armed_ = absl::InfiniteDuration();        // what timer_ is set to
  absl::Duration last_start_ = -absl::InfiniteDuration();  // when AskWhatIsDue ran last
  prometheus::Histogram lateness_{{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5}};
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_HEALTH_H_
