// What is counted, once: each list below makes the enum, the name that people and scripts see, and
// the help text.
//
// Every packet ends with exactly one Verdict; a drop has exactly one Reason. So, for any worker, at
// any time between two bursts: received = forwarded + replied + punted + dropped, and dropped is
// the sum over the reasons.
#ifndef GUIDEWAY_DATAPLANE_COUNTERS_H_
#define GUIDEWAY_DATAPLANE_COUNTERS_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace guideway {

// clang-format off
#define GUIDEWAY_VERDICTS(X)                                             \
  X(kForward, "forward", "sent to a backend")                            \
  X(kReply, "reply", "answered by the balancer itself")                  \
  X(kPunt, "punt", "not for a VIP")                                      \
  X(kDrop, "drop", "counted and gone")

#define GUIDEWAY_DROP_REASONS(X)                                                                  \
  X(kMalformed, "malformed", "cut short, impossible lengths or offsets, wrong checksum or source") \
  X(kTooBig, "too_big", "does not fit the next hop, and may be neither fragmented nor answered")  \
  X(kAccessDenied, "access_denied", "its source is on a deny list")                               \
  X(kRateLimited, "rate_limited", "more new connections than the service's limit")                \
  X(kPortNotServed, "port_not_served", "the address is a VIP, the port or protocol is not served") \
  X(kNoBackend, "no_backend", "no backend of the service takes new connections")                  \
  X(kFragmentUnknown, "fragment_unknown", "a fragment whose first fragment was never seen")       \
  X(kNoNextHop, "no_next_hop", "no route leads to the backend")                                   \
  X(kTransmitFull, "transmit_full", "the interface took no more packets")
// clang-format on

#define GUIDEWAY_ENUMERATOR(id, name, help) id,
enum class Verdict : uint8_t { GUIDEWAY_VERDICTS(GUIDEWAY_ENUMERATOR) };
enum class Reason : uint8_t { GUIDEWAY_DROP_REASONS(GUIDEWAY_ENUMERATOR) };
#undef GUIDEWAY_ENUMERATOR

// Names and help texts, indexed by the enums.
struct CounterInfo {
  absl::string_view name;
  absl::string_view help;
};
#define GUIDEWAY_INFO(id, name, help) CounterInfo{name, help},
inline constexpr std::array kVerdictInfo = {GUIDEWAY_VERDICTS(GUIDEWAY_INFO)};
inline constexpr std::array kReasonInfo = {GUIDEWAY_DROP_REASONS(GUIDEWAY_INFO)};
#undef GUIDEWAY_INFO

inline constexpr size_t kVerdicts = kVerdictInfo.size();
inline constexpr size_t kReasons = kReasonInfo.size();

// A 64-bit count with one writer, the thread that owns it, and any number of readers. A relaxed
// load and store are plain moves: no lock prefix, no lost update as long as there is one writer.
class Counter {
 public:
  void Add(uint64_t n) { value_.store(Get() + n, std::memory_order_relaxed); }
  void Sub(uint64_t n) { value_.store(Get() - n, std::memory_order_relaxed); }
  uint64_t Get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_ = 0;
};

// Packets by what became of them, of one worker or added up. A packet counts as received when it
// gets its verdict: a fragment that waits for its first one is in neither. That nothing else is
// missing, the NICs' own counts tell.
struct PacketCounts {
  uint64_t received = 0;
  std::array<uint64_t, kVerdicts> verdicts = {};
  std::array<uint64_t, kReasons> reasons = {};

  uint64_t of(Verdict v) const { return verdicts[static_cast<size_t>(v)]; }
  uint64_t of(Reason r) const { return reasons[static_cast<size_t>(r)]; }
  // The law. Between two bursts; while a worker is in one, counts of both sides of it may be read.
  bool AddUp() const {
    uint64_t verdict_sum = 0, reason_sum = 0;
    for (uint64_t n : verdicts) verdict_sum += n;
    for (uint64_t n : reasons) reason_sum += n;
    return received == verdict_sum && of(Verdict::kDrop) == reason_sum;
  }
  PacketCounts& operator+=(const PacketCounts& other) {
    received += other.received;
    for (size_t i = 0; i < kVerdicts; ++i) verdicts[i] += other.verdicts[i];
    for (size_t i = 0; i < kReasons; ++i) reasons[i] += other.reasons[i];
    return *this;
  }
};

// One service's share of the traffic. Packets and bytes (layer 2, as received) are all that
// matched the service; forwarded + dropped are its part of the verdicts, the rest was answered.
struct ServiceCounts {
  uint64_t packets = 0;
  uint64_t bytes = 0;
  uint64_t forwarded = 0;
  uint64_t dropped = 0;

  friend bool operator==(const ServiceCounts&, const ServiceCounts&) = default;
  ServiceCounts& operator+=(const ServiceCounts& other) {
    packets += other.packets;
    bytes += other.bytes;
    forwarded += other.forwarded;
    dropped += other.dropped;
    return *this;
  }
  // May wrap below 0.
  ServiceCounts& operator-=(const ServiceCounts& other) {
    packets -= other.packets;
    bytes -= other.bytes;
    forwarded -= other.forwarded;
    dropped -= other.dropped;
    return *this;
  }
};

// One backend's: what was sent to it (bytes of layer 2 as sent), connections opened, connections
// that the flow tables hold now, and those of them that are closing.
struct BackendCounts {
  uint64_t packets = 0;
  uint64_t bytes = 0;
  uint64_t new_flows = 0;
  uint64_t active_flows = 0;
  uint64_t closing_flows = 0;

  // The two are read one after the other, so the second may be the larger.
  uint64_t open_flows() const { return active_flows - std::min(active_flows, closing_flows); }

  friend bool operator==(const BackendCounts&, const BackendCounts&) = default;
  BackendCounts& operator+=(const BackendCounts& other) {
    packets += other.packets;
    bytes += other.bytes;
    new_flows += other.new_flows;
    active_flows += other.active_flows;
    closing_flows += other.closing_flows;
    return *this;
  }
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_COUNTERS_H_
