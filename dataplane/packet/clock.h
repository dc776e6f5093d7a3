// Time in the packet path. It is always passed in: the TSC in a worker, the capture's own in
// replay, whatever a test likes. Only differences mean something.
#ifndef GUIDEWAY_DATAPLANE_PACKET_CLOCK_H_
#define GUIDEWAY_DATAPLANE_PACKET_CLOCK_H_

#include <cstdint>

namespace guideway {

// A moment, in nanoseconds since some start.
using Nanoseconds = uint64_t;
inline constexpr Nanoseconds kSecond = 1000000000;

// The same for what is stored by the million: quarters of a second, and it may wrap. Coarse, so
// that a busy connection dirties its cache line four times a second and not with every packet.
using Ticks = uint32_t;
inline constexpr Ticks kTicksPerSecond = 4;

constexpr Ticks TicksOf(Nanoseconds moment) {
  return static_cast<Ticks>(moment / (kSecond / kTicksPerSecond));
}

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_CLOCK_H_
