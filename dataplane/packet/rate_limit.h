// At most so many a second: the generic cell rate algorithm (ITU-T I.371, annex A) with a second's
// worth of burst. All that it remembers is one number, the moment at which a steady stream of what
// was let through so far would have come to its next one.
//
// Take may be called by any number of threads. The moments they pass need not be in order.
#ifndef GUIDEWAY_DATAPLANE_PACKET_RATE_LIMIT_H_
#define GUIDEWAY_DATAPLANE_PACKET_RATE_LIMIT_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "dataplane/packet/clock.h"

namespace guideway {

class RateLimit {
 public:
  // Whether one more may pass. After a rest of a second `per_second` may at once. 0: none.
  bool Take(uint32_t per_second, Nanoseconds now) {
    if (per_second == 0) return false;
    const Nanoseconds interval = Interval(per_second);
    const Nanoseconds tolerance = interval * (per_second - 1);
    Nanoseconds due = due_.load(std::memory_order_relaxed);
    do {
      if (due > now + tolerance) return false;
    } while (
        !due_.compare_exchange_weak(due, std::max(due, now) + interval, std::memory_order_relaxed));
    return true;
  }

  // One passes whether it may or not: the others have to wait for it.
  void Charge(uint32_t per_second, Nanoseconds now) {
    Nanoseconds due = due_.load(std::memory_order_relaxed);
    while (!due_.compare_exchange_weak(due, std::max(due, now) + Interval(per_second),
                                       std::memory_order_relaxed)) {
    }
  }

 private:
  static Nanoseconds Interval(uint32_t per_second) {
    return std::max<Nanoseconds>(1, kSecond / per_second);
  }

  std::atomic<Nanoseconds> due_ = 0;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_RATE_LIMIT_H_
