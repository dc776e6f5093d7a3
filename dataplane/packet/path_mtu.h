// What routers on the way to backends have said about the size of packets (RFC 1191, RFC 8201).
//
// A fixed number of entries, one a line of the table, each a single word:
//
//   | fingerprint of the address : 24 | MTU : 16 | valid until, in ticks : 24 |
//
// Any thread may learn and ask. An entry is forgotten after ten minutes, or when another address
// falls on its place: then packets are too big once more, and it is told again.
#ifndef GUIDEWAY_DATAPLANE_PACKET_PATH_MTU_H_
#define GUIDEWAY_DATAPLANE_PACKET_PATH_MTU_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "dataplane/packet/clock.h"
#include "maglev/net.h"

namespace guideway {

class PathMtus {
 public:
  // No path is believed to be narrower, whatever a message says.
  static constexpr uint16_t kLeastIpv4 = 576;
  static constexpr uint16_t kLeastIpv6 = 1280;

  // Whether any path is known to be narrower than its interface.
  bool any() const { return any_.load(std::memory_order_relaxed); }

  // The largest IP packet to `address` by an interface whose MTU is `mtu`.
  uint16_t Limit(const IpAddress& address, uint16_t mtu, Nanoseconds now) const;

  // A router says that no more than `mtu` gets to `address`. It never widens a path.
  void Learn(const IpAddress& address, uint32_t mtu, Nanoseconds now);

  // Frees what is out of date; to be called more often than time wraps.
  void Forget(Nanoseconds now);

 private:
  static constexpr size_t kEntries = 16384;

  std::atomic<bool> any_ = false;
  std::array<std::atomic<uint64_t>, kEntries> entries_ = {};
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_PATH_MTU_H_
