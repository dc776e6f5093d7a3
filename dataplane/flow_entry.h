// What a flow table holds of a connection, as everybody outside of the packet path may know it.
#ifndef GUIDEWAY_DATAPLANE_FLOW_ENTRY_H_
#define GUIDEWAY_DATAPLANE_FLOW_ENTRY_H_

#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "maglev/snapshot.h"

namespace guideway {

enum class FlowState : uint8_t { kTcpHandshake, kTcpEstablished, kTcpClosing, kUdp };
inline constexpr size_t kFlowStates = 4;

// «handshake», «established», «closing», «udp»: which is every protocol but TCP.
inline absl::string_view FlowStateName(FlowState state) {
  constexpr absl::string_view kNames[kFlowStates] = {"handshake", "established", "closing", "udp"};
  return kNames[static_cast<size_t>(state)];
}

// An entry names its connection by a fingerprint alone: there are no addresses in it.
struct FlowEntry {
  BackendId backend = kNoBackend;
  FlowState state = FlowState::kTcpHandshake;
  // No packet has come yet a second or more after the first.
  bool unconfirmed = true;
  uint64_t age_ms = 0;  // since the last packet; of an unconfirmed one, since the first

  friend bool operator==(const FlowEntry&, const FlowEntry&) = default;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_FLOW_ENTRY_H_
